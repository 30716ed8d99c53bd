"""Predictions for files as pictures, COCO json and CSV."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from trivet.data.images import read_image
from trivet.errors import UsageError
from trivet.recipe.predict import ImagePrediction, predict
from trivet.recipe.run_folder import Run
from trivet.report.draw import draw_detections
from trivet.structures import LabelMap

CSV_COLUMNS = ("image", "label", "name", "score", "xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class PredictedFiles:
    """What was found in some image files."""

    labels: LabelMap
    images: tuple[ImagePrediction, ...]

    def lines(self) -> Iterator[str]:
        """Yield one line of text an image."""
        for image in self.images:
            counts = image.found.labels.bincount(minlength=len(self.labels)).tolist()
            found = [
                f"{count} {name}" for count, name in zip(counts, self.labels.names, strict=True) if count
            ]
            yield f"{image.path}: {image.fault or ', '.join(found) or 'nothing'}"

    def csv_rows(self) -> Iterator[Sequence[str | int | float]]:
        """Yield the header, then one row a detection; boxes in pixels of the file."""
        yield CSV_COLUMNS
        for image in self.images:
            found = image.found
            for box, score, label in zip(
                found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
            ):
                place = (round(edge, 2) for edge in box)
                yield (str(image.path), label, self.labels.names[label], round(score, 5), *place)

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


def predict_files(
    run: Run, images: Sequence[str | Path], *, out: Path | None = None, threshold: float = 0.3, batch: int = 8
) -> PredictedFiles:
    """Find objects in image files and draw them.

    Args:
        run: A loaded run.
        images: Files, folders and globs.
        out: Where drawn pictures go, named after their files; none are drawn when not given.
        threshold: Least score, 0-1.
        batch: Images that go through the network together.

    Raises:
        UsageError: If there is no image, a number is out of range, or `out` cannot be written.
    """
    results = []
    for result in predict(run, images, threshold=threshold, batch=batch):
        results.append(result)
        if out is not None and result.fault is None:
            _draw(result, run.labels, out, number=len(results))
    return PredictedFiles(run.labels, tuple(results))


def _draw(result: ImagePrediction, labels: LabelMap, out: Path, *, number: int) -> None:
    found = result.found
    drawn = draw_detections(
        read_image(result.path), found.boxes_xyxy, found.labels, labels.names, scores=found.scores
    )
    target = out / f"{result.path.stem}.jpg"
    if target.exists():  # another folder's file of the same name, or an earlier call's
        target = out / f"{result.path.stem}-{number}.jpg"
    try:
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(target, quality=92)
    except OSError as fault:
        raise UsageError(f"cannot write {target}: {fault.strerror}", "give --out another folder") from fault
