"""What a run says of the time it waited for data."""

import pytest

from trivet.recipe.recipe import Recipe
from trivet.recipe.waiting import waiting_findings


def recipe(**data) -> Recipe:
    sections = {"model": {"size_hw": [64, 64]}, "augment": {}, "task": {}, "machine": {}}
    return Recipe.model_validate({**sections, "data": {"path": "there", **data}, "train": {"epochs": 1}})


def rows(*pairs):
    return [
        {"epoch": number, "seconds": seconds, "waited": waited}
        for number, (seconds, waited) in enumerate(pairs)
    ]


@pytest.mark.parametrize("history", [[], rows((10, 1.0)), rows((5, 2), (95, 8)), [{"epoch": 1}]])
def test_a_tenth_of_the_time_is_not_worth_a_word(history):
    assert waiting_findings(history, recipe()) == []


def test_more_is_said_with_its_share_and_a_remedy():
    (found,) = waiting_findings(rows((60, 30), (40, 10)), recipe(), cores=8)
    assert found.name == "waiting-for-data"
    assert found.severity == "warning"
    assert found.title == "Training waited 40% of its time for data (40 of 100 s)"
    assert found.evidence["share"] == pytest.approx(0.4)
    assert "--workers 7" in found.remedy
    (found,) = waiting_findings(rows((100, 20)), recipe(), cores=8)
    assert found.severity == "note"


def test_only_remedies_that_are_left_are_named():
    (found,) = waiting_findings(rows((100, 50)), recipe(workers=7, cache="yes"), cores=8)
    assert "--workers" not in found.remedy
    assert "data.cache" not in found.remedy
    (found,) = waiting_findings(rows((100, 50)), recipe(cache="no"), cores=1)
    assert "--set data.cache=yes" in found.remedy
    assert "--workers" not in found.remedy
