"""What computes predictions: PyTorch with a run's weights, or ONNX Runtime with what was exported from it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from trivet.data.letterbox import letterbox
from trivet.errors import UsageError, unknown_name
from trivet.export import require_packages
from trivet.recipe.run_folder import Run, RunFolder
from trivet.structures import ClassScores, Detections, LabelMap, MaskScores, Placement, Sample, TaskName
from trivet.tasks.segmentation import SegmentationTask, refine

if TYPE_CHECKING:
    from trivet.export.reading import OnnxFile

BACKENDS = ("torch", "onnx")

Found: TypeAlias = Detections | MaskScores | ClassScores


@runtime_checkable
class Backend(Protocol):
    """Predicts images that are in memory."""

    @property
    def task(self) -> TaskName:
        """What it predicts."""
        ...

    @property
    def labels(self) -> LabelMap:
        """Its classes."""
        ...

    def predict(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Return what is found in each uint8 RGB image `[h, w, 3]`, in its own pixels."""
        ...


@dataclass(frozen=True)
class TorchBackend:
    """PyTorch, on the GPU where there is one."""

    run: Run
    device: torch.device = field(
        default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )

    def __post_init__(self) -> None:
        self.run.model.to(self.device).to(memory_format=torch.channels_last).eval()

    @property
    def task(self) -> TaskName:
        """What it predicts."""
        return self.run.recipe.task.kind

    @property
    def labels(self) -> LabelMap:
        """Its classes."""
        return self.run.labels

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Return what is found in each uint8 RGB image `[h, w, 3]`, in its own pixels."""
        if not images:
            return []
        run, size_hw = self.run, self.run.recipe.model.size_hw
        pixels = np.empty((len(images), *size_hw, 3), np.uint8)
        placements = [self._place(image, onto) for image, onto in zip(images, pixels, strict=True)]
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        output = run.model(run.model.normalise(batch.to(self.device, memory_format=torch.channels_last)))
        if run.crf is not None and isinstance(run.task, SegmentationTask):
            whole = run.task.probabilities(output, size_hw, placements=placements)
            return [refine(one, image, run.crf) for one, image in zip(whole, images, strict=True)]
        predictions: Sequence[Found] = run.task.predict(output, size_hw, placements=placements)
        return [
            found.to_original(place) if isinstance(found, Detections) else found
            for found, place in zip(predictions, placements, strict=True)
        ]

    def _place(self, image: np.ndarray, onto: np.ndarray) -> Placement:
        """Letterbox an image onto an array of the input's size."""
        sample = Sample.of_image(image, image_id=0, name="image")
        fill_rgb = self.run.model.fill_rgb
        return letterbox(sample, size_hw=onto.shape[:2], fill_rgb=fill_rgb, canvas=onto).placement


@dataclass(frozen=True)
class OnnxBackend:
    """ONNX Runtime on the CPU."""

    file: "OnnxFile"

    @property
    def task(self) -> TaskName:
        """What it predicts."""
        return self.file.facts.task

    @property
    def labels(self) -> LabelMap:
        """Its classes."""
        return self.file.facts.labels

    def predict(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Return what is found in each uint8 RGB image `[h, w, 3]`, in its own pixels."""
        return self.file.predict(images)


def exported_file(folder: RunFolder) -> Path:
    """Return where a run's export lies."""
    return folder.path / "model.onnx"


def weights_mark(folder: RunFolder) -> str:
    """Return the SHA-256 of a run's best weights."""
    return hashlib.sha256(folder.best.read_bytes()).hexdigest()


def onnx_backend(path: str | Path) -> OnnxBackend:
    """Return ONNX Runtime with an exported file.

    Raises:
        UsageError: If the packages are missing, or the file is not one of ours.
    """
    require_packages()
    from trivet.export.reading import open_onnx

    return OnnxBackend(open_onnx(path))


def choose_backend(run: Run, backend: str | None = None) -> Backend:
    """Return what predicts with a run: by name, or the faster of those there are.

    Without a name that is ONNX Runtime on a machine without GPU, where `trivet export` has left a file for the run's
    best weights and these are wanted, and PyTorch otherwise.

    Args:
        run: The run.
        backend: A name of `BACKENDS`.

    Raises:
        UsageError: If the name is unknown, or ONNX is wanted and cannot be.
    """
    if backend is not None and backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    if backend == "torch" or (backend is None and torch.cuda.is_available()):
        return TorchBackend(run)
    there = _exported(run)
    if not isinstance(there, UsageError):
        return there
    if backend == "onnx":
        raise there
    return TorchBackend(run)


def _exported(run: Run) -> OnnxBackend | UsageError:
    """Return the run's export, or why it cannot be used and what to do."""
    path, make = exported_file(run.folder), f"trivet export {run.folder.path} --to onnx"
    if run.last or run.flip or run.crf is not None:
        return UsageError(
            "an export has a run's best weights, looks at images once, and has no dense CRF",
            "leave --last, --flip and --crf out, or --backend torch",
        )
    if not path.is_file():
        return UsageError(f"{run.folder.path} was not exported: there is no {path.name} in it", make)
    try:
        backend = onnx_backend(path)
    except UsageError as fault:
        return fault
    if backend.file.facts.weights != weights_mark(run.folder):
        return UsageError(f"{path} was made from other weights than the run has now", make)
    return backend
