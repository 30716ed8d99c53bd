import copy

import pytest
import torch
from torch import nn

from tests.train.tiny import tiny_model, tiny_settings
from trivet.errors import TrainingError, UsageError
from trivet.train.checkpoint import load_optimizer, optimizer_tensors
from trivet.train.optimizers import OPTIMIZERS, build_optimizer, check_coverage, parameter_groups


def test_groups_follow_the_roles():
    settings = tiny_settings(lr=0.1, backbone_lr=0.02, weight_decay=0.5)
    model = tiny_model()
    model.head.register_parameter("fusion", nn.Parameter(torch.ones(3)))
    groups = {group["role"]: group for group in parameter_groups(model, settings)}
    assert set(groups["backbone, decayed"]["names"]) == {"backbone.0.weight"}
    assert set(groups["backbone, not decayed"]["names"]) == {
        "backbone.0.bias",
        "backbone.1.weight",
        "backbone.1.bias",
    }
    assert set(groups["neck and head, decayed"]["names"]) == {"neck.0.weight", "head.weight"}
    assert set(groups["neck and head, not decayed"]["names"]) == {"neck.0.bias", "head.bias", "head.fusion"}
    assert [(g["lr"], g["weight_decay"]) for g in groups.values()] == [
        (0.02, 0.5),
        (0.02, 0),
        (0.1, 0.5),
        (0.1, 0),
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_every_parameter(name):
    model = tiny_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = build_optimizer(model, tiny_settings(optimizer=name))
    torch.manual_seed(0)
    (model(torch.rand(4, 3, 8, 8)) - 3).square().sum().backward()
    optimizer.step()
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert still == ["backbone.0.bias"] or not still, "a bias before a batch norm has no gradient"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_step_is_the_plain_one(name):
    plain = tiny_model().to(memory_format=torch.channels_last)
    fused = copy.deepcopy(plain)
    settings = tiny_settings(optimizer=name, lr=0.01, weight_decay=0.1)
    steppers = build_optimizer(plain, settings), build_optimizer(fused, settings, fused=True)
    images = torch.rand(4, 3, 8, 8)
    for number in range(3):
        for model, optimizer in zip((plain, fused), steppers, strict=True):
            torch.manual_seed(number)
            (model(images) - 3).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        if number == 1:  # a file keeps no memory layout, which a fused step needs
            tensors, others = optimizer_tensors(steppers[1])
            read = {key: value.contiguous() for key, value in tensors.items()}
            load_optimizer(steppers[1], read, others)
    for (key, expected), found in zip(plain.named_parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=key)


def test_a_parameter_left_out_is_refused():
    model = tiny_model()
    optimizer = torch.optim.SGD(model.backbone.parameters(), lr=0.1)
    with pytest.raises(
        TrainingError, match=r"4 trainable parameters \(25 numbers\) .* never learn: neck\.0\.weight"
    ):
        check_coverage(model, optimizer)


def test_a_parameter_held_twice_is_refused():
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": [model.head.weight]})
    with pytest.raises(TrainingError, match=r"more than one group of the optimizer: head\.weight"):
        check_coverage(model, optimizer)


def test_a_stranger_is_refused():
    model = tiny_model()
    optimizer = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(TrainingError, match="holds 1 parameters that are not the model's"):
        check_coverage(model, optimizer)


def test_a_frozen_parameter_may_be_left_out():
    model = tiny_model()
    model.backbone.requires_grad_(False)
    check_coverage(model, torch.optim.SGD([*model.neck.parameters(), *model.head.parameters()], lr=0.1))


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(UsageError, match="unknown optimizer 'adam'; did you mean 'adamw'"):
        build_optimizer(tiny_model(), tiny_settings(optimizer="adam"))


def test_a_part_is_left_out_only_when_that_is_said_twice():
    model = tiny_model()
    with pytest.raises(
        TrainingError, match=r"in no group of the optimizer and would never learn: head\.weight"
    ):
        build_optimizer(model, tiny_settings(leave_out=("head",)))
    optimizer = build_optimizer(model, tiny_settings(leave_out=("head",), leave_out_anyway=True))
    held = {name for group in optimizer.param_groups for name in group["names"]}
    assert held == {name for name, _ in model.named_parameters() if not name.startswith("head")}


def test_a_part_that_is_not_there_cannot_be_left_out():
    with pytest.raises(UsageError, match="unknown part of the model 'haed'; did you mean 'head'"):
        build_optimizer(tiny_model(), tiny_settings(leave_out=("haed",), leave_out_anyway=True))
    with pytest.raises(UsageError, match="leave_out names no part"):
        tiny_settings(leave_out_anyway=True)
