"""Training is fitted into the memory there is, and a size that failed is never exceeded."""

import pytest
import torch

from tests.models.tiny import OPTIONS, tiny_model
from trivet.errors import UsageError
from trivet.memory import plan_memory
from trivet.memory.plan import GIB, MIB
from trivet.models.build import build_model
from trivet.models.kernels import use_fast_kernels
from trivet.models.kernels.library import kernels
from trivet.recipe.fit_memory import _does_not_fit, measure_on_device, settle
from trivet.recipe.host_memory import check_host, host_need
from trivet.recipe.plan import advise, changes_of
from trivet.recipe.planned_step import plan_recipe
from trivet.recipe.recipe import make_recipe


def _plan():
    return plan_memory(torch.nn.Linear(1000, 1000), torch.empty(1, 1000), torch.sum, torch.optim.SGD)


def _recipe(**values):
    start = {
        "data.path": "",
        "task.kind": "detection",
        "model.backbone": "test_resnet",
        "model.options": OPTIONS,
        "model.pretrained": False,
        "model.size_hw": (256, 256),
        "train.batch": 8,
        "train.epochs": 1,
        "machine.accelerator": "cpu",
    }
    return make_recipe(start | {key.replace("__", "."): value for key, value in values.items()})


class Card:
    """A device that holds so many images at a time, and remembers what was tried."""

    def __init__(self, holds, each=MIB):
        self.holds, self.each, self.tried = holds, each, []

    def __call__(self, batch):
        self.tried.append(batch)
        if batch > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return GIB + batch * self.each


def test_what_is_measured_corrects_the_plan():
    card = Card(holds=64)
    batch, plan = settle(_plan(), 32, 32, 8 * GIB, card)
    assert (batch, card.tried) == (32, [32])
    assert plan.total(32) == GIB + 32 * MIB


def test_no_batch_larger_than_one_that_failed_is_tried():
    card = Card(holds=5)
    batch, _ = settle(_plan(), 24, 24, 8 * GIB, card)
    assert batch == 4
    assert card.tried == sorted(card.tried, reverse=True)
    assert len(card.tried) == len(set(card.tried))
    assert all(24 % tried == 0 for tried in card.tried)


def test_a_batch_that_runs_but_takes_too_much_is_left():
    card = Card(holds=64, each=100 * MIB)
    batch, plan = settle(_plan(), 16, 16, 2 * GIB, card)
    assert GIB + batch * 100 * MIB <= 2 * GIB
    assert plan.total(batch) <= 2 * GIB


def test_where_nothing_runs_the_error_says_so():
    with pytest.raises(UsageError, match="at every batch down to 1"):
        settle(_plan(), 8, 8, 8 * GIB, Card(holds=0))


def test_a_refusal_names_what_was_given_and_matters():
    plan, fixed = _plan(), ["data.path", "train.minutes", "train.batch"]
    with pytest.raises(UsageError, match=r"into 4,096 MiB while train\.batch stays as given"):
        raise _does_not_fit(plan, 8, 4 * GIB, fixed)
    error = _does_not_fit(plan, 8, 512 * MIB, fixed)
    assert error.hint is not None
    assert "before it has a model" in error.hint


@pytest.fixture(scope="module")
def planned():
    return plan_recipe(_recipe(), classes=3, device="cuda", boxes=5)


def test_a_recipe_is_planned_as_it_trains(planned):
    kinds = planned.curve.at_peak(8)
    model = tiny_model(classes=3)
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    assert kinds["optimizer state"] == pytest.approx(2 * weights, rel=0.01)
    assert kinds["averaged weights"] == pytest.approx(weights, rel=0.05)  # and its buffers
    assert kinds["input batch"] == 8 * 3 * 256 * 256


def test_accumulation_is_the_first_remedy(planned):
    memory = planned.with_margin(5)
    advice = advise(_recipe(), planned, memory, classes=3, device="cuda", boxes=5)
    assert advice is not None
    assert advice.arguments == "--batch 4 --accumulate 2"
    assert advice.plan.fits(advice.batch, memory)


