"""`--prove`: the steps of a script are caught, repeated on copies, and judge its findings."""

import json
import xml.etree.ElementTree as ET

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trivet.doctor import experiment as experiment_module
from trivet.doctor.catch import Catch
from trivet.doctor.experiment import UnprovableError
from trivet.doctor.outputs import Options
from trivet.doctor.probe import Probe
from trivet.doctor.run import FAILED, run_script
from trivet.doctor.tape import Step, Tape, mapped, tensors_in
from trivet.doctor.watch import watch


def batches(count=6, size=8):
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(count, size, 5, generator=draw)
    return list(zip(values, (values[..., :3].argmax(-1)), strict=True))


class Named:
    """An output as libraries make them: an object with tensors in it."""

    def __init__(self, logits):
        self.logits = logits
        self.extra = {"logits": [logits * 2]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.drop = nn.Dropout(0.2)

    def forward(self, values):
        return Named(self.last(self.drop(self.norm(self.first(values)).relu())))


def plain(model, values, labels):
    return F.cross_entropy(model(values).logits, labels)


def squashed(model, values, labels):
    return F.nll_loss(model(values).logits.softmax(1).clamp_min(1e-6).log(), labels)


def with_layer_and_penalty(model, values, labels):
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(model(values).logits, labels)
    return loss + 1e-3 * sum(parameter.square().sum() for parameter in model.parameters())


def with_teacher(model, values, labels):
    with torch.no_grad():
        soft = model(values).extra["logits"][0]
        soft[0] = 0.0
    answer = model(values).logits
    return F.mse_loss(answer, soft) + 0.5 * F.cross_entropy(answer, labels)


def caught(compute_loss, *, accumulate=1, given=None):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    probe = Probe()
    catch = Catch(probe)
    losses = []
    with probe:
        probe.watch_also(model, optimizer)
        for i, (values, labels) in enumerate(given or batches()):
            loss = compute_loss(model, values.clone(), labels.clone())
            losses.append(loss.item())
            loss.backward()
            if i % accumulate == accumulate - 1:
                optimizer.step()
                optimizer.zero_grad()
    return catch, model, losses


@pytest.mark.parametrize("compute_loss", [plain, squashed, with_layer_and_penalty, with_teacher])
def test_a_caught_step_gives_its_loss_again(compute_loss):
    """`replayed` itself compares loss and gradients with those of the script, and refuses what differs."""
    catch, model, losses = caught(compute_loss)
    assert [step.tapes[0].value for step in catch.steps] == losses
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    replayed = catch.replayed()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    played = replayed(catch.steps[0])
    assert played.scores().shape == (8,)


def test_backward_passes_of_one_step_belong_together():
    catch, _, losses = caught(plain, accumulate=2)
    assert [len(step.tapes) for step in catch.steps] == [2, 2, 2]
    assert sum(tape.value for tape in catch.steps[0].tapes) == pytest.approx(losses[0] + losses[1])
    assert catch.replayed()(catch.steps[0]).scores().shape == (16,)


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_cleared_between_loss_and_backward_are_no_part_of_the_step(to_none):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    probe = Probe()
    catch = Catch(probe)
    with probe:
        for values, labels in batches():
            loss = plain(model, values, labels)
            optimizer.zero_grad(set_to_none=to_none)
            loss.backward()
            optimizer.step()
    assert len(catch.steps) == 6
    replayed = catch.replayed()
    assert all(replayed(step).scores().shape == (8,) for step in catch.steps)


def test_a_loss_of_gradients_is_refused():
    def penalised(model, values, labels):
        loss = F.cross_entropy(model(values).logits, labels)
        return loss if model.last.weight.grad is None else loss + model.last.weight.grad.square().sum()

    model, probe = Net(), Probe()
    catch, optimizer = Catch(probe), torch.optim.SGD(model.parameters(), 0.1)
    with probe:
        for values, labels in batches():
            penalised(model, values, labels).backward()
            optimizer.step()
    with pytest.raises(UnprovableError, match="computed from gradients"):
        catch.replayed()


def test_only_one_epoch_is_caught():
    given = batches(4)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    again = [torch.cat(part)[order].split(8) for part in zip(*given, strict=True)]
    catch, _, _ = caught(plain, given=[*given, *zip(*again, strict=True)])
    assert len(catch.steps) == 4


def test_what_depends_on_earlier_computation_is_refused():
    scale = torch.ones(1, requires_grad=True) * 2

    def scaled(model, values, labels):
        return F.cross_entropy(model(values).logits * scale, labels)

    with pytest.raises(UnprovableError, match="computed before the model was called"):
        caught(scaled, given=batches(1))[0].replayed()


def test_a_step_that_cannot_be_told_from_its_tape_is_refused():
    def through_numbers(model, values, labels):
        loss = F.cross_entropy(model(values).logits, labels)
        return (
            loss * 0 + torch.nn.functional.mse_loss(torch.tensor(loss.tolist()), torch.zeros(())) + loss * 2
        )

    catch, _, _ = caught(through_numbers)
    catch.steps[0].tapes[0].value += 1.0
    with pytest.raises(UnprovableError, match="gives the loss"):
        catch.replayed()


def test_two_optimizers_are_refused():
    one, two = nn.Linear(5, 3), nn.Linear(5, 3)
    probe = Probe()
    catch = Catch(probe)
    given = batches(2)
    with probe:
        for model, (values, labels) in zip((one, two), given, strict=True):
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            F.cross_entropy(model(values), labels).backward()
            optimizer.step()
    with pytest.raises(UnprovableError, match="several optimizers"):
        catch.replayed()
    assert not torch.overrides._get_current_function_mode_stack()


def test_tensors_are_found_and_changed_in_whatever_holds_them():
    one, two = torch.ones(1), torch.zeros(1)
    value = ({"a": [one]}, Named(two), 3)
    assert [tensor.tolist() for tensor in tensors_in(value)] == [[1], [0], [0]]
    changed = mapped(value, torch.Tensor, lambda tensor: tensor + 5)
    assert changed[0]["a"][0].tolist() == [6]
    assert changed[1].logits.tolist() == [5]
    assert changed[2] == 3
    assert value[1].logits is two


def test_a_tape_keeps_what_was_given_not_what_became_of_it():
    tape = Tape()
    given = torch.ones(3)
    entry = tape.begin(torch.Tensor.mul_, (given, 2), {})
    tape.end(entry, given.mul_(2))
    total = tape.begin(torch.sum, (given,), {})
    result = given.sum()
    tape.end(total, result)
    tape.close(result)
    assert tape.play().item() == 6
    assert tape.play().item() == 6
    assert Step([tape]).tapes[0].value == 6


SCRIPT = """
import torch, torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
x = torch.randn(160, 12)
y = (x @ torch.randn(12, 4)).argmax(1)
model = nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 4))
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
for epoch in range(2):
    for rows in torch.randperm(160).split(16):
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
"""


@pytest.mark.slow
def test_a_script_is_proven_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(experiment_module, "MOST_STEPS", 30)  # few and enough, so that time does not run out
    script, out = tmp_path / "train.py", tmp_path / "out.json"
    script.write_text(SCRIPT)
    assert run_script(str(script), (), Options(json=str(out), prove=True, prove_seconds=600.0)) == FAILED
    told = json.loads(out.read_text())["findings"][0]
    assert told["name"] == "parameter-not-in-optimizer"
    experiment = told["evidence"]["experiment"]
    assert (told["verdict"], experiment["result"]) == ("confirmed", "confirmed")
    assert "confirmed by experiment" in capsys.readouterr().err
    ET.parse(tmp_path / "parameter-not-in-optimizer.proof.svg")


def test_a_watch_proves_only_what_it_kept():
    with watch() as doctor:
        pass
    with pytest.raises(UnprovableError, match="prove=True"):
        doctor.proven()


def test_what_cannot_be_put_to_the_test_is_listed(tmp_path):
    script, out = tmp_path / "train.py", tmp_path / "out.json"
    script.write_text("import torch\nraise ValueError('no data')")
    run_script(str(script), (), Options(json=str(out), prove=True, quiet=True))
    reasons = {item["name"]: item["reason"] for item in json.loads(out.read_text())["not_checked"]}
    assert reasons["proof of script-failed"] == "what it is about cannot be set right on live objects"
