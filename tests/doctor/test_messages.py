"""Messages of torch, raised for real, are told in the user's terms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trivet.doctor.messages import translated


def twice():
    weight = torch.ones(2, requires_grad=True)
    loss = (weight * weight).sum()
    loss.backward()
    loss.backward()


def mixed_types():
    nn.Linear(3, 2)(torch.ones(1, 3, dtype=torch.float64))


LOGITS = torch.zeros(8, 4)
RAISED = {
    "linear": (
        lambda: nn.Linear(100, 2)(torch.ones(4, 144)),
        "for 100 features is given 144",
        "nn.Linear(144",
    ),
    "batch": (
        lambda: F.cross_entropy(LOGITS, torch.zeros(4).long()),
        "of 8 samples and the target of 4",
        "view",
    ),
    "sizes": (
        lambda: F.binary_cross_entropy_with_logits(torch.zeros(8, 1), torch.zeros(8)),
        "target has the shape [8] and the output [8, 1]",
        "squeeze(1)",
    ),
    "last": (
        lambda: nn.Conv2d(3, 8, 3)(torch.zeros(2, 9, 9, 3)),
        "the channels stand last",
        "permute(0, 3, 1, 2)",
    ),
    "grey": (lambda: nn.Conv2d(3, 8, 3)(torch.zeros(2, 1, 9, 9)), "for 3 channels is given 1", "nn.Conv2d(1"),
    "labels": (lambda: F.cross_entropy(LOGITS, torch.zeros(8)), "labels are wanted as integers", "long()"),
    "floats": (
        lambda: F.binary_cross_entropy(LOGITS.sigmoid(), torch.zeros(8, 4).long()),
        "given integers",
        "float()",
    ),
    "column": (lambda: F.cross_entropy(LOGITS, torch.zeros(8, 1).long()), "a second axis", "squeeze(1)"),
    "map": (
        lambda: F.cross_entropy(torch.zeros(2, 4, 5, 5), torch.zeros(2, 1, 5, 5).long()),
        "a channel axis",
        "squeeze(1)",
    ),
    "type": (mixed_types, "another type than the weights", "x.float()"),
    "twice": (twice, "graph of an earlier step", "retain_graph"),
    "stack": (
        lambda: torch.utils.data.default_collate([torch.zeros(2), torch.zeros(3)]),
        "different sizes",
        "collate_fn",
    ),
    "embedding": (lambda: nn.Embedding(3, 2)(torch.tensor([3])), "beyond its table", "num_embeddings"),
    "state": (
        lambda: nn.Linear(2, 2).load_state_dict({"module.weight": torch.zeros(2, 2)}),
        "another prefix",
        "removeprefix",
    ),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_torch_raises_is_translated(name):
    raises, cause, remedy = RAISED[name]
    with pytest.raises((RuntimeError, ValueError, IndexError)) as caught:
        raises()
    told = translated(str(caught.value))
    assert told is not None, str(caught.value)
    assert cause in told[0]
    assert remedy in told[1]


def test_other_messages_are_left_alone():
    assert translated("no such folder") is None
    assert translated("") is None
