"""An anchor spec laid over an input: where each anchor sits in a head's maps, and which lie near a box.

Anchors of a batch are numbered image by image: number = image * `AnchorGrid.count` + position in `anchors_xyxy`.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trivet.geometry.anchors import AnyAnchors, SizeHW, anchors_xyxy, level_sizes_hw
from trivet.geometry.box_code import decode, decode_in_cell
from trivet.geometry.pixel_anchors import PixelAnchors


@dataclass(frozen=True)
class Cells:
    """Places in the maps of one level: image, anchor of the cell, row and column, int64 `[n]` each."""

    image: Int64[Tensor, " n"]
    slot: Int64[Tensor, " n"]
    y: Int64[Tensor, " n"]
    x: Int64[Tensor, " n"]

    def of(self, maps: Float[Tensor, "b c h w"], channels: Int64[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return what a level's maps hold here, in these channels."""
        return maps[self.image[:, None], channels, self.y[:, None], self.x[:, None]]


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of one input size.

    Args:
        spec: The anchors of each cell.
        size_hw: Size of the network's input, in pixels.
        feature_hw: Feature size of each level, finest first.
    """

    spec: AnyAnchors
    size_hw: SizeHW
    feature_hw: tuple[SizeHW, ...]

    @classmethod
    def of_input(cls, spec: AnyAnchors, size_hw: SizeHW) -> "AnchorGrid":
        """Make the grid of an input whose levels are halved and rounded up."""
        return cls(spec, size_hw, level_sizes_hw(spec, size_hw))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The position of each level's first anchor, and the count of all anchors last."""
        counts = (height * width * self.spec.per_cell for height, width in self.feature_hw)
        return tuple(accumulate(counts, initial=0))

    @property
    def count(self) -> int:
        """Anchors of one image."""
        return self.starts[-1]

    def anchors_xyxy(self, device: torch.device | str = "cpu") -> Float[Tensor, "a 4"]:
        """Return all anchors in pixels of the input; shared, so do not change them."""
        return anchors_xyxy(self.spec, self.size_hw, self.feature_hw, device=device)

    def strides_yx(self, position: int) -> tuple[float, float]:
        """Return how many pixels a cell of a level, counted from the finest, is high and wide."""
        rows, columns = self.feature_hw[position]
        return self.size_hw[0] / rows, self.size_hw[1] / columns

    def decode(
        self,
        box_deltas: Float[Tensor, "n 4"],
        numbers: Int64[Tensor, " n"],
        *,
        most_log: float | None = None,
    ) -> Float[Tensor, "n 4"]:
        """Return the boxes that deltas make of these anchors, by the box code of their kind, in pixels of the input.

        Args:
            box_deltas: (ty, tx, th, tw) a row.
            numbers: The anchors.
            most_log: Bound on th and tw, for losses that must stay finite.
        """
        positions = numbers % self.count
        anchors = self.anchors_xyxy(numbers.device)[positions]
        if self.reaches is None:
            return decode(box_deltas, anchors, most_log=most_log)
        reach = torch.tensor(self.reaches, device=numbers.device)[self._levels_of(positions)]
        return decode_in_cell(box_deltas, anchors, reach, most_log=most_log)

    @cached_property
    def reaches(self) -> tuple[tuple[float, float], ...] | None:
        """Width and height of the range of a box's centre at each level, in pixels; `None` where it is unbounded."""
        if not isinstance(self.spec, PixelAnchors):
            return None
        strides = (self.strides_yx(position) for position in range(len(self.feature_hw)))
        return tuple((s * x, s * y) for s, (y, x) in zip(self.spec.reach, strides, strict=True))

    def _levels_of(self, positions: Tensor) -> Tensor:
        ends = torch.tensor(self.starts[1:], device=positions.device)
        return torch.bucketize(positions, ends, right=True)

    def by_level(self, numbers: Int64[Tensor, " n"]) -> tuple[Tensor, ...]:
        """Return, for each level, which of these anchor numbers lie in it, as positions in `numbers`."""
        level = self._levels_of(numbers % self.count)
        counts = torch.bincount(level, minlength=len(self.feature_hw)).tolist()
        return level.argsort(stable=True).split(counts)

    def cells(self, level: int, numbers: Int64[Tensor, " n"]) -> Cells:
        """Return where anchors of one level (0 is the finest) sit in its maps."""
        width = self.feature_hw[level][1]
        image, position = _divmod(numbers, self.count)
        cell, slot = _divmod(position - self.starts[level], self.spec.per_cell)
        y, x = _divmod(cell, width)
        return Cells(image, slot, y, x)

    @cached_property
    def _longest_in_cells(self) -> tuple[float, float]:
        """Width and height of the widest and the highest anchor, in cells of its level."""
        sides = []
        for position in range(len(self.feature_hw)):
            y, x = self.strides_yx(position)
            sides += [(width / x, height / y) for width, height in self.spec.shapes_at(position, x, y)]
        return max(width for width, _ in sides), max(height for _, height in sides)

    def nearby(self, boxes_xyxy: Float[Tensor, "t 4"], threshold: float) -> Int64[Tensor, "t c"]:
        """Return the positions of all anchors that can overlap a box with at least this IoU, and -1 to fill up.

        Overlap falls with the distance of the centres, so the cell nearest a box's centre holds its best anchor
        of each shape, and an anchor of width w reaches IoU t only within w (1 - t) / 2t of it: a small window of
        cells a level replaces the comparison with every anchor, and loses nothing.

        Args:
            boxes_xyxy: Boxes in pixels of the input.
            threshold: IoU above 0; at 1 only the nearest cell of each level is returned.
        """
        reach = (1 - threshold) / (2 * threshold)
        # a trifle more: rounding must not cost a cell
        reach_x, reach_y = (int(side * reach + 0.5 + 1e-6) for side in self._longest_in_cells)
        device = boxes_xyxy.device
        height, width = torch.tensor(self.feature_hw, device=device).unbind(-1)  # (l)
        x1, y1, x2, y2 = boxes_xyxy.float().unbind(-1)
        x = _window((x1 + x2) / 2 / self.size_hw[1], width, reach_x)[:, :, None, :, None]
        y = _window((y1 + y2) / 2 / self.size_hw[0], height, reach_y)[:, :, :, None, None]
        height, width = height.view(-1, 1, 1, 1), width.view(-1, 1, 1, 1)
        starts = torch.tensor(self.starts[:-1], device=device).view(-1, 1, 1, 1)
        slots = torch.arange(self.spec.per_cell, device=device)
        positions = starts + (y * width + x) * self.spec.per_cell + slots  # (t, l, y, x, slot)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return torch.where(inside, positions, -1).flatten(1)


def _window(centres: Tensor, cells: Tensor, reach: int) -> Tensor:
    """Return the cells around centres given in 0-1 of the input: `(t, l, 2 * reach + 1)`, some outside the map."""
    nearest = (centres[:, None] * cells).floor().long().clamp(min=0).minimum(cells - 1)
    return nearest[:, :, None] + torch.arange(-reach, reach + 1, device=cells.device)


def _divmod(numbers: Tensor, by: int) -> tuple[Tensor, Tensor]:
    return numbers // by, numbers % by
