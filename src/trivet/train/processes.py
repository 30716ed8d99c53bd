"""What processes that train together tell each other, and how they part."""

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


def part(fabric: Fabric) -> None:
    """Leave the group of processes when all have come here; nothing where there is one process.

    A spawned process that ends while the group's threads still run is aborted at times, after all its work.
    """
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        fabric.barrier()
        torch.distributed.destroy_process_group()
