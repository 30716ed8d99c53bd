"""The part of a trace that is about data, targets and the machine."""

import math
from dataclasses import dataclass, field

from trivet.doctor.source import Place


@dataclass
class LeakTrace:
    """Samples of evaluation that the same model had been trained on; samples are compared by exact digests.

    Args:
        trained, evaluated: Distinct samples seen in training, and samples of evaluation batches that are not made of
            training samples altogether (those measure the training score).
        shared: How many of these are training samples.
        repeated: Share of the last training samples that had been seen before; near 1 when the training set is known.
        first_share: Share of the samples of the first evaluation that had been trained on by then.
        repeated_then: What `repeated` was then: how often a sample meets one of before by chance.
        covered: Share of all training samples that are among the evaluated ones.
        windows, windows_shared: Of sequences: evaluation samples, and those whose last values lie in a training sequence.
        subset_shared: Indices that the subsets of two loaders have in common, of `subset_size`.
        left_out: Samples of their data set that neither subset holds, where the evaluated one lies within the other.
    """

    model: str
    place: Place | None = None
    trained: int = 0
    evaluated: int = 0
    shared: int = 0
    repeated: float = 0.0
    first_share: float = 0.0
    repeated_then: float = 0.0
    covered: float = 0.0
    windows: int = 0
    windows_shared: int = 0
    subset_size: int = 0
    subset_shared: int = 0
    left_out: int = 0


@dataclass
class LoaderTrace:
    """A loader that feeds training.

    Args:
        batches, waited, passed: Batches after the first of each pass, seconds the loop waited for them, seconds in all
            but for those of the doctor.
        busy: Processor seconds of the loop itself, between the batches.
        sample_place: The first line of the user's `__getitem__`.
        parts: "input", "target", "boxes", "labels" -> where it makes that part of a sample, where that can be read.
        sources: Where the sources of random numbers are made, where that is known.
        seeded_at: The first line of the user's function that seeds the workers.
        repeated: Source of random numbers -> whether it "workers" or "epochs" begin in the same state, though drawn from.
    """

    place: Place | None
    dataset: str
    workers: int
    batches: int = 0
    waited: float = 0.0
    passed: float = 0.0
    busy: float = 0.0
    repeated: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Place] = field(default_factory=dict)
    seeded_at: Place | None = None
    sample_place: Place | None = None
    parts: dict[str, Place] = field(default_factory=dict)


@dataclass
class ClassTrace:
    """Targets and answers of a classifying loss at one line of the user's code, in training.

    Args:
        weighted: Whether the loss weighs classes, or ignores none of what is counted here.
        counts: Targets by class, over all calls that were looked at.
        late_counts, late_answers, late_right: Targets, answers and right answers by class in the last third.
        late_loss, late_constant: Mean cross-entropy (unweighted) in the last third, and that of the best constant.
        late_accuracy: Share of right answers in the last third.
        spatial: Whether targets are maps.
        batches, purity: Batches of single targets, and the mean share of the most frequent class in one.
    """

    function: str
    place: Place | None
    weighted: bool = False
    spatial: bool = False
    batches: int = 0
    purity: float = 0.0
    calls: int = 0
    last_step: int = 0
    counts: list[int] = field(default_factory=list)
    late_calls: int = 0
    late_counts: list[int] = field(default_factory=list)
    late_answers: list[int] = field(default_factory=list)
    late_right: list[int] = field(default_factory=list)
    late_loss: float = math.nan
    late_constant: float = math.nan


@dataclass
class RegressionTrace:
    """Targets of a regressing loss at one line of the user's code, in training.

    Args:
        late_calls, late_values: Calls and values that were looked at in the last third.
        late_error: Their mean squared error.
        late_variance: Their mean squared distance from the mean of their column: the error of the best constant.
    """

    function: str
    place: Place | None
    calls: int = 0
    last_step: int = 0
    late_calls: int = 0
    late_values: int = 0
    late_error: float = math.nan
    late_variance: float = math.nan


