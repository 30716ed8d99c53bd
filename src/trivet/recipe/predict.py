"""The verb `predict`: images -> boxes, masks or classes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

import numpy as np

from trivet.data.images import read_image
from trivet.errors import DataError, UsageError
from trivet.models.kernels import held
from trivet.recipe.ahead import ahead
from trivet.recipe.backends import Backend, Found, TorchBackend, choose_backend, onnx_backend
from trivet.recipe.run_folder import Run, load_run
from trivet.structures import Detections

PICTURES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2"}
)


@dataclass(frozen=True)
class ImagePrediction:
    """What was found in one image file, in the file's own pixels.

    Args:
        path: The file.
        size_hw: Its size.
        found: What was predicted, in the file's pixels; `None` when `fault` is set.
        fault: Why the file could not be used.
        pixels: The decoded image, uint8 `[h, w, 3]`.
    """

    path: Path
    size_hw: tuple[int, int]
    found: Found | None
    fault: str | None = None
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)


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
    run: str | Path | Run | Backend,
    images: Sequence[str | Path],
    *,
    threshold: float = 0.3,
    batch: int = 8,
    backend: str | None = None,
) -> Iterator[ImagePrediction]:
    """Predict image files; the next batch is decoded while one goes through the network.

    A file that cannot be decoded is yielded with its fault; the others go on. Two batches are in memory at a time.

    Args:
        run: A run folder, a run that was loaded, an exported `.onnx` file, or what predicts.
        images: Files, folders and globs.
        threshold: Least score of a detection, 0-1; masks and classes have no use for it.
        batch: Images that go through the network together.
        backend: `torch` or `onnx`. For a run folder on a machine without GPU, `onnx` where the run was exported;
            else `torch`.

    Raises:
        UsageError: If there is no run or image, or a number is out of range.
    """
    if not 0 <= threshold <= 1 or batch < 1:
        raise UsageError(f"threshold lies in 0-1 and batch is at least 1, got {threshold} and {batch}")
    chosen = open_backend(run, backend)
    paths = find_images(images)
    return _predictions(chosen, paths, threshold, batch)


def open_backend(run: str | Path | Run | Backend, backend: str | None = None) -> Backend:
    """Return what predicts with a run, an exported file, or itself; see `predict`.

    Raises:
        UsageError: If there is no run, or a backend is named that it does not have.
    """
    if isinstance(run, Run):  # its model may have been changed since it was read
        return TorchBackend(run) if backend is None else choose_backend(run, backend)
    if not isinstance(run, str | Path):
        return run
    if Path(run).suffix.lower() != ".onnx":
        return choose_backend(load_run(run), backend)
    if backend == "torch":
        raise UsageError(
            f"{run} is for ONNX Runtime, and the backend torch was asked for", "give the run folder"
        )
    return onnx_backend(run)


def _predictions(
    backend: Backend, paths: Sequence[Path], threshold: float, batch: int
) -> Iterator[ImagePrediction]:
    parts = [paths[start : start + batch] for start in range(0, len(paths), batch)]
    with held(backend.run.model) if isinstance(backend, TorchBackend) else nullcontext():
        for part, read in zip(parts, ahead(_read_all, parts, workers=1, waiting=1), strict=True):
            pixels = [item for item in read if isinstance(item, np.ndarray)]
            found = iter(backend.predict(pixels))
            for path, item in zip(part, read, strict=True):
                if isinstance(item, str):
                    yield ImagePrediction(path, (0, 0), None, item)
                    continue
                height, width = item.shape[:2]
                shown = _worth_showing(next(found), threshold)
                yield ImagePrediction(path, (height, width), shown, pixels=item)


def _worth_showing(found: Found, threshold: float) -> Found:
    if not isinstance(found, Detections):
        return found
    kept = found.scores >= threshold
    return Detections(found.boxes_xyxy[kept], found.scores[kept], found.labels[kept])


def _read_all(paths: Sequence[Path]) -> list[np.ndarray | str]:
    """Return each file's pixels, or why it cannot be read."""
    return [_read(path) for path in paths]


def _read(path: Path) -> np.ndarray | str:
    try:
        return read_image(path)
    except DataError as fault:
        return fault.message
