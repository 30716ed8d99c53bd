"""Pixels in one pass: bit for bit what PyTorch's operators make of them."""

import pytest
import torch

from tests.models.kernels.needs import needs_kernels
from trivet.models.kernels.pixels import normalise_rows


@needs_kernels
@pytest.mark.parametrize("rows", [1, 7, 500])
def test_it_equals_torchs_bit_for_bit(rows):
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (rows, 129), dtype=torch.uint8, generator=draw)
    mean, std = torch.rand(129, generator=draw) * 255, torch.rand(129, generator=draw) + 50
    wanted = pixels.float().sub_(mean).div_(std)
    assert torch.equal(normalise_rows(pixels, mean, std), wanted)
