"""Samples -> batches: the loaders for training and evaluation.

A worker gets the whole recipe of a batch (epoch, places in the order, image numbers) and shares no state with
anyone, so the batches are the same for any number of workers, and from any step that training resumes at.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from trivet.data.augment import Augmentation, AugmentationLike, build_augmentation
from trivet.data.letterbox import letterbox
from trivet.data.mix import Mix
from trivet.data.order import Draw, EpochOrder, repeat_factors
from trivet.errors import DataError, TrainingError, UsageError
from trivet.structures import Batch, BoxTarget, Placement, Sample, TruthTable


class Samples(Protocol):
    """What a loader needs of a data set."""

    truth: TruthTable

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def name(self, index: int) -> str:
        """Return the image's name, for messages."""
        ...


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch, leaving crowd regions out of the targets.

    Raises:
        UsageError: If there is no sample or their sizes differ.
    """
    return _Packed.of(samples).batch()


def train_loader(
    dataset: Samples,
    *,
    size_hw: tuple[int, int],
    batch: int,
    augmentation: AugmentationLike = "medium",
    mix: Mix | None = None,
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
        mix: Mosaic and mixup; `None` for neither.
        workers: Processes that prepare batches; 0 prepares them in this one.
        seed: Decides order and augmentation together with the epoch.
        rank: This process, from 0 to `world - 1`.
        world: Number of processes; every one gets the same number of batches and other images.
        drop_last: Whether the remainder of an epoch that fills no batch is left out; otherwise the order
            starts again to fill it. A data set smaller than a batch is always repeated to fill one.
        repeat_threshold: Classes on a smaller share of images (0-1) than this are shown more often
            (`repeat_factors`); `None` shows every image once an epoch.
        fill_rgb: Colour of padding, best the model's mean colour.
        orientation: `upright` or `free`, see `build_augmentation`.

    Raises:
        UsageError: If an argument is out of its range.
    """
    if not 0 <= rank < world:
        raise UsageError(f"a rank is from 0 to world - 1, got rank={rank} of world={world}")
    factors = None if repeat_threshold is None else repeat_factors(dataset.truth, threshold=repeat_threshold)
    order = EpochOrder(len(dataset), batch, world=world, seed=seed, drop_last=drop_last, factors=factors)
    built = build_augmentation(augmentation, size_hw=size_hw, fill_rgb=fill_rgb, orientation=orientation)
    maker = _TrainMaker(dataset, built, mix, size_hw, fill_rgb, seed)
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
    return EvalLoader(_EvalMaker(dataset, size_hw, fill_rgb), batch=batch, workers=workers)


class TrainLoader:
    """Batches of any epoch from any step, made by `train_loader`.

    Attributes:
        mix_until_epoch: First epoch without mosaic and mixup, `None` for never; may be set between epochs.
        waited_seconds: How long the caller stood still for batches so far.
    """

    def __init__(self, plan: "_EpochPlan", maker: "_TrainMaker", *, workers: int) -> None:
        self.mix_until_epoch: int | None = None
        self.waited_seconds = 0.0
        self._plan = plan
        self._loader = _torch_loader(maker, plan, workers=workers, persistent=True)

    def __len__(self) -> int:
        """Return the number of steps of an epoch: the same on every rank, at least 1."""
        return self._plan.order.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from `start_step` on, the same ones whenever and however often it is asked.

        One epoch at a time: starting one ends the one before.

        Args:
            epoch: From 0.
            start_step: From 0; the batches before it are not made.

        Raises:
            UsageError: If `epoch` or `start_step` is out of its range.
            DataError: If a sample cannot be made; the message names its image.
            TrainingError: If a worker process dies.
        """
        if epoch < 0 or not 0 <= start_step <= len(self):
            raise UsageError(
                f"an epoch counts from 0 and has {len(self)} steps, got epoch={epoch}, start_step={start_step}"
            )
        mixed = self.mix_until_epoch is None or epoch < self.mix_until_epoch
        self._plan.start(epoch, start_step, mixed=mixed)
        for batch, waited in _timed(self._loader):
            self.waited_seconds += waited
            yield batch


class EvalLoader:
    """Every image once, in order, made by `eval_loader`; iterate as often as needed.

    Attributes:
        waited_seconds: How long the caller stood still for batches so far.
    """

    def __init__(self, maker: "_EvalMaker", *, batch: int, workers: int) -> None:
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


@dataclass(frozen=True)
class _Packed:
    """A batch as a few arrays, because what processes hand each other costs by the piece."""

    images: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    counts: list[int]
    image_ids: list[int]
    names: tuple[str, ...]
    placements: tuple[Placement, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "_Packed":
        if not samples:
            raise UsageError("a batch needs at least one sample, got none")
        for sample in samples:
            if sample.image.shape != samples[0].image.shape:
                raise UsageError(
                    f"a batch's images have one size, got {samples[0].image.shape[:2]} ({samples[0].name}) and "
                    f"{sample.image.shape[:2]} ({sample.name})",
                    "letterbox or augment them to one size_hw first",
                )
        boxes = np.concatenate([sample.boxes_xyxy[~sample.crowd] for sample in samples])
        labels = np.concatenate([sample.labels[~sample.crowd] for sample in samples])
        return cls(
            torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
            torch.from_numpy(boxes.astype(np.float32)),
            torch.from_numpy(labels.astype(np.int64)),
            [int((~sample.crowd).sum()) for sample in samples],
            [sample.image_id for sample in samples],
            tuple(sample.name for sample in samples),
            tuple(sample.placement for sample in samples),
        )

    def pin_memory(self) -> "_Packed":
        """Return it in page-locked memory; torch's loader calls this by name."""
        pinned = self.images.pin_memory(), self.boxes_xyxy.pin_memory(), self.labels.pin_memory()
        return _Packed(*pinned, self.counts, self.image_ids, self.names, self.placements)

    def batch(self) -> Batch:
        pairs = zip(self.boxes_xyxy.split(self.counts), self.labels.split(self.counts), strict=True)
        return Batch(
            self.images,
            tuple(BoxTarget(boxes, labels) for boxes, labels in pairs),
            torch.tensor(self.image_ids, dtype=torch.int64),
            self.names,
            self.placements,
        )


