"""Two images in one for a classifier, each with its share of the truth: MixUp and CutMix."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trivet.data.order import Draw
from trivet.data.packed import PackedBatch
from trivet.data.worker import Fault, Maker
from trivet.errors import UsageError


@dataclass(frozen=True)
class ClassMix:
    """How often an image of a batch is mixed with another one of the batch.

    Args:
        mixup: Probability (0-1) that the two are blended (Zhang et al. 2018, mixup, section 2).
        cutmix: Probability (0-1) that a rectangle of the other is pasted (Yun et al. 2019, CutMix, section 3.1).
            The two probabilities sum to at most 1.
        mixup_alpha: The other's share follows Beta(alpha, alpha); small values leave one image nearly whole.
        cutmix_alpha: The rectangle's share of the area follows Beta(alpha, alpha) before it is cut at the border;
            what remains of it is the other's share of the truth.

    Raises:
        UsageError: If a value is out of its range, or nothing is ever mixed.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0

    def __post_init__(self) -> None:
        chances = (self.mixup, self.cutmix)
        if min(chances) < 0 or not 0 < sum(chances) <= 1:
            raise UsageError(
                f"mixup and cutmix are probabilities that sum to more than 0 and at most 1, got {self.mixup} and "
                f"{self.cutmix}",
                "give at least one of them, or mix=None for neither",
            )
        if not min(self.mixup_alpha, self.cutmix_alpha) > 0:
            raise UsageError(
                f"mixup_alpha and cutmix_alpha are above 0, got {self.mixup_alpha} and {self.cutmix_alpha}"
            )

    def batch(self, packed: PackedBatch, rng: np.random.Generator) -> PackedBatch:
        """Mix the images of a batch, each with one of the others and by chances of its own.

        Raises:
            UsageError: If the batch's truth is not one class an image, or is mixed already.
        """
        count = len(packed.images)
        if packed.class_labels is None or packed.other_labels is not None:
            raise UsageError("mixup and cutmix need a batch of images with one class each")
        if count < 2:
            return packed
        partner = (np.arange(count) + rng.integers(1, count)) % count
        chance = rng.random(count)
        blended, pasted = chance < self.mixup, (chance >= self.mixup) & (chance < self.mixup + self.cutmix)
        blend = np.where(blended, rng.beta(self.mixup_alpha, self.mixup_alpha, count), 0.0)
        area = np.where(pasted, rng.beta(self.cutmix_alpha, self.cutmix_alpha, count), 0.0)
        box = _boxes(area, (packed.images.shape[2], packed.images.shape[3]), rng)
        other = torch.from_numpy(partner)
        images, share = _mixed(packed.images, packed.images[other], _tensor(blend), box)
        return replace(
            packed,
            images=images,
            other_labels=packed.class_labels[other],
            other_share=share,
        )


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _boxes(area: np.ndarray, size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw rectangles of these shares of the area around centres anywhere, cut at the border.

    Returns:
        int64 `[b, 4]`: top, bottom, left, right; empty where the share is 0.
    """
    edges = []
    for side in size_hw:
        centre = rng.integers(side, size=len(area))
        half = (side * np.sqrt(area)).astype(np.int64) // 2
        edges += [np.clip(centre - half, 0, side), np.clip(centre + half, 0, side)]
    return np.stack(edges, axis=1)


def _mixed(
    images: UInt8[Tensor, "b 3 h w"],
    others: UInt8[Tensor, "b 3 h w"],
    blend: Float[Tensor, " b"],
    box: np.ndarray,
) -> tuple[UInt8[Tensor, "b 3 h w"], Float[Tensor, " b"]]:
    """Return the mixed images and the others' exact share in each."""
    height, width = images.shape[2:]
    top, bottom, left, right = (torch.from_numpy(edge)[:, None] for edge in box.T)
    rows, columns = torch.arange(height), torch.arange(width)
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[
        :, None, :
    ]
    mixed = torch.where(inside[:, None], others, images)
    chosen = blend.nonzero().squeeze(1)
    if len(chosen):
        mixed[chosen] = (
            torch.lerp(images[chosen].float(), others[chosen].float(), blend[chosen].view(-1, 1, 1, 1))
            .round()
            .to(torch.uint8)
        )
    pasted = inside.sum(dim=(1, 2)) / (height * width)
    return mixed, blend + pasted


@dataclass(frozen=True)
class MixedMaker:
    """Mixes the batches that another maker makes, unless their draws say not to."""

    maker: Maker
    mix: ClassMix
    seed: int

    @property
    def dataset(self) -> object:
        """What the batches are made of."""
        return self.maker.dataset

    def __len__(self) -> int:
        return len(self.maker)

    def __getitem__(self, draws: list[Draw]) -> PackedBatch | Fault:
        packed = self.maker[draws]
        if isinstance(packed, Fault) or not draws[0].mixed:
            return packed
        key = (self.seed, draws[0].epoch, draws[0].slot)
        return self.mix.batch(packed, np.random.default_rng(np.random.SeedSequence(key, spawn_key=(2,))))
