"""Scoring segmenters."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from trivet.data.dataset import Dataset
from trivet.errors import UsageError
from trivet.evaluate.mask_counts import SegmentationCounts
from trivet.evaluate.segmentation import evaluate_segmentation
from trivet.evaluate.segmentation_scores import ImageMask, SegmentationScores
from trivet.models.kernels import held
from trivet.models.model import Model
from trivet.recipe.assessment import GALLERY_EACH, Assessment, MeanLosses, run_loader
from trivet.recipe.run_folder import AnyTask, Run
from trivet.report.contents import Picture
from trivet.structures import Batch, LabelMap, MaskScores
from trivet.tasks.segmentation import SegmentationTask, refine
from trivet.train.loop import Validation


class SegmentationAssessor:
    """Masks: mIoU over the whole split."""

    @torch.inference_mode()
    def validate(self, model: Model, task: AnyTask, batches: Iterable[Batch], dataset: Dataset) -> Validation:  # noqa: ARG002
        """Return mIoU as the score, with `val_miou`, `val_pixel_accuracy` (0-1) and the losses.

        Pixels are compared at the network's input size, which is quicker than at the images' own and close to it.
        """
        assert isinstance(task, SegmentationTask), "the caller takes the assessor of its task"
        model.eval()
        device = model.mean.device
        losses = MeanLosses(task.prior_count)
        counts = torch.zeros(task.classes, task.classes, dtype=torch.int64)
        for batch in batches:
            images = model.normalise(batch.images.to(device, non_blocking=True))
            output = model(images)
            sums = task.losses(output, batch.to(device), normaliser=torch.ones_like)
            losses.add({name: float(value) for name, value in sums.items()})
            counts += _confusion(output, batch.mask_targets.masks, task.classes)
        hits, union = counts.diag(), counts.sum(0) + counts.sum(1) - counts.diag()
        miou = float((hits[union > 0] / union[union > 0]).mean()) if (union > 0).any() else 0.0
        accuracy = float(hits.sum() / counts.sum().clamp(min=1))
        return Validation(miou, {"val_miou": miou, "val_pixel_accuracy": accuracy, **losses.metrics()})

    def assess(
        self, run: Run, dataset: Dataset, *, bootstrap: int = 1000, keep: Path | None = None
    ) -> Assessment:
        """Score a segmenter at the images' own sizes; masks are kept as index PNGs in `predictions/`."""
        counts = SegmentationCounts(len(run.labels))
        folder = None if keep is None else keep / "predictions"
        for index, found in predicted_masks(run, dataset):
            mask = found.labels.numpy()
            counts.add(int(dataset.truth.image_ids[index]), mask, _truth(dataset, index))
            if folder is not None:
                write_mask(folder / mask_name(dataset.name(index), index), mask)
        scores = evaluate_segmentation(counts, run.labels, bootstrap=bootstrap)
        return Assessment(scores, lambda: _gallery(run, dataset, scores))

    def assess_file(self, path: Path, dataset: Dataset, *, bootstrap: int = 1000) -> SegmentationScores:
        """Score a folder of index PNGs named as the images are, one label a pixel."""
        if not path.is_dir():
            raise UsageError(
                f"{path} is not a folder of masks", "give the folder that holds one index PNG an image"
            )
        files = {file.stem: file for file in sorted(path.rglob("*.png"))}
        counts = SegmentationCounts(len(dataset.labels))
        for index in range(len(dataset)):
            stem = Path(dataset.name(index)).stem
            file = files.get(stem) or files.get(Path(mask_name(dataset.name(index), index)).stem)
            if file is None:
                raise UsageError(f"{path} has no mask for the image {dataset.name(index)}", f"{stem}.png")
            mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            truth = _truth(dataset, index)
            if mask is None or mask.dtype != np.uint8 or mask.shape != truth.shape:
                raise UsageError(
                    f"{file} is not an 8-bit index PNG of {truth.shape[1]} x {truth.shape[0]} pixels"
                )
            counts.add(int(dataset.truth.image_ids[index]), mask, truth)
        return evaluate_segmentation(counts, dataset.labels, bootstrap=bootstrap)


@torch.inference_mode()
def predicted_masks(run: Run, dataset: Dataset) -> Iterator[tuple[int, MaskScores]]:
    """Yield each image's position and its predicted mask, in the original image's pixels."""
    assert isinstance(run.task, SegmentationTask), "the caller takes the assessor of its task"
    device = torch.device(run.recipe.machine.accelerator)
    model = run.model.to(device).to(memory_format=torch.channels_last).eval()
    index = 0
    with held(model):
        for batch in run_loader(run, dataset):
            images = model.normalise(batch.images.to(device, memory_format=torch.channels_last))
            output = model(images)
            size_hw = (images.shape[2], images.shape[3])
            if run.crf is None:
                masks = iter(run.task.predict(output, size_hw, placements=batch.placements))
            else:
                whole = run.task.probabilities(output, size_hw, placements=batch.placements)
                masks = (refine(one, dataset.image(index + at), run.crf) for at, one in enumerate(whole))
            for at, found in enumerate(masks):
                yield index + at, MaskScores(found.labels.cpu(), found.scores.cpu())
            index += len(batch)


def mask_name(name: str, index: int) -> str:
    """Return what an image's predicted mask is called: numbered, as images of two folders may share a name."""
    return f"{index:06d}-{Path(name).stem}.png"


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write an index PNG.

    Raises:
        UsageError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    except OSError as fault:
        raise UsageError(f"cannot write {path}: {fault.strerror}", "give another folder") from fault


def _confusion(output: Tensor | tuple[Tensor, ...], masks: Tensor, classes: int) -> Tensor:
    logits = output[0] if isinstance(output, tuple) else output
    sized = torch.nn.functional.interpolate(
        logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False
    )
    found, truth = sized.argmax(1).cpu().flatten(), masks.cpu().flatten().long()
    valid = truth < classes
    pairs = truth[valid] * classes + found[valid]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def _truth(dataset: Dataset, index: int) -> np.ndarray:
    assert dataset.masks is not None, "a data set for segmentation has masks"
    return dataset.masks[index]


def _gallery(run: Run, dataset: Dataset, scores: SegmentationScores) -> list[Picture]:
    """The images with the lowest IoU, then those nearest the median, predicted once more."""
    worst = scores.worst[:GALLERY_EACH]
    typical = [item for item in scores.typical if item not in worst][:GALLERY_EACH]
    position = {int(image_id): number for number, image_id in enumerate(dataset.truth.image_ids)}
    shown = [(item, "worst") for item in worst] + [(item, "typical") for item in typical]
    chosen = [position[item.image_id] for item, _ in shown]
    found = dict(predicted_masks(run, dataset.take(chosen)))
    return [
        Picture(
            dataset.image(chosen[number]),
            f"{dataset.name(chosen[number])}: {_words(item, run.labels)}",
            kind,  # type: ignore[arg-type]
            _truth(dataset, chosen[number]),
            found[number].labels.numpy(),
        )
        for number, (item, kind) in enumerate(shown)
    ]


def _words(item: ImageMask, labels: LabelMap) -> str:
    """Say how an image went: its IoU and its most frequent mistake."""
    if item.confused is None:
        return f"IoU {item.iou:.2f}"
    truth, predicted = labels.names[item.confused.truth], labels.names[item.confused.predicted]
    share = item.confused.pixels / max(item.pixels, 1)
    return f"IoU {item.iou:.2f}; {share:.0%} of the pixels are {truth}, taken for {predicted}"
