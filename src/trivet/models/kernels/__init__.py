"""Small C kernels for a CPU: fewer passes over memory than PyTorch's own operators need.

They are compiled once with the system's C compiler and used in training by `use_fast_kernels(model)`, in evaluation
within `held(model)`; where they cannot be,
PyTorch's operators do the work and `kernels_status()` says why.
"""

from trivet.models.kernels.layers import held, use_fast_kernels
from trivet.models.kernels.library import kernels_status

__all__ = ["held", "kernels_status", "use_fast_kernels"]
