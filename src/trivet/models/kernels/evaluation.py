"""Chains in evaluation: norms folded into the convolutions before them, weights packed once, one call a chain.

What is packed is a copy: a program is right only as long as the weights it was made of stay as they are. So programs
live no longer than `held` of `layers`.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.building import Layout, Piece, build_chain, norm_with
from trivet.models.kernels.depthwise import is_known_depthwise, shape_of_sides
from trivet.models.kernels.eligible import all_plain, eligible
from trivet.models.kernels.fuse import Fusion, can_fuse, sides_of
from trivet.models.kernels.links import End
from trivet.models.kernels.maps import empty_map
from trivet.models.kernels.program import Program, program_of, stem_program

_MOST = 64
"""Programs of a layer that are kept: inputs of ever new sizes must not fill the memory."""


class Programs:
    """What one layer has made of its weights.

    Attributes:
        known: Its programs by what enters; `None` where PyTorch's operators must run.
        norm: A stem's: the norm that reads its result and nothing else does, so that its program may hold that too.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], Program | None] = {}
        self.norm: nn.Module | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        """Copy nothing: a copied layer is held by nobody."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """Keep nothing."""
        return _nothing, ()


def _nothing() -> None:
    """Stand for the programs of a layer that was pickled."""


def programs_of(layer: nn.Module) -> Programs | None:
    """Return a layer's programs while it is held."""
    found: Programs | None = layer.__dict__.get("programs")
    return found


def program_for(
    layer: nn.Module, x: Tensor, make: Callable[[], Program | None], key: object = None
) -> Program | None:
    """Return a held layer's program for `x`, made when it is first wanted; `None` where PyTorch's operators must run.

    Args:
        layer: In evaluation mode.
        x: What enters.
        make: Returns the program for `x`, or `None` where there can be none.
        key: Which of a layer's several programs it is.
    """
    programs = programs_of(layer)
    if programs is None or not eligible(x, training=False):
        return None
    wanted = (key, *x.shape)
    if wanted not in programs.known:
        if len(programs.known) >= _MOST:
            programs.known.clear()
        programs.known[wanted] = make()
    program = programs.known[wanted]
    return None if program is None or program.is_watched() else program


def chain_program(x: Tensor, layout: Layout) -> Program | None:
    """Return the program of a layout for `x`, or `None` where the kernels cannot run it."""
    chain = build_chain(x, layout, training=False)
    return None if chain is None else program_of(chain, layout.modules(), x.shape[1:])


def node_program(
    maps: Sequence[Tensor], shares: Tensor, activation: Activation, size_hw: tuple[int, int], layout: Layout
) -> Program | None:
    """Return the program that fuses maps and runs a layout on the result; `None` where the kernels cannot.

    Args:
        maps: See `fuse`.
        shares: A factor for each map.
        activation: What follows the sum.
        size_hw: Size of the sum.
        layout: What follows.
    """
    if not can_fuse(maps, size_hw, training=False):
        return None
    chain = build_chain(empty_map(maps[0], maps[0].shape[1], *size_hw), layout, training=False)
    if chain is None:
        return None
    sides, sizes = sides_of([x[:1] for x in maps], size_hw), tuple(x[0].numel() for x in maps)
    fusion = Fusion(sides, sizes, shares.detach().float().contiguous(), activation, size_hw)
    return program_of(chain, layout.modules(), maps[0].shape[1:], fusion)


def conv_program(conv: nn.Conv2d, x: Tensor, *, same: bool, norm: nn.Module | None = None) -> Program | None:
    """Return the program of one convolution for `x`, or `None` where the kernels cannot run it.

    Args:
        conv: A depthwise convolution or a stem, see `is_known_depthwise` and `is_known_stem`.
        x: What it reads.
        same: Whether its padding follows the size as TensorFlow's does.
        norm: Follows a stem.
    """
    if is_known_depthwise(conv):
        return chain_program(x, Layout((Piece(conv),)))
    if x.shape[1] != conv.in_channels or not all_plain(conv.weight, conv.bias):
        return None
    shape = shape_of_sides(conv, tuple(x.shape), same=same)
    if shape is None:
        return None
    if norm is None:
        return stem_program(conv, shape, x.shape[1:], End())
    activation = norm_with(norm, None, training=False)
    if activation is None or not isinstance(norm, nn.BatchNorm2d) or norm.num_features != conv.out_channels:
        return None
    return stem_program(conv, shape, x.shape[1:], End(norm, activation))
