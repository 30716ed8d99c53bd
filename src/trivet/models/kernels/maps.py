"""Maps and gradients as the C kernels take them; see `maps.h`."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from trivet.models.kernels.activations import Activation

_PLAIN = Activation()


class CMap(ctypes.Structure):
    """`Map` of `maps.h`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("map", "mean", "scale", "shift", "gate")),
        *(("channels", ctypes.c_long), ("image_rows", ctypes.c_long)),
        *(("kind", ctypes.c_int), ("slope", ctypes.c_float)),
    )


class CGradient(ctypes.Structure):
    """`Gradient` of `maps.h`."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("d", "offset", "tilt", "pooled"))


@dataclass(frozen=True)
class View:
    """A map as its reader sees it: `activation((map - mean) * scale + shift) * gate`.

    Args:
        map: `[b, c, h, w]`, channels last.
        kept: Mean, scale and 1 / standard deviation of each channel, `[3, c]`; `None` where no norm comes before.
        shift: The norm's bias.
        activation: What follows the norm.
        gate: A factor for each image and channel, `[b, c]`.
    """

    map: Tensor
    kept: Tensor | None = None
    shift: Tensor | None = None
    activation: Activation = _PLAIN
    gate: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many pixels all images have."""
        images, _, height, width = self.map.shape
        return images * height * width

    def in_c(self) -> CMap:
        """Return it as C takes it; it must outlive the call."""
        _, channels, height, width = self.map.shape
        kept = address(self.kept)
        return CMap(
            *(
                self.map.data_ptr(),
                kept,
                kept and kept + 4 * channels,
                address(self.shift),
                address(self.gate),
            ),
            *(channels, height * width, self.activation.kind, self.activation.slope),
        )


@dataclass(frozen=True)
class Slope:
    """The gradient of a map, see `Gradient` in `maps.h`.

    Args:
        d: Of the map itself, or where there are `lines` of what a norm makes of it.
        lines: Offset and tilt of each channel, `[2, c]`.
        pooled: Gradient of the mean of each image and channel over its pixels, `[b, c]`.
    """

    d: Tensor
    lines: Tensor | None = None
    pooled: Tensor | None = None

    def in_c(self) -> CGradient:
        """Return it as C takes it; it must outlive the call."""
        lines = address(self.lines)
        return CGradient(
            self.d.data_ptr(), lines, lines and lines + 4 * self.d.shape[1], address(self.pooled)
        )


def address(tensor: Tensor | None) -> int | None:
    """Return where a tensor lies, for C."""
    return None if tensor is None else tensor.data_ptr()


def addresses(tensors: Sequence[Tensor]) -> ctypes.Array:
    """Return where tensors lie, for C."""
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def empty_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return an uninitialised channels-last map for as many images."""
    return like.new_empty(like.shape[0], height, width, channels).permute(0, 3, 1, 2)
