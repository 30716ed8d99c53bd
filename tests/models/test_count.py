import pytest
import torch
from torch import nn

from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.models.count import count_model, count_parameters


def test_counts_a_convolution_and_a_linear_layer_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), nn.Flatten(), nn.Linear(8 * 4 * 5, 7)
    )
    count = count_model(model, (8, 10))
    assert count.macs == 8 * 4 * 5 * 3 * 9 + 7 * 160
    assert count.parameters == 8 * 3 * 9 + 8 + 7 * 160 + 7
    assert count.by_part == {"0": (224, 4320), "1": (0, 0), "2": (1127, 1120)}


def test_shared_layers_count_once_as_parameters_and_each_time_as_work():
    model = build_model(backbone="test_resnet", classes=1, channels=8, layers=1, tower_layers=1)
    once = count_model(model, (64, 64)).by_part["head"]
    assert once[0] == count_parameters(model.head)
    assert count_model(model, (128, 128)).by_part["head"][1] > 3 * once[1]


def test_leaves_the_model_as_it_was():
    model = build_model(backbone="test_resnet", classes=1, channels=8).train()
    model.backbone.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_model(model, (64, 64))
    assert model.neck.training
    assert not model.backbone.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_parts_add_up():
    count = count_model(build_model("efficientdet_lite0", classes=3), (320, 320))
    assert count.parameters == sum(parameters for parameters, _ in count.by_part.values())
    assert count.macs == sum(macs for _, macs in count.by_part.values())


def test_refuses_an_empty_image():
    with pytest.raises(UsageError, match=r"at least 1 pixel, got size_hw=\(0, 8\)"):
        count_model(nn.Identity(), (0, 8))


def test_counts_a_transposed_convolution_and_unpooling_by_hand():
    class Back(nn.Module):
        def __init__(self):
            super().__init__()
            self.deconv = nn.ConvTranspose2d(3, 4, 3, stride=2)

        def forward(self, images):
            pooled, switches = nn.functional.max_pool2d(images, 2, return_indices=True)
            return self.deconv(nn.functional.max_unpool2d(pooled, switches, 2))

    count = count_model(Back(), (8, 10))
    assert count.macs == 3 * 8 * 10 * 4 * 9
    assert count.parameters == 3 * 4 * 9 + 4
