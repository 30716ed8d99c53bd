import json
import math

import pytest

from trivet.cli.app import run as trivet
from trivet.errors import UsageError
from trivet.models.zoo import zoo_entry
from trivet.recipe.compare import compare_models


def test_published_figures_without_measuring():
    found = compare_models(["efficientdet_d0", "efficientdet_d1"], seconds=0, plan=False)
    assert [model.name for model in found.models] == ["efficientdet_d0", "efficientdet_d1"]
    for model in found.models:
        entry = zoo_entry(model.name)
        assert model.parameters == entry.parameters
        assert model.macs / 1e9 == pytest.approx(entry.gmacs, abs=0.01)
        assert model.published == zoo_entry(f"tf_{model.name}").ap, "the authors' weights of the same design"
        assert (model.step_seconds, model.image_seconds, model.memory, model.own) == (None,) * 4


def test_a_run_brings_its_own_accuracy(quick_run, digits):
    path = quick_run.folder.path
    found = compare_models([path], seconds=0, plan=False).models[0]
    written = json.loads(quick_run.folder.scores.read_text())["map"]
    assert found.own == pytest.approx(100 * written)
    assert found.size_hw == (64, 96)
    assert found.published is None


@pytest.mark.slow
def test_time_and_memory_are_measured_and_drawn(quick_run, tmp_path, capsys):
    path, picture = str(quick_run.folder.path), tmp_path / "picture.png"
    arguments = ["compare", path, "--picture", str(picture), "--json", str(tmp_path / "found.json")]
    assert trivet(arguments) == 0
    told = capsys.readouterr().out
    assert "GPU memory" in told
    row = json.loads((tmp_path / "found.json").read_text())["models"][0]
    assert 0 < row["image_seconds"] < row["step_seconds"]
    assert row["memory"] > 2**28, "the context alone"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_would_take_too_long_is_said_and_left_out(quick_run):
    path = quick_run.folder.path
    found = compare_models([path, "efficientdet_d7x"], seconds=0.5, plan=False)
    assert found.models[1].step_seconds is None
    assert "a step would take" in found.models[1].why_not
    assert math.isfinite(found.models[0].step_seconds or 0)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ([], {}, "at least one model"),
        (["efficientdet_d9"], {}, "did you mean"),
        (["efficientdet_d0"], {"on": "data"}, "--on scores run folders"),
        (["efficientdet_d0"], {"batch": 0}, "a batch of at least 1"),
    ],
)
def test_misuse(models, options, message):
    with pytest.raises(UsageError, match=message):
        compare_models(models, **options)
