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


ADAPTER = """
import torch
from torch import nn
class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(6, 3)
        self.down = nn.Parameter(torch.empty(2, 6))
        self.up = nn.Parameter(torch.empty(3, 2))
        nn.init.zeros_(self.down)
        nn.init.zeros_(self.up)
    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T
torch.manual_seed(0)
model = Adapted()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(40):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    (model(x) - x[:, :3]).square().mean().backward()
    optimizer.step()
"""


def test_factors_that_are_all_zero_are_at_their_filling(tmp_path):
    found = [f for f in diagnose_source(ADAPTER, tmp_path).findings if f.name == "parameter-never-changes"]
    assert [f.where.line for f in found] == [10]
    healthy = ADAPTER.replace("nn.init.zeros_(self.down)", "nn.init.normal_(self.down)")
    assert not [f for f in diagnose_source(healthy, tmp_path).findings if f.name == "parameter-never-changes"]


UNUSED = """
import torch
from torch import nn
class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(6, 6)
    def forward(self, x):
        return x * self.score(x).sigmoid()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.gate, self.head = nn.Linear(6, 6), Gate(), nn.Linear(6, 3)
    def forward(self, x):
        x = self.body(x).relu()
        gated = self.gate(x)
        return self.head(x)
torch.manual_seed(0)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(30):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    (model(x) - x[:, :3]).square().mean().backward()
    optimizer.step()
"""


def test_a_part_whose_answer_is_not_used_is_at_its_call(tmp_path):
    found = [f for f in diagnose_source(UNUSED, tmp_path).findings if f.name == "parameter-without-gradient"]
    assert [f.where.line for f in found] == [16]


KEPT = """
import torch
from torch import nn
class Meter:
    total = 0
    def update(self, value, count):
        self.total += value * count
torch.manual_seed(0)
model = nn.Linear(6, 3)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
meter = Meter()
for _ in range(60):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    loss = (model(x) - x[:, :3]).square().mean()
    loss.backward()
    optimizer.step()
    meter.update(loss, len(x))
"""


def test_a_graph_that_a_meter_keeps_is_at_the_call_that_gives_it(tmp_path):
    found = [f for f in diagnose_source(KEPT, tmp_path).findings if f.name == "graph-retained"]
    assert [f.where.line for f in found] == [18]


IGNORED = """
import torch
from torch import nn
def collate(rows):
    x = torch.stack(rows)
    y = x.argmax(1)
    inside = y >= 0
    y = y.masked_fill(inside, -100)
    return x, y
torch.manual_seed(0)
model = nn.Linear(6, 6)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(8):
    x, y = collate([torch.randn(6) for _ in range(16)])
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y, reduction="sum")
    loss.backward()
    optimizer.step()
"""


def test_targets_that_are_all_ignored_are_at_the_line_that_writes_the_ignored_value(tmp_path):
    found = [f for f in diagnose_source(IGNORED, tmp_path).findings if f.name == "all-targets-ignored"]
    assert [f.where.line for f in found] == [8]
