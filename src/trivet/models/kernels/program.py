"""A chain in evaluation as steps of one C call: norms folded into the convolutions before them, weights packed."""

import ctypes
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from trivet.models.backbone import SQUEEZE
from trivet.models.kernels.activations import Activation, activation_of, hooks_of
from trivet.models.kernels.fuse import Fusion
from trivet.models.kernels.library import kernels
from trivet.models.kernels.links import Chain, End, Link
from trivet.models.kernels.maps import addresses, empty_map
from trivet.models.kernels.shape import Shape

_POINTWISE, _DEPTHWISE, _EXPANDED, _GATE, _DENSE, _NORM, _FUSE = range(7)
_ABSENT, _ENTERING, _LEAVING = -1, -2, -3
_GATES: dict[type[nn.Module], int] = {nn.Sigmoid: 0, nn.Hardsigmoid: 1}
_LINE = 16  # floats of a cache line: places in the arena begin on one


class _Step(ctypes.Structure):
    """`Step` of `evaluation.c`."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("what", "source", "to", "gate", "add", "pooled")),
        *((name, ctypes.c_long) for name in ("h", "w", "inputs", "outputs", "oh", "ow", "k", "stride")),
        *((name, ctypes.c_long) for name in ("top", "left", "kind", "taps_kind", "hard")),
        *((name, ctypes.c_float) for name in ("slope", "taps_slope")),
        *((name, ctypes.c_void_p) for name in ("weight", "start", "taps", "shift")),
    )


@dataclass(frozen=True)
class Program:
    """A chain for inputs of one size, with everything it reads.

    Args:
        steps: What `trivet_evaluate` runs.
        sizes: Floats an image of each map that enters, and of the result.
        sides: Channels, height and width of the result.
        floats: How many lie between the steps, an image.
        packed: What the steps point to.
        hooks: What the modules whose places it takes keep to be called when they run.
    """

    steps: Any
    sizes: Any
    sides: tuple[int, int, int]
    floats: int
    packed: list[Tensor]
    hooks: tuple[Mapping[int, Any], ...]

    def is_watched(self) -> bool:
        """Tell whether something is to be called when one of the modules runs."""
        return any(self.hooks) or bool(_has_any_global_hook())

    def run(self, *maps: Float[Tensor, "b c _ _"]) -> Float[Tensor, "b o oh ow"]:
        """Return the chain's result for channels-last maps of the sizes it was made for: several where it fuses them."""
        library, first = kernels(), maps[0]
        images, threads = first.shape[0], torch.get_num_threads()
        y, arena = empty_map(first, *self.sides), first.new_empty(self.floats * min(images, threads))
        failed = library.trivet_evaluate(
            *(self.steps, len(self.steps), addresses(maps), self.sizes, len(maps), y.data_ptr()),
            *(arena.data_ptr(), self.floats, images, threads),
        )
        if failed:
            raise MemoryError("no memory for the rows of a convolution")
        return y


@dataclass(frozen=True)
class _Folded:
    """A convolution with the norm after it in weight and bias, and the activation after that."""

    link: Link
    weight: Tensor
    bias: Tensor
    activation: Activation


