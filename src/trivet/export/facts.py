"""What an exported file says of itself, and the check that it is one of ours."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trivet.errors import UsageError
from trivet.structures import TASKS, LabelMap, TaskName

KEY = "trivet"
"""The entry of the file's metadata that holds everything as JSON; the others repeat it for people."""
FORMAT = 1

IMAGE = "image"
"""Name of the input: uint8 `[batch, height, width, 3]`, RGB."""

OUTPUTS: dict[TaskName, tuple[str, ...]] = {
    "detection": ("boxes_xyxy", "scores", "labels", "counts"),
    "segmentation": ("labels", "scores"),
    "classification": ("scores",),
}
"""Names of the outputs of each task, in order."""

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class ExportFacts:
    """What an exported file says of itself.

    Args:
        task: What it predicts.
        labels: Its classes.
        size_hw: Size of the network's input; images of any size are letterboxed into it.
        precision: `fp32`, or `int8` after quantisation.
        weights: SHA-256 of the weights file it was made from.
        licence: Under which the weights may be used, as their owner said.
        model: Name of the published model it started from, or of its backbone.
        score_threshold: Detections have scores above this; 0 for other tasks.
    """

    task: TaskName
    labels: LabelMap
    size_hw: tuple[int, int]
    precision: str
    weights: str
    licence: str
    model: str
    score_threshold: float = 0.0

    def to_metadata(self) -> dict[str, str]:
        """Return the entries of a file's metadata."""
        content = asdict(self) | {"format": FORMAT, "labels": self.labels.to_json()}
        return {
            KEY: json.dumps(content),
            "task": self.task,
            "names": json.dumps(dict(enumerate(self.labels.names))),
            "input": f"uint8 [batch, height, width, 3], RGB, any size; letterboxed to {self.size_hw[0]} x {self.size_hw[1]}",
            "licence": self.licence,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, source: str) -> "ExportFacts":
        """Read what `to_metadata` wrote.

        Raises:
            UsageError: If it is missing, or says what cannot be.
        """
        if KEY not in metadata:
            raise UsageError(f"{source} was not made by trivet export: it says nothing of its classes", _MAKE)
        try:
            content = json.loads(metadata[KEY])
            if content.pop("format") != FORMAT:
                raise UsageError(f"{source} was made by another version of Trivet", _MAKE)
            height, width = content.pop("size_hw")
            labels = LabelMap.from_json(content.pop("labels"))
            facts = cls(labels=labels, size_hw=(int(height), int(width)), **content)
            facts._check()
        except UsageError as fault:
            raise UsageError(f"{source}: {fault.message}", _MAKE) from fault
        except (ValueError, TypeError, KeyError, AttributeError) as fault:
            raise UsageError(
                f"{source}: its metadata is not what trivet export writes ({type(fault).__name__}: {fault})",
                _MAKE,
            ) from fault
        return facts

    def _check(self) -> None:
        texts: tuple[Any, ...] = (self.weights, self.licence, self.model)
        if self.task not in TASKS or self.precision not in PRECISIONS or min(self.size_hw) < 1:
            raise ValueError(f"task {self.task!r}, precision {self.precision!r}, size {self.size_hw}")
        if not all(isinstance(text, str) for text in texts) or not 0 <= float(self.score_threshold) < 1:
            raise ValueError(f"weights, licence and model are words and the threshold 0-1, got {texts}")


_MAKE = "make it with trivet export RUN --to onnx"
