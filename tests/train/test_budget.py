import pytest

from tests.train.tiny import tiny_settings
from trivet.train.budget import Budget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_epochs_count_steps():
    budget = Budget(tiny_settings(epochs=4), 5)
    budget.start()
    assert [budget.progress(step) for step in (0, 5, 20, 30)] == [0, 0.25, 1, 1]


def test_minutes_count_seconds_over_parts_of_a_run():
    clock = Clock()
    budget = Budget(tiny_settings(epochs=None, minutes=2.0), 5, clock=clock)
    budget.start(30.0)
    clock.now += 30
    assert budget.seconds == 60
    assert budget.progress(1_000_000) == pytest.approx(0.5)


def test_the_end_leaves_room_for_validation_and_scoring():
    clock = Clock()
    budget = Budget(tiny_settings(epochs=None, minutes=2.0), 5, clock=clock)
    budget.start()
    budget.longest_validation = 20
    clock.now += 79
    assert budget.progress(0) < 1
    clock.now += 1
    assert budget.progress(0) == 1


def test_the_first_validation_is_guessed_from_the_training_rate():
    clock = Clock()
    budget = Budget(tiny_settings(epochs=None, minutes=2.0), 5, clock=clock)
    budget.start(10.0)
    clock.now += 20
    budget.expect_validation(100, trained=100)
    assert budget.expected_validation == pytest.approx(8)
    assert budget.progress(0) == pytest.approx(30 / (120 - 16))


def test_a_validation_longer_than_the_budget_leaves_a_tenth():
    clock = Clock()
    budget = Budget(tiny_settings(epochs=None, minutes=2.0), 5, clock=clock)
    budget.start()
    budget.longest_validation = 500
    clock.now += 6
    assert budget.progress(0) == pytest.approx(0.5)
