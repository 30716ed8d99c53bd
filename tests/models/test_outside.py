import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, lraspp_mobilenet_v3_large

from trivet.errors import UsageError
from trivet.models.build import load_model
from trivet.models.count import count_model, count_parameters
from trivet.models.outside import wrap_model
from trivet.models.weights import load_weights, save_weights

NOTHING = {"weights": None, "weights_backbone": None}


class Strict(nn.Module):
    """A network that refuses sides that are no multiple of 16, as many do, at stride 4."""

    def __init__(self, classes=3, key=None):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 1)
        self.key = key

    def forward(self, images):
        if images.shape[-2] % 16 or images.shape[-1] % 16:
            raise RuntimeError("sides must be divisible by 16")
        logits = self.conv(images)[..., ::4, ::4]
        return {self.key: logits, "other": 1} if self.key else logits


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))


def wrapped(module, **options):
    return wrap_model(module, **{"task": "segmentation", "classes": 3, **options})


@pytest.mark.parametrize("key", [None, "out", "logits"])
def test_pads_for_the_module_and_cuts_its_output_back(key):
    model, images = wrapped(Strict(key=key)), torch.randn(2, 3, 33, 50)
    expected = model.head.module.conv(images)[..., ::4, ::4]
    assert expected.shape[-2:] == (9, 13)
    torch.testing.assert_close(model(images), expected)


def test_a_multiple_of_its_own():
    assert wrapped(Strict(), multiple=16)(torch.zeros(1, 3, 17, 16)).shape[-2:] == (5, 4)
    with pytest.raises(RuntimeError, match="divisible by 16"):
        wrapped(Strict(), multiple=1)(torch.zeros(1, 3, 17, 16))


@pytest.mark.parametrize("size_hw", [(64, 64), (65, 97)], ids=str)
def test_torchvisions_networks_train(size_hw):
    model = wrapped(lraspp_mobilenet_v3_large(num_classes=3, **NOTHING)).train()
    output = model(torch.randn(2, 3, *size_hw))
    assert output.shape == (2, 3, *size_hw)
    output.square().sum().backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


def test_a_second_output_comes_second():
    net = deeplabv3_mobilenet_v3_large(num_classes=3, aux_loss=True, **NOTHING).eval()
    images = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        main, second = wrapped(net).eval()(images)
        both = net(torch.nn.functional.pad(images, (0, 24)))
    assert torch.equal(main, both["out"][..., :40])
    assert torch.equal(second, both["aux"][..., :40])


@pytest.mark.parametrize("name", ["Unet", "FPN", "DeepLabV3Plus"])
def test_segmentation_models_pytorch(name):
    smp = pytest.importorskip("segmentation_models_pytorch")
    net = getattr(smp, name)("resnet18", encoder_weights=None, classes=3)
    assert wrapped(net)(torch.randn(2, 3, 65, 97)).shape == (2, 3, 65, 97)


def test_a_classifier():
    model = wrapped(Pooled(), task="classification", classes=2)
    assert model.task == "classification"
    assert model(torch.zeros(4, 3, 33, 50)).shape == (4, 2)


def test_what_a_model_is_told_of_pictures():
    model = wrapped(Strict(), mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0), size_hw=(64, 96))
    assert model.spec.size_hw == (64, 96)
    assert model.fill_rgb == (128, 128, 128)
    white = model.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.full((1, 3, 2, 2), 0.5))
    assert wrapped(Strict()).spec.mean == (0.485, 0.456, 0.406)


def test_counts_and_weights_file(tmp_path):
    model, other = wrapped(Strict()), wrapped(Strict())
    assert count_parameters(model) == 12
    assert count_model(model, (32, 64)).macs == 32 * 64 * 9
    save_weights(model, tmp_path / "m.safetensors")
    assert load_weights(other, tmp_path / "m.safetensors").layout == "trivet"
    assert torch.equal(other.head.module.conv.weight, model.head.module.conv.weight)


def test_a_file_of_a_wrapped_model_says_how_to_load_it(tmp_path):
    save_weights(wrapped(Strict()), tmp_path / "m.safetensors")
    with pytest.raises(
        UsageError, match=r"wrapped from an outside module, tests\.models\.test_outside:Strict"
    ):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (
            Strict(classes=4),
            {},
            r"Strict gives logits of shape \(1, 4, 8, 8\), wanted \[images, 3 classes, height",
        ),
        (Pooled(), {"classes": 2}, r"Pooled gives logits of shape \(1, 2\), wanted .* for segmentation"),
        (Strict(), {"task": "classification"}, r"wanted \[images, 3 classes\] for classification"),
        (Strict(key="scores"), {}, "gives dict, wanted a tensor of logits"),
    ],
)
def test_output_that_does_not_fit(module, arguments, message):
    with pytest.raises(UsageError, match=message):
        wrapped(module, **arguments)(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "detection"}, "cannot wrap a module for task 'detection'"),
        ({"classes": 0}, "classes and multiple of at least 1, got 0 and 32"),
        ({"multiple": 0}, "got 3 and 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        wrapped(Strict(), **arguments)
