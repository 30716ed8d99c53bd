"""Layers that train by the kernels where they can, and by PyTorch's operators elsewhere.

Each is a subclass without state of its own: a model's layer takes it as its class, so that names, parameters, hooks,
copies and weights files stay as they are. Evaluation runs PyTorch's operators unless the model is `held`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.backbone import (
    DEPTHWISE_SEPARABLE,
    FEATURES_OF_EFFICIENTNET,
    INVERTED_RESIDUAL,
    NORM_WITH_ACTIVATION,
    SAME_CONV,
)
from trivet.models.blocks import Conv
from trivet.models.heads.anchor import Tower
from trivet.models.kernels.activations import Activation, activation_of, has_hooks
from trivet.models.kernels.batch_norm import batch_norm, can_normalise
from trivet.models.kernels.building import Layout, Piece, build_chain, norm_with
from trivet.models.kernels.chain import run_chain
from trivet.models.kernels.depthwise import (
    depthwise,
    is_known_depthwise,
    is_known_stem,
    norm_depthwise,
    shape_of,
)
from trivet.models.kernels.eligible import eligible
from trivet.models.kernels.evaluation import (
    Programs,
    chain_program,
    conv_program,
    node_program,
    program_for,
    programs_of,
)
from trivet.models.kernels.fuse import can_fuse, fuse
from trivet.models.kernels.library import kernels
from trivet.models.kernels.program import Program
from trivet.models.necks.graph import FusionNode

_DONE_BY = "done_by_norm"
"""Attribute of a map that names the norm whose work it has behind it already."""


class FastBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise."""
        y = _run(self, x, lambda: Layout((), self))
        return super().forward(x) if y is None else y


class FastNormWithActivation(NORM_WITH_ACTIVATION):
    """timm's batch norm with the activation after it."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise and activate."""
        if getattr(x, _DONE_BY, None) is self:  # the stem's program did it
            return x
        y = _run(self, x, lambda: Layout((), self))
        return super().forward(x) if y is None else y


class FastConv2d(nn.Conv2d):
    """`nn.Conv2d` where it is a depthwise convolution or a stem that the kernels know."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Convolve."""
        y = _convolve(self, x, same=False)
        return super().forward(x) if y is None else y


class FastSameConv2d(SAME_CONV):
    """timm's convolution with TensorFlow's padding, where it is a depthwise one or a stem that the kernels know."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Convolve."""
        y = _convolve(self, x, same=True)
        return super().forward(x) if y is None else y


class FastInvertedResidual(INVERTED_RESIDUAL):
    """timm's block of MobileNet v2 and EfficientNet."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Expand, convolve each channel, project."""
        y = _run(self, x, self._layout)
        return super().forward(x) if y is None else y

    def _layout(self) -> Layout:
        pieces = (
            Piece(self.conv_pw),
            Piece(self.conv_dw, self.bn1),
            Piece(self.conv_pwl, self.bn2, squeeze=self.se),
        )
        return Layout(pieces, self.bn3, drop_path=self.drop_path, shortcut=self.has_skip)


class FastDepthwiseSeparable(DEPTHWISE_SEPARABLE):
    """timm's first block of MobileNet and EfficientNet, without an expansion."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Convolve each channel, project."""
        y = _run(self, x, self._layout)
        return super().forward(x) if y is None else y

    def _layout(self) -> Layout:
        pieces = (Piece(self.conv_dw), Piece(self.conv_pw, self.bn1, squeeze=self.se))
        return Layout(pieces, self.bn2, drop_path=self.drop_path, shortcut=self.has_skip)


class FastConv(Conv):
    """The necks' convolution, separable or pointwise, with its norm."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Convolve and normalise."""
        y = _run(self, x, self.layout)
        return super().forward(x) if y is None else y

    def layout(self) -> Layout:
        """Return what it runs."""
        return Layout([Piece(conv) for conv in self.convolutions], getattr(self, "norm", None))