@dataclass
class BoxTrace:
    """Boxes at one line: what their numbers say as two corners, and as corner or centre with size.

    Args:
        source: Who was given them: a function, a model, or a loss.
        boxes, inverted, flat: Boxes seen; those whose second corner lies before the first; those without extent.
        as_size, as_centre: How many would lie within the picture as (x, y, w, h), and as (cx, cy, w, h).
        widest: Largest coordinate allowed (the picture's size, or the largest seen).
        compared, taken_for: The loss that compares the same predicted boxes with those targets in another format, and
            that format.
    """

    source: str
    place: Place | None
    boxes: int = 0
    inverted: int = 0
    flat: int = 0
    inside: int = 0
    as_size: int = 0
    as_centre: int = 0
    known_size: bool = False
    example: list[float] = field(default_factory=list)
    compared: str = ""
    taken_for: str = ""


@dataclass
class DetectionTrace:
    """Labels given to a detector whose class 0 is the background: how many are 0, of how many."""

    model: str
    place: Place | None
    labels: int = 0
    zeros: int = 0


@dataclass
class ResizeTrace:
    """Label maps resized by averaging: the line, the class ids given and invented, and how many became targets."""

    function: str
    place: Place | None
    maps: int = 0
    given: list[float] = field(default_factory=list)
    invented: float = 0.0
    used: int = 0


@dataclass
class DrawTrace:
    """Shapes drawn over each other on one canvas, by line.

    Args:
        shapes, covering: Shapes drawn; those that covered a shape of another class.
        pixels, overlapped: Labelled pixels, and those labelled twice or more with different classes.
        pairs: "under>over" -> how many times this class was covered by that one.
        shrinking, growing: Shapes that are smaller, or larger, than the one drawn before them on their canvas.
    """

    place: Place | None
    shapes: int = 0
    shrinking: int = 0
    growing: int = 0
    covering: int = 0
    pixels: int = 0
    overlapped: int = 0
    pairs: dict[str, int] = field(default_factory=dict)


@dataclass
class MixTrace:
    """A batch that was given to a copy of the model again, to see whether samples depend on each other.

    Args:
        ran: Whether it could be tried; else `reason`.
        leak: Gradient of the first sample's output with respect to the other samples, relative to its own.
        operation, operation_place: The first operation behind which samples are mixed.
        per_sample: Whether the loss has one target for each row of the batch.
        one_value: Whether that target is a single value.
        over_sequence: Whether the operation runs over the first of three axes, the second of which is no batch of one.
    """

    model: str
    ran: bool = False
    reason: str = ""
    batch: int = 0
    leak: float = 0.0
    operation: str = ""
    operation_place: Place | None = None
    per_sample: bool = False
    one_value: bool = False
    over_sequence: bool = False


@dataclass
class ViewTrace:
    """A reshape that gives a tensor the shape of its permutation, without permuting it.

    Args:
        rough, smooth: Mean difference of neighbours in the reshaped picture, and in the permuted one.
    """

    operation: str
    place: Place | None
    given: list[int]
    made: list[int]
    calls: int = 0
    rough: float = 0.0
    smooth: float = 0.0


@dataclass
class SpreadTrace:
    """A difference of outputs and targets that broadcasts (n, 1) against (n,)."""

    place: Place | None
    output_shape: list[int]
    target_shape: list[int]
    calls: int = 0
    sizes: list[int] = field(default_factory=list)


@dataclass
class AxisTrace:
    """An attention or recurrent layer: calls, and those in which the samples lay along the axis that it takes for positions.

    Args:
        kind: Name of its class.
        shape, batch: Of the last such call: what it was given, and how many samples the model was given.
    """

    kind: str
    place: Place | None
    batch_first: bool
    calls: int = 0
    wrong: int = 0
    shape: list[int] = field(default_factory=list)
    batch: int = 0


@dataclass
class RepeatedDrawTrace:
    """A line that draws random numbers for samples of training: how often, and how many different ones."""

    place: Place
    draws: int = 0
    different: int = 0


@dataclass
class ApartTrace:
    """A random transform that is given a picture alone and then its map alone.

    Args:
        pairs, apart: Samples looked at, and those for which it drew other numbers the second time.
    """

    place: Place
    transform: str
    pairs: int = 0
    apart: int = 0


@dataclass
class TwinTrace:
    """A line that seeds with the same number twice for a sample, so that two transforms draw alike.

    Args:
        pairs, apart: How often it did, and how often the second one drew something else at once.
        first, second: The functions that drew, of such a pair.
        unseeded: Whether they drew from a source that the seed does not set.
    """

    place: Place
    pairs: int = 0
    apart: int = 0
    first: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    unseeded: bool = False


