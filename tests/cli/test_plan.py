"""`trivet plan` from the outside."""

import json

import pytest

from trivet.cli.app import run
from trivet.cli.options import parse_memory, parse_parts
from trivet.errors import UsageError

SMALL = ["efficientdet_lite0", "--size", "128", "--classes", "3", "--boxes", "4", "--batch", "8"]


def test_a_plan_as_json_and_as_a_picture(tmp_path):
    picture, numbers = tmp_path / "step.png", tmp_path / "plan.json"
    assert run(["plan", *SMALL, "--memory", "1.5GB", "--picture", str(picture), "--json", str(numbers)]) == 0
    found = json.loads(numbers.read_text())
    plan = found["plan"]
    assert sum(plan["parts"].values()) == pytest.approx(plan["total"], abs=100)
    assert found["fits"] == (plan["with_margin"] <= 1.5 * 2**30)
    assert "--batch" in found["advice"]["arguments"] or found["fits"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_planned_is_misuse(capsys):
    assert run(["plan"]) == 2
    assert run(["plan", "efficientdet_d0", "--memory", "eight"]) == 2
    assert "--memory is a number with a unit, got 'eight'" in capsys.readouterr().err
    assert run(["plan", "efficientdet_d00", "--memory", "8GB"]) == 2
    assert run(["plan", "--family", "efficientdet"]) == 2
    assert run(["plan", *SMALL, "--device", "tpu"]) == 2


def test_memory_is_read_in_units_of_1024():
    assert parse_memory("8GB") == parse_memory("8GiB") == parse_memory(" 8 gb ") == 8 << 30
    assert parse_memory("900MB") == 900 << 20
    assert parse_memory("1.5GB") == 3 << 29
    assert parse_memory(None) is None
    for wrong in ("", "GB", "-1GB", "8TB8", "0"):
        with pytest.raises(UsageError):
            parse_memory(wrong)
    assert parse_parts("backbone, head") == ("backbone", "head")
