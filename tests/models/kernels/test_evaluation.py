"""Evaluation by the kernels: against PyTorch's operators in float64, and as if nothing had been held afterwards."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import Tensor, nn

from tests.models.kernels.needs import needs_kernels
from tests.models.kernels.test_batch_norm import drawn
from trivet.models.blocks import Conv
from trivet.models.build import build_model
from trivet.models.kernels import held, layers, use_fast_kernels
from trivet.models.kernels.program import Program
from trivet.models.model import Model

BLOCKS = {"inverted residual": InvertedResidual, "depthwise separable": DepthwiseSeparableConv}
ACTIVATIONS = [nn.SiLU, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.LeakyReLU]
SMALL = {"channels": 16, "layers": 2, "tower_layers": 2, "levels": (3, 6)}


def trained(module: nn.Module) -> nn.Module:
    """Give every norm statistics, a scale and a shift of its own, as training would."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -1.0, 1.0)
            nn.init.normal_(layer.running_mean, 0.0, 0.5)
            nn.init.uniform_(layer.running_var, 0.3, 2.0)
    return module.eval()


@pytest.fixture
def programs(monkeypatch) -> list[Program]:
    """The programs that have run."""
    seen: list[Program] = []
    run = Program.run

    def counted(self, *maps: Tensor) -> Tensor:
        seen.append(self)
        return run(self, *maps)

    monkeypatch.setattr(Program, "run", counted)
    return seen


def evaluated(module: nn.Module, x: Tensor, *, by_kernels: bool) -> Tensor:
    holder = nn.Sequential(module)
    if not by_kernels:
        with torch.no_grad():
            return module(x)
    with torch.no_grad(), held(holder):
        return module(x)


def assert_near(found: Tensor, stock: Tensor, exact: Tensor) -> None:
    """As near to float64 as PyTorch's own float32."""
    rounding = float((stock - exact).abs().max())
    scale = 1 + float(exact.abs().max())
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=4 * rounding + 2e-6 * scale)
    assert found.is_contiguous(memory_format=torch.channels_last)


def check(module: nn.Module, x: Tensor) -> None:
    exact = evaluated(copy.deepcopy(module).double(), x.double(), by_kernels=False)
    stock = evaluated(module, x, by_kernels=False)
    assert_near(evaluated(module, x, by_kernels=True), stock, exact)


def pyramid(name: str, **options) -> Model:
    torch.manual_seed(0)
    model = build_model(name, classes=3, **options).to(memory_format=torch.channels_last)
    assert isinstance(trained(model), Model)
    return model


def maps_of(model: nn.Module, images: Tensor) -> list[Tensor]:
    output = model(images)
    return [x for part in output[:2] for x in part] if isinstance(output, tuple) else [output]


