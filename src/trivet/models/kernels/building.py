"""Which layers make a chain, and when they may run as one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from torch import Tensor, nn

from trivet.models.backbone import DROP_PATH, NORM_WITH_ACTIVATION, SAME_CONV, SQUEEZE
from trivet.models.kernels.activations import Activation, activation_of, has_hooks
from trivet.models.kernels.batch_norm import is_ready
from trivet.models.kernels.depthwise import is_known_depthwise, shape_of_sides
from trivet.models.kernels.eligible import all_plain, eligible
from trivet.models.kernels.library import kernels
from trivet.models.kernels.links import Chain, End, Link
from trivet.models.kernels.shape import Shape


@dataclass(frozen=True)
class Piece:
    """A convolution of a chain with what comes before it, as modules.

    Args:
        conv: Depthwise or pointwise.
        norm: Before it, if there is one.
        activation: After the norm; `None` where the norm brings its own.
        squeeze: timm's squeeze and excitation, or `nn.Identity`.
    """

    conv: nn.Module
    norm: nn.Module | None = None
    activation: nn.Module | None = None
    squeeze: nn.Module | None = None


@dataclass(frozen=True)
class Layout:
    """What a layer runs one after the other, as modules.

    Args:
        pieces: The convolutions.
        norm: After the last of them.
        activation: After that norm; `None` where the norm brings its own.
        drop_path: After that.
        shortcut: Whether what enters is added in the end.
        around: Further modules whose own call is left out.
    """

    pieces: Sequence[Piece]
    norm: nn.Module | None = None
    activation: nn.Module | None = None
    drop_path: nn.Module | None = None
    shortcut: bool = False
    around: Sequence[nn.Module] = ()

    def modules(self) -> Iterator[nn.Module]:
        """Yield every module whose call is left out, those within others too."""
        parts = [
            part
            for piece in self.pieces
            for part in (piece.conv, piece.norm, piece.activation, piece.squeeze)
        ]
        for part in (*parts, self.norm, self.activation, self.drop_path):
            if part is not None:
                yield from part.modules()
        yield from self.around


def build_chain(x: Tensor, layout: Layout, *, training: bool = True) -> Chain | None:
    """Return the chain that does what these modules would do with `x`, or `None` where they must run.

    Args:
        x: What enters.
        layout: The modules.
        training: In training, with gradients; or in evaluation, without.
    """
    if kernels() is None or not eligible(x, training=training) or any(map(has_hooks, layout.around)):
        return None
    links = []
    images, channels, height, width = x.shape
    for piece in layout.pieces:
        link = _link(piece, (images, channels, height, width), training=training)
        if link is None:
            return None
        links.append(link)
        channels = link.weight.shape[0]
        if link.shape is not None:
            height, width = link.shape.out_height, link.shape.out_width
    norm = layout.norm
    if norm is None:
        return Chain(tuple(links))
    known = norm_with(norm, layout.activation, training=training)
    if known is None or norm.num_features != channels or (training and images * height * width < 2):
        return None
    assert isinstance(norm, nn.BatchNorm2d), "norm_with was asked"
    keep, drop_path = None, layout.drop_path
    if drop_path is not None and type(drop_path) is not nn.Identity:
        if type(drop_path) is not DROP_PATH or has_hooks(drop_path):
            return None
        if training and drop_path.drop_prob:
            keep = drop_path(x.new_ones(images, 1, 1, 1)).reshape(images, 1).repeat(1, channels)
    return Chain(tuple(links), End(norm, known, keep, layout.shortcut))


def norm_with(norm: nn.Module, activation: nn.Module | None, *, training: bool = True) -> Activation | None:
    """Return what a kernel must do after a norm whose place it takes, or `None` where none can take it."""
    if not is_ready(norm, training=training) or has_hooks(norm):
        return None
    if activation is not None:
        return activation_of(activation) if not isinstance(norm, NORM_WITH_ACTIVATION) else None
    if isinstance(norm, NORM_WITH_ACTIVATION):
        return activation_of(norm.act) if type(norm.drop) is nn.Identity else None
    return Activation()


def _link(piece: Piece, sides: tuple[int, int, int, int], *, training: bool) -> Link | None:
    conv, norm, known = piece.conv, piece.norm, Activation()
    if not isinstance(conv, nn.Conv2d) or has_hooks(conv) or not _readable(conv.weight, conv.bias):
        return None
    if conv.in_channels != sides[1] or conv.training != training:
        return None
    shape: Shape | None = None
    if not _is_pointwise(conv):
        shape = (
            shape_of_sides(conv, sides, same=isinstance(conv, SAME_CONV))
            if is_known_depthwise(conv)
            else None
        )
        if shape is None:
            return None
    if norm is not None:
        found = norm_with(norm, piece.activation, training=training)
        if found is None or (training and sides[0] * sides[2] * sides[3] < 2):
            return None
        known = found
    squeeze = None if type(piece.squeeze) is nn.Identity else piece.squeeze
    if squeeze is not None and (shape is not None or norm is None or not _can_squeeze(squeeze)):
        return None
    assert norm is None or isinstance(norm, nn.BatchNorm2d), "norm_with was asked"
    return Link(conv.weight, conv.bias, shape, norm, known, squeeze)


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (1, 1)
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.padding in ((0, 0), 0, "same", "valid")
    )


def _can_squeeze(squeeze: nn.Module) -> TypeGuard[SQUEEZE]:
    return (
        type(squeeze) is SQUEEZE
        and not any(has_hooks(module) for module in squeeze.modules())
        and _readable(*squeeze.parameters())
    )


def _readable(*tensors: Tensor | None) -> bool:
    return all_plain(*tensors) and all(tensor is None or tensor.is_contiguous() for tensor in tensors)
