"""YOLOv4's head: for every anchor of every cell a box, how sure it is that there is an object, and its class."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.geometry.pixel_anchors import PixelAnchors, Shape
from trivet.models.blocks import Style, start_normal
from trivet.models.csp_darknet import ConvUnit
from trivet.structures import AnchorOutput, FeatureSpec, TaskName

COCO_ANCHORS: tuple[Shape, ...] = (
    (12, 16),
    (19, 36),
    (40, 28),
    (36, 75),
    (76, 55),
    (72, 146),
    (142, 110),
    (192, 243),
    (459, 401),
)
"""(width, height) of yolov4.cfg in pixels, found in COCO's boxes at 608: three each for levels 3, 4 and 5."""
REACH = {3: 1.2, 4: 1.1, 5: 1.05}
"""`scale_x_y` of yolov4.cfg by level: the finer the cells, the more often a centre lies on a border."""


class YoloHead(nn.Module):
    """A 3x3 convolution on each level, then the predictions: class logits, box deltas and objectness.

    Darknet has one last convolution where here are three: the same numbers, told apart.

    Args:
        features: What the neck publishes: consecutive levels, finest first.
        classes: How many classes; there is no background class.
        anchors: (width, height) of all anchors in pixels, the finest level's first, as many for each level; `None` =
            those of yolov4.cfg, and for other levels than 3 to 5 the nearest level's, doubled or halved.
        reach: By level, how many cells wide the range of a centre is, from 1 to 3; `None` = as in yolov4.cfg.
        prior: Probability of an object at the start, in 0-1 (RetinaNet, section 4.1): nearly all anchors are to say no.
        style: How the convolutions are built.

    Attributes:
        task: What its output is for.
        anchor_spec: The anchors that the output is relative to.
        class_rows: Parameters with a block of rows a class -> how often the block repeats (once an anchor).

    Raises:
        UsageError: If `classes` or `prior` is out of range, or anchors or reach do not fit the levels.
    """

    task: TaskName = "detection"
    anchor_spec: PixelAnchors
    class_rows: dict[str, int]
    levels: nn.ModuleList

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        classes: int,
        anchors: tuple[Shape, ...] | None = None,
        reach: tuple[float, ...] | None = None,
        prior: float = 0.01,
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if classes < 1 or not 0 < prior < 1:
            raise UsageError(f"a YOLO head needs classes >= 1 and prior in (0, 1), got {classes} and {prior}")
        levels = [feature.level for feature in features]
        self.classes = classes
        self.prior = prior
        self.anchor_spec = PixelAnchors(
            levels[0],
            _published(levels) if anchors is None else _shared_out(anchors, len(levels)),
            tuple(REACH[min(max(level, 3), 5)] for level in levels) if reach is None else reach,
        )
        style = style or Style(separable=False)
        slots = self.anchor_spec.per_cell
        self.levels = nn.ModuleList(
            Predictor(feature.channels, slots, classes, prior=prior, style=style) for feature in features
        )
        self.class_rows = {
            f"levels.{number}.classes.{kind}": slots
            for number in range(len(levels))
            for kind in ("weight", "bias")
        }

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> AnchorOutput:
        """Return the raw output of every level, finest first."""
        said = [level(x) for level, x in zip(self.levels, maps, strict=True)]
        class_logits, box_deltas, objectness = zip(*said, strict=True)
        return AnchorOutput(class_logits, box_deltas, objectness)


class Predictor(nn.Module):
    """What the head says of one level.

    Args:
        channels: Channels of the level's map.
        slots: Anchors a cell.
        classes: How many classes.
        prior: Probability of an object at the start, in 0-1.
        style: How the convolution before the predictions is built.
    """

    def __init__(self, channels: int, slots: int, classes: int, *, prior: float, style: Style) -> None:
        super().__init__()
        self.conv = ConvUnit(channels, 2 * channels, 3, style=style)
        self.classes = nn.Conv2d(2 * channels, slots * classes, 1)
        self.boxes = nn.Conv2d(2 * channels, slots * 4, 1)
        self.objectness = nn.Conv2d(2 * channels, slots, 1)
        for layer in (self.classes, self.boxes, self.objectness):
            start_normal(layer, 0.01)
        assert self.objectness.bias is not None, "a prediction has a bias"
        nn.init.constant_(self.objectness.bias, -math.log((1 - prior) / prior))

    def forward(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b _ h w"], Float[Tensor, "b _ h w"], Float[Tensor, "b _ h w"]]:
        """Return class logits, box deltas and objectness."""
        x = self.conv(x)
        return self.classes(x), self.boxes(x), self.objectness(x)


def _published(levels: Sequence[int]) -> tuple[tuple[Shape, ...], ...]:
    """Return the anchors of yolov4.cfg, those of other levels made from the nearest level's."""
    shapes = []
    for level in levels:
        nearest = min(max(level, 3), 5)
        factor = 2.0 ** (level - nearest)
        row = COCO_ANCHORS[3 * (nearest - 3) : 3 * (nearest - 2)]
        shapes.append(tuple((width * factor, height * factor) for width, height in row))
    return tuple(shapes)


def _shared_out(anchors: Sequence[Shape], levels: int) -> tuple[tuple[Shape, ...], ...]:
    """Share anchors out evenly over the levels, in order."""
    each = len(anchors) // levels
    if not each or len(anchors) % levels:
        raise UsageError(
            f"{levels} levels need as many anchors each, at least one, got {len(anchors)} anchors in all",
            f"give {levels * 3} of them, for example",
        )
    return tuple(tuple(anchors[number * each : (number + 1) * each]) for number in range(levels))
