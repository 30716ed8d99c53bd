"""Predictions for files as pictures, text, JSON and CSV."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trivet.errors import UsageError
from trivet.recipe.ahead import Behind
from trivet.recipe.backends import Backend
from trivet.recipe.predict import ImagePrediction, open_backend, predict
from trivet.recipe.run_folder import Run
from trivet.report.captions import draw_class
from trivet.report.draw import draw_detections
from trivet.report.overlays import draw_mask
from trivet.structures import ClassScores, Detections, LabelMap, MaskScores, TaskName

Row = Sequence[str | int | float]
TOP = 5
"""Classes of an image that are told."""


@dataclass(frozen=True)
class MaskShares:
    """What is kept of a predicted mask: a mask a file would fill the memory.

    Args:
        shares: Share of the pixels each class has, 0-1.
        file: The index PNG it was written to, if it was.
    """

    shares: tuple[float, ...]
    file: Path | None = None


@dataclass(frozen=True)
class FilePrediction:
    """What was found in one image file; see `ImagePrediction`."""

    path: Path
    size_hw: tuple[int, int]
    found: Detections | ClassScores | MaskShares | None
    fault: str | None = None


@dataclass(frozen=True)
class PredictedFiles:
    """What was found in some image files."""

    task: TaskName
    labels: LabelMap
    images: tuple[FilePrediction, ...]

    def lines(self) -> Iterator[str]:
        """Yield one line of text an image."""
        for image in self.images:
            yield image_line(image, self.labels)

    def csv_rows(self) -> Iterator[Row]:
        """Yield the header, then a row a detection, a class of a mask, or one of the likeliest classes.

        Boxes are in pixels of the file.
        """
        yield CSV_COLUMNS[self.task]
        for image in self.images:
            for row in _rows(image.found, self.labels):
                yield (str(image.path), *row)

    def to_json(self) -> dict[str, Any]:
        """Return detections in COCO's form (see `to_coco`), masks and classes as one entry an image."""
        if self.task == "detection":
            return self.to_coco()
        images = []
        for image in self.images:
            height, width = image.size_hw
            entry: dict[str, Any] = {"image": str(image.path), "height": height, "width": width}
            if image.fault:
                entry["fault"] = image.fault
            figure = CSV_COLUMNS[self.task][-1]
            entry["classes"] = [
                {"label": row[0], "name": row[1], figure: row[2]} for row in _rows(image.found, self.labels)
            ]
            if isinstance(image.found, MaskShares) and image.found.file is not None:
                entry["mask"] = str(image.found.file)
            images.append(entry)
        return {"task": self.task, "classes": self.labels.to_json(), "images": images}

    def to_coco(self) -> dict[str, Any]:
        """Return the detections in COCO's form: images, categories, and annotations that have a `score`.

        Category ids are those of the data set the model was trained on where these are numbers, else label + 1.
        """
        numbered = all(isinstance(file_id, int) for file_id in self.labels.file_ids)
        ids = self.labels.file_ids if numbered else range(1, len(self.labels) + 1)
        categories = [{"id": i, "name": name} for i, name in zip(ids, self.labels.names, strict=True)]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, image in enumerate(self.images):
            height, width = image.size_hw
            entry = {"id": number, "file_name": str(image.path), "height": height, "width": width}
            images.append(entry | ({"fault": image.fault} if image.fault else {}))
            if not isinstance(image.found, Detections):
                continue
            found = image.found
            for box, score, label in zip(
                found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
            ):
                x1, y1, x2, y2 = box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": categories[label]["id"],
                        "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                        "area": round((x2 - x1) * (y2 - y1), 3),
                        "iscrowd": 0,
                        "score": round(score, 5),
                    }
                )
        return {"images": images, "categories": categories, "annotations": annotations}


CSV_COLUMNS: dict[TaskName, tuple[str, ...]] = {
    "detection": ("image", "label", "name", "score", "xmin", "ymin", "xmax", "ymax"),
    "segmentation": ("image", "label", "name", "share"),
    "classification": ("image", "label", "name", "score"),
}