@dataclass(frozen=True)
class _Fault:
    """Why a sample could not be made; a value, because exceptions lose their shape between processes."""

    message: str


# What decoding, augmenting and a user's own code raise when an image is bad; not our own assertions.
_SAMPLE_FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, cv2.error)


@dataclass(frozen=True)
class _TrainMaker:
    """Makes whole training batches, in a worker: torch's loader sees a data set whose items are batches."""

    dataset: Samples
    augmentation: Augmentation
    mix: Mix | None
    size_hw: tuple[int, int]
    fill_rgb: tuple[int, int, int]
    seed: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: list[Draw]) -> _Packed | _Fault:
        return _pack(self.dataset, draws, self._sample)

    def _sample(self, draw: Draw) -> Sample:
        rng = draw.generator(self.seed)
        if self.mix is None or not draw.mixed:
            return self.augmentation(self.dataset[draw.image], rng)
        return self.mix.draw(
            self.dataset,
            draw.image,
            rng,
            augmentation=self.augmentation,
            size_hw=self.size_hw,
            fill_rgb=self.fill_rgb,
        )


@dataclass(frozen=True)
class _EvalMaker:
    dataset: Samples
    size_hw: tuple[int, int]
    fill_rgb: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: list[Draw]) -> _Packed | _Fault:
        return _pack(self.dataset, draws, self._sample)

    def _sample(self, draw: Draw) -> Sample:
        return letterbox(self.dataset[draw.image], size_hw=self.size_hw, fill_rgb=self.fill_rgb)


def _pack(dataset: Samples, draws: list[Draw], make: Callable[[Draw], Sample]) -> _Packed | _Fault:
    samples = []
    for draw in draws:
        try:
            samples.append(make(draw))
        except _SAMPLE_FAULTS as fault:
            return _Fault(
                f"{dataset.name(draw.image)}: no sample could be made: {type(fault).__name__}: {fault}"
            )
    return _Packed.of(samples)


def _torch_loader(maker: Any, plan: Sampler[list[Draw]], *, workers: int, persistent: bool) -> DataLoader:
    if workers < 0:
        raise UsageError(f"a loader has 0 or more workers, got workers={workers}")
    return DataLoader(
        maker,
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        worker_init_fn=_start_worker,
        collate_fn=_unchanged,
        pin_memory=torch.cuda.is_available(),
        # Without its own generator every iteration would take a number from torch's global one.
        generator=torch.Generator(),
    )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # workers are the parallelism


def _unchanged(packed: Any) -> Any:
    return packed


def _timed(loader: DataLoader) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds it took to arrive."""
    started = time.perf_counter()
    packed = iter(loader)
    while (item := _next(packed)) is not None:
        if isinstance(item, _Fault):
            raise DataError(item.message, "`trivet audit` lists every image that cannot be used")
        yield item.batch(), time.perf_counter() - started
        started = time.perf_counter()


def _next(packed: Iterator[_Packed | _Fault]) -> _Packed | _Fault | None:
    try:
        return next(packed, None)
    except RuntimeError as fault:
        if "DataLoader worker" not in str(fault):
            raise
        raise TrainingError(
            f"a loader worker died: {fault}",
            "most often memory ran out: use fewer workers or a smaller batch, or workers=0 to see the fault itself",
        ) from fault
