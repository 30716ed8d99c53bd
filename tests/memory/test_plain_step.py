"""A module's own loss is found, and an optimizer is made again."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trivet.memory.plain_step import again, own_loss


@pytest.mark.parametrize(
    "output",
    [
        torch.tensor(3.0),
        SimpleNamespace(loss=torch.tensor(3.0), logits=torch.zeros(2)),
        {"loss": torch.tensor(3.0), "accuracy": torch.tensor(0.5)},
        {"boxes": torch.tensor(1.0), "classes": torch.tensor(2.0)},
    ],
)
def test_the_loss_is_what_the_module_returned(output):
    assert own_loss(output) == 3


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2), "returned a Tensor, in which no loss was found.*give a loss, a function of what"),
        (
            {"boxes": torch.zeros(2, 4), "scores": torch.zeros(2)},
            "returned a dict of boxes, scores, in which",
        ),
        ((torch.zeros(2), torch.tensor(1.0)), "returned a tuple, in which"),
        ({}, "returned a dict"),
        ({"loss": None}, "returned a dict of loss"),
    ],
)
def test_an_output_without_a_loss_says_what_to_do(output, message):
    with pytest.raises(ValueError, match=message):
        own_loss(output)


def test_an_optimizer_is_made_again_for_the_copy():
    module, twin = nn.Linear(2, 3), nn.Linear(2, 3)
    groups = [{"params": [module.weight], "lr": 0.5}, {"params": [module.bias]}]
    made = again(torch.optim.SGD(groups, lr=0.1, momentum=0.9), module, twin)
    assert made.param_groups[0]["params"] == [twin.weight]
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.1]
    assert made.defaults["momentum"] == 0.9
