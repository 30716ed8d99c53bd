"""The activations that the kernels know, by the module that stands for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook


@dataclass(frozen=True)
class Activation:
    """One of the kernels' activations.

    Args:
        kind: Its number in `parts.h`.
        slope: What a leaky ReLU multiplies negative values with.
    """

    kind: int = 0
    slope: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it by PyTorch's operators."""
        match self.kind:
            case 1:
                return F.relu(x)
            case 2:
                return F.relu6(x)
            case 3:
                return F.leaky_relu(x, self.slope)
            case 4:
                return F.hardswish(x)
            case 5:
                return F.silu(x)
        return x


_KINDS: dict[type[nn.Module], int] = {
    nn.Identity: 0,
    nn.ReLU: 1,
    nn.ReLU6: 2,
    nn.LeakyReLU: 3,
    nn.Hardswish: 4,
    nn.SiLU: 5,
}


def activation_of(module: nn.Module) -> Activation | None:
    """Return what a kernel must do in the module's place, or `None` where it cannot.

    A module that something watches through hooks is called itself.
    """
    kind = _KINDS.get(type(module))
    if kind is None or has_hooks(module):
        return None
    return Activation(kind, module.negative_slope) if isinstance(module, nn.LeakyReLU) else Activation(kind)


def has_hooks(module: nn.Module) -> bool:
    """Tell whether something is to be called when the module runs."""
    return bool(_has_any_global_hook()) or any(hooks_of(module))


def hooks_of(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    """Return where a module keeps what is to be called when it runs."""
    return (
        *(module._forward_hooks, module._forward_pre_hooks),
        *(module._backward_hooks, module._backward_pre_hooks),
    )
