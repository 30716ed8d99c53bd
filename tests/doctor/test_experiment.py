"""Paired re-training: verdicts that do not fall for chance or for another learning rate, and objects left alone."""

import xml.etree.ElementTree as ET

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trivet.doctor.experiment import UnprovableError, prove, score_samples, split_batches
from trivet.doctor.finding import Finding
from trivet.doctor.fixes import FIXES, Trial
from trivet.doctor.judge import Gain, best_scores, gain_of, is_stalled, judge
from trivet.doctor.plot import experiment_svg

CLASSES = 4


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 32), nn.Linear(32, CLASSES)

    def forward(self, values):
        return self.decoder(self.encoder(values).relu())


def make_batches(count=12, size=32):
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(8, CLASSES, generator=draw)
    values = torch.randn(count, size, 8, generator=draw)
    noise = 0.3 * torch.randn(count, size, CLASSES, generator=draw)
    return list(zip(values, (values @ weights + noise).argmax(-1), strict=True))


def gain(low, high, *by_seed):
    return Gain((low + high) / 2, low, high, by_seed or (low, high))


@pytest.mark.parametrize(
    ("over_base", "over_placebo", "result"),
    [
        (gain(0.1, 0.3), gain(0.05, 0.2), "confirmed"),
        (gain(0.1, 0.3), gain(-0.05, 0.2), "no-effect-seen"),
        (gain(0.1, 0.3, -0.01, 0.4), gain(0.1, 0.3), "no-effect-seen"),
        (gain(-0.1, 0.1), gain(-0.1, 0.1), "no-effect-seen"),
        (gain(-0.3, -0.1), gain(-0.2, -0.1), "not-supported"),
        (gain(-0.3, -0.1), gain(-0.2, 0.1), "no-effect-seen"),
    ],
)
def test_verdicts(over_base, over_placebo, result):
    assert judge(over_base, over_placebo) == result


def test_each_half_is_judged_by_the_rate_that_the_other_half_chose():
    low, high = torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    # The even samples favour `low`, so the odd ones are judged by it, and the reverse: nothing is gained by choosing.
    assert best_scores({1.0: low, 3.0: high}).tolist() == [[0, 0, 0, 0]]


def test_scores_of_a_diverged_training_are_the_worst_known():
    scores = {1.0: torch.tensor([[0.2, 0.4]]), 10.0: torch.full((1, 2), torch.nan)}
    assert best_scores(scores)[0].tolist() == pytest.approx([0.2, 0.4])


def test_the_interval_covers_the_true_gain():
    draw = torch.Generator().manual_seed(1)
    covered = 0
    for _ in range(100):
        base = torch.randn(3, 60, generator=draw)
        fix = base + 0.2 + 0.3 * torch.randn(3, 60, generator=draw)
        found = gain_of({1.0: fix}, {1.0: base})
        covered += found.low <= 0.2 <= found.high
    assert covered >= 88


def test_a_rate_is_at_fault_only_where_training_got_nowhere():
    start = torch.full((4,), 0.1)
    fix = {100.0: torch.full((2, 4), 0.9)}
    assert is_stalled(start, {1.0: torch.full((2, 4), 0.15)}, fix)
    assert not is_stalled(start, {1.0: torch.full((2, 4), 0.78)}, fix)


def test_scores_of_samples():
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    assert score_samples(logits, torch.tensor([1, 1])).tolist() == [1, 0]
    pixels = torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]]]])  # (1, 2, 1, 2)
    assert score_samples(pixels, torch.tensor([[[0, 255]]])).tolist() == [1]
    assert score_samples(torch.tensor([[0.6], [0.4]]), torch.tensor([1.0, 1.0])).tolist() == [1, 0]
    assert score_samples(torch.tensor([[2.0], [-2.0]]), torch.tensor([1.0, 0.0])).tolist() == [1, 1]
    assert score_samples(torch.tensor([[2.0]]), torch.tensor([[4.0]])).tolist() == [-4]
    with pytest.raises(UnprovableError, match="give a function"):
        score_samples(torch.zeros(2, 3), torch.zeros(2))


