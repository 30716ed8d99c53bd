"""No neck: the backbone's maps as they are."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from trivet.structures import FeatureSpec


class NoNeck(nn.Module):
    """Passes the backbone's maps through.

    Args:
        features: What the backbone publishes, finest first.
    """

    features: tuple[FeatureSpec, ...]

    def __init__(self, features: tuple[FeatureSpec, ...]) -> None:
        super().__init__()
        self.features = tuple(features)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> tuple[Tensor, ...]:
        """Return the maps."""
        return tuple(maps)
