"""EfficientNet's compound scaling: what the paper's formula says, beside what was published.

Tan and Le 2019 (arXiv:1905.11946, section 3.3) scale depth by alpha^phi, width by beta^phi and resolution by
gamma^phi. The networks they published follow it up to B3; from B4 on all three factors run ahead of it.
"""

import math
from dataclasses import dataclass, fields

from trivet.errors import UsageError, look_up

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
"""Depth, width and resolution of one step (section 4.1: found for B0 by a small grid search)."""

# repeats, channels of B0's seven stages (table 1, stages 2-8).
_STAGES = ((1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320))
_STEM, _LAST = 32, 1280


@dataclass(frozen=True)
class Scaling:
    """The three factors of a network, and what becomes of B0's layers by them.

    Args:
        width: Factor of channels.
        depth: Factor of repeats.
        resolution: Side of the input, pixels.
    """

    width: float
    depth: float
    resolution: int

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stem, the seven stages and the last convolution."""
        return tuple(round_channels(c * self.width) for c in (_STEM, *(c for _, c in _STAGES), _LAST))

    @property
    def repeats(self) -> tuple[int, ...]:
        """Blocks of each stage: rounded up."""
        return tuple(math.ceil(count * self.depth) for count, _ in _STAGES)

    @property
    def cost(self) -> float:
        """Multiply-adds relative to B0's, roughly: depth x width^2 x resolution^2."""
        return (
            self.depth
            * self.width**2
            * (self.resolution / PUBLISHED["efficientnet_b0"].scaling.resolution) ** 2
        )


@dataclass(frozen=True)
class Published:
    """A published network.

    Args:
        scaling: Its factors.
        phi: The exponent it stands for; `None` where the authors give none.
        dropout: Before the classifier, 0-1.
    """

    scaling: Scaling
    phi: float | None
    dropout: float


# (width, depth, resolution, dropout) of tensorflow/tpu, efficientnet_builder.py; phi as section 4.2 counts them.
_TABLE = {
    "b0": (1.0, 1.0, 224, 0.2, 0.0),
    "b1": (1.0, 1.1, 240, 0.2, 0.5),
    "b2": (1.1, 1.2, 260, 0.3, 1.0),
    "b3": (1.2, 1.4, 300, 0.3, 2.0),
    "b4": (1.4, 1.8, 380, 0.4, 3.0),
    "b5": (1.6, 2.2, 456, 0.4, 4.0),
    "b6": (1.8, 2.6, 528, 0.5, 5.0),
    "b7": (2.0, 3.1, 600, 0.5, 6.0),
    "b8": (2.2, 3.6, 672, 0.5, None),
    "l2": (4.3, 5.3, 800, 0.5, None),
}
PUBLISHED: dict[str, Published] = {
    f"efficientnet_{name}": Published(Scaling(width, depth, side), phi, dropout)
    for name, (width, depth, side, dropout, phi) in _TABLE.items()
}


@dataclass(frozen=True)
class Difference:
    """A factor for which table and formula do not agree.

    Args:
        what: `width`, `depth` or `resolution`.
        published: The table's value.
        formula: The formula's.
    """

    what: str
    published: float
    formula: float

    @property
    def ratio(self) -> float:
        """How many times the formula's value was published."""
        return self.published / self.formula


@dataclass(frozen=True)
class CompoundScaling:
    """The formula's network for a phi, and the published one, if there is one.

    Args:
        phi: The exponent.
        formula: What the formula gives.
        name: The published network's name, or `None`.
        published: The published network, or `None`.
    """

    phi: float
    formula: Scaling
    name: str | None = None
    published: Published | None = None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Where the two differ by more than rounding: half a tenth of a factor, half a pixel."""
        if self.published is None:
            return ()
        pairs = [
            (
                item.name,
                float(getattr(self.published.scaling, item.name)),
                float(getattr(self.formula, item.name)),
            )
            for item in fields(Scaling)
        ]
        return tuple(
            Difference(what, table, formula)
            for what, table, formula in pairs
            if abs(table - formula) > (0.5 if what == "resolution" else 0.05)
        )


def scale_efficientnet(network: float | int | str) -> CompoundScaling:
    """Put the official table and the formula alpha^phi, beta^phi, gamma^phi side by side.

    Args:
        network: phi, from 0; or a name of `PUBLISHED` (`tf_` before it is let pass).

    Raises:
        UsageError: If the name is unknown, its authors give it no phi, or phi is negative or absurdly large.

    Example:
        >>> scaling = scale_efficientnet("efficientnet_b7")
        >>> scaling.published.scaling.resolution, scaling.formula.resolution
        (600, 518)
    """
    if isinstance(network, str):
        name = network.removeprefix("tf_")
        published = look_up("EfficientNet", name, PUBLISHED)
        if published.phi is None:
            raise UsageError(
                f"{name} was not made by compound scaling: its authors give it no phi",
                "give phi as a number to see what the formula says",
            )
        return CompoundScaling(published.phi, _by_formula(published.phi), name, published)
    phi = float(network)
    if not 0 <= phi <= 20:
        raise UsageError(f"phi is from 0 to 20, got {phi}")
    same = next(((name, one) for name, one in PUBLISHED.items() if one.phi == phi), (None, None))
    return CompoundScaling(phi, _by_formula(phi), *same)


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, never by more than a tenth down (MobileNet's rule, as EfficientNet uses it)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _by_formula(phi: float) -> Scaling:
    side = PUBLISHED["efficientnet_b0"].scaling.resolution
    return Scaling(BETA**phi, ALPHA**phi, round(side * GAMMA**phi))
