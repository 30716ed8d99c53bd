import pytest
import torch

from trivet.models.build import build_model
from trivet.models.padding import cut_back, pad_to_multiple


@pytest.mark.parametrize(
    ("size_hw", "wanted"), [((64, 32), (64, 32)), ((65, 31), (96, 32)), ((1, 1), (32, 32))]
)
def test_pads_right_and_bottom_with_zeros(size_hw, wanted):
    images = torch.randn(2, 3, *size_hw)
    padded = pad_to_multiple(images, 32)
    assert padded.shape[-2:] == wanted
    assert torch.equal(padded[..., : size_hw[0], : size_hw[1]], images)
    assert float(padded.abs().sum()) == pytest.approx(float(images.abs().sum()), rel=1e-5)


def test_leaves_an_image_that_fits_alone():
    images = torch.randn(1, 3, 64, 32)
    assert pad_to_multiple(images, 32) is images
    assert pad_to_multiple(images, 1) is images


@pytest.mark.parametrize("stride", [1, 4, 8, 32])
@pytest.mark.parametrize("size_hw", [(65, 97), (64, 33), (1, 96), (95, 95)], ids=str)
def test_keeps_the_cells_that_see_the_image(stride, size_hw):
    padded_hw = (96, 128)
    cells = torch.arange(padded_hw[0] * padded_hw[1] // stride**2).float()
    output = cells.view(1, 1, padded_hw[0] // stride, padded_hw[1] // stride)
    whole, second = cut_back((output, output[:, :, ::1]), size_hw, padded_hw)
    rows, columns = (len(range(0, side, stride)) for side in size_hw)
    assert torch.equal(whole, output[..., :rows, :columns])
    assert torch.equal(second, whole)


@pytest.mark.parametrize("backbone", ["test_convnext", "test_efficientnet", "test_byobnet"])
def test_an_image_of_any_size_is_the_padded_one_cut_back(backbone):
    """Also on backbones that round down, which would lose the last rows."""
    model = build_model(backbone=backbone, head="semantic", classes=2, channels=8).eval()
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        output, padded = model(images), model(pad_to_multiple(images, 32))
    assert output.shape[-2:] == (17, 25)
    assert torch.equal(output, padded[..., :17, :25])
