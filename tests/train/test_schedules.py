import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.tiny import tiny_settings
from trivet.errors import UsageError
from trivet.train.schedules import PLATEAU, SCHEDULES, Schedule

NAMES = [*SCHEDULES, PLATEAU]


@pytest.mark.parametrize("name", NAMES)
@given(progress=st.floats(-1, 2))
def test_the_factor_stays_within_the_peak(name, progress):
    assert 0 < Schedule(tiny_settings(schedule=name, warmup=0.1)).factor(progress) <= 1


@pytest.mark.parametrize(
    ("name", "progress", "factor"),
    [
        ("constant", 0.5, 1.0),
        ("constant", 0.05, 0.5),
        ("cosine", 0.0, 0.001),
        ("cosine", 0.1, 1.0),
        ("cosine", 0.55, 0.505),
        ("cosine", 1.0, 0.01),
        ("onecycle", 0.0, 0.04),
        ("onecycle", 0.3, 1.0),
        ("onecycle", 1.0, 0.01),
    ],
)
def test_known_points(name, progress, factor):
    assert Schedule(tiny_settings(schedule=name, warmup=0.1)).factor(progress) == pytest.approx(factor)


def test_every_group_keeps_its_share():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": [w], "lr": lr, "peak_lr": lr} for w, lr in zip(weights, (0.1, 0.02), strict=True)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    Schedule(tiny_settings(schedule="cosine", warmup=0.1)).apply(optimizer, 0.55)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0505, 0.0101])


def test_plateau_waits_three_validations_and_remembers_over_a_resume():
    schedule = Schedule(tiny_settings(schedule="plateau", warmup=0.0))
    for score in (0.5, 0.4, 0.5):
        schedule.validated(score)
    again = Schedule(tiny_settings(schedule="plateau", warmup=0.0))
    again.load_state_dict(schedule.state_dict())
    assert again.factor(0.9) == 1
    again.validated(0.5)
    assert again.factor(0.9) == pytest.approx(0.1)


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(UsageError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        Schedule(tiny_settings(schedule="cosin"))
