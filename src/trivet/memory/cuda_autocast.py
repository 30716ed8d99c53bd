"""CUDA's autocast on tensors of the CPU.

A step is planned on fake CPU tensors under the CPU's autocast. CUDA's keeps more functions in float32 than the CPU's:
norms of layers and groups, softmax, sums, powers and exponentials (the table "CUDA Ops that can autocast to float32"
of PyTorch's documentation of `torch.amp`). These are cast here.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

IN_FLOAT32 = frozenset(
    [
        "__pow__",
        "__rdiv__",
        "__rpow__",
        "__rtruediv__",
        "acos",
        "asin",
        "binary_cross_entropy_with_logits",
        "cosh",
        "cosine_embedding_loss",
        "cdist",
        "cosine_similarity",
        "cross_entropy",
        "cumprod",
        "cumsum",
        "dist",
        "erfinv",
        "exp",
        "expm1",
        "group_norm",
        "hinge_embedding_loss",
        "kl_div",
        "l1_loss",
        "layer_norm",
        "log",
        "log10",
        "log_softmax",
        "log1p",
        "log2",
        "margin_ranking_loss",
        "mse_loss",
        "multilabel_margin_loss",
        "multi_margin_loss",
        "nll_loss",
        "norm",
        "normalize",
        "pdist",
        "poisson_nll_loss",
        "pow",
        "prod",
        "reciprocal",
        "rsqrt",
        "sinh",
        "smooth_l1_loss",
        "soft_margin_loss",
        "softmax",
        "softmin",
        "softplus",
        "sum",
        "renorm",
        "tan",
        "triplet_margin_loss",
    ]
)
_LOW = (torch.float16, torch.bfloat16)


class CudaAutocast(TorchFunctionMode):
    """Casts the arguments of functions that CUDA's autocast keeps in float32, where autocast is on."""

    def __init__(self) -> None:
        super().__init__()
        self._users_depth = torch._C._len_torch_dispatch_stack()
        """Dispatch modes active where the step's own code runs; inside one of them there are fewer."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a function of PyTorch."""
        kwargs = kwargs or {}
        if (
            getattr(func, "__name__", "") in IN_FLOAT32
            and torch.is_autocast_enabled("cpu")
            and torch._C._len_torch_dispatch_stack() >= self._users_depth
        ):
            args, kwargs = tree_map(_to_float32, (args, kwargs))
        return func(*args, **kwargs)


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _LOW else value
