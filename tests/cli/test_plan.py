"""`trivet plan` from the outside."""

import json
from pathlib import Path

import pytest

from tests.models.tiny import OPTIONS
from trivet.cli.app import run
from trivet.cli.options import parse_memory, parse_parts
from trivet.data.digits import write_digits
from trivet.errors import UsageError
from trivet.recipe.plan import PARTS, changes_of, recipe_for
from trivet.recipe.recipe import make_recipe, read_recipe, write_recipe
from trivet.report.memory_text import family_lines
from trivet.structures import LabelMap

SMALL = {
    "data.path": "",
    "task.kind": "detection",
    "model.backbone": "test_resnet",
    "model.options": OPTIONS,
    "model.pretrained": False,
    "model.size_hw": (128, 128),
    "train.batch": 8,
    "train.epochs": 1,
}
PUBLISHED = ["efficientdet_lite0", "--size", "128", "--classes", "3", "--boxes", "4", "--batch", "8"]


def test_a_recipe_as_json_and_as_a_picture(tmp_path, capsys):
    picture, numbers, recipe = (tmp_path / name for name in ("step.png", "plan.json", "recipe.toml"))
    write_recipe(make_recipe(SMALL), recipe)
    (tmp_path / "labels.json").write_text(json.dumps(LabelMap.from_names(["zero", "one", "two"]).to_json()))
    arguments = ["plan", str(recipe), "--memory", "1480MB", "--picture", str(picture), "--json", str(numbers)]
    assert run(arguments) == 0
    found = json.loads(numbers.read_text())
    plan = found["plan"]
    assert "3 classes" in plan["what"]
    assert sum(plan["parts"].values()) == pytest.approx(plan["total"], abs=100)
    assert not found["fits"]
    assert plan["with_margin"] > 1480 * 2**20
    advice = f"trivet fit DATA --recipe {recipe} {found['advice']['arguments']}"
    assert advice in capsys.readouterr().out.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_planned_is_misuse(capsys):
    assert run(["plan"]) == 2
    assert run(["plan", "efficientdet_d0", "--memory", "eight"]) == 2
    assert "--memory is a number with a unit, got 'eight'" in capsys.readouterr().err
    assert run(["plan", "efficientdet_d00", "--memory", "8GB"]) == 2
    assert run(["plan", "--family", "efficientdet"]) == 2
    assert run(["plan", *PUBLISHED, "--device", "tpu"]) == 2


def test_a_familys_arguments_are_in_one_piece():
    advice = "--batch 1 --accumulate 8 --precision bf16 --recompute backbone --set train.batch_norm=frozen-backbone"
    start = {"size": 1536, "one": "27.41 GiB", "each": "24,886", "largest": 0, "then": "7,133 MiB"}
    rows = [
        start | {"model": "efficientdet_d7", "advice": advice},
        start | {"model": "d0", "advice": "as it is"},
    ]
    assert family_lines(rows) == [f"trivet fit DATA --model efficientdet_d7 {advice}"]


def test_memory_is_read_in_units_of_1024():
    assert parse_memory("8GB") == parse_memory("8GiB") == parse_memory(" 8 gb ") == 8 << 30
    assert parse_memory("900MB") == 900 << 20
    assert parse_memory("1.5GB") == 3 << 29
    assert parse_memory(None) is None
    for wrong in ("", "GB", "-1GB", "8TB8", "0"):
        with pytest.raises(UsageError):
            parse_memory(wrong)
    assert parse_parts("backbone, head") == ("backbone", "head")


REMEDIES = [("detection", "efficientdet_lite0"), ("segmentation", "semantic_fpn_lite0")]


@pytest.mark.parametrize(("task", "model"), REMEDIES)
def test_a_remedys_arguments_set_what_was_planned(task, model, monkeypatch):
    given = []

    def note(data, values, **others):
        given.append(values)
        raise UsageError("seen", "")

    monkeypatch.setattr("trivet.recipe.fit.fit", note)
    changes = changes_of(recipe_for(model, model__size_hw=(320, 320), train__batch=8), "cuda")
    assert {change.name.split()[0] for change in changes} == {"mixed", "recompute", "frozen", "input"}
    for change in changes:
        run(["fit", "DATA", "--model", model, *change.arguments.split()])
        assert {key: given[-1][key] for key in change.values} == change.values


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), REMEDIES)
def test_all_remedies_together_run_through_fit(task, model, tmp_path):
    data = write_digits(tmp_path / "digits", images={"train": 8, "val": 4}, size_hw=(96, 96))
    recipe = recipe_for(model, model__size_hw=(96, 96), train__batch=8)
    values = {}
    words = []
    for change in changes_of(recipe, "cuda"):
        if not set(change.values) <= set(values) or change.values == {"train.recompute": PARTS}:
            words += change.arguments.split()
            values |= change.values
    words += ["--batch", "2", "--accumulate", "2", "--set", "train.batch_norm=frozen-backbone"]
    out = ["--out", str(tmp_path / "runs"), "--name", "small", "--json", str(tmp_path / "run.json")]
    told = [
        "fit",
        str(data),
        "--model",
        model,
        "--task",
        task,
        "--epochs",
        "1",
        *out,
        "--set",
        "data.workers=0",
    ]
    assert run([*told, *words]) == 0
    made, _ = read_recipe(Path(json.loads((tmp_path / "run.json").read_text())["run"]) / "recipe.toml")
    assert made["train.batch"] == made["train.accumulate"] == 2
    assert {key: made[key] for key in ("train.precision", "train.freeze_backbone", "train.batch_norm")} == {
        "train.precision": "bf16",
        "train.freeze_backbone": 1.0,
        "train.batch_norm": "frozen-backbone",
    }
    assert (tuple(made["train.recompute"]), tuple(made["model.size_hw"])) == (PARTS, (64, 64))
