"""RandAugment: a few operations drawn from a list, all at one magnitude (Cubuk et al. 2020, arXiv:1909.13719)."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2

from trivet.data.augment import global_seed
from trivet.errors import UsageError
from trivet.structures import Sample


@dataclass(frozen=True)
class RandAugment:
    """Torchvision's RandAugment on images whose truth is one class: boxes and masks would not follow.

    It is given as `augmentation=`; give `then=` what shall follow, such as a crop.

    Args:
        operations: How many are applied one after the other (the paper's N).
        magnitude: How strong they are, 0-30 (the paper's M); 9 with 2 operations is its setting for ImageNet.
        fill_rgb: Colour of what rotations and shears uncover.

    Raises:
        UsageError: If a number is out of its range.
    """

    operations: int = 2
    magnitude: int = 9
    fill_rgb: tuple[int, int, int] = (114, 114, 114)
    _transform: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.operations < 1 or not 0 <= self.magnitude <= 30:
            raise UsageError(
                f"RandAugment takes 1 or more operations at a magnitude of 0 to 30, got {self.operations} and "
                f"{self.magnitude}"
            )
        transform = v2.RandAugment(self.operations, self.magnitude, fill=list(self.fill_rgb))
        object.__setattr__(self, "_transform", transform)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the changed sample.

        Raises:
            UsageError: If it has boxes or a mask.
        """
        if len(sample.labels) or sample.mask is not None:
            raise UsageError(
                f"{sample.name}: RandAugment moves pixels and not boxes or masks",
                "use it for classification, or a strength by name",
            )
        with global_seed(int(rng.integers(2**31))):
            pixels = self._transform(torch.from_numpy(sample.image).permute(2, 0, 1))
        return replace(sample, image=np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
