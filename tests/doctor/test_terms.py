"""Terms of a loss that have lost their graph are found where they lose it; what only looks like one is not."""

import weakref

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from tests.doctor.test_faults import diagnose_source
from trivet.doctor.probe import Probe

PROGRAM = """
import copy
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
inputs = torch.randn(256, 8)
targets = (2 * inputs[:, :1]).sin()
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
teacher = copy.deepcopy(model)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
def total(output, expected, values):
    main = F.mse_loss(output, expected)
    {0}
for step in range(12):
    rows = torch.randint(256, (64,))
    loss = total(model(inputs[rows]), targets[rows], inputs[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

FAULTY = {
    "no_grad": "with torch.no_grad():\n        rough = output.abs().mean()\n    return main + 0.5 * rough",
    "detached": "rough = output.abs().mean().detach()\n    return main + 0.5 * rough",
    "stacked": "rough = output.abs().mean().detach()\n    return torch.stack([main, rough]).sum()",
    "subtracted": "rough = output.std().detach()\n    return 2 * (main - 0.1 * rough) + 1",
    "added in place": "rough = output.abs().mean().detach()\n    main += rough\n    return main",
    "item": "rough = output.abs().mean().item()\n    return main + 0.5 * rough",
}
HEALTHY = {
    "with its graph": "return main + 0.5 * output.abs().mean()",
    "a constant": "return main + 0.5",
    "a constant beside what is logged": "seen = output.abs().mean().item()\n    return main + 0.25",
    "a copy taken away": "return main - main.detach() + 0.5 * main",
    "scaled by itself": "return main / main.detach()",
    "a target of its own": "aim = expected + 0.5 * output.detach()\n    return (output - aim).square().mean()",
    "a teacher": "with torch.no_grad():\n        aim = teacher(values)\n    return main + 0.1 * (output - aim).square().mean()",
    "weighted by uncertainty": "width = output.std()\n    return (main + output.abs().mean().detach()) * width",
    "only watched": "watched = main + output.abs().mean().detach()\n    return main",
}


@pytest.mark.parametrize("body", FAULTY.values(), ids=FAULTY)
def test_a_term_without_a_graph_is_where_it_loses_it(body, tmp_path):
    source = PROGRAM.format(body)
    found = [f for f in diagnose_source(source, tmp_path).findings if f.name == "loss-detached"]
    assert len(found) == 1
    assert found[0].severity == "error"
    assert found[0].evidence["steps"] >= 1
    line = source.splitlines()[found[0].where.line - 1]
    assert "no_grad" in line or "detach" in line or "item" in line


@pytest.mark.parametrize("body", HEALTHY.values(), ids=HEALTHY)
def test_what_gives_a_gradient_or_is_no_term_is_not_told(body, tmp_path):
    assert not [
        f for f in diagnose_source(PROGRAM.format(body), tmp_path).findings if f.name == "loss-detached"
    ]


class _Counting(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_modes_of_the_script_end_as_they_began():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe():
        for _ in range(3):
            with _Counting() as inner:
                output = model(torch.ones(2, 4))
            assert inner not in _get_current_function_mode_stack()
            with _Counting() as other:
                (output.mean() + output.std().detach()).backward()
            optimizer.step()
            assert other.calls
    assert not _get_current_function_mode_stack()


def test_a_mode_is_laid_below_those_of_the_script_and_taken_out_from_there():
    model = nn.Linear(4, 1)
    with Probe() as probe, _Counting() as above:
        model(torch.ones(2, 4))
        assert _get_current_function_mode_stack() == [probe.terms, above]
        probe.terms.end()
        assert _get_current_function_mode_stack() == [above]
        model(torch.ones(2, 4))
    assert not _get_current_function_mode_stack()


def test_what_is_computed_without_gradients_is_not_kept_alive():
    model = nn.Linear(4, 4096)
    with Probe() as probe:
        output = model(torch.ones(16, 4))
        with torch.no_grad():
            aside = output * 2
        assert probe.terms._dead
        seen = weakref.ref(aside)
        del aside
        assert seen() is None
        watched = weakref.ref(output)
        del output
        assert watched() is None
