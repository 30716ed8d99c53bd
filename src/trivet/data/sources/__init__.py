"""The formats of data sets on disk, each read into columns and a label map."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trivet.data.dataset import Splits
from trivet.data.overlaps import OVERLAPS
from trivet.data.problems import refuse
from trivet.data.sources import (
    cifar,
    cifar_python,
    class_folders,
    coco,
    coco_outlines,
    csv_classes,
    csv_rows,
    mask_folders,
    voc,
    yolo,
    yolo_outlines,
)
from trivet.data.sources.checked import to_dataset
from trivet.data.sources.folder import Check, Folder
from trivet.data.sources.found import Reading
from trivet.data.splits import Groups, named_splits
from trivet.errors import UsageError, unknown_name
from trivet.structures import TASKS, TaskName


@dataclass(frozen=True)
class Outlines:
    """How a format of boxes is read for segmentation, where it also has outlines.

    Args:
        sees: Says which outlines are in a folder, or `None`.
        read: Reads them.
    """

    sees: Callable[[Folder], str | None]
    read: Callable[..., Reading]


@dataclass(frozen=True)
class Source:
    """A format.

    Args:
        needs: What must be there, in words.
        sees: Says what of the format is in a folder, or `None`.
        read: Reads it.
        tasks: What its truth can be for, the usual one first.
        last: Whether it is looked for only where no other format is seen: any folders of images look like it.
        outlines: How it is read for segmentation, if that is not its usual task.
    """

    needs: str
    sees: Callable[[Folder], str | None]
    read: Callable[..., Reading]
    tasks: tuple[TaskName, ...] = ("detection",)
    last: bool = False
    outlines: Outlines | None = None

    def sees_for(self, folder: Folder, task: TaskName | None) -> str | None:
        """Say what of the format is in a folder for a task, or return `None`."""
        return self.outlines.sees(folder) if self.outlines and task == "segmentation" else self.sees(folder)


SOURCES: dict[str, Source] = {
    "cifar": Source(cifar.NEEDS, cifar.sees, cifar.read, ("classification",)),
    "cifar-python": Source(cifar_python.NEEDS, cifar_python.sees, cifar_python.read, ("classification",)),
    "class-folders": Source(
        class_folders.NEEDS, class_folders.sees, class_folders.read, ("classification",), last=True
    ),
    "coco": Source(
        coco.NEEDS,
        coco.sees,
        coco.read,
        ("detection", "segmentation"),
        outlines=Outlines(coco_outlines.sees, coco_outlines.read),
    ),
    "csv": Source(csv_rows.NEEDS, csv_rows.sees, csv_rows.read),
    "csv-classes": Source(csv_classes.NEEDS, csv_classes.sees, csv_classes.read, ("classification",)),
    "masks": Source(mask_folders.NEEDS, mask_folders.sees, mask_folders.read, ("segmentation",)),
    "voc": Source(voc.NEEDS, voc.sees, voc.read),
    "yolo": Source(
        yolo.NEEDS,
        yolo.sees,
        yolo.read,
        ("detection", "segmentation"),
        outlines=Outlines(yolo_outlines.sees, yolo_outlines.read),
    ),
}


def read_dataset(
    path: str | Path,
    *,
    task: TaskName | None = None,
    format: str | Source | None = None,
    on_bad: Literal["skip", "error"] = "skip",
    check: Check = "headers",
    val_share: float | None = None,
    seed: int = 0,
    groups: Groups | None = None,
    labels: str | None = None,
    images: str | Path | None = None,
    overlap: str = "small-on-top",
) -> Splits:
    """Read a data set's annotations, divide it where it is not divided, and report every fault by name.

    Args:
        path: Its folder, or one annotation file (COCO json, CSV, YOLO's yaml or list of images).
        task: What the truth shall be for; what the folder holds when not given.
        format: A key of `SOURCES` or a source; found by looking at the folder when not given.
        on_bad: `skip` leaves out what is faulty and reports it, `error` refuses the data set. Boxes that
            stick out of their image are clipped and reported either way. `PROBLEMS` lists all faults.
        check: How far images are looked at: `none` (they need not be there), `names`, `headers` (0.03 ms
            an image), `pixels` (each is decoded once).
        val_share: The share of the training images that validates when no validation split is given;
            0 makes none, `None` takes one in five, at most 5,000.
        seed: Of the division.
        groups: Images of one group are never divided: a function of the image's name, or a regular
            expression that finds the group in it.
        labels: The folder of label files, where a YOLO data set has several.
        images: Where the image files are, when outside the data set's folder.
        overlap: Which outline has the pixels that several cover, where masks are made of outlines: a name of
            `OVERLAPS`.

    Raises:
        UsageError: If there is nothing at `path`, the format is not plain, or an option is out of range.
        DataError: If a file cannot be used, no image is left, or `on_bad="error"` and there is a fault.
    """
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if on_bad not in ("skip", "error"):
        raise UsageError(f"on_bad is 'skip' or 'error', got {on_bad!r}")
    if check not in ("none", "names", "headers", "pixels"):
        raise UsageError(f"check is 'none', 'names', 'headers' or 'pixels', got {check!r}")
    if overlap not in OVERLAPS:
        raise unknown_name("rule for overlaps", overlap, OVERLAPS)
    if val_share is not None and not 0 <= val_share < 1:
        raise UsageError(f"val_share is at least 0 and less than 1, got {val_share}")
    folder = Folder.at(Path(path), check=check, images=None if images is None else Path(images))
    name, source = _source(folder, format, task)
    if source.outlines is not None and task == "segmentation":
        reading = source.outlines.read(folder, labels=labels, overlap=overlap)
    else:
        reading = source.read(folder, labels=labels)
    datasets = [to_dataset(found, folder, reading.labels, check=check) for found in reading.splits]
    if on_bad == "error":
        refuse([found for dataset in datasets for found in dataset.problems])
    by_split = {found.split: dataset for found, dataset in zip(reading.splits, datasets, strict=True)}
    given = Splits(name, reading.labels, datasets[0], None, None, notes=reading.notes)
    return named_splits(given, by_split, val_share=val_share, seed=seed, groups=groups)


def _source(folder: Folder, format: str | Source | None, task: TaskName | None) -> tuple[str, Source]:
    if isinstance(format, Source):
        return "given", format
    if format is not None:
        if format not in SOURCES:
            raise unknown_name("data set format", format, SOURCES)
        if SOURCES[format].sees_for(folder, task) is None:
            raise UsageError(
                f"{folder.path(folder.file or '')} does not look like {format}",
                f"{format} needs {SOURCES[format].needs}",
            )
        if task is not None and task not in SOURCES[format].tasks:
            raise UsageError(
                f"{format} holds truth for {' or '.join(SOURCES[format].tasks)}, and the task is {task}",
                "give another format, or another task",
            )
        return format, SOURCES[format]
    fitting = {name: source for name, source in SOURCES.items() if task is None or task in source.tasks}
    seen = _seen(folder, fitting, task)
    if len(seen) == 1:
        name = next(iter(seen))
        return name, SOURCES[name]
    if seen:
        found = "; ".join(f"{name}: {words}" for name, words in seen.items())
        raise UsageError(
            f"{folder.root} holds several formats: {found}",
            f"say which: --format, or format= in Python ({', '.join(seen)}); or give the annotation file as the path",
        )
    needs = "\n".join(f"  {name}: {source.needs}" for name, source in fitting.items())
    kind = "data set" if task is None else f"data set for {task}"
    raise UsageError(f"{folder.root} holds no {kind}: {folder.in_words()}", f"wanted is one of\n{needs}")


def _seen(folder: Folder, sources: dict[str, Source], task: TaskName | None) -> dict[str, str]:
    """Return what is in the folder of each format.

    Boxes go before masks and masks before classes, as they say more of a folder of images; formats that much else
    looks like are looked for where nothing else is.
    """
    tiers: dict[tuple[bool, int], dict[str, Source]] = {}
    for name, source in sources.items():
        tiers.setdefault((source.last, TASKS.index(task or source.tasks[0])), {})[name] = source
    for _, tier in sorted(tiers.items()):
        seen = {name: words for name, source in tier.items() if (words := source.sees_for(folder, task))}
        if seen:
            return seen
    return {}
