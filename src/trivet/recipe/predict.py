"""The verb `predict`: images -> boxes, masks or classes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import TypeAlias

import torch

from trivet.data.batching import collate
from trivet.data.images import read_image
from trivet.data.letterbox import letterbox
from trivet.errors import DataError, UsageError
from trivet.recipe.run_folder import Run, load_run
from trivet.structures import ClassScores, Detections, MaskScores, Sample
from trivet.tasks.segmentation import SegmentationTask, refine

PICTURES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2"}
)

Found: TypeAlias = Detections | MaskScores | ClassScores


@dataclass(frozen=True)
class ImagePrediction:
    """What was found in one image file, in the file's own pixels.

    Args:
        path: The file.
        size_hw: Its size.
        found: What was predicted, in the file's pixels; `None` when `fault` is set.
        fault: Why the file could not be used.
    """

    path: Path
    size_hw: tuple[int, int]
    found: Found | None
    fault: str | None = None


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """List image files from files, folders (searched through) and globs, each once, sorted within each.

    Raises:
        UsageError: If nothing is there, or a folder or glob holds no images.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            here = sorted(
                item for item in path.rglob("*") if item.suffix.lower() in PICTURES and item.is_file()
            )
        elif path.is_file():
            here = [path]
        elif has_magic(str(given)):
            here = sorted(Path(item) for item in glob(str(given), recursive=True) if Path(item).is_file())  # noqa: PTH207
        else:
            raise UsageError(f"{given} does not exist", "give image files, folders or globs")
        if not here:
            raise UsageError(f"{given} holds no images", f"image files end in {', '.join(sorted(PICTURES))}")
        found |= dict.fromkeys(here)
    if not found:
        raise UsageError("no images were given", "trivet predict RUN IMAGES...")
    return list(found)


def predict(
    run: str | Path | Run, images: Sequence[str | Path], *, threshold: float = 0.3, batch: int = 8
) -> Iterator[ImagePrediction]:
    """Predict image files, one batch in memory at a time.

    A file that cannot be decoded is yielded with its fault; the others go on.

    Args:
        run: A run folder, or a run that was loaded.
        images: Files, folders and globs.
        threshold: Least score of a detection, 0-1; masks and classes have no use for it.
        batch: Images that go through the network together.

    Raises:
        UsageError: If there is no run or image, or a number is out of range.
    """
    if not 0 <= threshold <= 1 or batch < 1:
        raise UsageError(f"threshold lies in 0-1 and batch is at least 1, got {threshold} and {batch}")
    loaded = run if isinstance(run, Run) else load_run(run)
    paths = find_images(images)
    return _predictions(loaded, paths, threshold, batch)


def _predictions(run: Run, paths: Sequence[Path], threshold: float, batch: int) -> Iterator[ImagePrediction]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run.model.to(device).eval()
    for start in range(0, len(paths), batch):
        here = paths[start : start + batch]
        read = [_read(path, run) for path in here]
        found = iter(_find(run, [item for item in read if isinstance(item, Sample)], device))
        for path, item in zip(here, read, strict=True):
            if isinstance(item, str):
                yield ImagePrediction(path, (0, 0), None, item)
                continue
            yield ImagePrediction(path, item.placement.original_hw, _worth_showing(next(found), threshold))


def _worth_showing(found: Found, threshold: float) -> Found:
    if not isinstance(found, Detections):
        return found
    kept = found.scores >= threshold
    return Detections(found.boxes_xyxy[kept], found.scores[kept], found.labels[kept])


def _read(path: Path, run: Run) -> Sample | str:
    """Return the letterboxed image, or why it cannot be read."""
    try:
        image = read_image(path)
    except DataError as fault:
        return fault.message
    sample = Sample.of_image(image, image_id=0, name=str(path))
    return letterbox(sample, size_hw=run.recipe.model.size_hw, fill_rgb=run.model.fill_rgb)


@torch.inference_mode()
def _find(run: Run, samples: Sequence[Sample], device: torch.device) -> list[Found]:
    if not samples:
        return []
    batch, size_hw = collate(samples), run.recipe.model.size_hw
    output = run.model(run.model.normalise(batch.images.to(device)))
    if run.crf is not None and isinstance(run.task, SegmentationTask):
        whole = run.task.probabilities(output, size_hw, placements=batch.placements)
        return [
            refine(one, read_image(Path(name)), run.crf) for one, name in zip(whole, batch.names, strict=True)
        ]
    predictions: Sequence[Found] = run.task.predict(output, size_hw, placements=batch.placements)
    return [
        found.to_original(place) if isinstance(found, Detections) else found
        for found, place in zip(predictions, batch.placements, strict=True)
    ]
