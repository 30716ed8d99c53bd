"""Darknet in small: yolov4.cfg as a list of layers, its weights file written and read number by number, and its output.

Written from the cfg and the file's description alone, so that it can say whether our parts and their order are right.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Conv(NamedTuple):
    """`[convolutional]`."""

    filters: int
    size: int
    stride: int = 1
    activation: str = "mish"
    norm: bool = True


class Route(NamedTuple):
    """`[route]`: maps of layers counted back from here (below 0), or from the start."""

    layers: tuple[int, ...]


class Shortcut(NamedTuple):
    """`[shortcut]` from so many layers back."""

    back: int


class Pool(NamedTuple):
    """`[maxpool]` of stride 1."""

    size: int


class Upsample(NamedTuple):
    """`[upsample]` of stride 2."""


class Yolo(NamedTuple):
    """`[yolo]`."""


Layer = Conv | Route | Shortcut | Pool | Upsample | Yolo


def _stage(channels: int, blocks: int, *, first: bool) -> list[Layer]:
    width = channels if first else channels // 2
    inner = channels // 2
    layers: list[Layer] = [Conv(channels, 3, 2), Conv(width, 1), Route((-2,)), Conv(width, 1)]
    for _ in range(blocks):
        layers += [Conv(inner, 1), Conv(width, 3), Shortcut(-3)]
    return [*layers, Conv(width, 1), Route((-1, -(3 * blocks + 4))), Conv(channels, 1)]


def _leaky(channels: int, sizes: tuple[int, ...]) -> list[Layer]:
    return [Conv(channels * (1 if size == 1 else 2), size, 1, "leaky") for size in sizes]


def yolov4_layers(
    classes: int, *, width: float = 1.0, blocks: tuple[int, ...] = (1, 2, 8, 8, 4)
) -> list[Layer]:
    """Return the layers of yolov4.cfg in order, all of them narrower by a factor."""
    c = [round(n * width) for n in (32, 64, 128, 256, 512, 1024)]
    layers: list[Layer] = [Conv(c[0], 3)]
    ends = []
    for number, count in enumerate(blocks):
        layers += _stage(c[number + 1], count, first=number == 0)
        ends.append(len(layers) - 1)
    layers += _leaky(c[4], (1, 3, 1))
    layers += [Pool(5), Route((-2,)), Pool(9), Route((-4,)), Pool(13), Route((-1, -3, -5, -6))]
    layers += _leaky(c[4], (1, 3, 1))
    for end, channels in ((ends[3], c[3]), (ends[2], c[2])):
        layers += [Conv(channels, 1, 1, "leaky"), Upsample(), Route((end,)), Conv(channels, 1, 1, "leaky")]
        layers += [Route((-1, -3)), *_leaky(channels, (1, 3, 1, 3, 1))]
    last = [Conv(3 * (5 + classes), 1, 1, "linear", norm=False), Yolo()]
    layers += [Conv(c[3], 3, 1, "leaky"), *last]
    for channels, back in ((c[3], -16), (c[4], -37)):
        layers += [Route((-4,)), Conv(channels, 3, 2, "leaky"), Route((-1, back))]
        layers += [*_leaky(channels, (1, 3, 1, 3, 1)), Conv(2 * channels, 3, 1, "leaky"), *last]
    return layers


def entering_channels(layers: list[Layer]) -> list[int]:
    """Return how many channels each layer reads."""
    made: list[int] = []
    entering = []
    for number, layer in enumerate(layers):
        before = made[-1] if made else 3
        entering.append(before)
        if isinstance(layer, Conv):
            made.append(layer.filters)
        elif isinstance(layer, Route):
            made.append(sum(made[n if n >= 0 else number + n] for n in layer.layers))
        else:
            made.append(before)
    return entering


def write_random(path: Path, layers: list[Layer], *, version: tuple[int, int] = (0, 2), seed: int = 0) -> int:
    """Write a weights file of random numbers, and return how many."""
    draw = np.random.default_rng(seed)
    count = 0
    with path.open("wb") as file:
        file.write(struct.pack("<3i", *version, 0))
        file.write(struct.pack("<q" if 10 * version[0] + version[1] >= 2 else "<i", 32_013_312))
        for layer, before in zip(layers, entering_channels(layers), strict=True):
            if not isinstance(layer, Conv):
                continue
            n, fan = layer.filters, before * layer.size**2
            parts = [draw.normal(0, 0.1, n)]  # shift, or bias
            if layer.norm:
                parts += [draw.uniform(0.5, 1.5, n), draw.normal(0, 0.1, n), draw.uniform(0.5, 1.5, n)]
            parts.append(draw.normal(0, 1 / np.sqrt(fan), n * fan))
            for part in parts:
                file.write(part.astype("<f4").tobytes())
                count += len(part)
    return count


def run(path: Path, layers: list[Layer], images: Tensor, *, header: int = 20) -> list[Tensor]:
    """Run the network on images `[b, 3, h, w]` and return what enters each `[yolo]`, in float64, in order."""
    numbers = np.frombuffer(path.read_bytes()[header:], "<f4").astype(np.float64)
    place, made, said = 0, [], []

    def take(*shape: int) -> Tensor:
        nonlocal place
        count = int(np.prod(shape))
        place += count
        return torch.tensor(numbers[place - count : place]).view(*shape)

    x = images.double()
    for number, (layer, before) in enumerate(zip(layers, entering_channels(layers), strict=True)):
        if isinstance(layer, Conv):
            n = layer.filters
            shift = take(n)
            scale, mean, variance = (take(n), take(n), take(n)) if layer.norm else (None, None, None)
            x = F.conv2d(
                x, take(n, before, layer.size, layer.size), stride=layer.stride, padding=layer.size // 2
            )
            if layer.norm:
                x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt() * scale[:, None, None]
            x = x + shift[:, None, None]
            if layer.activation == "mish":
                x = x * torch.tanh(torch.log1p(torch.exp(x)))
            elif layer.activation == "leaky":
                x = torch.where(x > 0, x, 0.1 * x)
        elif isinstance(layer, Route):
            x = torch.cat([made[n if n >= 0 else number + n] for n in layer.layers], dim=1)
        elif isinstance(layer, Shortcut):
            x = x + made[number + layer.back]
        elif isinstance(layer, Pool):
            x = F.max_pool2d(x, layer.size, stride=1, padding=layer.size // 2)
        elif isinstance(layer, Upsample):
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        else:
            said.append(x)
        made.append(x)
    assert place == len(numbers)
    return said
