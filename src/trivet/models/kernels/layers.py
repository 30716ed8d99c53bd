"""Layers that train by the kernels where they can, and by PyTorch's operators elsewhere.

Each is a subclass without state of its own: a model's layer takes it as its class, so that names, parameters, hooks,
copies and weights files stay as they are. Evaluation always runs PyTorch's operators.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.backbone import INVERTED_RESIDUAL, NORM_WITH_ACTIVATION, SAME_CONV
from trivet.models.heads.anchor import Tower
from trivet.models.kernels.activations import Activation, activation_of, has_hooks
from trivet.models.kernels.batch_norm import batch_norm, can_normalise
from trivet.models.kernels.depthwise import depthwise, is_known_depthwise, shape_of
from trivet.models.kernels.library import kernels
from trivet.models.kernels.norm_depthwise import norm_depthwise


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
        activation = _activation_after(self, None)
        if activation is not None and can_normalise(self, x):
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
    """timm's block of MobileNet v2 and EfficientNet: its widest map is normalised as the convolution reads it."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
        """Expand, convolve each channel, project."""
        shortcut = x
        x = normalise_and_convolve(self.bn1, None, self.conv_dw, self.conv_pw(x))
        rest: tuple[Any, ...] = (self.bn2, self.aa, self.se, self.conv_pwl, self.bn3)
        for layer in rest:
            x = layer(x)
        return self.drop_path(x) + shortcut if self.has_skip else x


class FastTower(Tower):
    """The anchor head's tower: each norm and activation with the depthwise convolution after them."""

    def forward(self, maps: Sequence[Float[Tensor, "b c _ _"]]) -> tuple[Float[Tensor, "b o _ _"], ...]:
        """Return the prediction of each level."""
        return tuple(self._predict(x, self._norms_of(level)) for level, x in enumerate(maps))

    def _predict(self, x: Tensor, norms: Sequence[nn.Module]) -> Tensor:
        x = self.convs[0](x) if len(self.convs) else self.predict(x)
        for norm, conv in zip(norms, (*self.convs, self.predict)[1:], strict=True):
            if len(conv) == 2 and not has_hooks(conv):
                x = conv.pointwise(normalise_and_convolve(norm, self.activation, conv.depthwise, x))
            else:
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
    known = _activation_after(norm, activation)
    if known is None or has_hooks(norm) or not can_normalise(norm, x):
        y = norm(x)
        return conv(y if activation is None else activation(y))
    if isinstance(conv, FastDepthwise | FastSameDepthwise) and not has_hooks(conv):
        shape = shape_of(conv, x, same=isinstance(conv, FastSameDepthwise))
        if shape is not None:
            return norm_depthwise(norm, known, conv.weight, shape, x)
    return conv(batch_norm(norm, x, known))


def _activation_after(norm: nn.Module, activation: nn.Module | None) -> Activation | None:
    """Return what a kernel must do after a norm whose place it takes, or `None` where none can take it."""
    if activation is not None:
        return activation_of(activation) if type(norm) is FastBatchNorm else None
    if type(norm) is FastNormWithActivation and type(norm.drop) is nn.Identity:
        return activation_of(norm.act)
    return None


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FastBatchNorm,
    nn.Conv2d: FastDepthwise,
    NORM_WITH_ACTIVATION: FastNormWithActivation,
    SAME_CONV: FastSameDepthwise,
    INVERTED_RESIDUAL: FastInvertedResidual,
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
    if isinstance(module, INVERTED_RESIDUAL):
        return type(module) in _FAST and getattr(module, "conv_s2d", None) is None
    return type(module) in _FAST
