"""Darknet's weights files: a short header, then float32 numbers, convolution by convolution in the order of the cfg.

Nothing in such a file says which network it is for: only the count of numbers does, and it is held against the model.
Of a convolution with a norm there are, in this order, shift, scale, running mean, running variance and weights; of one
without, bias and weights.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.csp_darknet import ConvUnit, CSPDarknet53
from trivet.models.files import WeightsFile
from trivet.models.heads.yolo import Predictor, YoloHead
from trivet.models.model import Model
from trivet.models.necks.spp_pan import SppPan

_HEADER = struct.Struct("<3i")  # major, minor, revision; then how many images it was trained on
_BOX = 4
_BOX_ORDER = (1, 0, 3, 2)  # there (x, y, w, h), here (y, x, h, w)


@dataclass(frozen=True)
class _Layer:
    """A convolution of the file: its name here, and how many numbers it has there.

    Args:
        name: Of our module, in the model.
        module: A unit, or a level's predictions.
        part: Of the model.
    """

    name: str
    module: ConvUnit | Predictor
    part: str

    def count(self, classes: int) -> int:
        """Return how many numbers the file has for it where it was written for so many classes."""
        if isinstance(self.module, ConvUnit):
            conv = self.module.conv.full
            return conv.weight.numel() + 4 * conv.out_channels
        slots, channels = self.module.objectness.out_channels, self.module.objectness.in_channels
        return slots * (_BOX + 1 + classes) * (channels + 1)


def is_darknet_file(path: str | Path) -> bool:
    """Tell by its name whether a file is darknet's: `yolov4.weights`, or the first layers alone, `yolov4.conv.137`."""
    return re.search(r"\.(weights|conv\.\d+)$", Path(path).name) is not None


def read_darknet(path: str | Path, model: Model) -> WeightsFile:
    """Read a darknet file as the tensors of a YOLOv4 model, under our names.

    The file may be for another number of classes, which its length tells; then the class predictions have so many
    rows. It may end after any convolution before the first prediction, from the last one of the backbone on: such
    files of first layers are published to start from, and are `partial` then.

    Args:
        path: The file.
        model: What it is for; it is not changed.

    Raises:
        UsageError: If the model is not one that darknet knows, the file is absent, cut off, too long, for another
            network, or holds numbers that are not finite.
    """
    path = Path(path)
    layers = list(_layers(model))
    numbers = _numbers(path)
    classes = _classes_of(path, layers, len(numbers))
    tensors: dict[str, Tensor] = {}
    place = 0
    for layer in layers:
        if place == len(numbers):
            break
        end = place + layer.count(classes)
        tensors |= _tensors(layer, numbers[place:end], classes)
        place = end
    variances = (value for name, value in tensors.items() if name.endswith("running_var"))
    if not all(bool(value.isfinite().all()) for value in tensors.values()) or any(
        bool((value < 0).any()) for value in variances
    ):
        raise UsageError(
            f"{path}: holds numbers that are not finite, or variances below 0: it is damaged or for another network"
        )
    return WeightsFile(tensors, partial=len(tensors) < _tensor_count(layers))


def _layers(model: Model) -> Iterator[_Layer]:
    """Yield the convolutions in the order of yolov4.cfg: each prediction comes before the way up to the next level."""
    backbone, neck, head = model.backbone, model.neck, model.head
    units = [module for module in model.modules() if isinstance(module, ConvUnit)]
    if (
        not isinstance(backbone, CSPDarknet53)
        or not isinstance(neck, SppPan)
        or not isinstance(head, YoloHead)
        or not all(map(_is_darknets, units))
        or len(neck.extra)
    ):
        parts = " + ".join(type(part).__name__ for part in (backbone, neck, head))
        raise UsageError(
            f"darknet's weights are for a YOLOv4 of full convolutions with batch norms, got {parts}",
            'build_model("yolov4", classes=...), with norm "bn" or "frozen_bn"',
        )
    yield from _units("backbone", backbone)
    for name in ("before", "after", "down"):
        yield from _units(f"neck.{name}", neck.get_submodule(name))
    for number, level in enumerate(head.levels):
        if number:
            yield from _units(f"neck.up.{number - 1}", neck.up[number - 1])
        yield from _units(f"head.levels.{number}", level)
        assert isinstance(level, Predictor), "a YOLO head's levels are predictors"
        yield _Layer(f"head.levels.{number}", level, "head")


