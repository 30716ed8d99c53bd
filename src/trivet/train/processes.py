"""What processes that train together tell each other."""

import torch
from lightning_fabric import Fabric
from torch import Tensor


def sum_over_processes(fabric: Fabric, value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    if fabric.world_size == 1:
        return value
    total = fabric.all_reduce(value.clone(), reduce_op="sum")
    assert isinstance(total, Tensor), "Fabric reduces a tensor to a tensor"
    return total


def anyone(fabric: Fabric, asked: bool) -> bool:
    """Return whether any process asks."""
    if fabric.world_size == 1:
        return asked
    return bool(sum_over_processes(fabric, torch.tensor(float(asked), device=fabric.device)) > 0)
