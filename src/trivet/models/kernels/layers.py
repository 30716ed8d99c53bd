"""Layers that train by the kernels where they can, and by PyTorch's operators elsewhere.

Each is a subclass without state of its own: a model's layer takes it as its class, so that names, parameters, hooks,
copies and weights files stay as they are. Evaluation always runs PyTorch's operators.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.backbone import NORM_WITH_ACTIVATION
from trivet.models.heads.anchor import Tower
from trivet.models.kernels.activations import Activation, activation_of, has_hooks
from trivet.models.kernels.batch_norm import batch_norm, can_normalise
from trivet.models.kernels.library import kernels


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
        activation = activation_of(self.act)
        if activation and type(self.drop) is nn.Identity and can_normalise(self, x):
            return batch_norm(self, x, activation)
        return super().forward(x)


class FastTower(Tower):
    """The anchor head's tower, each norm with the activation after it."""

    def forward(self, maps: Sequence[Float[Tensor, "b c _ _"]]) -> tuple[Float[Tensor, "b o _ _"], ...]:
        """Return the prediction of each level."""
        predictions = []
        for level, x in enumerate(maps):
            for conv, norm in zip(self.convs, self._norms_of(level), strict=True):
                x = self._normalise(norm, conv(x))
            predictions.append(self.predict(x))
        return tuple(predictions)

    def _normalise(self, norm: nn.Module, x: Tensor) -> Tensor:
        activation = activation_of(self.activation)
        if activation and type(norm) is FastBatchNorm and not has_hooks(norm) and can_normalise(norm, x):
            return batch_norm(norm, x, activation)
        return self.activation(norm(x))


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FastBatchNorm,
    NORM_WITH_ACTIVATION: FastNormWithActivation,
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
    found = [module for module in model.modules() if type(module) in _FAST]
    for module in found:
        module.__class__ = _FAST[type(module)]
    return len(found)
