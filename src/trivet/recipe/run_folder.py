"""The folder a run leaves: names of its files, and a trained model read back from it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from trivet.errors import StorageError, UsageError, look_up
from trivet.geometry.dense_crf import CRF_PRESETS
from trivet.geometry.pixel_anchors import PixelAnchors
from trivet.models.build import build_model
from trivet.models.files import read_weights
from trivet.models.mirrored import average_mirrored
from trivet.models.model import Model
from trivet.models.weights import load_weights
from trivet.recipe.recipe import Chosen, Recipe, make_recipe, read_recipe
from trivet.storage import whole_file
from trivet.structures import LabelMap
from trivet.tasks.classification import ClassificationTask
from trivet.tasks.detection import DetectionTask
from trivet.tasks.segmentation import SegmentationTask
from trivet.tasks.yolo import YoloTask
from trivet.train.allocator import keep_freed_memory
from trivet.train.checkpoint import read_checkpoint
from trivet.train.state import CHECKPOINT

AnyTask: TypeAlias = DetectionTask | YoloTask | SegmentationTask | ClassificationTask


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Everything that was chosen."""
        return self.path / "recipe.toml"

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.path / "labels.json"

    @property
    def weights(self) -> Path:
        """What the run started from, in words."""
        return self.path / "weights.txt"

    @property
    def history(self) -> Path:
        """One line an epoch."""
        return self.path / "history.jsonl"

    @property
    def best(self) -> Path:
        """The best weights."""
        return self.path / "best.safetensors"

    @property
    def checkpoint(self) -> Path:
        """What an exact resume needs."""
        return self.path / CHECKPOINT

    @property
    def predictions(self) -> Path:
        """Predictions on the validation split, as COCO results."""
        return self.path / "predictions.json"

    @property
    def scores(self) -> Path:
        """Scores of those predictions."""
        return self.path / "scores.json"

    @property
    def findings(self) -> Path:
        """Findings of the audit and of training."""
        return self.path / "findings.json"

    @property
    def environment(self) -> Path:
        """Versions and hardware."""
        return self.path / "environment.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"


def write_json(path: Path, content: Any) -> None:
    """Write JSON; the file is there whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def new_run_folder(parent: Path, name: str) -> RunFolder:
    """Make a new folder `<name>-<number>` under `parent`.

    Raises:
        StorageError: If it cannot be made.
    """
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-") or "run"
    number = 1
    while True:
        path = parent / f"{stem}-{number}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if not parent.is_dir():
                raise StorageError(
                    f"cannot make a run folder in {parent}: it is a file", "give --out a folder"
                ) from None
            number += 1
            continue
        except OSError as fault:
            raise StorageError(
                f"cannot make the run folder {path}: {fault.strerror}",
                "give --out a folder that can be written to",
            ) from fault
        return RunFolder(path)


def open_run_folder(path: str | Path) -> RunFolder:
    """Return the folder of an earlier run.

    Raises:
        UsageError: If there is no run there.
    """
    run = RunFolder(Path(path))
    if not run.recipe.is_file():
        raise UsageError(
            f"{path} is not a run folder: it has no recipe.toml", "give the folder that `trivet fit` printed"
        )
    return run


def build_task(model: Model, recipe: Recipe) -> AnyTask:
    """Build the task of a recipe's model.

    Raises:
        UsageError: If the model is for another task, or an option is not one of the task's.
    """
    kind, classes, options = recipe.task.kind, model.spec.classes, recipe.task.options
    if model.task != kind:
        raise UsageError(
            f"the model {model.spec.name or model.spec.backbone} is for {model.task}, and the task is {kind}",
            f"trivet models lists those for {kind}; --task {model.task} where the data set has such truth",
        )
    try:
        if kind == "segmentation":
            return SegmentationTask(classes, **options)
        if kind == "classification":
            return ClassificationTask(classes, **options)
        anchors = model.anchor_spec
        if isinstance(anchors, PixelAnchors):
            return YoloTask(classes, anchors, **options)
        return DetectionTask(classes, anchors, **options)
    except TypeError as fault:
        raise UsageError(f"task.options of {kind}: {fault}") from fault


@dataclass(frozen=True)
class Run:
    """A trained model with all that is needed to use it.

    `crf` names the dense CRF that refines its masks; `last` says that its weights are those training ended with;
    `flip` that its probabilities are averaged over each image and its mirror image.
    """

    folder: RunFolder
    recipe: Recipe
    labels: LabelMap
    model: Model
    task: AnyTask
    crf: str | None = None
    last: bool = False
    flip: bool = False


def load_recipe(run: RunFolder) -> tuple[Recipe, dict[str, Chosen]]:
    """Read a run's recipe."""
    values, chosen = read_recipe(run.recipe)
    return make_recipe(values, chosen), chosen


def read_labels(path: Path) -> LabelMap:
    """Read a label map.

    Raises:
        UsageError: If the file is missing or damaged.
    """
    try:
        return LabelMap.from_json(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as fault:
        raise UsageError(f"cannot read the label map {path}: {fault}") from fault


def load_run(path: str | Path, *, last: bool = False, crf: str | None = None, flip: bool = False) -> Run:
    """Load the model of an earlier run.

    Args:
        path: The run folder.
        last: Take the weights training ended with (averaged, where there is an average), not the best ones.
        crf: A key of `geometry.dense_crf.CRF_PRESETS`, to refine the masks of a segmenter.
        flip: Average the probabilities over each image and its mirror image; see `average_mirrored`.

    Raises:
        UsageError: If there is no run there, one of its files is missing or damaged, it has no masks to refine, or it
            is a detector and `flip` is asked for.
    """
    run = open_run_folder(path)
    recipe, _ = load_recipe(run)
    if recipe.machine.accelerator == "cpu":
        keep_freed_memory()
    if crf is not None:
        look_up("dense CRF", crf, CRF_PRESETS)
        if recipe.task.kind != "segmentation":
            raise UsageError(f"a dense CRF refines masks, and {path} was trained for {recipe.task.kind}")
    labels = read_labels(run.labels)
    if not run.best.is_file():
        raise UsageError(
            f"{run.path} has no best.safetensors: it was never validated", "finish it with --resume"
        )
    file = read_weights(run.best)
    if file.spec is None:
        raise UsageError(f"{run.best} does not say which model it belongs to", "it was not written by a run")
    model = build_model(file.spec)
    load_weights(model, last_weights(run) if last else file.tensors)
    if flip:
        average_mirrored(model)
    return Run(run, recipe, labels, model.eval(), build_task(model, recipe), crf, last, flip)


def last_weights(run: RunFolder) -> dict[str, Tensor]:
    """Return the weights of a run's last checkpoint, averaged where an average was kept.

    Raises:
        UsageError: If there is no checkpoint, or it is damaged.
    """
    tensors, _ = read_checkpoint(run.checkpoint)
    kind = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
    return {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}
