"""Names of classes, and what a part publishes of a feature map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trivet.errors import UsageError

TaskName = Literal["detection", "segmentation", "classification"]
"""What is learnt."""
TASKS: tuple[TaskName, ...] = ("detection", "segmentation", "classification")

IGNORE_LABEL = 255
"""The label of a mask's pixels that neither train nor count: void, and padding."""


@dataclass(frozen=True)
class FeatureSpec:
    """What a part publishes of one feature map: its channels and its stride in input pixels."""

    channels: int
    stride: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise UsageError(f"a feature map needs at least one channel, got channels={self.channels}")
        if self.stride < 1 or self.stride & (self.stride - 1):
            raise UsageError(f"a feature map's stride is a power of two, got stride={self.stride}")

    @property
    def level(self) -> int:
        """The pyramid level k of `p<k>`, where stride = 2^k."""
        return int(math.log2(self.stride))


@dataclass(frozen=True)
class LabelMap:
    """Ids in a file <-> class names <-> training labels (the position in `names`).

    Args:
        names: Class names; a name's position is its training label. No two are equal.
        file_ids: The id each class has in the annotation files, in the same order: COCO's category ids,
            YOLO's indices, or the names themselves where a format (VOC) has no ids.
    """

    names: tuple[str, ...]
    file_ids: tuple[int | str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise UsageError("a label map needs at least one class, got none")
        if len(self.names) != len(self.file_ids):
            raise UsageError(
                f"a label map needs one file id a name, got {len(self.names)} names and {len(self.file_ids)} ids"
            )
        for kind, values in (("name", self.names), ("file id", self.file_ids)):
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise UsageError(
                    f"a label map has the {kind} {twice[0]!r} more than once",
                    f"give every class its own {kind}",
                )

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "LabelMap":
        """Make the map of a format whose ids are the positions 0, 1, 2... themselves."""
        return cls(tuple(names), tuple(range(len(names))))

    def __len__(self) -> int:
        return len(self.names)

    def label_of_file_id(self) -> dict[int | str, int]:
        """Return file id -> training label."""
        return {file_id: label for label, file_id in enumerate(self.file_ids)}

    def to_json(self) -> list[dict[str, int | str]]:
        """Return `[{"label": 0, "name": ..., "file_id": ...}, ...]`, the form of `labels.json`."""
        return [
            {"label": i, "name": n, "file_id": f}
            for i, (n, f) in enumerate(zip(self.names, self.file_ids, strict=True))
        ]

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, int | str]]) -> "LabelMap":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If a key is missing or the labels are not 0, 1, 2...
        """
        try:
            ordered = sorted(rows, key=lambda row: int(row["label"]))
            labels = [int(row["label"]) for row in ordered]
            result = cls(tuple(str(row["name"]) for row in ordered), tuple(row["file_id"] for row in ordered))
        except (KeyError, TypeError) as fault:
            raise UsageError(
                f"a label map's rows need 'label', 'name' and 'file_id', got {rows!r}"
            ) from fault
        if labels != list(range(len(labels))):
            raise UsageError(f"a label map's labels count 0, 1, 2..., got {labels}")
        return result
