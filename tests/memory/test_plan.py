"""What is planned is what is allocated."""

import pytest
import torch
from torch import nn

from trivet.memory import plan_memory
from trivet.memory.ledger import GRADIENTS, INPUT, OPTIMIZER, SAVED, WEIGHTS
from trivet.memory.plan import CPU_CONTEXT, CPU_PROGRAM, MIB


def _linear():
    return nn.Sequential(nn.Linear(1000, 2000, bias=False), nn.ReLU(), nn.Linear(2000, 10, bias=False))


def _plan(module=None, optimizer=torch.optim.SGD, **options):
    module = module or _linear()
    return plan_memory(
        module, torch.empty(1, 1000), lambda out: out.mean(), optimizer, device="cpu", **options
    )


def test_every_byte_of_a_small_network_is_accounted_for():
    plan = _plan(optimizer=torch.optim.AdamW)
    weights = 4 * (1000 * 2000 + 2000 * 10)
    batch = 50
    kinds = {kind: float(line.max()) for kind, line in plan.curve.by_kind(batch).items()}
    assert kinds[WEIGHTS] == weights
    assert kinds[GRADIENTS] == weights
    assert kinds[OPTIMIZER] == 2 * weights + 2 * 4  # two moments, and a float32 step count a parameter
    assert kinds[INPUT] == 4 * batch * 1000
    assert kinds[SAVED] == 4 * batch * 2000  # what the ReLU gives; the input is not counted twice


def test_saved_tensors_belong_to_the_module_that_keeps_them():
    assert set(_plan().curve.saved_by_module(8)) == {"1"}


def test_the_curve_agrees_with_a_run_at_another_batch():
    conv = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 4, 3, stride=2))
    make = {"loss": lambda out: out.square().mean(), "optimizer": torch.optim.SGD, "device": "cpu"}
    one = plan_memory(conv, torch.empty(1, 3, 65, 33), **make)
    from trivet.memory import step

    old, step.BATCHES = step.BATCHES, (16, 32)
    try:
        other = plan_memory(conv, torch.empty(1, 3, 65, 33), **make)
    finally:
        step.BATCHES = old
    assert one.alive(100) == pytest.approx(other.alive(100), rel=1e-9)


def test_the_module_and_the_random_state_are_left_alone():
    module = _linear().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    call = nn.Module.__call__
    _plan(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert nn.Module.__call__ is call
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in module.parameters())


def test_nothing_large_is_allocated():
    with torch.device("meta"):
        module = nn.Linear(200_000, 200_000, bias=False)
    plan = plan_memory(
        module, torch.empty(1, 200_000), lambda out: out.mean(), torch.optim.SGD, device="cuda"
    )
    assert plan.total(1) > 2 * 4 * 200_000**2


def test_an_optimizer_that_was_made_is_made_again_with_its_groups():
    module = _linear()
    groups = [{"params": [module[0].weight], "lr": 0.1}, {"params": [module[2].weight]}]
    plan = _plan(module, torch.optim.AdamW(groups, lr=1e-3, betas=(0.8, 0.9)))
    assert float(plan.curve.by_kind(4)[OPTIMIZER].max()) == 2 * 4 * (1000 * 2000 + 2000 * 10) + 8


def test_frozen_weights_have_no_gradient():
    module = _linear()
    module[0].requires_grad_(False)
    plan = _plan(module, lambda parameters: torch.optim.SGD([p for p in parameters if p.requires_grad]))
    assert float(plan.curve.by_kind(4)[GRADIENTS].max()) == 4 * 2000 * 10


def test_targets_grow_with_the_batch_too():
    plan = plan_memory(
        nn.Linear(10, 5),
        torch.empty(1, 10),
        nn.CrossEntropyLoss(),
        torch.optim.SGD,
        example_targets=[torch.zeros(1, dtype=torch.int64)],
        device="cpu",
    )
    assert plan.alive(1001) > plan.alive(1)


def test_a_loss_that_selects_by_value_is_planned_at_its_worst():
    def hardest(out):
        each = out.square().sum(dim=1)
        return each[each > each.mean()].mean()

    plan = plan_memory(nn.Linear(10, 5), torch.empty(1, 10), hardest, torch.optim.SGD, device="cpu")
    assert "everything is taken to be selected" in " ".join(plan.curve.ledger.notes)


def test_mixed_precision_halves_what_is_saved():
    block = [nn.Linear(256, 256, bias=False) for _ in range(8)]
    module = nn.Sequential(*block)

    def saved(precision):
        plan = plan_memory(
            module, torch.empty(1, 256), lambda out: out.float().mean(), torch.optim.SGD, precision=precision
        )
        return plan.curve.by_kind(4096)[SAVED].max()

    assert float(saved("bf16")) == pytest.approx(float(saved("32")) / 2, rel=0.2)


def test_the_largest_batch_fits_and_the_next_does_not():
    plan = _plan()
    memory = plan.with_margin(777)
    largest = plan.largest_batch(memory)
    assert plan.fits(largest, memory)
    assert not plan.fits(largest + 1, memory)
    assert abs(largest - 777) <= 1
    assert plan.largest_batch(CPU_PROGRAM) == 0


def test_the_parts_sum_up_to_the_whole():
    for device in ("cpu", "cuda"):
        plan = plan_memory(
            _linear(), torch.empty(1, 1000), lambda out: out.mean(), torch.optim.AdamW, device=device
        )
        for batch in (1, 64, 5000):
            assert abs(sum(plan.parts(batch).values()) - plan.total(batch)) < 100


def test_a_measurement_moves_the_context_only():
    plan = _plan()
    corrected = plan.corrected(64, plan.total(64) + 100 * MIB)
    assert corrected.total(64) == plan.total(64) + 100 * MIB
    assert corrected.total(65) - corrected.total(64) == plan.total(65) - plan.total(64)
    assert plan.context == CPU_CONTEXT + CPU_PROGRAM


def test_what_cannot_be_planned_says_why():
    with pytest.raises(ValueError, match="give a function of parameters"):
        _plan(_linear(), torch.optim.SGD(_linear().parameters(), lr=1.0))


def test_gradients_that_are_kept_are_there_in_the_forward_pass():
    weights = 4 * (1000 * 2000 + 2000 * 10)
    for keep in (False, True):
        line = _plan(keep_gradients=keep).curve.by_kind(4)[GRADIENTS]
        assert float(line[0]) == float(line[-1]) == (weights if keep else 0)
        assert float(line.max()) == weights
