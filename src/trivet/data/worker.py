"""What a loader's worker does: the draws of one step -> a packed batch.

A maker is a data set to torch's loader, whose items are whole batches. It holds columns and settings only and
is never changed, so any number of workers can share it.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2

from trivet.data.augment import Augmentation
from trivet.data.letterbox import letterbox
from trivet.data.mix import Mix, Readable, read_only
from trivet.data.order import Draw
from trivet.data.packed import PackedBatch
from trivet.errors import DataError
from trivet.structures import Sample, TruthTable


@runtime_checkable
class Samples(Protocol):
    """What a loader needs of a data set."""

    @property
    def truth(self) -> TruthTable:
        """The boxes, from which rare classes are told."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def name(self, index: int) -> str:
        """Return the image's name, for messages."""
        ...


@dataclass(frozen=True)
class Fault:
    """Why a sample could not be made; a value, because exceptions lose their shape between processes."""

    message: str
    hint: str | None = None


@runtime_checkable
class Maker(Protocol):
    """Makes whole batches of draws."""

    @property
    def dataset(self) -> Any:
        """What the batches are made of."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, draws: list[Draw]) -> PackedBatch | Fault:
        """Return the batch of these draws, or why it could not be made."""
        ...


# What decoding, augmenting and a user's own code raise when an image is bad; not our own assertions.
_SAMPLE_FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, cv2.error)


@dataclass(frozen=True)
class TrainMaker:
    """Makes training batches: every draw augmented, and mixed with other images where it says so."""

    dataset: Samples
    augmentation: Augmentation
    mix: Mix | None
    size_hw: tuple[int, int]
    fill_rgb: tuple[int, int, int]
    seed: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: list[Draw]) -> PackedBatch | Fault:
        return _pack(_Named(self.dataset), draws, self._sample)

    def _sample(self, dataset: "_Named", draw: Draw) -> Sample:
        rng = draw.generator(self.seed)
        if self.mix is None or not draw.mixed:
            return self.augmentation(dataset[draw.image], rng)
        return self.mix.draw(
            dataset,
            draw.image,
            rng,
            augmentation=self.augmentation,
            size_hw=self.size_hw,
            fill_rgb=self.fill_rgb,
        )


@dataclass(frozen=True)
class EvalMaker:
    """Makes evaluation batches: every draw letterboxed."""

    dataset: Samples
    size_hw: tuple[int, int]
    fill_rgb: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: list[Draw]) -> PackedBatch | Fault:
        return _pack(_Named(self.dataset), draws, self._sample)

    def _sample(self, dataset: "_Named", draw: Draw) -> Sample:
        return letterbox(dataset.for_reading(draw.image), size_hw=self.size_hw, fill_rgb=self.fill_rgb)


def start_worker(_: int) -> None:
    """Leave OpenCV one thread, as the workers are the parallelism, and Ctrl-C to the main process."""
    # Not 1: OpenCV would wait for the threads that a fork leaves behind.
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class _Named:
    """The data set, naming the image that cannot be read: in a mosaic it need not be the one that was drawn."""

    dataset: Samples

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self._read(index, lambda dataset, position: dataset[position])

    def for_reading(self, index: int) -> Sample:
        """Return what `[index]` does, with an image that perhaps cannot be written to."""
        return self._read(index, read_only)

    def _read(self, index: int, read: Callable[[Readable, int], Sample]) -> Sample:
        try:
            return read(self.dataset, index)
        except DataError:
            raise
        except _SAMPLE_FAULTS as fault:
            raise self.fault(index, "could not be read", fault) from fault

    def fault(self, index: int, what: str, fault: BaseException) -> DataError:
        return DataError(f"{self.dataset.name(index)} {what}: {type(fault).__name__}: {fault}")


def _pack(dataset: _Named, draws: list[Draw], make: Callable[[_Named, Draw], Sample]) -> PackedBatch | Fault:
    samples = []
    for draw in draws:
        try:
            samples.append(make(dataset, draw))
        except DataError as fault:
            return Fault(fault.message, fault.hint)
        except _SAMPLE_FAULTS as fault:
            return Fault(dataset.fault(draw.image, "could not be augmented", fault).message)
    return PackedBatch.of(samples)