class FastFusionNode(FusionNode):
    """A node of a BiFPN: the weighted sum of its maps, enlarged where need be, and the activation in one go."""

    def forward(self, maps: Sequence[Tensor], size_hw: tuple[int, int]) -> Float[Tensor, "b c h w"]:
        """Return this node's map, given all maps made so far."""
        size_hw = (int(size_hw[0]), int(size_hw[1]))
        known = activation_of(self.activation)
        able = self.fuse.training or programs_of(self) is not None
        if known is None or not able or has_hooks(self.fuse) or has_hooks(self.resample):
            return super().forward(maps, size_hw)
        ready = [self._entering(maps[number], str(number), size_hw) for number in self.inputs]
        if can_fuse(ready, size_hw):
            return self.conv(fuse(ready, self._shares(ready), known, size_hw))
        program = None if self.training else self._program_for(ready, known, size_hw)
        if program is not None:
            return program.run(*ready)
        return self.conv(self.activation(self.fuse([self.resample(x, size_hw) for x in ready])))

    def _program_for(
        self, ready: Sequence[Tensor], known: Activation, size_hw: tuple[int, int]
    ) -> Program | None:
        """Return the program of the sum and the convolution after it; `None` where the kernels cannot run it."""
        first, *others = ready
        if not isinstance(self.conv, FastConv) or not all(eligible(x, training=False) for x in others):
            return None
        layout = replace(self.conv.layout(), around=(self.conv, self.activation))
        return program_for(
            self,
            first,
            lambda: node_program(ready, self._shares(ready), known, size_hw, layout),
            (*size_hw, *[x.shape for x in others]),
        )

    def _entering(self, x: Tensor, name: str, size_hw: tuple[int, int]) -> Tensor:
        """Return a map with the node's channels, and of its size unless it is to be enlarged by its nearest pixels."""
        x = self.project[name](x) if name in self.project else x
        larger = x.shape[2] > size_hw[0] or x.shape[3] > size_hw[1]
        return self.resample(x, size_hw) if larger or self.resample.upsample != "nearest" else x

    def _shares(self, maps: Sequence[Tensor]) -> Tensor:
        if self.fuse.shares is None or self.fuse.weights is None:
            return maps[0].new_ones(len(maps))
        return self.fuse.shares(self.fuse.weights).to(maps[0].dtype)


class FastTower(Tower):
    """The anchor head's tower, each level in one go."""

    def forward(self, maps: Sequence[Float[Tensor, "b c _ _"]]) -> tuple[Float[Tensor, "b o _ _"], ...]:
        """Return the prediction of each level."""
        return tuple(self._predict(x, level) for level, x in enumerate(maps))

    def _predict(self, x: Tensor, level: int) -> Tensor:
        y = _run(self, x, partial(self._layout, level), key=level)
        if y is not None:
            return y
        x = self.convs[0](x) if len(self.convs) else self.predict(x)
        for norm, conv in zip(self._norms_of(level), (*self.convs[1:], self.predict), strict=True):
            x = normalise_and_convolve(norm, self.activation, conv, x)
        return x

    def _layout(self, level: int) -> Layout:
        blocks, pieces = (*self.convs, self.predict), []
        for block, norm in zip(blocks, (None, *self._norms_of(level)), strict=True):
            first, *rest = block.convolutions
            pieces += [Piece(first, norm, None if norm is None else self.activation), *map(Piece, rest)]
        return Layout(pieces, around=blocks)


def _run(layer: nn.Module, x: Tensor, layout: Callable[[], Layout], key: object = None) -> Tensor | None:
    """Return what a layer makes of `x` by the kernels, or `None` where PyTorch's operators must run."""
    if not layer.training:
        program = program_for(layer, x, lambda: chain_program(x, layout()), key)
        return None if program is None else program.run(x)
    chain = build_chain(x, layout())
    return None if chain is None else run_chain(chain, x)


def _convolve(conv: nn.Conv2d, x: Tensor, *, same: bool) -> Tensor | None:
    """Return what a convolution makes of `x` by the kernels, or `None` where PyTorch's operators must run."""
    if not conv.training:
        programs = programs_of(conv)
        norm = None if programs is None else programs.norm
        program = program_for(conv, x, lambda: conv_program(conv, x, same=same, norm=norm))
        if program is None:
            return None
        y = program.run(x)
        if norm is not None:
            setattr(y, _DONE_BY, norm)  # on the map itself, so that threads cannot take each other's
        return y
    shape = shape_of(conv, x, same=same)
    return None if shape is None else depthwise(x, conv.weight, shape)


