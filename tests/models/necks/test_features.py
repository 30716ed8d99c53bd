import pytest

from trivet.errors import UsageError
from trivet.models.necks.features import wanted_features
from trivet.structures import FeatureSpec

GIVEN = tuple(FeatureSpec(8, stride) for stride in (4, 8, 16, 32))


@pytest.mark.parametrize(
    ("levels", "strides"), [((3, 7), [8, 16, 32]), ((2, 3), [4, 8]), ((5, 6), [32]), ((3, 3), [8])]
)
def test_takes_the_levels_from_the_finest_on(levels, strides):
    assert [feature.stride for feature in wanted_features(GIVEN, levels)] == strides


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((6, 7), r"starts at level 6 \(stride 64\) but the backbone gives levels \[2, 3, 4, 5\]"),
        ((5, 3), r"levels are \(finest, coarsest\), got \(5, 3\)"),
        ((-1, 3), r"got \(-1, 3\)"),
    ],
)
def test_says_what_is_lacking(levels, message):
    with pytest.raises(UsageError, match=message):
        wanted_features(GIVEN, levels)


def test_refuses_a_gap():
    with pytest.raises(UsageError, match=r"gives levels \[3, 5\]"):
        wanted_features((GIVEN[1], GIVEN[3]), (3, 7))
