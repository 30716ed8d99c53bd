"""Records of single signals that the trace is made of: activations, random draws, kept graphs, doubtful numbers."""

from dataclasses import dataclass, field

from trivet.doctor.source import Place


@dataclass
class ReluTrace:
    """A place that applies ReLU in training forwards.

    Args:
        name: Layer that feeds it, with its model's name.
        place: Where that layer's weights were last filled, or where it is made.
        units: Count of channels.
        steps: Recorded steps.
        silent: Channels that were zero for every sample of the last recorded steps.
        silent_first: Channels that were so in the first recorded step.
    """

    name: str
    model: str
    place: Place | None
    units: int
    steps: int
    silent: int
    silent_first: int


@dataclass
class LayerTrace:
    """How the output of a layer with weights differs between the samples of a batch, in training forwards.

    Args:
        diversity: Standard deviation across samples over the root mean square, of the first and the last recorded
            steps; 0 when all samples give the same output.
        scale: Root mean square of the output at those steps.
    """

    name: str
    model: str
    place: Place | None
    diversity: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)


@dataclass
class RandomTrace:
    """Dropout, or noise, that acted in a forward of a model in eval mode without gradients.

    Args:
        function: What drew: `dropout`, `scaled_dot_product_attention`, `randn_like`.
        unregistered: Whether the dropout layer belongs to no module, as one that a forward makes anew.
        asked: Whether the call itself says that it is in training mode.
        noise: Whether it is noise that a module's own code draws, and only adds on.
        averaged: Whether the model was given the same input several times on end, as for a mean over draws.
        mask: Whether that noise is zeros and ones, as dropout draws them, which nothing outside the forward sees.
        attribute: The plain attribute of the model that holds an unregistered module which draws.
    """

    function: str
    place: Place | None
    model: str
    calls: int = 0
    unregistered: bool = False
    asked: bool = False
    noise: bool = False
    averaged: bool = False
    mask: bool = False
    attribute: str = ""


@dataclass
class OrderTrace:
    """Random orders of the samples, drawn at one line with training steps between: how many, how many different."""

    function: str
    place: Place | None
    size: int
    draws: int = 0
    different: int = 0
    seeded_at: Place | None = None


@dataclass
class KeptGraphTrace:
    """Graphs of the losses of earlier steps: of those planted, how many still lived at the last look."""

    planted: int = 0
    alive: int = 0
    most: int = 0
    name: str = ""
    place: Place | None = None


@dataclass
class RiskTrace:
    """An operation met at a value where it, or its derivative, is not finite."""

    operation: str
    reason: str
    place: Place | None
    step: int
    passes: int = 1
