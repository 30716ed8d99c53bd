"""Samples -> batches: the loaders for training and evaluation.

A worker gets the whole recipe of a batch (epoch, places in the order, image numbers) and shares no state with
anyone, so the batches are the same for any number of workers, and from any step that training resumes at.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from trivet.data.augment import AugmentationLike, build_augmentation
from trivet.data.class_mix import ClassMix, MixedMaker
from trivet.data.mix import Mix, no_mixup_of_masks
from trivet.data.order import Draw, EpochOrder, repeat_class_factors, repeat_factors
from trivet.data.packed import PackedBatch
from trivet.data.small_images import SmallMaker, small_augmentation, small_pictures
from trivet.data.worker import EvalMaker, Fault, Maker, Samples, TrainMaker, start_worker
from trivet.errors import DataError, TrainingError, UsageError
from trivet.structures import Batch, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch, leaving crowd regions out of the targets.

    Raises:
        UsageError: If there is no sample or their sizes differ.
    """
    return PackedBatch.of(samples).unpack()


def train_loader(
    dataset: Samples,
    *,
    size_hw: tuple[int, int],
    batch: int,
    augmentation: AugmentationLike = "medium",
    mix: Mix | ClassMix | None = None,
    workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    drop_last: bool = True,
    repeat_threshold: float | None = None,
    fill_rgb: tuple[int, int, int] = (114, 114, 114),
    orientation: str = "upright",
) -> "TrainLoader":
    """Make the loader that training draws its batches from.

    Args:
        dataset: The training split.
        size_hw: The images' size in a batch.
        batch: Images a step, on each process.
        augmentation: See `build_augmentation`.
        mix: Mosaic and mixup, or MixUp and CutMix of classes; `None` for neither.
        workers: Processes that prepare batches; 0 prepares them in this one.
        seed: Decides order and augmentation together with the epoch.
        rank: This process, from 0 to `world - 1`.
        world: Number of processes; every one gets the same number of batches and other images.
        drop_last: Whether the remainder of an epoch that fills no batch is left out; otherwise the order
            starts again to fill it. A data set smaller than a batch is always repeated to fill one.
        repeat_threshold: Classes on a smaller share of images (0-1) than this are shown more often
            (`repeat_factors`); `None` shows every image once an epoch.
        fill_rgb: Colour of padding, best the model's mean colour.
        orientation: `fixed`, `upright` or `free`, see `build_augmentation`.

    Raises:
        UsageError: If an argument is out of its range.
    """
    if not 0 <= rank < world:
        raise UsageError(f"a rank is from 0 to world - 1, got rank={rank} of world={world}")
    _check_mix(mix, dataset)
    factors = None if repeat_threshold is None else _factors(dataset, repeat_threshold)
    order = EpochOrder(len(dataset), batch, world=world, seed=seed, drop_last=drop_last, factors=factors)
    maker: Maker
    small = small_augmentation(augmentation, size_hw=size_hw, fill_rgb=fill_rgb, orientation=orientation)
    if small is not None and small_pictures(dataset, size_hw):
        maker = SmallMaker(dataset, small, seed)
    else:
        built = build_augmentation(augmentation, size_hw=size_hw, fill_rgb=fill_rgb, orientation=orientation)
        boxed = None if isinstance(mix, ClassMix) else mix
        maker = TrainMaker(dataset, built, boxed, size_hw, fill_rgb, seed)
    if isinstance(mix, ClassMix):
        maker = MixedMaker(maker, mix, seed)
    return TrainLoader(_EpochPlan(order, rank), maker, workers=workers)


def eval_loader(
    dataset: Samples,
    *,
    size_hw: tuple[int, int],
    batch: int,
    workers: int = 0,
    fill_rgb: tuple[int, int, int] = (114, 114, 114),
) -> "EvalLoader":
    """Make the loader that shows every image once, letterboxed and in order; the last batch may be smaller.

    Args:
        dataset: The split to evaluate.
        size_hw: The images' size in a batch.
        batch: Images a batch.
        workers: Processes that prepare batches; 0 prepares them in this one.
        fill_rgb: Colour of padding, best the model's mean colour.

    Raises:
        UsageError: If `batch` or `workers` is out of its range.
    """
    if batch < 1:
        raise UsageError(f"a batch has at least one image, got batch={batch}")
    if small_pictures(dataset, size_hw):
        return EvalLoader(SmallMaker(dataset), batch=batch, workers=workers)
    return EvalLoader(EvalMaker(dataset, size_hw, fill_rgb), batch=batch, workers=workers)


def _check_mix(mix: Mix | ClassMix | None, dataset: Samples) -> None:
    classes = getattr(dataset, "task", "detection") == "classification"
    if mix is not None and isinstance(mix, ClassMix) != classes:
        wanted = "ClassMix (mixup, cutmix)" if classes else "Mix (mosaic, mixup)"
        raise UsageError(
            f"images with {'a class' if classes else 'boxes or masks'} each are mixed by {wanted}, got {mix!r}",
            "give that, or mix=None",
        )
    if isinstance(mix, Mix) and mix.mixup > 0 and getattr(dataset, "task", "detection") == "segmentation":
        raise no_mixup_of_masks()


