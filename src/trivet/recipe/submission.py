"""Competition files: written from a run's predictions, and scored as a board would."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trivet.data.dataset import Dataset
from trivet.errors import DataError, UsageError, unknown_name
from trivet.evaluate.board import BoardResult, check_box_submission, check_mask_submission
from trivet.evaluate.submissions import SUBMISSIONS, write_box_submission, write_mask_submission
from trivet.recipe.predict import find_images, predict
from trivet.recipe.prepare import read_splits
from trivet.recipe.recipe import DataRecipe
from trivet.recipe.run_folder import Run
from trivet.recipe.score import pick_split
from trivet.structures import Detections, MaskScores, TaskName

LEAST_SCORE = 0.001
"""Weaker detections are left out of a file of boxes; mAP gains from a low limit."""
LONGEST_LINE = 1 << 24
"""Characters; no real row is near it."""
SUBMISSION_TASKS: dict[str, TaskName] = {"boostcamp-seg": "segmentation", "boostcamp-det": "detection"}


def write_submission(
    run: Run, images: Sequence[str | Path], path: Path, *, format: str, batch: int = 8
) -> int:
    """Predict image files and write the competition file; returns its number of rows.

    An image's id is its path below the folder that was given, or its name.

    Args:
        run: A loaded run.
        images: Files, folders and globs.
        path: The file to write.
        format: A key of `evaluate.submissions.SUBMISSIONS`.
        batch: Images that go through the network together.

    Raises:
        UsageError: If the format is unknown or of another task, or the file cannot be written.
        DataError: If an image cannot be read: every one needs a row.
    """
    if format not in SUBMISSIONS:
        raise unknown_name("form of submission", format, SUBMISSIONS)
    task = SUBMISSION_TASKS[format]
    if run.recipe.task.kind != task:
        raise UsageError(
            f"{format} is for {task}, and {run.folder.path} was trained for {run.recipe.task.kind}"
        )
    ids = _image_ids(images)
    if task == "segmentation":
        return write_mask_submission(path, _masks(run, ids, batch))
    return write_box_submission(path, _boxes(run, ids, batch), least_score=LEAST_SCORE)


def is_submission(path: Path) -> str | None:
    """Return which competition's file this is, or `None`."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return None
    with path.open(newline="", errors="replace") as file:
        header = tuple(next(csv.reader([file.readline(200)]), ()))
    return next((name for name, wanted in SUBMISSIONS.items() if header == wanted), None)


def score_submission(path: Path, data: str | Path, *, split: str | None = None) -> BoardResult:
    """Read a competition file back, name its faults and score it as the board does.

    Args:
        path: The file.
        data: The data set with the truth.
        split: Which split; test where there is one, else val.

    Raises:
        UsageError: If it is no such file, or there is no such split.
    """
    format = is_submission(path)
    if format is None:
        headers = " or ".join(",".join(header) for header in SUBMISSIONS.values())
        raise UsageError(f"{path} is not a competition file", f"its first line is {headers}")
    splits = read_splits(DataRecipe(path=str(Path(data).resolve())), seed=0, task=SUBMISSION_TASKS[format])
    dataset = pick_split(splits, split)
    images = _named_as_in(path, format, dataset)
    if dataset.masks is not None:
        return check_mask_submission(path, images, dataset.masks.__getitem__, dataset.labels)
    return check_box_submission(path, images, dataset.truth, dataset.labels)


def _named_as_in(path: Path, format: str, dataset: Dataset) -> dict[str, int]:
    """Return id -> position, the ids being the images' paths without the leading folders the file leaves out."""
    with path.open(newline="", errors="replace") as file:
        file.readline()
        words = file.readline(LONGEST_LINE).rstrip("\r\n").rsplit(",", 1)
    first = words[0] if format == "boostcamp-seg" else words[-1]
    names = [Path(dataset.name(index)).parts for index in range(len(dataset))]
    deepest = min(len(parts) for parts in names)
    for left_out in range(deepest):
        ids = {"/".join(parts[left_out:]): index for index, parts in enumerate(names)}
        if len(ids) == len(names) and first in ids:
            return ids
    return {dataset.name(index): index for index in range(len(dataset))}


def _image_ids(images: Sequence[str | Path]) -> dict[Path, str]:
    ids: dict[Path, str] = {}
    for given in images:
        root = Path(given)
        for path in find_images([given]):
            ids.setdefault(path, path.relative_to(root).as_posix() if root.is_dir() else path.name)
    return ids


def _masks(run: Run, ids: dict[Path, str], batch: int) -> Iterator[tuple[str, np.ndarray]]:
    for result in predict(run, list(ids), batch=batch):
        if not isinstance(result.found, MaskScores):
            raise DataError(result.fault or f"{result.path} has no mask", "every image needs a row")
        yield ids[result.path], result.found.labels.cpu().numpy()


def _boxes(run: Run, ids: dict[Path, str], batch: int) -> Iterator[tuple[str, Detections]]:
    for result in predict(run, list(ids), threshold=0.0, batch=batch):
        if not isinstance(result.found, Detections):
            raise DataError(result.fault or f"{result.path} has no boxes", "every image needs a row")
        yield ids[result.path], result.found
