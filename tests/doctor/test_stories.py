"""Questions that people ask about their training, each ending in the right sentence."""

import re

import pytest

from tests.doctor.programs import HEAD, LOOP
from tests.doctor.test_faults import diagnose_source

FUSION = """
class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, images):
        FUSE
        h = w[0] * self.a(images) + w[1] * self.b(images)
        return self.head(h.relu().mean((2, 3)))
model = Fusion()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""


def findings(source, folder):
    return [
        finding for finding in diagnose_source(HEAD + source, folder).findings if finding.severity != "note"
    ]


def fusion(*lines):
    return FUSION.replace("FUSE", "\n        ".join(lines)) + LOOP


def test_an_optimizer_with_the_encoder_only(tmp_path):
    source = """
encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
fcn, decoder = nn.Conv2d(8, 16, 1), nn.Linear(16, 4)
model = nn.ModuleDict({"encoder": encoder, "fcn": fcn, "decoder": decoder})
optimizer = torch.optim.Adam(model["encoder"].parameters(), lr=1e-3)
""" + LOOP.replace("model(images)", "decoder(fcn(encoder(images)).mean((2, 3)))")
    (finding,) = findings(source, tmp_path)
    assert finding.name == "parameter-not-in-optimizer"
    assert finding.verdict == "proven"
    assert "of the gradient's energy never reaches an optimizer" in finding.title
    assert finding.evidence["parts"] == ["model.decoder", "model.fcn"]


def test_weights_normalised_in_place(tmp_path):
    (finding,) = findings(fusion("w = self.w.relu()", "w /= w.sum()"), tmp_path)
    assert finding.name == "inplace-on-saved-tensor"
    assert "`w` is changed in place" in finding.title
    assert "write `w = w / w.sum()`" in finding.remedy
    assert finding.where.line is not None
    assert "w /= w.sum()" in (tmp_path / "script.py").read_text().splitlines()[finding.where.line - 1]


def test_its_right_repair_is_silent(tmp_path):
    assert findings(fusion("w = self.w.relu()", "w = w / w.sum()"), tmp_path) == []


def test_its_repair_by_detaching_ends_the_learning(tmp_path):
    (finding,) = findings(fusion("w = self.w.detach().relu()", "w /= w.sum()"), tmp_path)
    assert finding.name == "parameter-without-gradient"
    assert finding.severity == "error"
    assert "self.w.detach()" in finding.cause


def test_its_repair_by_data_ends_the_learning(tmp_path):
    (finding,) = findings(fusion("w = self.w.data.relu()", "w /= w.sum()"), tmp_path)
    assert finding.name == "parameter-without-gradient"
    assert "self.w.data" in finding.cause


def test_its_repair_by_cloning_at_the_start_repairs_nothing(tmp_path):
    source = fusion("w = self.w.relu()", "w /= w.sum()").replace(
        "nn.Parameter(torch.ones(2))", "nn.Parameter(torch.ones(2).clone())"
    )
    (finding,) = findings(source, tmp_path)
    assert finding.name == "inplace-on-saved-tensor"
    assert "`clone()` in `__init__` does not help" in finding.remedy


def test_memory_that_nobody_filled(tmp_path):
    source = FUSION.replace("torch.ones(2)", "torch.Tensor(2, 4)").replace("FUSE", "w = self.w.sum(1)") + LOOP
    found = findings(source, tmp_path)
    assert found[0].name == "uninitialised-parameter"
    assert found[0].title == "`model.w` was never initialised: it holds whatever was in memory"
    assert found[0].verdict == "proven"


def test_momentum_of_another_framework(tmp_path):
    source = (
        """
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=0.9997, eps=4e-5), nn.Flatten(), nn.Linear(288, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP
    )
    found = findings(source, tmp_path)
    assert found[0].name == "batchnorm-momentum"
    assert found[0].remedy == "use momentum=0.0003"
    assert "momentum=0.0003, eps=4e-5" in (found[0].patch or "")


@pytest.mark.slow
def test_a_learning_rate_at_which_nothing_moves(tmp_path):
    source = """
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
""" + LOOP.replace("batches()", "batches(40)")
    (finding,) = findings(source, tmp_path)
    assert finding.name == "lr-too-low"
    assert "a learning rate of 1e-05 is too small" in finding.cause


MEMORISED = """
def samples(count):
    x = torch.randn(count, 20)
    y = (x[:, 0] > 0).long()
    return x, torch.where(torch.rand(count) < NOISE, 1 - y, y)
x, y = samples(96)
x_val, y_val = samples(200)
model = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
loss_function = nn.CrossEntropyLoss()
for epoch in range(EPOCHS):
    model.train()
    right = 0
    for images, target in batches(1):
        optimizer.zero_grad()
        output = model(images)
        loss_function(output, target).backward()
        optimizer.step()
        right += (output.argmax(1) == target).sum().item()
    model.eval()
    with torch.no_grad():
        output = model(x_val)
        val_loss, val_right = loss_function(output, y_val).item(), (output.argmax(1) == y_val).float().mean().item()
print(f"train {right / len(x):.2f}, val {val_right:.2f}, val loss {val_loss:.2f}")
"""


def test_095_in_training_against_063(tmp_path):
    (finding,) = findings(MEMORISED.replace("NOISE", "0.3").replace("EPOCHS", "20"), tmp_path)
    assert finding.name == "overfitting"
    assert re.search(
        r"(9\d|100)% of the training samples are answered rightly, but only [56]\d% of new", finding.title
    )
    assert "learns the training samples by heart" in finding.cause
    assert "keep its weights" in finding.remedy


def test_a_validation_loss_that_turns_upward(tmp_path):
    (finding,) = findings(MEMORISED.replace("NOISE", "0.1").replace("EPOCHS", "40"), tmp_path)
    assert finding.name == "overfitting"
    best, last = finding.evidence["best"], finding.evidence["last"]
    assert (
        f"the loss on new samples rose from {best:.3g} (step {finding.evidence['best_step']})"
        in finding.title
    )
    assert last > 1.1 * best


def test_the_same_training_ended_in_time_is_silent(tmp_path):
    assert findings(MEMORISED.replace("NOISE", "0.0").replace("EPOCHS", "8"), tmp_path) == []


def test_summed_losses_are_no_fault(tmp_path):
    source = "model = Net()\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP.replace(
        "loss.backward()", "loss = loss + 0.1 * model(images).square().mean()\n    loss.backward()"
    )
    assert findings(source, tmp_path) == []
