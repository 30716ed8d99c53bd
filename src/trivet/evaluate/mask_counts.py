"""What is kept of each segmented image: counts, so that a thousand images take no more room than one."""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from trivet.errors import UsageError
from trivet.evaluate.boundaries import TOLERANCE, boundary_f1
from trivet.evaluate.segmentation_scores import Confused
from trivet.structures import IGNORE_LABEL


class SegmentationCounts:
    """Counts of right and wrong pixels, by image and over all images.

    An image costs 16 bytes a class; the confusion matrix is kept once, for all images together.

    Args:
        classes: How many classes there are, 1 to 255.
        boundaries: Whether to compare boundaries too, which takes longer than the counting.
        tolerance: How far a boundary may be off, as a share of the image's diagonal.
    """

    def __init__(self, classes: int, *, boundaries: bool = True, tolerance: float = TOLERANCE) -> None:
        if not 1 <= classes <= IGNORE_LABEL:
            raise UsageError(f"masks hold 1 to {IGNORE_LABEL} classes, got {classes}")
        if not 0 <= tolerance < 1:
            raise UsageError(f"a boundary's tolerance is a share of the diagonal in 0-1, got {tolerance}")
        self.classes = classes
        self.boundaries = boundaries
        self.tolerance = tolerance
        self.image_ids: list[int] = []
        self.void = 0
        self.confusion: Int64[np.ndarray, "classes classes"] = np.zeros((classes, classes), np.int64)
        self._known: set[int] = set()
        self._hits: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []
        self._predicted: list[np.ndarray] = []
        self._boundary_f1: list[np.ndarray] = []
        self._worst: list[tuple[int, int, int]] = []

    def __len__(self) -> int:
        return len(self.image_ids)

    def add(
        self, image_id: int, predicted: UInt8[np.ndarray, "height width"], truth: UInt8[np.ndarray, "h w"]
    ) -> None:
        """Count one image.

        Args:
            image_id: The image's id in its data set, given once.
            predicted: A label for each pixel.
            truth: The label of each pixel, 255 where it does not count.

        Raises:
            UsageError: If the masks differ in size, hold labels that are no class, or the image was counted
                before; nothing is counted then.
        """
        self._check(image_id, predicted, truth)
        valid = truth != IGNORE_LABEL
        cells = truth[valid].astype(np.intp) * self.classes + predicted[valid]
        confusion = np.bincount(cells, minlength=self.classes**2).reshape(self.classes, self.classes)
        self.confusion += confusion
        self.void += int(truth.size - len(cells))
        self._known.add(image_id)
        self.image_ids.append(image_id)
        self._hits.append(np.diag(confusion).astype(np.uint32))
        self._truth.append(confusion.sum(axis=1).astype(np.uint32))
        self._predicted.append(confusion.sum(axis=0).astype(np.uint32))
        wrong = confusion - np.diag(np.diag(confusion))
        row, column = divmod(int(wrong.argmax()), self.classes)
        self._worst.append((row, column, int(wrong[row, column])))
        if self.boundaries:
            self._boundary_f1.append(
                boundary_f1(predicted, truth, classes=self.classes, tolerance=self.tolerance)
            )

    def miou(self, metric: Literal["set", "batch"] = "set", *, batch: int = 1) -> float:
        """Return the mean IoU over the classes in truth or prediction; NaN without any scored pixel.

        Args:
            metric: "set" takes one confusion matrix of all images, which is what a competition's board and the
                papers report. "batch" takes the mean of the mIoU of each batch, as some training scripts log; it
                depends on the batch size and on the order, and serves to compare with such logs alone.
            batch: How many images made a batch, in the order they were added.
        """
        if metric == "set":
            return float(mean_of_known(iou_of(*(part[None] for part in _margins(self.confusion))))[0])
        starts = range(0, len(self), batch)
        parts = [
            np.stack([part[start : start + batch].sum(axis=0) for start in starts]).astype(np.int64)
            if len(self)
            else np.zeros((0, self.classes), np.int64)
            for part in self.per_image()
        ]
        known = mean_of_known(iou_of(*parts))
        known = known[~np.isnan(known)]
        return float(known.mean()) if len(known) else float("nan")

    def pixel_accuracy(self) -> float:
        """Return the share of scored pixels that are right; NaN without any."""
        pixels = int(self.confusion.sum())
        return int(self.confusion.trace()) / pixels if pixels else float("nan")

    def per_image(
        self,
    ) -> tuple[
        Int64[np.ndarray, "images classes"],
        Int64[np.ndarray, "images classes"],
        Int64[np.ndarray, "images classes"],
    ]:
        """Return each image's pixels of each class: right ones, true ones, predicted ones."""
        hits, truth, predicted = (
            np.array(column, np.int64).reshape(len(self), self.classes)
            for column in (self._hits, self._truth, self._predicted)
        )
        return hits, truth, predicted

    def boundary_f1(self) -> Float64[np.ndarray, "images classes"]:
        """Return each image's boundary F1 of each class; NaN where it has no boundary or none was compared."""
        if not self.boundaries:
            return np.full((len(self), self.classes), np.nan)
        return np.array(self._boundary_f1, np.float64).reshape(len(self), self.classes)

    def confused(self, index: int) -> Confused | None:
        """Return the most frequent mistake of the image counted as number `index`."""
        truth, predicted, pixels = self._worst[index]
        return Confused(truth, predicted, pixels) if pixels else None

    def _check(self, image_id: int, predicted: np.ndarray, truth: np.ndarray) -> None:
        if image_id in self._known:
            raise UsageError(f"image {image_id} was counted before", "give each image once")
        for kind, mask in (("prediction", predicted), ("truth", truth)):
            if mask.dtype != np.uint8 or mask.ndim != 2:
                raise UsageError(
                    f"image {image_id}: a mask is uint8 [h, w], got a {kind} of {mask.dtype} {mask.shape}"
                )
        if predicted.shape != truth.shape:
            raise UsageError(
                f"image {image_id}: the prediction is {predicted.shape} but the truth is {truth.shape}",
                "predict in the original image's pixels",
            )
        valid = truth != IGNORE_LABEL
        for kind, mask in (("truth", truth), ("prediction", predicted)):
            largest = int(mask[valid].max(initial=0))
            if largest >= self.classes:
                raise UsageError(
                    f"image {image_id}: the {kind} has label {largest}, wanted 0 to {self.classes - 1}",
                    f"{IGNORE_LABEL} in the truth alone leaves a pixel out",
                )


def _margins(confusion: Int64[np.ndarray, "classes classes"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)


def iou_of(hits: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> Float64[np.ndarray, "n classes"]:
    """Return IoU from counts; NaN for a class that is in neither truth nor prediction."""
    union = truth + predicted - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_of_known(values: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, " n"]:
    """Return each row's mean over the values that exist; NaN for a row without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