def test_batches_are_split_by_batches_or_by_samples():
    batches = make_batches(8, 4)
    train, held_out = split_batches(batches)
    assert (len(train), len(held_out)) == (6, 2)
    train, held_out = split_batches(batches[:1])
    assert torch.equal(train[0][0], batches[0][0][:2])
    assert torch.equal(held_out[0][1], batches[0][1][2:])
    with pytest.raises(UnprovableError, match="at least two batches"):
        split_batches([])


@pytest.mark.parametrize("name", [name for name in FIXES if not FIXES[name].rates])
def test_a_placebo_changes_nothing_that_is_computed(name):
    """The loss and the step of the placebo arm equal those of the base arm, whatever the fix."""
    values, labels = make_batches(1)[0]
    steps = []
    for arm in ("base", "placebo"):
        torch.manual_seed(0)
        model = nn.Sequential(TwoParts(), nn.BatchNorm1d(CLASSES, momentum=0.99), nn.Softmax(1))
        optimizer = torch.optim.SGD(model[0].encoder.parameters(), 0.1)
        trial = Trial(model, F.cross_entropy, optimizer)
        fix = FIXES[name]
        if fix.fault is not None:
            fix.fault(trial)
        if arm == "placebo":
            fix.apply(trial, False)
        loss = trial.loss_function(model(values), labels)
        loss.backward()
        optimizer.step()
        trial.patches.undo()
        steps.append(
            (loss.item(), trial.clears, model.training, [p.detach().clone() for p in model.parameters()])
        )
    assert steps[0][:3] == steps[1][:3]
    assert all(torch.equal(a, b) for a, b in zip(steps[0][3], steps[1][3], strict=True))
    assert not hasattr(F.cross_entropy, "__wrapped__")


def test_what_cannot_be_set_right_is_refused():
    model = TwoParts()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(UnprovableError, match="script-failed cannot be set right on live objects"):
        prove("script-failed", model, make_batches(), F.cross_entropy, optimizer)
    with pytest.raises(UnprovableError, match="at least 2 seeds"):
        prove("missing-zero-grad", model, make_batches(), F.cross_entropy, optimizer, seeds=1)
    with pytest.raises(UnprovableError, match="too short"):
        prove("missing-zero-grad", model, make_batches(), F.cross_entropy, optimizer, seconds=1e-3)


@pytest.mark.slow
def test_a_decoder_in_no_optimizer_is_the_confirmed_cause():
    torch.manual_seed(0)
    model = TwoParts()
    optimizer = torch.optim.SGD(model.encoder.parameters(), 0.02)
    before = [(p.data_ptr(), p.detach().clone()) for p in model.parameters()]
    finding = Finding("parameter-not-in-optimizer", "error", "the decoder", verdict="proven")
    found = prove(finding, model, make_batches(), F.cross_entropy, optimizer, seconds=90.0, seeds=2)
    assert found.result == "confirmed"
    assert all(
        p.data_ptr() == at and torch.equal(p, was)
        for p, (at, was) in zip(model.parameters(), before, strict=True)
    )
    assert len(optimizer.param_groups) == 1
    told = found.apply_to(finding)
    assert told.verdict == "confirmed"
    assert told.evidence["experiment"]["result"] == "confirmed"
    ET.fromstring(experiment_svg(found.to_json()))


@pytest.mark.slow
def test_a_sound_rate_is_not_blamed_although_a_higher_one_is_faster():
    torch.manual_seed(0)
    model = TwoParts()
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    found = prove("lr-too-low", model, make_batches(), F.cross_entropy, optimizer, seconds=60.0, seeds=2)
    assert found.result != "confirmed"


@pytest.mark.slow
def test_a_momentum_that_does_no_harm_here_is_a_defect_without_effect():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, CLASSES), nn.BatchNorm1d(CLASSES, momentum=0.9)
    )
    model[3].eval()  # dormant: its statistics stay as they are
    optimizer = torch.optim.SGD(model[:3].parameters(), 0.1)
    found = prove(
        "batchnorm-momentum", model, make_batches(), F.cross_entropy, optimizer, seconds=60.0, seeds=2
    )
    assert found.result == "no-effect-seen"
