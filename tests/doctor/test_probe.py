"""The probe leaves torch as it found it, and loads nothing but torch."""

import gc
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from tests.doctor.programs import ADAM, HEAD, LOOP
from trivet.doctor.checks import CHECKS
from trivet.doctor.diagnosis import diagnose_trace
from trivet.doctor.explanations import EXPLANATIONS
from trivet.doctor.probe import Probe
from trivet.doctor.probe import session as session_module
from trivet.doctor.probe.activations import ActivationWatch
from trivet.doctor.probe.data.classes import ClassWatch
from trivet.doctor.probe.data.digest import Allowance
from trivet.doctor.probe.data.leaks import LeakWatch
from trivet.doctor.probe.data.loaders import LoaderWatch
from trivet.doctor.probe.ledger import Ledger
from trivet.doctor.probe.survey import Survey
from trivet.doctor.probe.training import TrainingWatch
from trivet.doctor.run import record_script
from trivet.doctor.trace import ExceptionTrace, Trace
from trivet.doctor.watch import watch

WRAPPED = [
    (nn.Module, "__init__"),
    (nn.Module, "__call__"),
    (nn.Module, "train"),
    (nn.Module, "load_state_dict"),
    (torch.Tensor, "detach"),
    (torch.Tensor, "argmax"),
    (torch.autograd, "backward"),
    (torch.optim.Optimizer, "zero_grad"),
    (torch.optim.lr_scheduler.LRScheduler, "step"),
    (nn.utils, "clip_grad_norm_"),
    (F, "cross_entropy"),
]


def state():
    flags = torch.is_anomaly_enabled(), torch.are_deterministic_algorithms_enabled()
    hooks = (
        _global_optimizer_pre_hooks,
        _global_optimizer_post_hooks,
    )
    own = [name in vars(owner) for owner, name in WRAPPED]
    return [getattr(owner, name) for owner, name in WRAPPED], own, flags, [len(held) for held in hooks]


def test_everything_is_put_back():
    before = state()
    with Probe(poison=True):
        assert state() != before
    assert state() == before


def test_everything_is_put_back_after_a_failure():
    before = state()
    with pytest.raises(ZeroDivisionError), Probe(poison=True):
        raise ZeroDivisionError
    assert state() == before


def test_two_probes_at_once_are_refused():
    with Probe(), pytest.raises(RuntimeError, match="already watches"):
        Probe().install()


def test_training_is_the_same_under_the_probe():
    def train():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(25):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()]), torch.get_rng_state()

    plain = train()
    with Probe(poison=True):
        watched = train()
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))


def test_watch_knows_what_was_made_before():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with watch(model, optimizer) as doctor:
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
    (finding,) = doctor.diagnose().findings
    assert finding.name == "parameter-not-in-optimizer"
    assert finding.where.object == "model.1"


def test_only_torch_and_the_standard_library_are_loaded():
    script = (
        "import torch, sys; before = set(sys.modules); import trivet.doctor.__main__, trivet.doctor.watch; "
    )
    script += "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) <= {"trivet", "torch"}


def test_every_finding_is_explained():
    assert EXPLANATIONS.keys() == CHECKS.keys()
    assert all(check.__doc__ for check in CHECKS.values())


def test_parametrised_weights_are_not_computed_once_more(tmp_path):
    """Each reading of such a weight in train mode takes a step of the power iteration."""
    source = """
import torch
from torch import nn
torch.manual_seed(0)
layer = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
model = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(6):
    optimizer.zero_grad()
    model(torch.randn(8, 6)).square().mean().backward()
    optimizer.step()
torch.save([p.detach() for p in model.parameters()] + [b for b in model.buffers()], "FILE")
"""
    values = []
    for name in ("plain", "watched"):
        script = tmp_path / f"{name}.py"
        script.write_text(source.replace("FILE", str(tmp_path / name)))
        if name == "plain":
            exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
        else:
            record_script(str(script))
        values.append(torch.load(tmp_path / name))
    assert all(torch.equal(one, other) for one, other in zip(*values, strict=True))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ActivationWatch, "fill"),
        (ActivationWatch, "install"),
        (ClassWatch, "on_loss"),
        (LeakWatch, "on_call"),
        (Ledger, "enter"),
        (Ledger, "look_for_change"),
        (Ledger, "observe"),
        (LoaderWatch, "traces"),
        (Survey, "note_calls"),
        (Survey, "take"),
        (TrainingWatch, "_before_backward"),
        (TrainingWatch, "_enter_step"),
        (TrainingWatch, "_leave_step"),
    ],
)
def test_a_fault_of_the_probe_does_not_reach_the_script(tmp_path, monkeypatch, capsys, owner, name):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of the probe")

    script = tmp_path / "script.py"
    script.write_text(
        HEAD + ADAM + LOOP + "print(sum(p.double().sum().item() for p in model.parameters()))\n"
    )
    exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    monkeypatch.setattr(owner, name, fail)
    trace, code = record_script(str(script))
    assert code == 0
    assert trace.exception is None
    assert capsys.readouterr().out == printed
    assert any("of the probe" in fault for fault in trace.faults)
    assert "doctor" in diagnose_trace(trace).not_checked