def _factors(dataset: Samples, threshold: float) -> np.ndarray:
    if getattr(dataset, "task", "detection") == "segmentation":
        raise UsageError(
            "repeat_threshold shows images of rare boxes or classes more often, and this data set has masks",
            "leave it out; weigh rare classes in the loss",
        )
    labels = getattr(dataset, "class_labels", None)
    if labels is None:
        return repeat_factors(dataset.truth, threshold=threshold)
    return repeat_class_factors(labels, threshold=threshold)


class TrainLoader:
    """Batches of any epoch from any step, made by `train_loader`.

    Attributes:
        waited_seconds: How long the caller stood still for batches so far.
    """

    def __init__(self, plan: "_EpochPlan", maker: Maker, *, workers: int) -> None:
        self.waited_seconds = 0.0
        self._epochs_started = 0
        self._plan = plan
        self._loader = _torch_loader(maker, plan, workers=workers, persistent=True)

    def __len__(self) -> int:
        """Return the number of batches of an epoch: the same on every rank, at least 1."""
        return self._plan.order.steps

    def epoch(self, number: int, *, start_step: int = 0, plain: bool = False) -> Iterator[Batch]:
        """Yield an epoch's batches from `start_step` on, the same ones whenever and however often it is asked.

        One epoch at a time: starting one ends the one before.

        Args:
            number: The epoch, from 0.
            start_step: From 0; the batches before it are not made.
            plain: Whether mosaic and mixup are left out, as is best for the last epochs.

        Raises:
            UsageError: If `number` or `start_step` is out of its range.
            DataError: If a sample cannot be made; the message names its image.
            TrainingError: If a worker process dies.
        """
        if number < 0 or not 0 <= start_step <= len(self):
            raise UsageError(
                f"an epoch counts from 0 and has {len(self)} batches, got epoch={number}, start_step={start_step}"
            )
        self._plan.start(number, start_step, mixed=not plain)
        self._epochs_started += 1
        return self._batches(self._epochs_started)

    def _batches(self, mine: int) -> Iterator[Batch]:
        # Workers serve one epoch: an earlier iterator would take batches that are not its own.
        if mine != self._epochs_started:
            return
        for batch, waited in _timed(self._loader):
            self.waited_seconds += waited
            yield batch
            if mine != self._epochs_started:
                return


class EvalLoader:
    """Every image once, in order, made by `eval_loader`; iterate as often as needed.

    Attributes:
        waited_seconds: How long the caller stood still for batches so far.
    """

    def __init__(self, maker: Maker, *, batch: int, workers: int) -> None:
        self.waited_seconds = 0.0
        self._loader = _torch_loader(
            maker, _InOrder(len(maker.dataset), batch), workers=workers, persistent=False
        )

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch, waited in _timed(self._loader):
            self.waited_seconds += waited
            yield batch


class _EpochPlan(Sampler[list[Draw]]):
    """What each step of the running epoch draws; lives in this process only, workers get its items."""

    def __init__(self, order: EpochOrder, rank: int) -> None:
        self.order = order
        self.rank = rank
        self.start(0, 0, mixed=False)

    def start(self, epoch: int, step: int, *, mixed: bool) -> None:
        self._at = epoch, step, mixed

    def __len__(self) -> int:
        return self.order.steps - self._at[1]

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, start_step, mixed = self._at
        indices = self.order.indices(epoch)
        for step in range(start_step, self.order.steps):
            draws = self.order.draws(epoch, step, rank=self.rank, indices=indices)
            yield [draw._replace(mixed=mixed) for draw in draws]


class _InOrder(Sampler[list[Draw]]):
    """Every image once, in order."""

    def __init__(self, images: int, batch: int) -> None:
        self.images = images
        self.batch = batch

    def __len__(self) -> int:
        return -(-self.images // self.batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        for first in range(0, self.images, self.batch):
            yield [Draw(0, index, index) for index in range(first, min(first + self.batch, self.images))]


def _torch_loader(maker: Any, plan: Sampler[list[Draw]], *, workers: int, persistent: bool) -> DataLoader:
    if workers < 0:
        raise UsageError(f"a loader has 0 or more workers, got workers={workers}")
    return DataLoader(
        maker,
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        worker_init_fn=start_worker,
        pin_memory=torch.cuda.is_available(),
        # Without its own generator every iteration would take a number from torch's global one.
        generator=torch.Generator(),
    )


def _timed(loader: DataLoader) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds it took to arrive."""
    started = time.perf_counter()
    packed = iter(loader)
    while (item := _next(packed)) is not None:
        if isinstance(item, Fault):
            raise DataError(item.message, item.hint)
        yield item.unpack(), time.perf_counter() - started
        started = time.perf_counter()


def _next(packed: Iterator[PackedBatch | Fault]) -> PackedBatch | Fault | None:
    try:
        return next(packed, None)
    except RuntimeError as fault:
        if "DataLoader worker" not in str(fault):
            raise
        raise TrainingError(
            f"a loader worker died: {fault}",
            "most often memory ran out: use fewer workers or a smaller batch, or workers=0 to see the fault itself",
        ) from fault