def test_what_cannot_be_enough_is_not_planned(planned, monkeypatch):
    tried = []

    def plan(recipe, **_):
        tried.append((recipe.train.precision, recipe.train.recompute))
        return planned

    monkeypatch.setattr("trivet.recipe.plan.plan_recipe", plan)
    half = planned.context + planned.alive(1) // 2
    for memory, alone_is_planned in ((half - 1, False), (half + 1, True)):
        tried.clear()
        advise(_recipe(), planned, memory, classes=3, device="cuda", boxes=5, fixed=("model.size_hw",))
        assert (("bf16", ()) in tried) is alone_is_planned
        assert ("bf16", ("backbone", "neck", "head")) in tried


def test_what_was_given_stays_and_recomputing_helps(planned):
    again = plan_recipe(_recipe(train__recompute=("backbone",)), classes=3, device="cuda", boxes=5)
    assert again.alive(8) < 0.7 * planned.alive(8)
    memory = (again.with_margin(8) + planned.with_margin(8)) // 2
    fixed = ("train.batch", "train.accumulate", "train.precision")
    advice = advise(_recipe(), planned, memory, classes=3, device="cuda", boxes=5, fixed=fixed)
    assert advice is not None
    assert advice.arguments == "--batch 8 --recompute backbone"
    nothing = advise(
        _recipe(),
        planned,
        memory,
        classes=3,
        device="cuda",
        boxes=5,
        fixed=(*fixed, "train.recompute", "model.size_hw"),
    )
    assert nothing is None


def test_two_real_steps_and_a_validation_are_measured():
    recipe = _recipe(model__size_hw=(64, 64), train__batch=2)
    assert measure_on_device(recipe, 3, 5)(2) > 100 * MIB


def test_a_host_that_is_too_small_is_refused():
    recipe = _recipe(data__workers=4)
    need = host_need(recipe)
    assert need.parts["batches ahead"] == 4 * 2 * 8 * 3 * 256 * 256
    check_host(recipe, available=need.total)
    with pytest.raises(UsageError, match=r"of the host's memory .*workers"):
        check_host(recipe, available=need.total - 1)


@pytest.mark.skipif(kernels() is None, reason="there is no C compiler here")
def test_a_plan_for_a_cpu_keeps_what_the_kernels_keep():
    options = {"channels": 16, "layers": 1}
    recipe = _recipe(model__backbone="test_efficientnet", model__size_hw=(64, 64), model__options=options)
    plan = plan_recipe(recipe, classes=3, device="cpu", boxes=5)
    planned = sum(plan.curve.saved_by_module(4).values())

    model = build_model(
        backbone="test_efficientnet", classes=3, size_hw=(64, 64), pretrained=False, **options
    ).train()
    model.to(memory_format=torch.channels_last)
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    by_torch = _bytes_kept(model, model.normalise(images))
    assert use_fast_kernels(model)
    kept = _bytes_kept(model, model.normalise(images))
    assert kept < 0.8 * by_torch
    assert planned == pytest.approx(kept, rel=0.02)


def _bytes_kept(model, images):
    """Run a model and return the bytes it keeps for its backward pass, besides its weights."""
    own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images)
    del output
    return sum(kept.values())


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ((), ["backbone", "backbone,neck,head"]),
        (("neck",), ["backbone,neck", "backbone,neck,head"]),
        (("neck", "head"), ["backbone,neck,head"]),
        (("backbone", "neck", "head"), []),
    ],
)
def test_recomputing_more_keeps_what_is_recomputed_already(before, offered):
    recipe = _recipe(**{"train.recompute": before})
    changes = [c for c in changes_of(recipe, "cpu") if "train.recompute" in c.values]
    assert [change.arguments for change in changes] == [f"--recompute {parts}" for parts in offered]
    assert [change.values["train.recompute"] for change in changes] == [tuple(p.split(",")) for p in offered]