def test_a_check_that_fails_is_listed_and_hides_no_other(monkeypatch):
    def fail(_: object) -> None:
        raise KeyError("of the check")

    monkeypatch.setitem(CHECKS, "plateau", fail)
    told = diagnose_trace(Trace(exception=ExceptionTrace("ValueError", "no such folder")))
    assert [finding.name for finding in told.findings] == ["script-failed"]
    assert told.not_checked["plateau"] == "the check itself failed: KeyError: 'of the check'"


SAME = """
import random
import numpy as np
torch.manual_seed(1); random.seed(2); np.random.seed(3)
class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, i):
        return x[i] + 0.1 * float(np.random.rand()) * random.random(), y[i]
class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(inplace=True), nn.Dropout2d(0.3), nn.Flatten(),
            nn.utils.parametrizations.spectral_norm(nn.Linear(216, 16)), nn.Tanh(),
        )
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(16, 4))
        self.rnn = nn.GRU(16, 16)
    def forward(self, images):
        h = self.layers(images)
        return self.head(F.dropout(h + self.rnn(h[None])[0][0], 0.2, self.training))
model = Body()
model(x[:2])
average = torch.optim.swa_utils.AveragedModel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=15)
for epoch in range(3):
    model.train()
    for images, target in DataLoader(Pictures(), 8, shuffle=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), target)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        average.update_parameters(model)
        print(loss.item(), norm.item(), scheduler.get_last_lr(), random.random(), np.random.rand())
    model.eval()
    with torch.no_grad():
        print((model(x).argmax(1) == y).sum().item(), average(x).sum().item(), torch.rand(1).item())
print([p.double().sum().item() for p in [*model.parameters(), *model.buffers()]])
"""


@pytest.mark.parametrize("ending", ["", pytest.param("raise SystemExit(3)", marks=pytest.mark.slow)])
def test_a_script_prints_the_same_to_the_last_digit(tmp_path, ending):
    """Spectral and weight norms, lazy layers, dropout, three random generators: in processes of their own."""
    script = tmp_path / "train.py"
    script.write_text(HEAD + SAME + ending)
    doctor = ["-m", "trivet.doctor", "run", "--prove"]
    plain, watched = (
        subprocess.run([sys.executable, *how, str(script)], capture_output=True, text=True, check=False)
        for how in ([], doctor)
    )
    assert plain.stdout.count("\n") == 19
    assert watched.stdout == plain.stdout
    assert plain.stderr == ""
    assert watched.returncode == (1 if ending else 0)


