import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import QUICK
from trivet.errors import UsageError
from trivet.recipe.fit import fit, resume
from trivet.recipe.recipe import read_recipe
from trivet.recipe.run_folder import load_run
from trivet.recipe.score import score

FILES = {
    "best.safetensors",
    "environment.json",
    "findings.json",
    "history.jsonl",
    "labels.json",
    "last",
    "predictions.json",
    "recipe.toml",
    "report.html",
    "scores.json",
}


def test_a_run_leaves_its_folder(quick_run):
    folder = quick_run.folder
    assert {item.name for item in folder.path.iterdir()} == FILES
    scores = json.loads(folder.scores.read_text())
    assert scores["task"] == "detection"
    assert scores["images"] == 5
    assert [row["name"] for row in scores["per_class"]] == ["zero", "one", "two"]
    rows = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss", "class", "box", "val_map", "val_map50", "val_loss", "lr", "waited"} <= rows[-1].keys()
    assert "<html" in folder.report.read_text()
    values, chosen = read_recipe(folder.recipe)
    assert chosen["train.epochs"].by == "given"
    assert chosen["train.lr"].by == "automatic"
    assert chosen["train.lr"].why
    assert values["train.lr"] > 0


def test_the_saved_model_predicts_what_was_scored(quick_run):
    again = score(quick_run.folder.path, split="val")
    assert again.map == quick_run.scores.map
    assert again.map50 == quick_run.scores.map50


def test_the_last_weights_are_there_too(quick_run):
    best, last = load_run(quick_run.folder.path), load_run(quick_run.folder.path, last=True)
    saved = load_file(quick_run.folder.checkpoint)
    for name, value in last.model.state_dict().items():
        assert torch.equal(value, saved[f"ema.{name}"]), name
    assert best.model.state_dict().keys() == last.model.state_dict().keys()
    assert score(quick_run.folder.path, split="val", last=True).images == 5
    with pytest.raises(UsageError, match="the last weights are a run folder's"):
        score(quick_run.folder.predictions, split="val", last=True)


def test_predictions_are_scored_as_coco_results(quick_run, digits):
    from_file = score(quick_run.folder.predictions, digits, split="val")
    assert from_file.map == pytest.approx(quick_run.scores.map, abs=1e-6)


def test_a_recipe_file_runs_again_bit_for_bit(quick_run, tmp_path):
    again = fit(recipe=quick_run.folder.recipe, out=tmp_path, listeners=())
    one, two = (load_file(folder.best) for folder in (quick_run.folder, again.folder))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_given_wins_over_the_recipe_file(quick_run, tmp_path):
    again = fit(values={"train.epochs": 1}, recipe=quick_run.folder.recipe, out=tmp_path, listeners=())
    values, chosen = read_recipe(again.folder.recipe)
    assert (values["train.epochs"], chosen["train.epochs"].by) == (1, "given")
    assert values["model.options"] == QUICK["model.options"]


def test_fine_tuning_takes_the_runs_model_and_weights(quick_run, digits, tmp_path):
    tuned = fit(
        digits,
        {"train.epochs": 1, "train.lr": 1e-9, "train.backbone_lr": 0.0, "train.ema": 0.0, "data.workers": 0},
        start_from=quick_run.folder.path,
        out=tmp_path,
        listeners=(),
    )
    before, after = load_file(quick_run.folder.best), load_file(tuned.folder.best)
    for name in before:
        if name.startswith("head.") and name.endswith("weight"):
            torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)
    assert "kept" in tuned.folder.weights.read_text()


def test_a_data_set_without_validation_images_is_refused(digits, tmp_path):
    coco = json.loads((digits / "annotations" / "instances_train.json").read_text())
    coco["images"] = coco["images"][:1]
    coco["annotations"] = [row for row in coco["annotations"] if row["image_id"] == coco["images"][0]["id"]]
    (tmp_path / "one.json").write_text(json.dumps(coco))
    with pytest.raises(UsageError):
        fit(tmp_path / "one.json", QUICK, out=tmp_path / "runs", listeners=())
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_a_batch_larger_than_the_data_is_refused(digits, tmp_path):
    with pytest.raises(UsageError, match="a batch of 99999999999 is larger than the 12 training images"):
        fit(digits, QUICK | {"train.batch": 99_999_999_999}, out=tmp_path / "runs", listeners=())
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_weights_that_cannot_be_used_leave_no_run(digits, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\x00" * 20)
    with pytest.raises(UsageError, match=r"cut\.safetensors"):
        fit(digits, QUICK, start_from=cut, out=tmp_path / "runs", listeners=())
    assert not (tmp_path / "runs").exists(), "nothing is left behind"
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError):
        fit(digits, QUICK, start_from=cut, out=tmp_path / "runs", listeners=())
    assert list((tmp_path / "runs").iterdir()) == []


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"is not a run folder: it has no recipe\.toml"):
        resume(tmp_path)


def test_a_run_without_weights_cannot_be_loaded(quick_run, tmp_path):
    for name in ("recipe.toml", "labels.json"):
        (tmp_path / name).write_bytes((quick_run.folder.path / name).read_bytes())
    with pytest.raises(UsageError, match=r"has no best\.safetensors"):
        load_run(tmp_path)


@pytest.mark.slow
def test_a_run_killed_while_it_trains_resumes_bit_for_bit(digits, tmp_path):
    """The process is killed without warning, as by an out-of-memory killer."""
    values = QUICK | {"train.epochs": 12}
    whole = fit(digits, values, out=tmp_path, name="whole", listeners=())
    script = (
        "import json, sys\nfrom trivet.recipe.fit import fit\n"
        "from trivet.train import loop\nloop.SAVE_SECONDS = 0.0\n"
        f"fit({str(digits)!r}, json.loads(sys.argv[1]), out={str(tmp_path)!r}, name='broken', listeners=())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, json.dumps(values)])
    checkpoint = tmp_path / "broken-1" / "last" / "state.safetensors"
    history = tmp_path / "broken-1" / "history.jsonl"
    deadline = time.monotonic() + 120
    while not (checkpoint.exists() and history.exists() and history.read_text().count("\n") >= 2):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run never wrote a checkpoint"
        time.sleep(0.01)
    process.kill()
    process.wait()
    resumed = resume(tmp_path / "broken-1", listeners=())
    one, two = (
        load_file(Path(folder.path) / "last" / "state.safetensors")
        for folder in (whole.folder, resumed.folder)
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_one_model(digits, tmp_path):
    result = fit(
        digits, QUICK | {"machine.devices": 2, "train.batch_norm": "frozen"}, out=tmp_path, listeners=()
    )
    alone = fit(digits, QUICK | {"train.batch_norm": "frozen"}, out=tmp_path, listeners=())
    rows = [
        [json.loads(line)["loss"] for line in item.folder.history.read_text().splitlines()]
        for item in (result, alone)
    ]
    assert len(rows[0]) == len(rows[1]) == 2
    assert all(value > 0 for value in rows[0])
