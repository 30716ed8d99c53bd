"""The two kernels of the dense CRF as operators on pixels: values `[h * w, c]` in, their weighted sums out."""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trivet.geometry.permutohedral import PermutohedralLattice

PixelFilter: TypeAlias = Callable[[Tensor], Tensor]

_REACH = 5  # standard deviations: beyond, the Gaussian is below 4e-6
_BLOCK = 64  # pixels filtered by one small matrix product


def bilateral_points(
    image: UInt8[Tensor, "h w 3"], sigma_xy: float, sigma_rgb: float
) -> Float[Tensor, "h*w 5"]:
    """Return place and colour of each pixel in units of the standard deviations."""
    height, width, _ = image.shape
    rows, columns = (torch.arange(size, device=image.device, dtype=torch.float32) for size in (height, width))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    return torch.cat([places / sigma_xy, image.float() / sigma_rgb], dim=-1).flatten(0, 1)


def exact_filter(points: Float[Tensor, "n d"]) -> PixelFilter:
    """Return the Gaussian filter of points as a matrix: `n`^2 numbers."""
    points = points.double()
    norms = points.square().sum(dim=1)
    kernel = (points @ points.T - norms[:, None] / 2 - norms / 2).clamp_(max=0).exp_().float()
    return lambda values: kernel @ values


def lattice_filter(points: Float[Tensor, "n d"]) -> PixelFilter:
    """Return the Gaussian filter of points by the permutohedral lattice."""
    return PermutohedralLattice(points).filter


def gaussian_filter(size_hw: tuple[int, int], sigma: float, device: torch.device | str) -> PixelFilter:
    """Return the Gaussian filter of the pixels' places, cut off at 5 standard deviations."""
    height, width = size_hw
    rows, columns = (_band(size, sigma, device) for size in size_hw)

    def apply(values: Tensor) -> Tensor:
        down = _filter_axis(values.view(1, height, -1), rows)
        return _filter_axis(down.view(height, width, -1), columns).reshape(values.shape)

    return apply


def normalised(apply: PixelFilter, pixels: int, device: torch.device | str) -> PixelFilter:
    """Return the filter between two divisions by the root of what it makes of ones: symmetric normalisation."""
    scale = apply(torch.ones(pixels, 1, device=device)).add_(1e-20).rsqrt_()
    return lambda values: apply(values * scale) * scale


def _band(size: int, sigma: float, device: torch.device | str) -> Tensor:
    """Return the matrix `(block, block + 2 reach)` that filters a block of an axis."""
    reach = min(math.ceil(_REACH * sigma), size - 1)
    block = min(_BLOCK, size)
    to, of = (torch.arange(count, device=device) for count in (block, block + 2 * reach))
    distance = (of[None] - reach - to[:, None]).to(torch.float64)
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2).float()
    return torch.where(distance.abs() <= reach, kernel, torch.zeros_like(kernel))


def _filter_axis(values: Tensor, band: Tensor) -> Tensor:
    """Filter `(b, size, c)` along the middle axis, nothing coming from outside."""
    batch, size, channels = values.shape
    block, window = band.shape
    reach, blocks = (window - block) // 2, math.ceil(size / block)
    padded = values.new_zeros(batch, blocks * block + 2 * reach, channels)
    padded[:, reach : reach + size] = values
    windows = padded.unfold(1, window, block).transpose(2, 3)  # (b, blocks, window, c)
    return (band @ windows).reshape(batch, blocks * block, channels)[:, :size]