def predict_files(
    run: str | Path | Run | Backend,
    images: Sequence[str | Path],
    *,
    out: Path | None = None,
    threshold: float = 0.3,
    batch: int = 8,
    backend: str | None = None,
    watch: Callable[[FilePrediction], None] | None = None,
) -> PredictedFiles:
    """Predict image files and draw what was found, while the next ones go through the network.

    Args:
        run: A run folder, a loaded run, an exported `.onnx` file, or what predicts.
        images: Files, folders and globs.
        out: Where drawn pictures go, named after their files, and masks as index PNGs beside them; none are made
            when not given.
        threshold: Least score of a detection, 0-1.
        batch: Images that go through the network together.
        backend: See `predict`.
        watch: Called with every prediction as it is made.

    Raises:
        UsageError: If there is no image, a number is out of range, or `out` cannot be written.
    """
    chosen = open_backend(run, backend)
    labels = chosen.labels
    results: list[FilePrediction] = []
    taken: set[Path] = set()
    with Behind(workers=1, waiting=2 * batch) as drawing:
        for result in predict(chosen, images, threshold=threshold, batch=batch):
            kept = _kept(result, labels)
            if out is not None and result.fault is None:
                target = _target(result.path, out, taken, number=len(results) + 1)
                if isinstance(kept.found, MaskShares):
                    kept = replace(kept, found=replace(kept.found, file=target.with_suffix(".png")))
                drawing.do(partial(_draw, result, labels, target))
            if watch is not None:
                watch(kept)
            results.append(kept)
    return PredictedFiles(chosen.task, labels, tuple(results))


def _draw(result: ImagePrediction, labels: LabelMap, target: Path) -> None:
    _save(_drawn(result, labels), target)
    if isinstance(result.found, MaskScores):
        _save(result.found.labels.cpu().numpy(), target.with_suffix(".png"))


def _kept(result: ImagePrediction, labels: LabelMap) -> FilePrediction:
    found: Detections | ClassScores | MaskShares | None
    if isinstance(result.found, MaskScores):
        counts = result.found.labels.flatten().bincount(minlength=len(labels)).double()
        found = MaskShares(tuple((counts / counts.sum()).tolist()))
    else:
        found = result.found
    return FilePrediction(result.path, result.size_hw, found, result.fault)


def image_line(image: FilePrediction, labels: LabelMap) -> str:
    """Return what was found in an image, in one line of text."""
    return f"{image.path}: {image.fault or _words(image.found, labels) or 'nothing'}"


def _words(found: Detections | ClassScores | MaskShares | None, labels: LabelMap) -> str:
    if isinstance(found, Detections):
        counts = found.labels.bincount(minlength=len(labels)).tolist()
        there = [f"{count} {name}" for count, name in zip(counts, labels.names, strict=True) if count]
        return ", ".join(there)
    if isinstance(found, ClassScores):
        return ", ".join(f"{labels.names[label]} {score:.2f}" for label, score in found.top(3))
    if isinstance(found, MaskShares):
        shares = sorted(zip(found.shares, labels.names, strict=True), reverse=True)
        return ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.005)
    return ""


def _rows(found: Detections | ClassScores | MaskShares | None, labels: LabelMap) -> Iterator[Row]:
    if isinstance(found, Detections):
        for box, score, label in zip(
            found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            yield (label, labels.names[label], round(score, 5), *(round(edge, 2) for edge in box))
    if isinstance(found, ClassScores):
        yield from ((label, labels.names[label], round(score, 6)) for label, score in found.top(TOP))
    if isinstance(found, MaskShares):
        yield from (
            (label, labels.names[label], round(share, 6)) for label, share in enumerate(found.shares) if share
        )


def _drawn(result: ImagePrediction, labels: LabelMap) -> np.ndarray:
    image, found = result.pixels, result.found
    assert image is not None, "a prediction without fault has its image"
    if isinstance(found, Detections):
        return draw_detections(image, found.boxes_xyxy, found.labels, labels.names, scores=found.scores)
    if isinstance(found, MaskScores):
        return draw_mask(image, found.labels.cpu().numpy(), labels.names, spelled=True)
    assert isinstance(found, ClassScores), "a prediction without fault holds something"
    return draw_class(image, found, labels.names)


def _target(path: Path, out: Path, taken: set[Path], *, number: int) -> Path:
    """Return where a picture goes; another folder's file of the same name, or an earlier call's, is not replaced."""
    target = out / f"{path.stem}.jpg"
    if target in taken or target.exists():
        target = out / f"{path.stem}-{number}.jpg"
    taken.add(target)
    return target


def _save(pixels: np.ndarray, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, quality=92)
    except OSError as fault:
        raise UsageError(f"cannot write {target}: {fault.strerror}", "give --out another folder") from fault