@needs_kernels
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("gate", [None, nn.Sigmoid, nn.Hardsigmoid])
@given(
    images=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 35)),
    channels=st.tuples(st.integers(2, 40), st.integers(2, 100)),
    options=st.fixed_dictionaries(
        {
            "dw_kernel_size": st.sampled_from([3, 5]),
            "stride": st.integers(1, 2),
            "pad_type": st.sampled_from(["", "same"]),
            "act_layer": st.sampled_from(ACTIVATIONS),
        }
    ),
    ratio=st.sampled_from([0.5, 1.7, 6.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=12, deadline=None)
def test_a_block_equals_torchs_whatever_its_shape(kind, gate, images, sides, channels, options, ratio, seed):
    torch.manual_seed(seed)
    if seed % 3 == 0:
        channels = (channels[0], channels[0])  # a shortcut, where the stride allows it
    se = (lambda c, **own: SqueezeExcite(c, rd_channels=3, gate_layer=gate, **own)) if gate else None
    own = {"exp_ratio": ratio} if kind == "inverted residual" else {}
    check(trained(BLOCKS[kind](*channels, se_layer=se, **own, **options)), drawn(images, channels[0], *sides))


@needs_kernels
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("same", [True, False])
def test_a_stem_equals_torchs(kernel, stride, same, programs):
    torch.manual_seed(0)
    kind = Conv2dSame if same else nn.Conv2d
    padding = 0 if same else kernel // 2
    conv = kind(3, 37, kernel, stride=stride, padding=padding, bias=kernel == 5)
    for sides in ((33, 50), (1, 9), (64, 7)):
        check(conv.eval(), drawn(2, 3, *sides))
    assert len(programs) == 3


@needs_kernels
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_norm_with_its_activation_equals_torchs(activation, programs):
    torch.manual_seed(0)
    check(trained(BatchNormAct2d(21, act_layer=activation)), drawn(3, 21, 9, 14))
    check(trained(nn.BatchNorm2d(5)), drawn(1, 5, 3, 3))
    assert len(programs) == 2


@needs_kernels
def test_a_bias_before_a_norm_and_one_without(programs):
    torch.manual_seed(0)
    for norm in (nn.BatchNorm2d(70), None):
        check(trained(Conv(33, 70, separable=True, bias=True, norm=norm)), drawn(2, 33, 7, 9))
    assert len(programs) == 2


@needs_kernels
def test_silu_of_every_size_and_of_what_is_no_number(programs):
    norm = BatchNormAct2d(16, act_layer=nn.SiLU).eval()
    nn.init.constant_(norm.running_var, 1.0 - norm.eps)
    values = torch.cat([torch.linspace(-130, 130, 4001), torch.tensor([0.0, 1e-30, -1e-30, 1e6, -1e6])])
    x = values.repeat_interleave(16).reshape(1, -1, 1, 16).permute(0, 3, 1, 2)
    found = evaluated(norm, x, by_kernels=True)[0, 0, :, 0]
    wanted = nn.functional.silu(values.double())
    # below -88 a sigmoid is not 0 without AVX-512, but the least number
    torch.testing.assert_close(found.double(), wanted, rtol=5e-6, atol=1e-30)
    strange = torch.tensor([torch.inf, -torch.inf, torch.nan]).repeat_interleave(16).reshape(1, -1, 1, 16)
    found = evaluated(norm, strange.permute(0, 3, 1, 2), by_kernels=True)[0, 0, :, 0]
    assert found[0] == torch.inf
    assert not found[1:].isfinite().any()
    assert len(programs) == 2


@needs_kernels
@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("tf_efficientdet_d0", SMALL, 40),
        ("efficientdet_d0", SMALL, 40),
        ("tf_efficientdet_lite0", SMALL, 40),
        ("semantic_bifpn_lite0", {}, 20),
        ("efficientnet_lite0", {}, 15),
    ],
)
def test_a_model_predicts_the_same(name, options, least, programs):
    model = pyramid(name, **options)
    for sides in ((65, 96), (128, 128)):
        images = drawn(2, 3, *sides)
        with torch.inference_mode():
            stock = maps_of(model, images)
            exact = maps_of(copy.deepcopy(model).double(), images.double())
            programs.clear()
            with held(model):
                found = maps_of(model, images)
        assert len(programs) >= least
        for ours, theirs, wanted in zip(found, stock, exact, strict=True):
            rounding = float((theirs - wanted).abs().max())
            tolerance = 4 * rounding + 1e-5 * (1 + float(wanted.abs().max()))
            torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=tolerance)


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    model, images = pyramid("tf_efficientdet_d0", **SMALL), drawn(2, 3, 96, 130)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with torch.no_grad(), held(model):
                found.append(maps_of(model, images))
    finally:
        torch.set_num_threads(threads)
    # squeeze and excitation too: its means are summed row by row
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_kernels
def test_images_that_pass_a_held_model_by_turns_do_not_disturb_each_other():
    # as threads that share a model may: both pass the stem before either passes its norm
    body = pyramid("tf_efficientdet_d0", **SMALL).backbone.body
    images = drawn(1, 3, 96, 96), drawn(1, 3, 96, 96)
    with torch.no_grad():
        wanted = [body.bn1(body.conv_stem(image)) for image in images]
        with held(body):
            between = [body.conv_stem(image) for image in images]
            found = [body.bn1(x) for x in between]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@needs_kernels
