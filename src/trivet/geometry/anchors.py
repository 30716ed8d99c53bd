"""Anchors: the boxes an anchor head starts from, and the box code between an anchor and an object.

Order, everywhere: level by level from the finest; within a level cell by cell (rows first); within a cell
octave by octave, each with all ratios. It is the order in which a head's channels are laid out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.pixel_anchors import PixelAnchors

SizeHW = tuple[int, int]


@dataclass(frozen=True)
class AnchorSpec:
    """Which anchors each cell of each level has (EfficientDet, section 3.2 of RetinaNet for the octaves).

    An anchor of octave `o` and ratio `(x, y)` at a level of stride `s` is `scale * s * 2^(o / octaves)` times
    `x` wide and times `y` high, centred in its cell.

    Args:
        min_level: Finest level k, of stride 2^k.
        max_level: Coarsest level, included.
        octaves: Sizes a level, spread evenly over one doubling.
        ratios: (width factor, height factor) of each shape.
        scale: Side of a square anchor of octave 0, in strides.
    """

    min_level: int = 3
    max_level: int = 7
    octaves: int = 3
    ratios: tuple[tuple[float | int, float | int], ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    scale: float | int = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", tuple((float(x), float(y)) for x, y in self.ratios))
        if not 0 <= self.min_level <= self.max_level:
            raise UsageError(
                f"anchors need 0 <= min_level <= max_level, got {self.min_level} and {self.max_level}"
            )
        if self.octaves < 1 or not self.ratios:
            raise UsageError(
                f"anchors need at least one octave and one ratio, got octaves={self.octaves}, ratios={self.ratios}"
            )
        if not self.scale > 0 or any(not (x > 0 and y > 0) for x, y in self.ratios):
            raise UsageError(
                f"an anchor's scale and ratios are above 0, got scale={self.scale}, ratios={self.ratios}"
            )

    @property
    def levels(self) -> range:
        """The levels, finest first."""
        return range(self.min_level, self.max_level + 1)

    @property
    def per_cell(self) -> int:
        """Anchors a cell."""
        return self.octaves * len(self.ratios)

    def shapes_wh(self, stride_x: float = 1.0, stride_y: float = 1.0) -> tuple[tuple[float, float], ...]:
        """Return (width, height) of each anchor of a cell, in the order of the head's channels.

        Args:
            stride_x: Pixels a cell is wide; 1 gives widths in strides.
            stride_y: Pixels a cell is high.
        """
        octaves = [2 ** (octave / self.octaves) for octave in range(self.octaves)]
        return tuple(
            (self.scale * stride_x * octave * x, self.scale * stride_y * octave * y)
            for octave in octaves
            for x, y in self.ratios
        )

    def shapes_at(self, position: int, stride_x: float, stride_y: float) -> tuple[tuple[float, float], ...]:  # noqa: ARG002
        """Return (width, height) of each anchor of a cell of one level, in pixels; in strides all levels are alike.

        Args:
            position: The level, counted from the finest.
            stride_x: Pixels a cell is wide.
            stride_y: Pixels a cell is high.
        """
        return self.shapes_wh(stride_x, stride_y)

    def to_json(self) -> dict[str, object]:
        """Return plain values from which `from_json` makes the same spec."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "AnchorSpec":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If a key is not a field of the spec or a value does not fit it.
        """
        try:
            known: dict[str, Any] = dict(values)
            if "ratios" in known:
                known["ratios"] = tuple((float(x), float(y)) for x, y in known["ratios"])
            if "scale" in known:
                known["scale"] = float(known["scale"])
            return cls(**known)
        except (TypeError, ValueError) as fault:
            if isinstance(fault, UsageError):
                raise
            raise UsageError(f"these are not the values of an anchor spec: {dict(values)!r}") from fault


AnyAnchors: TypeAlias = AnchorSpec | PixelAnchors


def level_sizes_hw(spec: AnyAnchors, size_hw: SizeHW) -> tuple[SizeHW, ...]:
    """Return the feature sizes an input of this size has at the spec's levels: halved and rounded up, again and again."""
    return tuple((-(-size_hw[0] // 2**k), -(-size_hw[1] // 2**k)) for k in spec.levels)


def anchors_xyxy(
    spec: AnyAnchors,
    size_hw: SizeHW,
    feature_hw: Sequence[SizeHW] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "a 4"]:
    """Return all anchors of an input, in its pixels, not cut at its border. Do not change the result: it is shared.

    A level's stride is input size / feature size, per axis, as a real number: where a size is not divisible
    the cells share the input evenly.

    Args:
        spec: The anchors of each cell.
        size_hw: Size of the network's input.
        feature_hw: Feature size of each level, finest first; computed from `size_hw` when not given.
        device: Where the anchors are wanted.

    Raises:
        UsageError: If there is not one positive feature size a level.
    """
    feature_hw = level_sizes_hw(spec, size_hw) if feature_hw is None else feature_hw
    sizes = tuple((int(height), int(width)) for height, width in feature_hw)
    if len(sizes) != len(spec.levels) or min(size_hw) < 1 or any(min(size) < 1 for size in sizes):
        raise UsageError(
            f"anchors of levels {spec.min_level} to {spec.max_level} need {len(spec.levels)} feature sizes of at "
            f"least 1 x 1 and an input of at least 1 x 1, got {list(sizes)} for an input of {tuple(size_hw)}"
        )
    return _cached_anchors(spec, (int(size_hw[0]), int(size_hw[1])), sizes, torch.device(device))


@lru_cache(maxsize=32)
def _cached_anchors(
    spec: AnyAnchors, size_hw: SizeHW, feature_hw: tuple[SizeHW, ...], device: torch.device
) -> Tensor:
    # A tensor made in inference mode could never again take part in a differentiated computation.
    with torch.inference_mode(False):
        levels = [_level_anchors(spec, position, size_hw, size) for position, size in enumerate(feature_hw)]
        return torch.cat(levels).float().to(device)


def _level_anchors(spec: AnyAnchors, position: int, size_hw: SizeHW, feature_hw: SizeHW) -> Tensor:
    """Return one level's anchors in float64: rounding once, at the end, is what gives published values exactly."""
    stride_y, stride_x = (size / cells for size, cells in zip(size_hw, feature_hw, strict=True))
    y = stride_y / 2 + torch.arange(feature_hw[0], dtype=torch.float64) * stride_y
    x = stride_x / 2 + torch.arange(feature_hw[1], dtype=torch.float64) * stride_x
    half_wh = torch.tensor(spec.shapes_at(position, stride_x, stride_y), dtype=torch.float64) / 2
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    return torch.cat([centres - half_wh, centres + half_wh], dim=-1).reshape(-1, 4)
