import pytest

from trivet.errors import UsageError
from trivet.train.settings import TrainSettings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "one budget, got epochs=None and minutes=None"),
        ({"epochs": 3, "minutes": 2.0}, "one budget, got epochs=3 and minutes=2.0"),
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"minutes": float("nan")}, "minutes must be above 0, got nan"),
        ({"epochs": 1, "batch": -1}, "batch must be above 0, got -1"),
        ({"epochs": 1, "lr": float("inf")}, "lr must be above 0, got inf"),
        ({"epochs": 1, "weight_decay": -0.1}, "weight_decay must be 0 or more"),
        ({"epochs": 1, "ema": 1.5}, "ema lies in 0-1, got 1.5"),
        ({"epochs": 1, "patience": 0}, "patience counts validations from 1, got 0"),
    ],
)
def test_values_that_cannot_be_used(given, message):
    with pytest.raises(UsageError, match=message):
        TrainSettings(**given)
