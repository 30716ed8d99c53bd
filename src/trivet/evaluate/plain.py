"""Scores -> plain lists, dicts and numbers, and back: NaN, a figure that does not exist, is `null` there."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from trivet.errors import UsageError
from trivet.structures import TaskName

T = TypeVar("T")


def to_plain(task: TaskName, scores: object) -> dict[str, Any]:
    """Return a dataclass of arrays, tuples and numbers in the form of `score --json` and `scores.json`."""
    plain: dict[str, Any] = _nan_to_none(msgspec.to_builtins(scores, enc_hook=_array_to_list))
    return {"task": task, **plain}


def from_plain(task: TaskName, kind: type[T], data: Mapping[str, Any]) -> T:
    """Read what `to_plain` wrote.

    Raises:
        UsageError: If it is another task's, or a field is missing or of another kind.
    """
    if data.get("task") != task:
        raise UsageError(
            f"these are not the scores of {task}: 'task' is {data.get('task')!r}, wanted {task!r}"
        )
    try:
        return msgspec.convert(_none_to_nan(dict(data)), kind, dec_hook=_list_to_array)
    except (msgspec.ValidationError, ValueError) as fault:
        raise UsageError(
            f"scores cannot be read: {fault}", "write them again with `trivet score --json`"
        ) from fault


def _array_to_list(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"scores hold arrays and plain values only, got {type(value).__name__}")


def _list_to_array(kind: Any, value: Any) -> np.ndarray:
    dtype = next(dtype for dtype in (np.int64, np.float64) if np.dtype(dtype).name in kind.dtypes)
    return np.asarray(value, dtype=dtype)


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_none(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _none_to_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _none_to_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_none_to_nan(item) for item in value]
    return math.nan if value is None else value
