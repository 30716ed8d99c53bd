import json
import math
from dataclasses import replace

import numpy as np
import pytest

from trivet.errors import UsageError
from trivet.evaluate.scores import (
    BestThreshold,
    ClassScore,
    DetectionScores,
    ErrorShare,
    ImageMistakes,
    Interval,
    Operation,
    PrCurves,
)

NAN = math.nan


def example_scores() -> DetectionScores:
    curves = PrCurves(
        np.linspace(0, 1, 101), np.stack([np.linspace(1, 0, 101), np.full(101, NAN)]), np.full((2, 101), 0.5)
    )
    return DetectionScores(
        map=0.5,
        map50=0.75,
        map75=0.25,
        by_size={"small": NAN, "medium": 0.5, "large": 0.5},
        ar={"1": 0.25, "10": 0.5, "100": 0.5},
        ar_by_size={"small": NAN, "medium": 0.5, "large": 0.5},
        per_class=(
            ClassScore("cell", 0.5, 0.75, 0.25, 0.5, 4, 5),
            ClassScore("none", NAN, NAN, NAN, NAN, 0, 1),
        ),
        interval95={"map": Interval(0.25, 0.75), "map50": Interval(0.5, 1.0)},
        curves=curves,
        confusion=np.array([[3, 0, 1], [0, 0, 0], [1, 1, 0]]),
        confusion_at=Operation(0.5, 0.5),
        errors=(ErrorShare("missed", 1, 0.125),),
        worst=(ImageMistakes(7, 3, 1, 1, 0, 0, 0.6),),
        typical=(),
        best_threshold=(
            BestThreshold("cell", 0.5, 0.75, 0.75, 0.75),
            BestThreshold("none", NAN, NAN, NAN, NAN),
        ),
        images=1,
        boxes=4,
    )


def test_json_has_the_promised_shape():
    data = example_scores().to_json()
    assert list(data)[:4] == ["task", "map", "map50", "map75"]
    assert data["task"] == "detection"
    assert data["by_size"] == {"small": None, "medium": 0.5, "large": 0.5}
    assert data["per_class"][0]["name"] == "cell"
    assert data["per_class"][1]["ap"] is None
    assert data["interval95"] == {"map": [0.25, 0.75], "map50": [0.5, 1.0]}
    assert data["confusion"][0] == [3, 0, 1]
    assert data["images"] == 1


def test_json_comes_back_whole():
    scores = example_scores()
    text = json.dumps(scores.to_json(), allow_nan=False)
    again = DetectionScores.from_json(json.loads(text))
    assert again.to_json() == scores.to_json()
    np.testing.assert_array_equal(again.curves.precision, scores.curves.precision)
    assert again.confusion.dtype == np.int64
    assert again.interval95["map"].high == 0.75
    assert math.isnan(again.per_class[1].ap)


def test_a_score_of_one_comes_back_as_float():
    again = DetectionScores.from_json(json.loads(json.dumps(replace(example_scores(), map=1.0).to_json())))
    assert again.map == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "segmentation"}, "'task' is 'segmentation', wanted 'detection'"),
        ({"map": "high"}, r"scores cannot be read: Expected `float`, got `str` - at `\$.map`"),
        ({"confusion": [[1, 2], [3]]}, "scores cannot be read"),
    ],
)
def test_other_data_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        DetectionScores.from_json({**example_scores().to_json(), **change})


def test_a_missing_field_is_named():
    data = example_scores().to_json()
    del data["map50"]
    with pytest.raises(UsageError, match="missing required field `map50`"):
        DetectionScores.from_json(data)
