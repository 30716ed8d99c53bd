"""What a page is made of: plain values that the caller gathers, and that nothing here changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8

from trivet.data.problems import Problem
from trivet.doctor.finding import Finding
from trivet.errors import UsageError
from trivet.evaluate.classification_scores import ClassificationScores
from trivet.evaluate.scores import DetectionScores
from trivet.evaluate.segmentation_scores import SegmentationScores
from trivet.structures import BoxTarget, ClassScores, Detections, TaskName

History = Sequence[Mapping[str, int | float]]
Scores: TypeAlias = DetectionScores | SegmentationScores | ClassificationScores
SCORES_OF: Mapping[TaskName, type[Scores]] = {
    "detection": DetectionScores,
    "segmentation": SegmentationScores,
    "classification": ClassificationScores,
}
Mask: TypeAlias = UInt8[np.ndarray, "_ _"]


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen for a run.

    Args:
        what: What was chosen, such as "batch size".
        value: What it was set to.
        by: Whether a person gave it or it was chosen automatically.
        why: The reason; empty where a person gave it.
    """

    what: str
    value: str
    by: Literal["given", "automatic"]
    why: str = ""


@dataclass(frozen=True)
class Picture:
    """One image with what is there and what was found: both boxes, both masks, or both classes.

    Args:
        image: RGB.
        caption: What there is to see in it.
        kind: The part of the gallery it belongs to.
        truth: What is there, in pixels of `image`; a mask's void is 255, a class its label.
        prediction: What was found, in pixels of `image`.
    """

    image: UInt8[np.ndarray, "h w 3"]
    caption: str
    kind: Literal["worst", "typical"]
    truth: BoxTarget | Mask | int
    prediction: Detections | Mask | ClassScores

    def __post_init__(self) -> None:
        kinds = (type(self.truth), type(self.prediction))
        if kinds not in ((BoxTarget, Detections), (np.ndarray, np.ndarray), (int, ClassScores)):
            raise UsageError(
                f"a picture shows boxes and detections, two masks, or a label and class scores, got {kinds[0].__name__} and {kinds[1].__name__}"
            )
        for mask in (self.truth, self.prediction):
            if isinstance(mask, np.ndarray) and mask.shape != self.image.shape[:2]:
                raise UsageError(
                    f"a picture's masks are as large as its image, got {mask.shape} for {self.image.shape[:2]}"
                )


@dataclass(frozen=True)
class Contested:
    """An image whose mask depends on the order its outlines are painted in.

    Args:
        image: RGB, the pixels that several outlines claim marked.
        caption: Which image, and how much of it.
    """

    image: UInt8[np.ndarray, "h w 3"]
    caption: str


@dataclass(frozen=True)
class DataFacts:
    """What a data set is like.

    Args:
        rows: Facts in words, in the order they are shown: `{"format": "Pascal VOC", "images": "364"}`.
        counts: Split -> how much there is of each class, in label order.
        sides_px: The boxes' sizes: square root of the area, in pixels of the network's input.
        counted: What `counts` counts.
        order_dependent: What the label of some pixels depends on, for masks made from overlapping polygons:
            pair of classes -> share of the pixels, in 0-1.
        contested: Images with most of such pixels.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    sides_px: Float[np.ndarray, " boxes"] = field(default_factory=lambda: np.zeros(0, np.float32))
    counted: Literal["objects", "pixels", "images"] = "objects"
    order_dependent: Mapping[tuple[str, str], float] = field(default_factory=dict)
    contested: Sequence[Contested] = ()


@dataclass(frozen=True)
class ReportContents:
    """All that a run's report tells; sections without content are left out of the page.

    Args:
        title: The page's headline, such as the data set's name.
        task: What was learnt.
        names: Class names, in label order; any text, also hostile.
        sentence: What was learnt; made from the scores when not given.
        scores: `None` for a run that was not scored.
        history: Rows as in `history.jsonl`: "step", "epoch", "lr", losses by name, and where they were measured
            the validation scores: "val_map", "val_map50", "val_miou", "val_pixel_accuracy", "val_top1".
        choices: What was chosen, in the order it is shown.
        facts: What the data set is like.
        problems: What was found while reading it.
        findings: What the doctor and the audit found, most important first.
        gallery: Worst and typical images, in the order they are shown.
        environment: Versions and the machine.
        command: The command line that made the run.
    """

    title: str
    task: TaskName
    names: Sequence[str]
    sentence: str | None = None
    scores: Scores | None = None
    history: History = ()
    choices: Sequence[Choice] = ()
    facts: DataFacts = field(default_factory=DataFacts)
    problems: Sequence[Problem] = ()
    findings: Sequence[Finding] = ()
    gallery: Sequence[Picture] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        _check_counts(self.facts, self.names)
        if self.scores is not None and not isinstance(self.scores, SCORES_OF[self.task]):
            raise UsageError(f"a report on {self.task} cannot show {type(self.scores).__name__}")
        if self.scores is not None and len(self.scores.per_class) != len(self.names):
            raise UsageError(
                f"a report needs scores of its {len(self.names)} classes, got scores of {len(self.scores.per_class)}"
            )


@dataclass(frozen=True)
class AuditContents:
    """All that a data set's audit tells; see `ReportContents` for the fields they share.

    Args:
        checks: What was looked for, and what could not be: check -> outcome in words.
    """

    title: str
    names: Sequence[str]
    sentence: str | None = None
    facts: DataFacts = field(default_factory=DataFacts)
    problems: Sequence[Problem] = ()
    findings: Sequence[Finding] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        _check_counts(self.facts, self.names)


def _check_counts(facts: DataFacts, names: Sequence[str]) -> None:
    for split, counts in facts.counts.items():
        if len(counts) != len(names):
            raise UsageError(
                f"the counts of split {split!r} need one number a class, got {len(counts)} for {len(names)} classes"
            )