class _Steps:
    """Collects the steps of one chain.

    The maps between them take turns in two places, as each is read once; sums and gates lie behind these.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        self.channels, self.height, self.width = sides
        self.entering: tuple[int, ...] = (math.prod(sides),)
        self.convolutions: list[_Step] = []
        self.gates: dict[int, _Step] = {}
        self.packed: list[Tensor] = []
        self.others = 0

    def pointwise(self, folded: _Folded, squeeze: SQUEEZE | None) -> bool:
        """Add a product of matrices; `False` where its gate cannot be made."""
        step = self._step(_POINTWISE, len(folded.weight), (self.height, self.width))
        self._product(step, folded)
        if squeeze is not None and not self._gate(squeeze):
            return False
        self._add(step)
        return True

    def depthwise(self, folded: _Folded, expand: _Folded | None) -> None:
        """Add a depthwise convolution, of what a product makes of the map where there is one."""
        shape = folded.link.shape
        assert shape is not None, "it is a depthwise one"
        channels, sides = len(folded.weight), (shape.out_height, shape.out_width)
        step = self._step(_DEPTHWISE if expand is None else _EXPANDED, channels, sides)
        step.k, step.stride, step.top, step.left = shape.kernel, shape.stride, shape.top, shape.left
        step.taps_kind, step.taps_slope = folded.activation.kind, folded.activation.slope
        turned = folded.weight.new_zeros(_whole(channels) * shape.kernel**2)
        kernels().trivet_turn(folded.weight.data_ptr(), channels, shape.kernel, turned.data_ptr())
        step.taps, step.shift = self._keep(turned), self._keep(_padded(folded.bias))
        if expand is not None:
            self._product(step, expand)
        self._add(step)

    def fuse(self, fusion: Fusion) -> None:
        """Add the weighted sum of several maps that enter, and the activation after it."""
        step = self._step(_FUSE, self.channels, fusion.size_hw)
        step.weight, step.taps = self._keep(fusion.shares), self._keep(torch.tensor(list(fusion.sides)))
        step.kind, step.slope = fusion.activation.kind, fusion.activation.slope
        self.entering = fusion.sizes
        self._add(step)

    def dense(self, folded: _Folded, shape: Shape) -> None:
        """Add a convolution that mixes few channels."""
        outputs = len(folded.weight)
        step = self._step(_DENSE, outputs, (shape.out_height, shape.out_width))
        step.k, step.stride, step.top, step.left = shape.kernel, shape.stride, shape.top, shape.left
        rows = folded.weight.permute(0, 2, 3, 1).reshape(outputs, -1).contiguous()
        self._product(step, replace(folded, weight=rows))
        self._add(step)

    def norm(self, norm: nn.BatchNorm2d, activation: Activation) -> None:
        """Add a norm and the activation after it."""
        step = self._step(_NORM, self.channels, (self.height, self.width))
        factor, term = _line_of(norm)
        step.weight, step.start = self._keep(factor.float()), self._keep(term.float())
        step.kind, step.slope = activation.kind, activation.slope
        self._add(step)

    def program(self, hooks: tuple[Mapping[int, Any], ...], *, shortcut: bool) -> Program | None:
        """Return the program; `None` where the shortcut cannot be added.

        Args:
            hooks: See `Program`.
            shortcut: Whether what enters is added in the end.
        """
        first, last = self.convolutions[0], self.convolutions[-1]
        if shortcut:
            if last.what != _POINTWISE or _sides_in(first) != (last.outputs, last.oh, last.ow):
                return None
            last.add = _ENTERING
        floats = [0, 0]
        for number, step in enumerate(self.convolutions[:-1]):
            floats[number % 2] = max(floats[number % 2], _lines(step.outputs * step.oh * step.ow))
        begins, behind = (0, floats[0]), sum(floats)
        steps = []
        for number, step in enumerate(self.convolutions):
            step.source = begins[(number - 1) % 2] if number else _ENTERING
            step.to = begins[number % 2] if step is not last else _LEAVING
            gate = self.gates.get(number)
            if gate is not None:
                gate.source, gate.to = gate.source + behind, gate.to + behind
                step.gate = gate.to
                self.convolutions[number - 1].pooled = gate.source
                steps.append(gate)
            steps.append(step)
        sides = (last.outputs, last.oh, last.ow)
        sizes = (*self.entering, math.prod(sides))
        sizes_in_c = (ctypes.c_long * len(sizes))(*sizes)
        return Program(
            (_Step * len(steps))(*steps), sizes_in_c, sides, behind + self.others, self.packed, hooks
        )

    def _step(self, what: int, outputs: int, sides: tuple[int, int]) -> _Step:
        return _Step(
            what=what,
            **dict.fromkeys(("source", "to", "gate", "add", "pooled"), _ABSENT),
            **{"h": self.height, "w": self.width, "inputs": self.channels},
            **{"outputs": outputs, "oh": sides[0], "ow": sides[1]},
        )

    def _add(self, step: _Step) -> None:
        self.convolutions.append(step)
        self.channels, self.height, self.width = step.outputs, step.oh, step.ow

    def _product(self, step: _Step, folded: _Folded) -> None:
        outputs, inputs = folded.weight.shape[0], folded.weight[0].numel()
        packed = folded.weight.new_empty(_whole(outputs) * inputs)
        kernels().trivet_pack(folded.weight.data_ptr(), outputs, inputs, packed.data_ptr())
        step.weight, step.start = self._keep(packed), self._keep(_padded(folded.bias))
        step.kind, step.slope = folded.activation.kind, folded.activation.slope

    def _gate(self, squeeze: SQUEEZE) -> bool:
        """Let the convolution before pool, and a gate be made of the sums of its rows."""
        first, hard = activation_of(squeeze.act1), _GATES.get(type(squeeze.gate))
        if first is None or hard is None or not self.convolutions:
            return False
        if self.convolutions[-1].what == _POINTWISE:
            return False
        reduce, expand = squeeze.conv_reduce, squeeze.conv_expand
        gate = self._step(_GATE, reduce.out_channels, (self.height, self.width))
        gate.kind, gate.slope, gate.hard = first.kind, first.slope, hard
        gate.weight = self._keep(reduce.weight.detach().contiguous())
        gate.start = self._keep(_bias_of(reduce))
        gate.taps = self._keep(expand.weight.detach().flatten(1).t().contiguous())
        gate.shift = self._keep(_bias_of(expand))
        gate.source = self._other(self.height * self.channels)
        gate.to = self._other(self.channels)
        self.gates[len(self.convolutions)] = gate
        return True

    def _other(self, floats: int) -> int:
        begin = self.others
        self.others += _lines(floats)
        return begin

    def _keep(self, tensor: Tensor) -> int:
        self.packed.append(tensor)
        return tensor.data_ptr()


def program_of(
    chain: Chain, modules: Iterable[nn.Module], sides: Sequence[int], fusion: Fusion | None = None
) -> Program | None:
    """Return the program of a chain of convolutions in evaluation mode, or `None` where the kernels cannot run it.

    Args:
        chain: What to run; every part must be one that the kernels know.
        modules: The modules whose places it takes.
        sides: Channels, height and width of what enters.
        fusion: What makes one map of several before the chain.
    """
    hooks = tuple(hook for module in modules for hook in hooks_of(module))
    steps, number = _Steps(sides), 0
    if fusion is not None:
        steps.fuse(fusion)
    if not chain.links and chain.end.norm is not None:
        steps.norm(chain.end.norm, chain.end.activation)
        return steps.program(hooks, shortcut=False)
    if not chain.links or chain.links[0].norm is not None:
        return None
    readers: tuple[Link | End, ...] = (*chain.links[1:], chain.end)
    folded = [_fold(link, after) for link, after in zip(chain.links, readers, strict=True)]
    while number < len(folded):
        here, after = folded[number], folded[number + 1] if number + 1 < len(folded) else None
        if here.link.shape is not None:
            steps.depthwise(here, None)
        elif (
            after is not None
            and after.link.shape is not None
            and _is_wider(here)
            and here.link.squeeze is None
        ):
            steps.depthwise(after, here)
            number += 1
        elif not steps.pointwise(here, here.link.squeeze):
            return None
        number += 1
    return steps.program(hooks, shortcut=chain.end.shortcut)


def stem_program(conv: nn.Conv2d, shape: Shape, sides: Sequence[int], end: End) -> Program | None:
    """Return the program of a convolution that mixes few channels; see `is_known_stem`.

    Args:
        conv: The convolution.
        shape: Its sides.
        sides: Channels, height and width of what enters.
        end: What its result goes through.
    """
    steps = _Steps(sides)
    steps.dense(_fold(Link(conv.weight, conv.bias), end), shape)
    modules = () if end.norm is None else (conv, *end.norm.modules())
    return steps.program(tuple(hook for module in modules for hook in hooks_of(module)), shortcut=False)


def _fold(link: Link, after: Link | End) -> _Folded:
    weight, bias, norm = link.weight.detach(), link.bias, after.norm
    if norm is None:
        return _Folded(
            link, weight, weight.new_zeros(len(weight)) if bias is None else bias.detach(), Activation()
        )
    factor, term = _line_of(norm)
    if bias is not None:
        term = term + bias.detach().double() * factor
    return _Folded(link, weight * factor.float()[:, None, None, None], term.float(), after.activation)


def _line_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the factor and the term of each channel, float64, that a norm in evaluation amounts to."""
    assert norm.running_mean is not None, "the chain is for evaluation"
    assert norm.running_var is not None, "the chain is for evaluation"
    factor = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return factor, norm.bias.detach().double() - norm.running_mean.double() * factor


def _is_wider(folded: _Folded) -> bool:
    return folded.weight.shape[0] > folded.weight.shape[1]


def _sides_in(step: _Step) -> tuple[int, int, int]:
    return step.inputs, step.h, step.w


def _bias_of(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


def _whole(channels: int) -> int:
    """Return the channels of as many vectors as hold these."""
    lanes: int = kernels().trivet_lanes()
    return -(-channels // lanes) * lanes


def _padded(bias: Tensor) -> Tensor:
    padded = bias.new_zeros(_whole(len(bias)))
    padded[: len(bias)] = bias
    return padded


def _lines(floats: int) -> int:
    return -(-floats // _LINE) * _LINE
