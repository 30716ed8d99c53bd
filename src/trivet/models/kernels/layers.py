"""Layers that train by the kernels where they can, and by PyTorch's operators elsewhere.

Each is a subclass without state of its own: a model's layer takes it as its class, so that names, parameters, hooks,
copies and weights files stay as they are. Evaluation always runs PyTorch's operators.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.backbone import (
    DEPTHWISE_SEPARABLE,
    INVERTED_RESIDUAL,
    NORM_WITH_ACTIVATION,
    SAME_CONV,
)
from trivet.models.blocks import Conv
from trivet.models.heads.anchor import Tower
from trivet.models.kernels.activations import Activation, activation_of, has_hooks
from trivet.models.kernels.batch_norm import batch_norm, can_normalise
from trivet.models.kernels.building import Piece, build_chain, norm_with
from trivet.models.kernels.chain import run_chain
from trivet.models.kernels.depthwise import depthwise, is_known_depthwise, norm_depthwise, shape_of
from trivet.models.kernels.fuse import can_fuse, fuse
from trivet.models.kernels.library import kernels
from trivet.models.necks.graph import FusionNode


class FastBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise."""
        if can_normalise(self, x):
            return batch_norm(self, x, Activation())
        return super().forward(x)


class FastNormWithActivation(NORM_WITH_ACTIVATION):
    """timm's batch norm with the activation after it."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise and activate."""
        activation = norm_with(self, None) if can_normalise(self, x) else None
        if activation is not None:
            return batch_norm(self, x, activation)
        return super().forward(x)


class FastDepthwise(nn.Conv2d):
    """`nn.Conv2d` where it is a depthwise convolution that the kernels know."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c oh ow"]:
        """Convolve."""
        shape = shape_of(self, x, same=False)
        return super().forward(x) if shape is None else depthwise(x, self.weight, shape)


class FastSameDepthwise(SAME_CONV):
    """timm's convolution with TensorFlow's padding, where it is a depthwise one that the kernels know."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c oh ow"]:
        """Convolve."""
        shape = shape_of(self, x, same=True)
        return super().forward(x) if shape is None else depthwise(x, self.weight, shape)


class FastInvertedResidual(INVERTED_RESIDUAL):
    """timm's block of MobileNet v2 and EfficientNet."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Expand, convolve each channel, project."""
        pieces = (
            Piece(self.conv_pw),
            Piece(self.conv_dw, self.bn1),
            Piece(self.conv_pwl, self.bn2, squeeze=self.se),
        )
        end: dict[str, Any] = {"norm": self.bn3, "drop_path": self.drop_path, "shortcut": self.has_skip}
        chain = build_chain(x, pieces, **end)
        return super().forward(x) if chain is None else run_chain(chain, x)


class FastDepthwiseSeparable(DEPTHWISE_SEPARABLE):
    """timm's first block of MobileNet and EfficientNet, without an expansion."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Convolve each channel, project."""
        pieces = (Piece(self.conv_dw), Piece(self.conv_pw, self.bn1, squeeze=self.se))
        end: dict[str, Any] = {"norm": self.bn2, "drop_path": self.drop_path, "shortcut": self.has_skip}
        chain = build_chain(x, pieces, **end)
        return super().forward(x) if chain is None else run_chain(chain, x)


class FastConv(Conv):
    """The necks' convolution, separable or pointwise, with its norm."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Convolve and normalise."""
        pieces = [Piece(conv) for conv in self.convolutions]
        chain = build_chain(x, pieces, norm=getattr(self, "norm", None))
        return super().forward(x) if chain is None else run_chain(chain, x)


class FastFusionNode(FusionNode):
    """A node of a BiFPN: the weighted sum of its maps, enlarged where need be, and the activation in one go."""

    def forward(self, maps: Sequence[Tensor], size_hw: tuple[int, int]) -> Float[Tensor, "b c h w"]:
        """Return this node's map, given all maps made so far."""
        known = activation_of(self.activation)
        if known is None or has_hooks(self.fuse) or has_hooks(self.resample) or not self.fuse.training:
            return super().forward(maps, size_hw)
        size_hw = (int(size_hw[0]), int(size_hw[1]))
        ready = [self._entering(maps[number], str(number), size_hw) for number in self.inputs]
        if can_fuse(ready, size_hw):
            return self.conv(fuse(ready, self._shares(ready), known, size_hw))
        return self.conv(self.activation(self.fuse([self.resample(x, size_hw) for x in ready])))

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
        return tuple(self._predict(x, self._norms_of(level)) for level, x in enumerate(maps))

    def _predict(self, x: Tensor, norms: Sequence[nn.Module]) -> Tensor:
        blocks, pieces = (*self.convs, self.predict), []
        for block, norm in zip(blocks, (None, *norms), strict=True):
            first, *rest = block.convolutions
            pieces += [Piece(first, norm, None if norm is None else self.activation), *map(Piece, rest)]
        chain = None if any(map(has_hooks, blocks)) else build_chain(x, pieces)
        if chain is not None:
            return run_chain(chain, x)
        x = self.convs[0](x) if len(self.convs) else self.predict(x)
        for norm, conv in zip(norms, blocks[1:], strict=True):
            x = normalise_and_convolve(norm, self.activation, conv, x)
        return x


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
    if isinstance(conv, FastDepthwise | FastSameDepthwise) and not has_hooks(conv):
        shape = shape_of(conv, x, same=isinstance(conv, FastSameDepthwise))
        if shape is not None:
            return norm_depthwise(norm, known, conv.weight, shape, x)
    return conv(batch_norm(norm, x, known))


def _can_chain(block: nn.Module) -> bool:
    return type(block.aa) is nn.Identity and getattr(block, "conv_s2d", None) is None


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FastBatchNorm,
    nn.Conv2d: FastDepthwise,
    NORM_WITH_ACTIVATION: FastNormWithActivation,
    SAME_CONV: FastSameDepthwise,
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


def _may_be_fast(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return type(module) in _FAST and is_known_depthwise(module)
    if type(module) in (INVERTED_RESIDUAL, DEPTHWISE_SEPARABLE):
        return _can_chain(module)
    if type(module) is Conv:
        return hasattr(module, "depthwise") or module.convolutions[0].kernel_size == (1, 1)
    return type(module) in _FAST
