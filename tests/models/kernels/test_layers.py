"""Whole models by the kernels: the same names, the same results."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from tests.models.kernels.needs import needs_kernels
from trivet.models.build import build_model
from trivet.models.kernels import layers, use_fast_kernels
from trivet.models.kernels.layers import normalise_and_convolve
from trivet.models.model import Model

SMALL = {"channels": 16, "layers": 1, "tower_layers": 2, "levels": (3, 5)}


def make(name: str, **options) -> Model:
    torch.manual_seed(0)
    model = build_model(name, classes=3, **options).train().to(memory_format=torch.channels_last)
    for module in model.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0  # random, and not what is compared
    return model


def total(model: nn.Module, images: Tensor) -> Tensor:
    maps = [x for part in model(images)[:2] for x in part]
    draw = torch.Generator().manual_seed(1)
    return sum((x * torch.randn(x.shape, generator=draw).to(x)).mean() for x in maps)


def errors(model: nn.Module, exact: nn.Module) -> Tensor:
    """Relative error of every gradient that is not rounding alone."""
    pairs = zip(model.parameters(), exact.parameters(), strict=True)
    return torch.stack(
        [(a.grad.double() - b.grad).norm() / b.grad.norm() for a, b in pairs if b.grad.norm() > 1e-9]
    )


def pictures(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(
        memory_format=torch.channels_last
    )


@needs_kernels
@pytest.mark.parametrize(
    "name", ["tf_efficientdet_lite0", pytest.param("tf_efficientdet_d0", marks=pytest.mark.slow)]
)
def test_a_detector_is_nearer_to_float64_than_by_torchs_operators(name):
    stock, images = make(name, **SMALL), pictures(2, 3, 65, 96)
    fast, exact = copy.deepcopy(stock), copy.deepcopy(stock).double()
    assert use_fast_kernels(fast) > 100
    losses = [total(model, images.to(next(model.parameters()))) for model in (stock, fast, exact)]
    for loss in losses:
        loss.backward()
    assert float((losses[1] - losses[2]).detach().abs()) <= 1e-4 * float(losses[2].detach().abs()) + 1e-6
    theirs, ours = errors(stock, exact), errors(fast, exact)
    assert float(ours.median()) <= max(float(theirs.median()), 1e-5)
    for key, value in exact.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[key].to(value), value, rtol=1e-3, atol=1e-4)


@needs_kernels
def test_every_kind_of_layer_is_found_and_nothing_else_changes():
    stock = make("tf_efficientdet_lite0", **SMALL)
    fast = copy.deepcopy(stock)
    before = list(fast.parameters())
    use_fast_kernels(fast)
    kinds = {type(module) for module in fast.modules()}
    assert set(layers._FAST.values()) <= kinds
    assert all(a is b for a, b in zip(before, fast.parameters(), strict=True))
    assert list(fast.state_dict()) == list(stock.state_dict())
    assert use_fast_kernels(fast) == 0, "nothing is left to find"
    again = pickle.loads(pickle.dumps(copy.deepcopy(fast)))
    assert [type(module) for module in again.modules()] == [type(module) for module in fast.modules()]
    assert not [
        layer
        for layer in fast.modules()
        if isinstance(layer, nn.BatchNorm2d) and "Fast" not in type(layer).__name__
    ]


@needs_kernels
def test_evaluation_and_other_precisions_are_torchs_to_the_bit():
    stock, images = make("tf_efficientdet_lite0", **SMALL), pictures(1, 3, 64, 64)
    fast = copy.deepcopy(stock)
    use_fast_kernels(fast)
    for prepare in (nn.Module.eval, nn.Module.double):
        a, b = prepare(copy.deepcopy(stock)), prepare(copy.deepcopy(fast))
        x = images.to(next(a.parameters()))
        assert torch.equal(total(a, x), total(b, x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(total(stock, images), total(fast, images))


@needs_kernels
def test_a_step_is_the_same_each_time():
    results = []
    for _ in range(2):
        model = make("tf_efficientdet_lite0", **SMALL)
        use_fast_kernels(model)
        total(model, pictures(2, 3, 64, 64)).backward()
        results.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_kernels
def test_hooks_are_called_and_see_what_they_would_see():
    stock = make("tf_efficientdet_lite0", **SMALL)
    fast = copy.deepcopy(stock)
    use_fast_kernels(fast)
    seen: dict[str, list[Tensor]] = {"stock": [], "fast": []}
    for key, model in (("stock", stock), ("fast", fast)):
        block = next(m for name, m in model.named_modules() if name.endswith("blocks.1.0"))
        for layer in (block.bn1, block.conv_dw, block.bn2.act, model.head.class_tower.norms[0][0]):
            layer.register_forward_hook(
                lambda _module, _input, y, key=key: seen[key].append(y.detach().clone())
            )
        total(model, pictures(2, 3, 64, 64))
    assert len(seen["fast"]) == len(seen["stock"]) == 4
    for a, b in zip(seen["fast"], seen["stock"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@needs_kernels
def test_a_tower_that_is_not_separable_or_has_another_norm():
    for options in ({"separable": False}, {"norm": "gn"}, {"activation": "gelu"}):
        stock = make("tf_efficientdet_lite0", **SMALL, **options)
        fast = copy.deepcopy(stock)
        use_fast_kernels(fast)
        images = pictures(2, 3, 64, 64)
        torch.testing.assert_close(total(fast, images), total(stock, images), rtol=1e-3, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("norm_fast", [True, False])
@pytest.mark.parametrize("conv_fast", [True, False])
@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU()])
def test_norm_activation_and_convolution_whichever_of_them_is_fast(norm_fast, conv_fast, activation):
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
    x = pictures(2, 16, 6, 7)
    wanted = conv(activation(copy.deepcopy(norm)(x)))
    use_fast_kernels(nn.ModuleList([norm] * norm_fast + [conv] * conv_fast))
    torch.testing.assert_close(normalise_and_convolve(norm, activation, conv, x), wanted)


@needs_kernels
def test_a_model_without_kernels_is_left_alone(monkeypatch):
    monkeypatch.setattr(layers, "kernels", lambda: None)
    model = make("tf_efficientdet_lite0", **SMALL)
    kinds = [type(module) for module in model.modules()]
    assert use_fast_kernels(model) == 0
    assert [type(module) for module in model.modules()] == kinds
