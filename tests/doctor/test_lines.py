"""Findings point to the line that is to be edited, not to the one where the fault shows."""

from trivet.doctor.checks import gradients
from trivet.doctor.origins import element_at
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
