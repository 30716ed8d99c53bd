"""Watches splits of samples into training and validation: are samples on both sides?"""

from collections.abc import Hashable
from functools import partial
from typing import Any

from trivet.doctor.probe.data.imports import after_import
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import user_place
from trivet.doctor.trace_data import SplitTrace

MOST_SAMPLES, MOST_VALUES, MOST_SPLITS = 100_000, 1 << 27, 16
DISTINCT = 0.25
"""Share of different samples below which they are values of a few kinds, that repeat by their nature."""
FEWEST_DISTINCT = 48
FEW_COLUMNS = 8


class SplitWatch:
    """Compares the parts that scikit-learn's `train_test_split` returns."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.splits: list[SplitTrace] = []

    def install(self, patches: Patches) -> None:
        """Wrap the function once it is imported."""
        after_import(patches, "sklearn.model_selection", partial(self._wrap_all, patches))

    def _wrap_all(self, patches: Patches, module: Any) -> None:
        patches.wrap(module, "train_test_split", self._wrap)

    def _wrap(self, original: Any) -> Any:
        def split(*arrays: Any, **options: Any) -> Any:
            parts = original(*arrays, **options)
            if self.session.active and arrays and len(self.splits) < MOST_SPLITS:
                with self.session.measured():
                    self._note(parts[0], parts[1])
            return parts

        return split

    def _note(self, one: Any, other: Any) -> None:
        one, other = (part.to_numpy() if hasattr(part, "to_numpy") else part for part in (one, other))
        if not hasattr(one, "__len__") or len(one) + len(other) > MOST_SAMPLES:
            return
        shape = tuple(getattr(one, "shape", ()))
        columns = 1
        for side in shape[1:]:
            columns *= side
        if columns * (len(one) + len(other)) > MOST_VALUES or (len(shape) > 1 and columns < FEW_COLUMNS):
            return
        first, second = [_key(item) for item in one], [_key(item) for item in other]
        if None in (*first[:1], *second[:1]):
            return
        known = set(first)
        distinct = len(known | set(second))
        if distinct >= max(FEWEST_DISTINCT, DISTINCT * (len(first) + len(second))):
            shared = sum(key in known for key in second)
            self.splits.append(SplitTrace(user_place(), len(second), shared, columns))


def _key(item: Any) -> Hashable | None:
    """What two samples that are equal have in common: their bytes, or themselves."""
    if hasattr(item, "tobytes"):
        return bytes(item.tobytes())
    return item if isinstance(item, (int, float, str, bytes)) else str(item)
