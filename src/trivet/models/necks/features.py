"""Which of a backbone's feature maps a neck starts from."""

from collections.abc import Sequence

from trivet.errors import UsageError
from trivet.structures import FeatureSpec


def wanted_features(features: Sequence[FeatureSpec], levels: tuple[int, int]) -> tuple[FeatureSpec, ...]:
    """Return the backbone's features a neck of these levels takes: from the finest level without a gap.

    Raises:
        UsageError: If the levels are empty or the backbone lacks one that cannot be made from a finer one.
    """
    first, last = levels
    if not 0 <= first <= last:
        raise UsageError(f"a neck's levels are (finest, coarsest), got {tuple(levels)}")
    given = [feature.level for feature in features]
    used = tuple(feature for feature in features if first <= feature.level <= last)
    if not used or [feature.level for feature in used] != list(range(first, first + len(used))):
        raise UsageError(
            f"the neck starts at level {first} (stride {2**first}) but the backbone gives levels {given}",
            "choose levels that start at one of the backbone's, or another backbone",
        )
    return used