def test_an_image_is_predicted_the_same_alone_and_among_others():
    model, images = pyramid("tf_efficientdet_d0", **SMALL), drawn(3, 3, 96, 96)
    with torch.no_grad(), held(model):
        together = maps_of(model, images)
        alone = maps_of(model, images[1:2].contiguous(memory_format=torch.channels_last))
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[1:2], one, rtol=0, atol=1e-6)


@needs_kernels
def test_a_model_is_afterwards_as_before():
    model, images = pyramid("tf_efficientdet_d0", **SMALL), drawn(1, 3, 64, 64)
    kinds = [type(module) for module in model.modules()]
    kept = [dict(module.__dict__) for module in model.modules()]
    with torch.no_grad(), held(model):
        model(images)
        inner = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    assert [type(module) for module in model.modules()] == kinds
    assert [set(module.__dict__) for module in model.modules()] == [set(one) for one in kept]
    with torch.no_grad():
        wanted = maps_of(model, images)
        for copied in inner:
            assert all(module.__dict__.get("programs") is None for module in copied.modules())
            for a, b in zip(maps_of(copied, images), wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@needs_kernels
def test_it_is_given_back_after_an_error_and_by_the_outer_of_two():
    model = pyramid("tf_efficientdet_d0", **SMALL)
    with pytest.raises(RuntimeError, match="enough"), held(model):
        raise RuntimeError("enough")
    assert not any("programs" in module.__dict__ for module in model.modules())
    with held(model):
        with held(model):
            pass
        assert any("programs" in module.__dict__ for module in model.modules())
        assert any(isinstance(module, layers.FastConv) for module in model.modules())
    assert not any(isinstance(module, layers.FastConv) for module in model.modules())


@needs_kernels
def test_weights_are_read_anew_each_time_it_is_held():
    model, images = pyramid("tf_efficientdet_d0", **SMALL), drawn(1, 3, 64, 64)
    with torch.no_grad(), held(model):
        before = maps_of(model, images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(0.9)  # moves no version
        wanted = maps_of(model, images)
        with held(model):
            found = maps_of(model, images)
    assert not torch.allclose(before[0], found[0], atol=1e-3)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@needs_kernels
def test_what_is_left_to_torch(programs):
    model, images = pyramid("tf_efficientdet_d0", **SMALL), drawn(2, 3, 128, 128)
    with held(model):
        model(images)  # gradients are wanted
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            model(images)
    with torch.no_grad():
        model(images)  # not held
        with held(model.double()):
            model(images.double())
        model.float().train()
        use_fast_kernels(model)
        with held(model):
            model(images)
    assert programs == []


@needs_kernels
@pytest.mark.parametrize(
    "watched",
    ["backbone.body.blocks.1.0.bn1", "backbone.body.conv_stem", "backbone.body.bn1", "neck.resample"],
)
def test_a_module_with_a_hook_is_called(watched):
    model, images = pyramid("tf_efficientdet_d0", **SMALL), drawn(1, 3, 64, 64)
    seen: list[Tensor] = []
    with torch.no_grad(), held(model):
        model(images)
        handle = model.get_submodule(watched).register_forward_hook(lambda *given: seen.append(given[-1]))
        by_kernels = maps_of(model, images)
        mine, seen[:] = list(seen), []
    with torch.no_grad():
        stock = maps_of(model, images)
    handle.remove()
    assert len(mine) == len(seen) > 0
    for a, b in zip([*mine, *by_kernels], [*seen, *stock], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@needs_kernels
def test_inputs_of_ever_new_sizes_do_not_fill_the_memory():
    block = trained(InvertedResidual(4, 4, exp_ratio=2))
    holder = nn.Sequential(block)
    with torch.no_grad(), held(holder):
        for side in range(4, 150):
            block(drawn(1, 4, 4, side))
        assert len(block.__dict__["programs"].known) <= 64
