"""Classes of a whole image from every cell of its coarsest map, as the networks before global pooling had it."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.structures import FeatureSpec, TaskName


class FlatHead(nn.Module):
    """The coarsest map as one row of numbers, linear layers with ReLU and dropout between them.

    A map of another size is averaged to the grid, so that any image size works (torchvision's way with VGG).

    Args:
        features: What the neck or backbone publishes, finest first.
        classes: How many classes.
        grid_hw: Cells of the map that is flattened.
        hidden: Widths of the layers before the last; VGG has 4096 twice.
        dropout: Share (0-1) of each layer's input that training leaves out.

    Attributes:
        class_rows: Parameters with a row a class.

    Raises:
        UsageError: If a number is out of range.
    """

    task: TaskName = "classification"
    class_rows: dict[str, int]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        classes: int,
        grid_hw: tuple[int, int] = (7, 7),
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(classes, *grid_hw, *hidden) < 1 or not 0 <= dropout < 1:
            raise UsageError(
                "a flat head needs classes, grid and hidden layers of at least 1 and dropout in [0, 1), "
                f"got {classes}, {grid_hw}, {hidden} and {dropout}"
            )
        self.pool = nn.AdaptiveAvgPool2d(grid_hw)
        widths = (features[-1].channels * grid_hw[0] * grid_hw[1], *hidden)
        self.hidden = nn.Sequential(*(_layer(before, after, dropout) for before, after in pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(widths[-1], classes)
        self.class_rows = {"linear.weight": 1, "linear.bias": 1}

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b classes"]:
        """Return logits."""
        return self.linear(self.dropout(self.hidden(self.pool(maps[-1]).flatten(1))))


def _layer(before: int, after: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(before, after), nn.ReLU(inplace=True))
