"""Which images an epoch trains on, in which order, and which of them each process takes.

Everything is a function of (seed, epoch): nothing is remembered, so training can resume at any step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trivet.errors import UsageError
from trivet.structures import TruthTable


class Draw(NamedTuple):
    """One place in an epoch's order: enough for a worker to make the sample without any shared state."""

    epoch: int
    slot: int
    image: int
    mixed: bool = False

    def generator(self, seed: int) -> np.random.Generator:
        """Return the random numbers of this draw: the same in any process, different from every other draw's."""
        return np.random.default_rng((seed, self.epoch, self.slot, self.image))


def uniforms(draws: Sequence[Draw], numbers: int, *, seed: int) -> np.ndarray:
    """Return the random numbers of a batch's draws at once, float64 `[b, numbers]` in 0-1.

    Each row is a function of seed, epoch and slot alone, so that a batch may be cut anywhere; one stream an epoch
    is stepped forward to the batch's first slot.

    Args:
        draws: Consecutive slots of one epoch.
        numbers: How many a draw takes, the same in every call of an epoch.
        seed: Of the loader.
    """
    epoch, first, count = draws[0].epoch, draws[0].slot, len(draws)
    assert draws[-1].slot == first + count - 1, "a batch's draws are consecutive"
    stream = np.random.PCG64(np.random.SeedSequence((seed, epoch), spawn_key=(1,)))
    stream.advance(first * numbers)
    return np.random.Generator(stream).random((count, numbers))


@dataclass(frozen=True)
class EpochOrder:
    """The shuffled order of every epoch, cut into full batches.

    Every batch is full, so that losses and batch norm see one size. With `drop_last` the remainder of an
    epoch is left out (another one each epoch); without it, or when there is less than one batch, the order
    starts again from its beginning until the last batch is full.

    Args:
        images: Number of images, at least 1.
        batch: Images a process takes a step, at least 1.
        world: Number of processes; one step takes `batch * world` images.
        seed: Changes the whole order; not negative.
        drop_last: Whether the remainder is left out.
        factors: float64 `[images]`, how often each image appears in an epoch on average, at least 1;
            `None` means once.
    """

    images: int
    batch: int
    world: int = 1
    seed: int = 0
    drop_last: bool = True
    factors: np.ndarray | None = None

    def __post_init__(self) -> None:
        if min(self.images, self.batch, self.world) < 1:
            raise UsageError(
                f"training needs at least one image, batch size and process, got images={self.images}, "
                f"batch={self.batch}, world={self.world}",
                "check that the training split is not empty",
            )
        if self.seed < 0:
            raise UsageError(f"a seed counts from 0, got seed={self.seed}")

    @property
    def length(self) -> int:
        """How many images an epoch draws before it is cut into batches; the same for every epoch."""
        return self.images if self.factors is None else int(np.ceil(self.factors.sum()))

    @property
    def steps(self) -> int:
        """Number of steps an epoch has, on every rank."""
        step = self.batch * self.world
        return max(1, self.length // step if self.drop_last else -(-self.length // step))

    def indices(self, epoch: int) -> np.ndarray:
        """Return int64 `[steps * batch * world]`: the images of an epoch, all ranks together."""
        rng = np.random.default_rng((self.seed, epoch))
        drawn = np.arange(self.images) if self.factors is None else self._repeated(rng.random())
        return np.resize(rng.permutation(drawn), self.steps * self.batch * self.world)

    def draws(self, epoch: int, step: int, *, rank: int = 0, indices: np.ndarray | None = None) -> list[Draw]:
        """Return what one rank takes in one step.

        Args:
            epoch: From 0.
            step: From 0.
            rank: From 0.
            indices: `self.indices(epoch)` if it is at hand.
        """
        order = self.indices(epoch) if indices is None else indices
        first = (step * self.world + rank) * self.batch
        return [Draw(epoch, slot, int(order[slot])) for slot in range(first, first + self.batch)]

    def _repeated(self, shift: float) -> np.ndarray:
        # Systematic sampling: each image appears floor or ceil of its factor, the total is the same every epoch.
        assert self.factors is not None, "repeated order without factors"
        ends = np.cumsum(self.factors * (self.length / self.factors.sum()))
        ends[-1] = self.length  # rounding must not lose the last draw
        counts = np.diff(np.floor(np.concatenate([[0.0], ends]) + shift)).astype(np.int64)
        return np.repeat(np.arange(self.images), counts)


def repeat_factors(truth: TruthTable, *, threshold: float) -> np.ndarray:
    """Say how often each image should appear so that rare classes are seen more often.

    r(image) = max over its classes of max(1, sqrt(threshold / f(class))), where f is the share of images that
    show the class (Gupta et al. 2019, LVIS, section 5: repeat factor sampling).

    Args:
        truth: The training split.
        threshold: Share of images (0-1) below which a class is rare; LVIS uses 0.001.

    Returns:
        float64 `[images]`, at least 1.

    Raises:
        UsageError: If `threshold` is not between 0 and 1.
    """
    _check_threshold(threshold)
    factors = np.ones(len(truth))
    pairs = np.unique(np.stack([truth.image_index(), truth.labels], axis=1)[~truth.crowd], axis=0)
    if len(pairs):
        shares = np.bincount(pairs[:, 1]) / len(truth)
        np.maximum.at(factors, pairs[:, 0], np.sqrt(threshold / shares[pairs[:, 1]]))
    return factors


def repeat_class_factors(class_labels: np.ndarray, *, threshold: float) -> np.ndarray:
    """Say what `repeat_factors` does for images of one class each.

    Args:
        class_labels: int64 `[images]`.
        threshold: As there.

    Returns:
        float64 `[images]`, at least 1.

    Raises:
        UsageError: If `threshold` is not between 0 and 1.
    """
    _check_threshold(threshold)
    shares = np.bincount(class_labels) / max(len(class_labels), 1)
    return np.maximum(1.0, np.sqrt(threshold / shares[class_labels]))


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"a repeat threshold is a share of images above 0 and up to 1, got {threshold}")