def normalise_and_convolve(
    norm: nn.Module, activation: nn.Module | None, conv: nn.Module, x: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b o oh ow"]:
    """Run a norm, an activation and a convolution, in one go where that is possible.

    Args:
        norm: Reads `x`.
        activation: Follows the norm; `None` where the norm brings its own.
        conv: Follows the activation.
        x: What the norm reads.
    """
    known = norm_with(norm, activation)
    if known is None or not can_normalise(norm, x):
        y = norm(x)
        return conv(y if activation is None else activation(y))
    if isinstance(conv, FastConv2d | FastSameConv2d) and not has_hooks(conv):
        shape = shape_of(conv, x, same=isinstance(conv, FastSameConv2d))
        if shape is not None:
            return norm_depthwise(norm, known, conv.weight, shape, x)
    return conv(batch_norm(norm, x, known))


def _can_chain(block: nn.Module) -> bool:
    return type(block.aa) is nn.Identity and getattr(block, "conv_s2d", None) is None


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FastBatchNorm,
    nn.Conv2d: FastConv2d,
    NORM_WITH_ACTIVATION: FastNormWithActivation,
    SAME_CONV: FastSameConv2d,
    INVERTED_RESIDUAL: FastInvertedResidual,
    DEPTHWISE_SEPARABLE: FastDepthwiseSeparable,
    Conv: FastConv,
    FusionNode: FastFusionNode,
    Tower: FastTower,
}


def use_fast_kernels(model: nn.Module) -> int:
    """Let a model's layers train by the compiled kernels, in place; call before training, on any device.

    Layers keep their names, parameters and results; a layer falls back to PyTorch's operators call by call wherever a
    kernel does not apply (another device or precision, evaluation, autocast).

    Returns:
        How many layers may use a kernel; 0 where there are no kernels, see `kernels_status`.
    """
    if kernels() is None:
        return 0
    found = [module for module in model.modules() if _may_be_fast(module)]
    for module in found:
        module.__class__ = _FAST[type(module)]
    return len(found)


@contextmanager
def held(model: nn.Module) -> Iterator[None]:
    """Let a model evaluate by the compiled kernels meanwhile; its weights must stay as they are.

    What the kernels know runs by them in evaluation mode without gradients, norms folded into weights that are packed
    once; everything else by PyTorch's operators, as on other devices. Afterwards the model is as before.

    Args:
        model: Any; on the CPU, in channels-last layout, to gain from it.
    """
    first = next(model.parameters(), None)
    if first is None or first.device.type != "cpu" or kernels() is None:
        yield
        return
    before = [(module, type(module)) for module in model.modules() if _may_be_fast(module)]
    use_fast_kernels(model)
    fast = tuple(_FAST.values())
    mine = [module for module in model.modules() if isinstance(module, fast) and programs_of(module) is None]
    for module in mine:
        module.__dict__["programs"] = Programs()
    for body in model.modules():
        if isinstance(body, FEATURES_OF_EFFICIENTNET) and is_known_stem(body.conv_stem):
            _join(body.conv_stem, body.bn1)
    try:
        yield
    finally:
        for module in mine:
            module.__dict__.pop("programs", None)
        for module, its_class in before:
            module.__class__ = its_class


def _join(stem: nn.Module, norm: nn.Module) -> None:
    """Let a stem's program hold the norm after it, where both are held."""
    programs = programs_of(stem)
    if programs is not None and isinstance(norm, FastNormWithActivation):
        programs.norm = norm


def _may_be_fast(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return type(module) in _FAST and (is_known_depthwise(module) or is_known_stem(module))
    if type(module) in (INVERTED_RESIDUAL, DEPTHWISE_SEPARABLE):
        return _can_chain(module)
    if type(module) is Conv:
        return hasattr(module, "depthwise") or module.convolutions[0].kernel_size == (1, 1)
    return type(module) in _FAST
