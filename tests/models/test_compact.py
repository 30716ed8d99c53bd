import numpy as np
import pytest
import torch

from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.models.compact import CompactBackbone, PatchWhitening, fit_whitening


def correlated(count=64):
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (count, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    return torch.from_numpy((smooth + rng.integers(0, 20, smooth.shape)).clip(0, 255).astype(np.uint8))


def second_moments(whitening, images):
    responses = whitening(images)[:, :12].transpose(0, 1).flatten(1)
    return responses @ responses.T / responses.shape[1]


def test_fitted_directions_whiten_patches():
    model = build_model("compact")
    images = correlated()
    assert fit_whitening(model, images)
    with torch.no_grad():
        moments = second_moments(model.backbone.whitening, model.normalise(images))
    off = moments - torch.diag(torch.diag(moments))
    assert off.abs().max() < 0.02
    assert torch.diag(moments).min() > 0.8
    assert torch.diag(moments).max() < 1.01


def test_unfitted_directions_are_orthonormal():
    rows = PatchWhitening().weight.flatten(1)
    assert torch.allclose(rows[:12] @ rows[:12].T, torch.eye(12), atol=1e-6)
    assert torch.equal(rows[12:], -rows[:12])


def test_whitening_is_saved_and_never_learnt():
    model = build_model("compact")
    assert "backbone.whitening.weight" in model.state_dict()
    assert "backbone.whitening.weight" not in dict(model.named_parameters())


def test_other_models_have_nothing_to_fit():
    assert not fit_whitening(build_model("regnet_small"), correlated(2))


@pytest.mark.parametrize("side", [28, 32, 33, 48])
def test_any_size_of_picture(side):
    model = build_model("compact", classes=7).eval()
    assert model(torch.randn(2, 3, side, side)).shape == (2, 7)


def test_widths_are_an_argument():
    model = build_model("compact", widths=(8, 12), convs=1)
    assert [feature.channels for feature in model.backbone.features] == [8, 12]
    assert [feature.stride for feature in model.backbone.features] == [2, 4]


def test_no_published_weights():
    with pytest.raises(UsageError, match="no ImageNet weights for backbone 'compact'"):
        build_model("compact", pretrained=True)


@pytest.mark.parametrize("options", [{"widths": ()}, {"widths": (8, 0)}, {"convs": 0}])
def test_values_out_of_range(options):
    with pytest.raises(UsageError, match="needs stages of at least 1 channel and convolution"):
        CompactBackbone(**options)


def test_it_learns_which_half_is_bright():
    torch.manual_seed(0)
    model = build_model("compact", classes=2, widths=(8, 16, 16))
    labels = torch.arange(32) % 2
    images = torch.randint(0, 100, (32, 3, 32, 32), dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, :, 16:] += 120 * label.to(torch.uint8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(model.normalise(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
