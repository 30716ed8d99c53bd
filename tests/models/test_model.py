import pytest
import torch
from torch import nn

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.models.build import build_model
from trivet.models.model import Model


@pytest.fixture(scope="module")
def model():
    return build_model(backbone="test_resnet", classes=2, channels=16, layers=1, tower_layers=1)


def test_forward_is_the_three_parts(model):
    model.eval()
    images = torch.randn(1, 3, 65, 90)
    with torch.no_grad():
        expected = model.head(model.neck(model.backbone(images)))
        output = model(images)
    for a, b in zip(output.class_logits, expected.class_logits, strict=True):
        assert torch.equal(a, b)


def test_normalise(model):
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    before = images.clone()
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (model.spec.mean, model.spec.std))
    result = model.normalise(images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, (images / 255 - mean) / std)
    assert torch.equal(images, before)


def test_normalise_keeps_channels_last_and_every_bit(model):
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    last = model.normalise(images.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, model.normalise(images))
    one = torch.randint(0, 256, (1, 3, 1, 1), dtype=torch.uint8)
    assert torch.equal(model.normalise(one.to(memory_format=torch.channels_last)), model.normalise(one))


def test_statistics_move_with_the_model_but_are_not_saved(model):
    assert {"mean", "std"} <= dict(model.named_buffers()).keys()
    assert not {"mean", "std"} & model.state_dict().keys()


def test_knows_its_anchors_and_fill(model):
    assert model.anchor_spec == AnchorSpec(3, 7)
    assert model.fill_rgb == tuple(round(255 * value) for value in model.spec.mean)


def test_a_head_without_anchors_says_so(model):
    other = Model(model.backbone, model.neck, nn.Identity(), spec=model.spec)
    with pytest.raises(UsageError, match="the head Identity has no anchors"):
        _ = other.anchor_spec


def test_a_model_knows_its_task(model):
    assert model.task == "detection"
    other = Model(model.backbone, model.neck, nn.Identity(), spec=model.spec)
    with pytest.raises(UsageError, match=r"the head Identity does not say what it is for \(task=None\)"):
        _ = other.task
