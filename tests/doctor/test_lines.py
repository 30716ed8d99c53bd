"""Findings point to the line that is to be edited, not to the one where the fault shows."""

from tests.doctor.test_faults import diagnose_source
from trivet.doctor.checks import gradients
from trivet.doctor.origins import element_at, value_at
from trivet.doctor.source import Place
from trivet.doctor.trace import LossTrace, OptimizerTrace, StepTrace, Trace


def test_divergence_is_at_the_optimizer_and_a_bad_forward_at_the_loss():
    trace = Trace(steps=3)
    trace.optimizers = [OptimizerTrace("SGD", Place("a.py", 3))]
    trace.losses = [LossTrace("cross_entropy", Place("a.py", 7), trained=1)]
    trace.backward.calls, trace.backward.not_finite, trace.backward.first_not_finite = 3, 2, 1
    trace.backward.weights_finite_then = True
    trace.recorded = [StepTrace(0, 0, 0.1, 1.0, 1.0, update_ratio=30.0)]
    assert next(gradients.non_finite(trace)).where.line == 3
    trace.recorded[0].update_ratio = 0.01
    assert next(gradients.non_finite(trace)).where.line == 7


BARE = """
first = torch.randn(3, 4, requires_grad=True)
second = torch.randn(4, 1, requires_grad=True)
several = []
for _ in range(3):
    several.append(torch.zeros(4))
one = SGD([first, second], lr=0.1)
other = SGD(several + [second], lr=0.1)
third = SGD([*several], lr=0.1)
"""


def test_elements_of_what_an_optimizer_is_given(tmp_path):
    file = tmp_path / "bare.py"
    file.write_text(BARE)
    lines = [[element_at(Place(str(file), line), i) for i in range(2)] for line in (7, 8, 9)]
    assert [[place and place.line for place in row] for row in lines] == [[2, 3], [6, 6], [6, 6]]
    assert element_at(None, 0) is None
    assert element_at(Place(str(file), 2), 0) is None


FED = """
def scene(n):
    picture = torch.zeros(n)
    picture = picture / 255
    return picture, n
whole = torch.zeros(9) / 3
some, _ = scene(4)
for rows in whole.split(3):
    first(rows)
    criterion(second(whole[rows].float()), 1)
    third(some[:2])
    fourth(torch.zeros(2))
def step(batch):
    return fifth(batch), sixth(whole)
"""


def test_what_a_model_is_given_is_followed_to_where_it_is_made(tmp_path):
    file = tmp_path / "fed.py"
    file.write_text(FED)
    places = [value_at(Place(str(file), line)) for line in (9, 10, 11, 12, 14)]
    assert [place and place.line for place in places] == [6, 6, 4, None, None]


TWICE = """
import torch
from torch import nn
pictures = torch.randint(0, 256, (64, 3, 16, 16)).float() / 255
pictures = pictures / 255
targets = pictures.mean((1, 2, 3)).gt(0.002).long()
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for rows in torch.randperm(64).split(16):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(pictures[rows]), targets[rows]).backward()
    optimizer.step()
"""


def test_a_second_scaling_without_a_loader_is_found_at_its_line(tmp_path):
    found = [f for f in diagnose_source(TWICE, tmp_path).findings if f.name == "input-normalised-twice"]
    assert [f.where.line for f in found] == [5]