def _is_darknets(unit: ConvUnit) -> bool:
    full, norm = getattr(unit.conv, "full", None), getattr(unit.conv, "norm", None)
    return full is not None and full.bias is None and hasattr(norm, "running_var")


def _units(name: str, part: nn.Module) -> Iterator[_Layer]:
    for inner, module in part.named_modules(prefix=name):
        if isinstance(module, ConvUnit):
            yield _Layer(inner, module, name.split(".")[0])


def _numbers(path: Path) -> np.ndarray:
    """Return the numbers after the header."""
    if not path.is_file():
        raise UsageError(f"there is no weights file {str(path)!r}", "give the path of a file")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise UsageError(
            f"{path}: {size} bytes are fewer than the header of a darknet file", "fetch it again"
        )
    major, minor, _ = _HEADER.unpack(head)
    if not (0 <= major < 10 and 0 <= minor < 10):
        raise UsageError(
            f"{path}: does not begin as a darknet file does (version {major}.{minor})",
            "other weights files end in .safetensors, .pth or .pt",
        )
    start = _HEADER.size + (
        8 if 10 * major + minor >= 2 else 4
    )  # the count of images became a long in version 0.2
    if size < start or (size - start) % 4:
        raise UsageError(
            f"{path}: its {size} bytes are not a header of {start} and whole float32 numbers: it is cut off",
            "fetch it again",
        )
    return np.fromfile(path, np.dtype("<f4"), offset=start)


def _classes_of(path: Path, layers: Sequence[_Layer], count: int) -> int:
    """Return how many classes a file with so many numbers is for; 0 for one that ends before it says."""
    first = next(i for i, layer in enumerate(layers) if isinstance(layer.module, Predictor))
    ends = list(accumulate(layer.count(0) for layer in layers[:first]))
    of_backbone = sum(layer.part == "backbone" for layer in layers)
    if count in ends[of_backbone - 1 :]:
        return 0
    without = sum(layer.count(0) for layer in layers)
    each = sum(layer.count(1) for layer in layers) - without
    classes, left = divmod(count - without, each)
    if classes >= 1 and not left:
        return classes
    raise UsageError(
        f"{path}: its {count:,} numbers are not those of this model, which has {without:,} and {each:,} a class, "
        f"or ends after the backbone's {ends[of_backbone - 1]:,} or a later layer: the file is cut off, or for "
        "another network or width",
        'yolov4.weights is for build_model("yolov4"); fetch the file again if it is',
    )


def _tensors(layer: _Layer, numbers: np.ndarray, classes: int) -> dict[str, Tensor]:
    """Return a layer's tensors by our names."""
    values = torch.from_numpy(numbers.astype(np.float32))  # a copy, in this machine's byte order
    if isinstance(layer.module, Predictor):
        return _predictions(layer.name, layer.module, values, classes)
    conv = layer.module.conv.full
    n = conv.out_channels
    names = ("norm.bias", "norm.weight", "norm.running_mean", "norm.running_var")
    found = {f"{layer.name}.conv.{name}": values[i * n : (i + 1) * n] for i, name in enumerate(names)}
    return found | {f"{layer.name}.conv.full.weight": values[4 * n :].view_as(conv.weight)}


def _predictions(name: str, level: Predictor, values: Tensor, classes: int) -> dict[str, Tensor]:
    """Return the three predictions that darknet has as one: for each anchor box, objectness, classes."""
    slots, channels = level.objectness.out_channels, level.objectness.in_channels
    rows = slots * (_BOX + 1 + classes)
    found = {}
    for kind, part in (("bias", values[:rows, None]), ("weight", values[rows:].view(rows, channels))):
        blocks = part.unflatten(0, (slots, -1))  # (slots, 4 + 1 + classes, channels or 1)
        shares = {
            "boxes": blocks[:, list(_BOX_ORDER)],
            "objectness": blocks[:, _BOX : _BOX + 1],
            "classes": blocks[:, _BOX + 1 :],
        }
        for key, share in shares.items():
            flat = share.flatten(0, 1)
            found[f"{name}.{key}.{kind}"] = flat[:, 0] if kind == "bias" else flat[:, :, None, None]
    return {key: value.contiguous() for key, value in found.items()}


def _tensor_count(layers: Sequence[_Layer]) -> int:
    return sum(5 if isinstance(layer.module, ConvUnit) else 6 for layer in layers)
