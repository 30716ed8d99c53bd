"""YOLOv4 through the verbs, at an eighth of its width."""

import json

import pytest
import torch

from trivet.models.files import read_weights
from trivet.recipe.compare import compare_models
from trivet.recipe.export import export_model
from trivet.recipe.fit import fit
from trivet.recipe.plan import recipe_for, with_values
from trivet.recipe.planned_step import PlannedStep, plan_recipe
from trivet.recipe.predict import predict
from trivet.recipe.run import model_of
from trivet.recipe.run_folder import load_run
from trivet.recipe.score import score
from trivet.tasks.yolo import YoloTask

SMALL = {"width": 0.125, "depth": 0.1}


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    values = {
        "model.name": "yolov4",
        "model.options": SMALL,
        "model.size_hw": (64, 96),
        "train.epochs": 15,
        "train.lr": 4e-3,
        "train.backbone_lr": 4e-3,
        "train.validations": 3,
        "train.batch": 4,
        "train.precision": "32",
        "train.recompute": ("backbone", "neck"),
    }
    return fit(digits, values, out=tmp_path_factory.mktemp("runs"), name="yolo", listeners=())


def test_it_learns_and_the_doctor_says_nothing_against_it(run):
    history = [json.loads(line) for line in run.folder.history.read_text().splitlines()]
    losses = [line["loss"] for line in history]
    assert losses[-1] < 0.8 * losses[0]
    assert {"class", "box", "objectness"} <= history[0].keys()
    assert any({"val_map50", "val_objectness"} <= line.keys() for line in history)
    findings = json.loads(run.folder.findings.read_text())
    audited = {
        "anchors-miss-boxes",
        "small-at-training-size",
        "image-without-objects",
        "rare-class",
        "ids-are-not-labels",
    }
    assert {finding["name"] for finding in findings["findings"]} <= audited


def test_the_run_knows_its_anchors_and_task(run):
    loaded = load_run(run.folder.path)
    assert isinstance(loaded.task, YoloTask)
    assert loaded.model.anchor_spec == loaded.task.anchors
    assert len(loaded.recipe.model.options["anchors"]) == 9
    assert read_weights(run.folder.best).spec == loaded.model.spec


def test_it_is_scored_and_predicts(run, digits):
    scores = score(run.folder.path, split="val", bootstrap=0)
    assert scores.map50 == pytest.approx(run.scores.map50, abs=1e-6)
    found = list(predict(run.folder.path, [digits / "images" / "val"], threshold=0.0))
    assert sum(len(image.found) for image in found) > 0


@pytest.mark.slow
def test_it_is_exported_and_proved(run):
    proof = export_model(run.folder.path).proof
    assert proof.passed
    assert proof.differences.objects > 100
    assert proof.differences.scores < 1e-5
    assert proof.score_file == pytest.approx(proof.score_torch, abs=1e-6)


def planned(**values):
    return recipe_for("yolov4", model__size_hw=(256, 256), model__options=SMALL, **values)


@pytest.mark.parametrize(
    "remedy",
    [
        {"train.recompute": ("backbone",)},
        {"train.freeze_backbone": 1.0},
        {"train.precision": "bf16"},
        {"model.options": {**SMALL, "norm": "frozen_bn"}},
    ],
    ids=str,
)
def test_every_remedy_saves_memory(remedy):
    recipe = planned(train__batch=4)
    plain = plan_recipe(recipe, classes=3, device="cuda").total(4)
    assert plan_recipe(with_values(recipe, remedy), classes=3, device="cuda").total(4) < plain


def test_it_is_compared(monkeypatch):
    shown = compare_models(["yolov4"], seconds=0, plan=False)
    (row,) = shown.models
    assert (row.parameters, row.published) == (64_363_101, 43.5)


def test_steps_taken_for_real_stay_finite(digits):
    recipe = planned(train__batch=2)
    step = PlannedStep(recipe, model_of(recipe, classes=3), 2, "cpu", 20)
    for _ in range(3):
        step.run()
    assert all(parameter.isfinite().all() for parameter in step.module.parameters())


@pytest.mark.parametrize("policy", ["frozen", "frozen-backbone"])
def test_batch_norms_can_be_held(digits, tmp_path, policy):
    values = {
        "model.name": "yolov4",
        "model.options": SMALL,
        "model.size_hw": (64, 64),
        "train.epochs": 1,
        "train.batch": 8,
        "train.batch_norm": policy,
        "train.ema": 0.0,
        "train.precision": "32",
    }
    folder = fit(digits, values, out=tmp_path, name="held", listeners=()).folder
    state = read_weights(folder.best).tensors
    assert torch.equal(state["backbone.stem.conv.norm.running_mean"], torch.zeros(4))