class Wrapped(torch.optim.Optimizer):
    """As accelerate makes it: an optimizer by its class that passes all on to another one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.defaults = optimizer.defaults

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self):
        self.optimizer.step()

    def zero_grad(self):
        self.optimizer.zero_grad()


def test_a_wrapped_optimizer_is_the_one_behind_it():
    model = nn.Linear(4, 2)
    with watch() as doctor:
        optimizer = Wrapped(torch.optim.SGD(model.parameters(), lr=0.1))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        for _ in range(8):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
            scheduler.step()
    assert [(made.kind, made.steps) for made in doctor.trace().optimizers] == [("SGD", 8)]
    assert doctor.diagnose().findings == []


class Rested(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, values):
        return self.last(self.first(values).relu())


def trained_under(probe, steps, *, before=lambda step: None):
    model = Rested()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        before(step)
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
        optimizer.step()
    return model, optimizer


def test_between_recorded_steps_torch_is_as_it_was_but_for_the_outermost_model():
    plain = nn.Module.__call__, torch.Tensor.detach, torch.relu, nn.utils.clip_grad_norm_
    seen = {}

    def look(step):
        now = nn.Module.__call__, torch.Tensor.detach, torch.relu, nn.utils.clip_grad_norm_
        seen[step] = now == plain, "__call__" in vars(Rested)

    with Probe() as probe:
        trained_under(probe, 80, before=look)
    assert seen[10] == (False, False)
    assert seen[40] == (True, True)
    assert [step for step in range(20, 80) if not seen[step][0]] == [20, 71]
    assert "__call__" not in vars(Rested)
    trace = probe.trace()
    assert (trace.steps, len(trace.loss_curve), trace.models[0].steps_in_train) == (80, 80, 80)


def test_only_what_the_watched_training_compiles_keeps_the_wrappers_on():
    compiled = torch.compile(torch.sin, backend="eager")
    compiled(torch.ones(2))
    with Probe() as probe:
        trained_under(probe, 25)
        assert probe.session.resting
    compiled = torch.compile(torch.cos, backend="eager")
    with Probe() as probe:
        trained_under(probe, 25, before=lambda step: compiled(torch.ones(2)))
        assert not probe.session.resting


@pytest.fixture
def hardly_looks(monkeypatch):
    """Take every step for one that is over at once."""
    monkeypatch.setattr(session_module, "LOOK_SECONDS", 1e9)
    monkeypatch.setattr(session_module, "MOST_STRIDE", 9)
    monkeypatch.setattr(session_module, "STRIDE_GROWTH", 1.0)
    monkeypatch.setattr(Allowance, "left", property(lambda self: False))


@pytest.mark.parametrize("clears", [True, False])
def test_gradients_are_judged_rightly_after_a_rest(clears):
    with Probe() as probe:
        model = Rested()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(80):
            if clears:
                optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
    judged = probe.training.optimizers[0].trace
    assert judged.judged == 21
    assert judged.stale == (0 if clears else judged.judged)


@pytest.mark.parametrize("clears", [True, False])
def test_gradients_are_judged_rightly_after_a_rest_that_another_optimizer_ended(clears, hardly_looks):
    with Probe() as probe:
        models = [Rested(), Rested()]
        optimizers = [torch.optim.SGD(model.parameters(), lr=1e-3) for model in models]
        for step in range(400):
            model, optimizer = models[step % 2], optimizers[step % 2]
            if clears or step % 2:
                optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
    first, second = (record.trace for record in probe.training.optimizers)
    assert min(first.judged, second.judged) >= 8
    assert (first.stale, second.stale) == (0 if clears else first.judged, 0)


def test_a_loss_that_breaks_between_recorded_steps_is_looked_into_at_once():
    with Probe() as probe:
        model = Rested()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(45):
            optimizer.zero_grad()
            scale = float("nan") if step == 30 else 1.0
            (F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))) * scale).backward()
            optimizer.step()
            if step == 30:
                assert probe.session.recording
                nn.init.normal_(model.last.weight)
    assert probe.training.backward.first_not_finite == 30
    assert {30, 31, 34} <= {step.step for step in probe.recorded}


def test_of_steps_that_are_over_at_once_few_are_looked_at_and_none_is_lost(hardly_looks):
    looked = []
    with Probe() as probe:
        probe.modules.at_rest.append(lambda *call: looked.append(probe.session.steps))
        trained_under(probe, 200)
    assert [step for step in looked if step > 72] == [
        step for step in range(73, 200) if step % session_module.MOST_STRIDE == 0
    ]
    trace = probe.trace()
    assert (trace.steps, trace.optimizers[0].steps, trace.backward.calls) == (200, 200, 200)
    assert 190 <= trace.models[0].steps_in_train <= 200


def test_a_loss_that_breaks_in_a_quiet_step_is_looked_into_at_once(hardly_looks):
    with Probe() as probe:
        model = Rested()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(100):
            optimizer.zero_grad()
            scale = float("nan") if step == 92 else 1.0
            assert step != 92 or probe.session.quiet
            (F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))) * scale).backward()
            optimizer.step()
            if step == 92:
                nn.init.normal_(model.last.weight)
    assert probe.training.backward.first_not_finite == 92
    assert probe.training.backward.weights_finite_then
    assert {93, 96} <= {step.step for step in probe.recorded}


def test_of_a_short_training_many_steps_are_looked_at(hardly_looks, monkeypatch):
    monkeypatch.setattr(session_module, "STRIDE_GROWTH", 0.01)
    looked = []
    with Probe() as probe:
        probe.modules.at_rest.append(lambda *call: looked.append(probe.session.steps))
        trained_under(probe, 140)
    assert [step for step in looked if step > 72] == [step for step in range(73, 140) if step % 3 == 0]


def test_no_step_is_quiet_while_anomalies_are_looked_for(hardly_looks):
    with torch.autograd.set_detect_anomaly(True), Probe(trace_first_step=False) as probe:
        trained_under(probe, 100)
        assert probe.session.resting
        assert not probe.session.quiet


def test_recorded_steps_are_ever_further_apart(monkeypatch):
    monkeypatch.setattr(session_module, "INTERVAL_GROWTH", 1.0)
    monkeypatch.setattr(session_module, "BUDGET", 1e9)
    with Probe() as probe:
        trained_under(probe, 500)
    assert [step.step for step in probe.recorded if step.step >= 20] == [20, 71, 122, 195, 318]


def test_what_only_looking_needs_is_off_in_quiet_steps_and_on_for_an_evaluation(hardly_looks):
    backward, loss, teacher = torch.autograd.backward, F.cross_entropy, Rested()
    seen = []

    def look(step):
        if step in (91, 94):
            assert probe.session.quiet
            seen.append((torch.autograd.backward is backward, F.cross_entropy is loss))
        if step in (5, 93):
            with torch.no_grad():
                teacher(torch.randn(6, 4))
            assert F.cross_entropy is not loss

    with Probe() as probe:
        trained_under(probe, 100, before=look)
    assert seen == [(True, True), (True, True)]
    assert torch.autograd.backward is backward
    assert F.cross_entropy is loss


def test_a_watched_weight_is_not_kept_alive_with_its_optimizer_gone(hardly_looks):
    with Probe() as probe:
        kept = trained_under(probe, 100)
        record = probe.training.optimizers[0]
        assert record.glance is not None
        del kept
        gc.collect()
        assert record.glance is None


def test_optimizers_that_take_turns_are_both_looked_at_in_quiet_steps(hardly_looks):
    with Probe() as probe:
        models = [Rested(), nn.Sequential(nn.Linear(4, 2))]
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
        probe.watch_also(*models)
        for step in range(400):
            model, optimizer = models[step % 2], optimizers[step % 2]
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
    seen = [probe.modules.roots[id(model)].steps["train"] for model in models]
    assert all(150 <= steps <= 250 for steps in seen)
    assert {step.optimizer for step in probe.recorded if step.step > 60} == {0, 1}


def test_a_teacher_that_is_asked_in_every_quiet_step_is_no_evaluation(hardly_looks):
    teacher = Rested().eval()

    def ask(step):
        with torch.no_grad():
            teacher(torch.randn(6, 4))

    with Probe() as probe:
        trained_under(probe, 200, before=ask)
    assert probe.modules.roots[id(teacher)].evaluations_in_eval == 0


def test_modes_and_evaluations_are_seen_between_recorded_steps():
    def evaluate(step):
        if step == 45:
            model.eval()
            with torch.no_grad():
                model(torch.randn(6, 4))
                model(torch.randn(6, 4))

    with Probe() as probe:
        model = Rested()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(60):
            evaluate(step)
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,))).backward()
            optimizer.step()
    seen = probe.modules.roots[id(model)]
    assert (seen.steps["train"], seen.steps["eval"]) == (45, 15)
    assert (seen.evaluations_in_eval, seen.ever_eval) == (1, True)


def test_nothing_rests_while_steps_are_kept_for_proofs():
    wrapped = []
    with watch(prove=True) as doctor:
        model = Rested()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        draw = torch.Generator().manual_seed(0)
        for _ in range(40):
            values = torch.randn(6, 4, generator=draw)
            optimizer.zero_grad()
            F.cross_entropy(model(values), values[:, :2].argmax(1)).backward()
            optimizer.step()
            wrapped.append("__call__" not in vars(Rested))
    assert wrapped.index(False) >= 31
    assert len(doctor._catch.steps) == 32
