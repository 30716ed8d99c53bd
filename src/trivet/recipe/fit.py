"""The verb `fit`: from a data set to a trained, scored and reported model."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trivet.data.dataset import Splits
from trivet.errors import UsageError
from trivet.recipe.assessment import Scores
from trivet.recipe.audit import audit_before_training
from trivet.recipe.finish import finish_run
from trivet.recipe.prepare import prepare_run, read_splits, weights_file
from trivet.recipe.progress import ProgressBars
from trivet.recipe.recipe import Recipe
from trivet.recipe.run import Plan
from trivet.recipe.run_folder import RunFolder, load_recipe, open_run_folder, write_json
from trivet.recipe.tensorboard import TensorBoard
from trivet.recipe.tensorboard import installed as tensorboard_installed
from trivet.recipe.watched import train_watched
from trivet.train.loop import Listener


@dataclass(frozen=True)
class FitResult:
    """What `fit` leaves: the run folder and the scores on the validation split."""

    folder: RunFolder
    scores: Scores


def fit(
    data: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    recipe: str | Path | None = None,
    start_from: str | Path | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    memory: int | None = None,
    prove: bool = False,
    listeners: Sequence[Listener] | None = None,
) -> FitResult:
    """Train a model on a data set, score it and write its report.

    Args:
        data: The data set's folder or file; `None` takes the recipe's.
        values: Recipe keys that are given, dotted: `{"train.minutes": 45}`. The others are chosen.
        recipe: A recipe file to run again; `values` win over it.
        start_from: A run folder or weights file to fine-tune.
        out: Where the run folder is made.
        name: What the run folder is called.
        memory: Bytes training may take of the device, or of the process on a CPU; see `choose_for_memory`.
        prove: Judge what the doctor finds by paired re-training, afterwards and on copies.
        listeners: Told what happens; `default_listeners` when not given.

    Raises:
        UsageError: If something given cannot be used.
        TrainingError: If training cannot go on.
    """
    began, there_before = time.monotonic(), Path(out).exists()
    origin = None if start_from is None else Path(start_from)
    made, splits, folder = prepare_run(
        data,
        values or {},
        recipe=Path(recipe) if recipe else None,
        start_from=origin,
        out=Path(out),
        name=name,
        memory=memory,
    )
    try:
        weights = None if origin is None else weights_file(origin)
        assert splits.val is not None, "a run is prepared with a validation split"
        shown = default_listeners(made, splits, folder) if listeners is None else listeners
        audit = audit_before_training(splits, made)
        write_json(folder.findings, audit.to_json())
        plan = Plan(made, folder, splits.train, splits.val, start_from=weights, listeners=shown)
        watched = train_watched(replace(plan, seconds_before=time.monotonic() - began), prove=prove)
    except UsageError:
        _take_away(folder, with_parent=not there_before)
        raise
    return FitResult(folder, finish_run(folder, splits, audit.findings, watched=watched))


def _take_away(folder: RunFolder, *, with_parent: bool) -> None:
    """Leave nothing of a run that was refused before it trained."""
    if folder.history.exists() or folder.checkpoint.exists():
        return
    shutil.rmtree(folder.path, ignore_errors=True)
    if with_parent and not any(folder.path.parent.iterdir()):
        folder.path.parent.rmdir()


def resume(run: str | Path, *, listeners: Sequence[Listener] | None = None) -> FitResult:
    """Go on with a run that was interrupted, exactly where its last checkpoint stands.

    Args:
        run: The run folder.
        listeners: Told what happens; `default_listeners` when not given.

    Raises:
        UsageError: If there is no run there, or its checkpoint or data set cannot be used.
    """
    folder = open_run_folder(run)
    made, _ = load_recipe(folder)
    splits = read_splits(made.data, seed=made.train.seed, task=made.task.kind)
    assert splits.val is not None, "a run is prepared with a validation split"
    shown = default_listeners(made, splits, folder) if listeners is None else listeners
    audit = audit_before_training(splits, made)
    write_json(folder.findings, audit.to_json())
    watched = train_watched(
        Plan(made, folder, splits.train, splits.val, resume=folder.checkpoint.is_file(), listeners=shown)
    )
    return FitResult(folder, finish_run(folder, splits, audit.findings, watched=watched))


def default_listeners(recipe: Recipe, splits: Splits, folder: RunFolder) -> list[Listener]:
    """Return what watches a run unless told otherwise: progress bars, and TensorBoard where it is installed."""
    watching: list[Listener] = [ProgressBars(recipe, splits)]
    return [*watching, TensorBoard(folder.path)] if tensorboard_installed() else watching
