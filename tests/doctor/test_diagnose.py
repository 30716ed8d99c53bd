"""One batch is enough for what is wrong with model, loss and optimizer; and nothing of the user's changes."""

import random
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from trivet.doctor.borrow import borrowed
from trivet.doctor.diagnose import diagnose


class Noisy(nn.Module):
    """A model that changes whatever a model can: statistics, counters, lists, its input and its own generator."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(4, 2)
        self.twin = nn.Linear(4, 2)
        self.twin.weight = self.head.weight  # tied
        self.hidden = [nn.Linear(2, 2)]
        self.calls, self.seen, self.average = 0, deque([1], maxlen=3), torch.zeros(4)
        self.draw = torch.Generator().manual_seed(3)

    def forward(self, images):
        images.mul_(0.5)
        found = self.features(images).mean((2, 3))
        self.calls += 1
        self.seen.append(self.calls)
        self.average.mul_(0.9).add_(found.detach().mean(0), alpha=0.1)
        found = (
            found + 0.01 * torch.randn(found.shape, generator=self.draw) * random.random() * np.random.rand()
        )
        return self.hidden[0](self.head(found) + self.twin(found))


def recurrent():
    return nn.ModuleDict({"gru": nn.GRU(3, 4, batch_first=True), "head": nn.Linear(4, 2)})


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.gru(images.flatten(2).mT)[0][:, -1])


class Spectral(nn.Sequential):
    def __init__(self):
        flat = nn.Flatten()
        super().__init__(
            flat, nn.utils.parametrizations.spectral_norm(nn.Linear(3 * 36, 8)), nn.ReLU(), nn.Linear(8, 2)
        )


MODELS = {"noisy": Noisy, "recurrent": Recurrent, "spectral": Spectral}
OPTIMIZERS = {
    "none": lambda p: None,
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.AdamW(p, 0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


def state_of(model, optimizer):
    """All that must stay: values with their memory, gradients, modes, attributes, optimizer, random numbers to come."""
    told = [(name, value.data_ptr(), value.clone()) for name, value in model.state_dict().items()]
    told += [
        (name, id(p), None if p.grad is None else p.grad.clone(), p.requires_grad)
        for name, p in model.named_parameters()
    ]
    told += [
        (name, id(module), module.training, sorted(vars(module))) for name, module in model.named_modules()
    ]
    if isinstance(model, Noisy):
        told.append((model.calls, list(model.seen), model.average.clone(), model.draw.get_state()))
        told.append([value.clone() for value in model.hidden[0].parameters()])
    if optimizer is not None:
        told.append(optimizer.state_dict())
        told.append([id(p) for group in optimizer.param_groups for p in group["params"]])
    told.append((random.getstate(), np.random.get_state(), torch.get_rng_state()))
    return told


def assert_same(one, two):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert_same(value, two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two


def copied(told):
    if isinstance(told, torch.Tensor):
        return told.clone()
    if isinstance(told, dict):
        return {key: copied(value) for key, value in told.items()}
    return type(told)(map(copied, told)) if isinstance(told, (list, tuple)) else told


# The cases are small already: shrinking one that fails would run the doctor for minutes.
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    kind=st.sampled_from(sorted(MODELS)),
    chosen=st.sampled_from(sorted(OPTIMIZERS)),
    trained=st.integers(0, 2),
    mode=st.booleans(),
    fails=st.booleans(),
)
def test_nothing_of_the_user_changes(kind, chosen, trained, mode, fails):
    torch.manual_seed(trained)
    model = MODELS[kind]()
    optimizer = OPTIMIZERS[chosen](list(model.parameters())[:-1])
    images, labels = torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 1, 0])
    for _ in range(trained if optimizer is not None else 0):
        loss = F.cross_entropy(model(images.clone()), labels)
        loss.backward()
        optimizer.step(lambda: F.cross_entropy(model(images.clone()), labels))
    model.train(mode)
    next(model.children()).train(not mode)
    before, given_images = copied(state_of(model, optimizer)), images.clone()
    diagnose(model, (images, labels + 5 if fails else labels), nn.CrossEntropyLoss(), optimizer)
    assert_same(before, state_of(model, optimizer))
    assert torch.equal(images, given_images)


def test_a_loss_that_reaches_the_model_by_its_closure_is_lent_too():
    model, teacher = nn.Linear(3, 2), nn.BatchNorm1d(2)
    model.weight.grad = torch.ones(2, 3)
    seen = []

    def loss(output, target):
        seen.append(1)
        return F.mse_loss(teacher(output), target) + model.weight.square().sum()

    assert not diagnose(model, (torch.rand(8, 3), torch.rand(8, 2)), loss).findings
    assert teacher.num_batches_tracked == 0
    assert seen == []
    assert torch.equal(model.weight.grad, torch.ones(2, 3))


def test_memory_that_is_shared_stays_shared_while_it_is_lent():
    one = nn.Linear(3, 3)
    one.weight.data.fill_(1.0)
    two = nn.Parameter(torch.empty(0))
    two.data = one.weight.data.view(9)
    with borrowed(one, two), torch.no_grad():
        two.fill_(5.0)
        assert one.weight[0, 0] == 5
    assert one.weight[0, 0] == 1
    assert two.data_ptr() == one.weight.data_ptr()


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, values):
        return self.decoder(self.encoder(values).relu())


def test_a_decoder_in_no_optimizer_is_found():
    model = TwoParts()
    optimizer = torch.optim.Adam(model.encoder.parameters())
    found = diagnose(model, (torch.randn(16, 3), torch.arange(16) % 2), F.cross_entropy, optimizer)
    assert [finding.name for finding in found.findings] == ["parameter-not-in-optimizer"]
    assert found.findings[0].where.object == "model.decoder"


def test_without_an_optimizer_nothing_is_said_about_it():
    found = diagnose(TwoParts(), (torch.randn(16, 3), torch.arange(16) % 2), F.cross_entropy)
    assert found.findings == []
    assert found.not_checked["parameter-not-in-optimizer"] == "no optimizer was given"
    assert found.not_checked["missing-zero-grad"] == "one batch says nothing about the loop"


def test_what_the_model_raises_is_a_finding():
    found = diagnose(TwoParts(), (torch.randn(16, 4), torch.arange(16) % 2), F.cross_entropy)
    assert [finding.name for finding in found.findings] == ["script-failed"]


def test_a_batch_that_is_no_pair_is_refused():
    with pytest.raises(ValueError, match=r"a pair \(inputs, targets\)"):
        diagnose(TwoParts(), (torch.randn(16, 3),), F.cross_entropy)


def test_a_lazy_model_is_refused():
    with pytest.raises(ValueError, match="run the model once on a batch"):
        diagnose(nn.LazyLinear(2), (torch.randn(16, 3), torch.arange(16) % 2), F.cross_entropy)
