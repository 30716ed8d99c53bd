"""What a page is made of: plain values that the caller gathers, and that nothing here changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from trivet.data.problems import Problem
from trivet.doctor.finding import Finding
from trivet.errors import UsageError
from trivet.evaluate.scores import DetectionScores
from trivet.structures import BoxTarget, Detections

History = Sequence[Mapping[str, int | float]]


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
    """One image with what is there and what was found.

    Args:
        image: RGB.
        caption: What there is to see in it.
        kind: The part of the gallery it belongs to.
        truth: What is there, in pixels of `image`.
        prediction: What was found, in pixels of `image`.
    """

    image: UInt8[np.ndarray, "h w 3"]
    caption: str
    kind: Literal["worst", "typical"]
    truth: BoxTarget
    prediction: Detections


@dataclass(frozen=True)
class DataFacts:
    """What a data set is like.

    Args:
        rows: Facts in words, in the order they are shown: `{"format": "Pascal VOC", "images": "364"}`.
        counts: Split -> objects of each class, in label order.
        sides_px: The boxes' sizes: square root of the area, in pixels of the network's input.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    sides_px: Float[np.ndarray, " boxes"] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class ReportContents:
    """All that a run's report tells; sections without content are left out of the page.

    Args:
        title: The page's headline, such as the data set's name.
        task: "detection".
        names: Class names, in label order; any text, also hostile.
        sentence: What was learnt; made from the scores when not given.
        scores: `None` for a run that was not scored.
        history: Rows as in `history.jsonl`: "step", "epoch", "lr", losses by name, "val_map" and "val_map50"
            where they were measured.
        choices: What was chosen, in the order it is shown.
        facts: What the data set is like.
        problems: What was found while reading it.
        findings: What the doctor and the audit found, most important first.
        gallery: Worst and typical images, in the order they are shown.
        environment: Versions and the machine.
        command: The command line that made the run.
    """

    title: str
    task: str
    names: Sequence[str]
    sentence: str | None = None
    scores: DetectionScores | None = None
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
                f"the object counts of split {split!r} need one number a class, got {len(counts)} for {len(names)} classes"
            )
