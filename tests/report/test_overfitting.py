import numpy as np
import pytest

from trivet.errors import UsageError
from trivet.evaluate.generalisation import generalisation_gap
from trivet.report.overfitting import REMEDIES, overfitting_finding, overfitting_sentence


def gap(train, val, images=1000):
    return generalisation_gap(*(np.arange(images) < round(share * images) for share in (train, val)))


def test_the_sentence_names_the_gap_its_interval_and_the_first_remedies():
    sentence = overfitting_sentence(gap(0.95, 0.63))
    assert sentence is not None
    low, high = gap(0.95, 0.63).interval95
    assert (
        f"is 32.0 points above validation accuracy 0.630 (95% interval {100 * low:.1f} to {100 * high:.1f})"
        in sentence
    )
    assert sentence.endswith(
        "try random crops and flips, Cutout, then weight decay with a OneCycle or cosine schedule."
    )


def test_what_is_on_is_not_proposed():
    sentence = overfitting_sentence(gap(0.95, 0.63), ["crop_flip", "label_smoothing"])
    assert sentence.endswith(
        "try Cutout, weight decay with a OneCycle or cosine schedule, then MixUp or CutMix."
    )
    assert overfitting_sentence(gap(0.95, 0.63), [*REMEDIES][:-1]).endswith("try averaged weights (EMA).")
    assert overfitting_sentence(gap(0.95, 0.63), REMEDIES).endswith("more images or a smaller network.")


@pytest.mark.parametrize(("train", "val", "images"), [(0.95, 0.9, 1000), (0.6, 0.9, 1000), (1.0, 0.8, 5)])
def test_a_small_or_uncertain_gap_says_nothing(train, val, images):
    assert overfitting_sentence(gap(train, val, images)) is None
    assert overfitting_finding(gap(train, val, images)) is None


def test_the_finding_says_the_same():
    finding = overfitting_finding(gap(0.95, 0.63), ["crop_flip"])
    assert finding is not None
    assert (finding.name, finding.severity) == ("overfitting", "warning")
    assert finding.evidence["gap"] == pytest.approx(0.32)
    assert f"{finding.title}; {finding.remedy[0].lower()}{finding.remedy[1:]}" == overfitting_sentence(
        gap(0.95, 0.63), ["crop_flip"]
    )


def test_an_unknown_remedy_is_named():
    with pytest.raises(UsageError, match="unknown remedy 'cutouts'; did you mean 'cutout'"):
        overfitting_sentence(gap(0.95, 0.63), ["cutouts"])
