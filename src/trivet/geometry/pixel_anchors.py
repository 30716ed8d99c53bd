"""Anchors given in pixels, level by level, as the YOLO family has them: shapes found in a data set's boxes."""

from dataclasses import dataclass

from trivet.errors import UsageError

Shape = tuple[float | int, float | int]


@dataclass(frozen=True)
class PixelAnchors:
    """Which anchors each cell of each level has, in pixels whatever the input's size.

    The box code is YOLO's: a centre stays near its cell, sizes are factors of the anchor's. See
    `geometry.box_code.decode_in_cell`.

    Args:
        min_level: Finest level k, of stride 2^k.
        shapes: (width, height) of each anchor, a tuple a level, finest first; as many on every level.
        reach: By level, how many cells wide the range of a centre is: 1 keeps it in its cell, 1.2 lets it reach a
            tenth of a cell beyond each side, so that it can lie on the border too (`scale_x_y` of darknet).

    Raises:
        UsageError: If levels differ in their number of anchors, or a number is out of range.
    """

    min_level: int
    shapes: tuple[tuple[Shape, ...], ...]
    reach: tuple[float | int, ...]

    def __post_init__(self) -> None:
        shapes = tuple(tuple((float(w), float(h)) for w, h in level) for level in self.shapes)
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "reach", tuple(float(value) for value in self.reach))
        if self.min_level < 0 or not shapes or not shapes[0] or len({len(level) for level in shapes}) != 1:
            raise UsageError(
                "anchors in pixels need min_level >= 0 and as many anchors, at least one, on every level; got "
                f"min_level={self.min_level} and {[len(level) for level in shapes]} anchors by level"
            )
        if len(self.reach) != len(shapes) or not all(1 <= value < 3 for value in self.reach):
            raise UsageError(
                f"anchors of {len(shapes)} levels need as many values of reach, from 1 to 3, got {self.reach}"
            )
        if not all(0 < side < float("inf") for level in shapes for shape in level for side in shape):
            raise UsageError(f"an anchor's width and height are above 0 and finite, got {shapes}")

    @property
    def max_level(self) -> int:
        """Coarsest level, included."""
        return self.min_level + len(self.shapes) - 1

    @property
    def levels(self) -> range:
        """The levels, finest first."""
        return range(self.min_level, self.max_level + 1)

    @property
    def per_cell(self) -> int:
        """Anchors a cell."""
        return len(self.shapes[0])

    def shapes_at(self, position: int, stride_x: float, stride_y: float) -> tuple[Shape, ...]:  # noqa: ARG002
        """Return (width, height) of each anchor of a cell, in pixels and in the order of the head's channels.

        Args:
            position: The level, counted from the finest.
            stride_x: Pixels a cell is wide; of no account here.
            stride_y: Pixels a cell is high; of no account here.
        """
        return self.shapes[position]