@dataclass
class OuterTrace:
    """A line where values of samples are multiplied by weights of samples, each value by every weight, and averaged."""

    place: Place | None
    shapes: list[list[int]]
    calls: int = 0


@dataclass
class SplitTrace:
    """A split of samples into two parts: size of the second, how many of it are in the first too, values of a sample."""

    place: Place | None
    size: int
    shared: int
    values: int


@dataclass
class CollateTrace:
    """A function that makes batches in which parts of one sample stand at different places, and in how many it did."""

    place: Place
    batches: int = 0


@dataclass
class PairTrace:
    """Pictures and their target maps in training: how well one explains the other (squared correlation).

    Args:
        pairs: How many were compared.
        own: Median over pictures for their own map.
        best_turn: Median for the best of the flipped and turned versions of their own map.
        turned: Share of pictures that a turned version explains clearly better, of those where it makes a difference.
        decisive: Count of these.
        turned_fit: Median for the best turned version, of the pictures that one explains clearly better.
        turned_rank: Of those pictures, mean share of the maps of others, turned alike, that they explain better; 0.5 is
            chance: scenes that look alike, as streets under a sky, explain any turned map.
        rank: Mean share of the maps of others that a picture explains better than its own; 0.5 is chance.
        best_other: Median for the best map of another picture.
    """

    place: Place | None = None
    pairs: int = 0
    own: float = 0.0
    best_turn: float = 0.0
    turned: float = 0.0
    turned_fit: float = 0.0
    turned_rank: float = 1.0
    decisive: int = 0
    rank: float = 1.0
    best_other: float = 0.0


@dataclass
class RangeTrace:
    """Values of pictures: count of batches, of pictures and of values looked at; mean, deviation, lowest and highest."""

    batches: int = 0
    samples: int = 0
    values: int = 0
    mean: float = 0.0
    std: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass
class ScaleTrace:
    """Pictures that one model was given in training and in evaluation."""

    model: str
    place: Place | None
    trained: RangeTrace
    evaluated: RangeTrace


@dataclass
class MemoryTrace:
    """Memory of the process (bytes, without pages shared with files) at steps, and containers that keep growing.

    Args:
        holders: Name of a container -> its length, bytes a tensor or array in it, and the line that fills it.
    """

    steps: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    holders: dict[str, list[int]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)


@dataclass
class EvaluationTrace:
    """Loss and accuracy on samples that were not trained on, after a step; what training showed at that time."""

    step: int
    samples: int
    loss: float = math.nan
    accuracy: float = math.nan


@dataclass
class DataTrace:
    """All of it.

    Args:
        reseeded: Where samples of training are given the same seed again in a later epoch.
        keyed: "boxes", "labels" -> where the program makes what stands under this key of its dictionaries; "clipped" ->
            where it cuts numbers off at borders.
    """

    leaks: list[LeakTrace] = field(default_factory=list)
    loaders: list[LoaderTrace] = field(default_factory=list)
    classes: list[ClassTrace] = field(default_factory=list)
    regressions: list[RegressionTrace] = field(default_factory=list)
    boxes: list[BoxTrace] = field(default_factory=list)
    detections: list[DetectionTrace] = field(default_factory=list)
    resizes: list[ResizeTrace] = field(default_factory=list)
    drawings: list[DrawTrace] = field(default_factory=list)
    mixes: list[MixTrace] = field(default_factory=list)
    views: list[ViewTrace] = field(default_factory=list)
    spreads: list[SpreadTrace] = field(default_factory=list)
    axes: list[AxisTrace] = field(default_factory=list)
    repeated_draws: list[RepeatedDrawTrace] = field(default_factory=list)
    twins: list[TwinTrace] = field(default_factory=list)
    outers: list[OuterTrace] = field(default_factory=list)
    apart: list[ApartTrace] = field(default_factory=list)
    splits: list[SplitTrace] = field(default_factory=list)
    collates: list[CollateTrace] = field(default_factory=list)
    pairs: PairTrace = field(default_factory=PairTrace)
    scales: list[ScaleTrace] = field(default_factory=list)
    memory: MemoryTrace = field(default_factory=MemoryTrace)
    keyed: dict[str, Place] = field(default_factory=dict)
    reseeded: list[Place] = field(default_factory=list)
    evaluations: list[EvaluationTrace] = field(default_factory=list)
    train_loss: list[tuple[int, float]] = field(default_factory=list)
    train_accuracy: list[tuple[int, float]] = field(default_factory=list)
