"""A detector's predictions on every image of a loader, in the original images' pixels."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from trivet.models.kernels import held
from trivet.structures import Batch, Detections, Placement, PredictionTable


@runtime_checkable
class Predicts(Protocol):
    """A task that decodes a model's output."""

    def predict(
        self, output: Any, size_hw: tuple[int, int], *, placements: Sequence[Placement] | None = None
    ) -> tuple[Detections, ...]:
        """Return the detections of each image, in pixels of the input."""
        ...


def predict_dataset(
    model: nn.Module,
    task: Predicts,
    loader: Iterable[Batch],
    *,
    device: torch.device | str,
    progress: Callable[[int], None] | None = None,
) -> PredictionTable:
    """Return the predictions for all images of a loader; images in which nothing is found have no rows.

    The model stays on `device`; which of its parts are in training mode is afterwards as before.

    Args:
        model: A `models.Model`, or any module with its `normalise`.
        task: A `tasks.DetectionTask`, or anything with its `predict`.
        loader: Batches, as `eval_loader` makes them.
        device: Where to compute.
        progress: Called after each batch with the number of its images.
    """
    device = torch.device(device)
    model.to(device).to(memory_format=torch.channels_last)
    image_ids: list[int] = []
    found: list[Detections] = []
    with _evaluating(model), held(model):
        for batch in loader:
            image_ids += batch.image_ids.tolist()
            found += _predict_batch(model, task, batch, device)
            if progress is not None:
                progress(len(batch))
    return PredictionTable.from_detections(image_ids, found)


def _predict_batch(model: nn.Module, task: Predicts, batch: Batch, device: torch.device) -> list[Detections]:
    normalise = cast("Callable[[Tensor], Tensor]", model.normalise)
    images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
    with torch.inference_mode():
        output = model(normalise(images))
    # Decoding stays outside of inference mode: what a task keeps (anchors, say) must serve in training again.
    with torch.no_grad():
        height, width = batch.images.shape[-2:]
        detections = task.predict(output, size_hw=(height, width), placements=batch.placements)
        return [one.to_original(at) for one, at in zip(detections, batch.placements, strict=True)]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation, and back part by part: a frozen part may have been in evaluation before."""
    before = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
