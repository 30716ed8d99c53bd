import pytest
import torch
import torch.nn.functional as F

from trivet.structures import Placement
from trivet.tasks import resample
from trivet.tasks.resample import strips_at_original


def whole(logits, size_hw, placement):
    return torch.cat([strip for _, strip in strips_at_original(logits, size_hw, placement)], dim=1)


@pytest.mark.parametrize("cells_hw", [(1, 1), (5, 7), (40, 56), (64, 64)])
def test_the_inputs_own_pixels_are_those_of_interpolate(cells_hw):
    torch.manual_seed(0)
    logits = torch.randn(3, *cells_hw)
    theirs = F.interpolate(logits[None], size=(40, 56), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(whole(logits, (40, 56), Placement((40, 56))), theirs, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("scale_yx", [(0.5, 0.5), (1.7, 1.3), (0.33, 2.0)])
def test_placed_pixels_are_those_of_grid_sample(scale_yx):
    torch.manual_seed(0)
    logits, placement = torch.randn(3, 9, 11), Placement((23, 31), scale_yx, (3.5, -2.0))
    y, x = (
        (torch.arange(count) + 0.5) * scale + offset
        for count, scale, offset in zip((23, 31), scale_yx, (3.5, -2.0), strict=True)
    )
    grid = torch.stack(torch.meshgrid(x / 88 * 2 - 1, y / 72 * 2 - 1, indexing="xy"), dim=-1)
    theirs = F.grid_sample(logits[None], grid[None], padding_mode="border", align_corners=False)[0]
    torch.testing.assert_close(whole(logits, (72, 88), placement), theirs, rtol=1e-4, atol=1e-5)


def test_strips_make_up_the_image(monkeypatch):
    torch.manual_seed(0)
    logits, placement = torch.randn(3, 9, 11), Placement((23, 31))
    expected = whole(logits, (72, 88), placement)
    monkeypatch.setattr(resample, "_AT_ONCE", 3 * 31 * 4)
    strips = list(strips_at_original(logits, (72, 88), placement))
    assert [rows.start for rows, _ in strips] == [0, 4, 8, 12, 16, 20]
    torch.testing.assert_close(torch.cat([strip for _, strip in strips], dim=1), expected)
