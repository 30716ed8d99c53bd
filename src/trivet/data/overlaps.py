"""Which outline has the pixels that several cover."""

from collections.abc import Callable

import numpy as np

from trivet.errors import look_up

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Areas, labels and lengths of the first polygon of an image's shapes -> the order they are painted in."""


def _small_on_top(areas: np.ndarray, labels: np.ndarray, first_lengths: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.argsort(-areas, kind="stable")


def _highest_id(areas: np.ndarray, labels: np.ndarray, first_lengths: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.argsort(labels, kind="stable")


def _longest_first(areas: np.ndarray, labels: np.ndarray, first_lengths: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.argsort(first_lengths, kind="stable")


OVERLAPS: dict[str, Rule] = {
    "small-on-top": _small_on_top,
    "highest-id": _highest_id,
    "longest-first": _longest_first,
}
"""Rules by name. `small-on-top`: the shape of the smallest area; `highest-id`: the class of the highest id;
`longest-first`: the shape whose first polygon has most points, its other parts not counted (run lengths have
none). Among equals the later in the file."""


def painting_order(rule: str, areas: np.ndarray, labels: np.ndarray, first_lengths: np.ndarray) -> np.ndarray:
    """Return the order in which an image's shapes are painted, each over those before it.

    Args:
        rule: A name of `OVERLAPS`.
        areas: float `[m]`.
        labels: int `[m]`.
        first_lengths: int `[m]`, numbers in the first polygon.

    Raises:
        UsageError: If the rule is not one of these.
    """
    return look_up("rule for overlaps", rule, OVERLAPS)(areas, labels, first_lengths)
