"""The gate of squeeze and excitation (Hu et al. 2018), which is too small for a kernel of its own."""

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.models.backbone import SQUEEZE


def gate_from(squeeze: SQUEEZE, pooled: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Return the factor of each image and channel from their means, by timm's `SqueezeExcite`."""
    x = squeeze.act1(squeeze.conv_reduce(pooled[:, :, None, None]))
    gate: Tensor = squeeze.gate(squeeze.conv_expand(x))
    return gate.flatten(1)


def gate_gradients(
    squeeze: SQUEEZE, pooled: Float[Tensor, "b c"], dgate: Float[Tensor, "b c"]
) -> tuple[Float[Tensor, "b c"], dict[int, Tensor]]:
    """Return the gradient of the means, and those of the module's parameters by their ids."""
    with torch.enable_grad():
        means = pooled.detach().requires_grad_()
        trained = [parameter for parameter in squeeze.parameters() if parameter.requires_grad]
        dmeans, *rest = torch.autograd.grad(gate_from(squeeze, means), (means, *trained), dgate)
    return dmeans, {id(parameter): d for parameter, d in zip(trained, rest, strict=True)}
