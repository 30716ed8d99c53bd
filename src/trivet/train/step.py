"""One optimizer step."""

from collections.abc import Sequence
from typing import Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

from trivet.errors import TrainingError
from trivet.structures import Batch
from trivet.train.blame import first_not_finite
from trivet.train.processes import sum_over_processes


class Task(Protocol):
    """What the loop needs of a task: the truth prepared once, and losses from it."""

    def prepare(self, batch: Batch) -> "Prepared":
        """Turn a batch's truth into what the losses compare with; needs no output."""

    def losses(
        self, output: object, prepared: "Prepared", *, normaliser: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses by name; `loss` is the one to differentiate."""


class Prepared(Protocol):
    """A batch's truth as a task compares with it."""

    @property
    def positives(self) -> Tensor:
        """How many things were matched: the losses are divided by it, so it is summed over the whole step."""


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make the step's randomness (drop path) a function of these three alone.

    An exact resume then has no generator state to carry, whatever the number of processes.
    """
    torch.manual_seed((seed * 1_000_003 + step) * 4_099 + rank)


def take_step(
    fabric: Fabric,
    network: _FabricModule,
    task: Task,
    batches: Sequence[Batch],
    optimizer: Optimizer,
    *,
    clip_norm: float,
) -> dict[str, float]:
    """Run forward and backward on every batch, then the optimizer once.

    The losses are divided by the matches of the whole step, over all batches and processes, so that accumulation
    and several processes give the same gradient as one large batch.

    Args:
        fabric: Devices and precision.
        network: The model as `fabric.setup` gave it.
        task: Prepares truth and computes losses.
        batches: The step's batches, on any device.
        optimizer: As `fabric.setup` gave it.
        clip_norm: Largest gradient norm; 0 does not clip.

    Returns:
        The losses by name and `gradient_norm` (before clipping; only when clipping).

    Raises:
        TrainingError: If the loss is not finite; it names the images and the first module that produced it.
    """
    batches = [batch.to(fabric.device) for batch in batches]
    prepared = [task.prepare(batch) for batch in batches]
    positives = torch.stack([item.positives.float() for item in prepared]).sum()
    # Processes average their gradients: dividing by the mean number gives the sum over the global number.
    normaliser = (sum_over_processes(fabric, positives) + 1) / fabric.world_size
    total: dict[str, Tensor] = {}
    for number, (batch, item) in enumerate(zip(batches, prepared, strict=True), 1):
        with fabric.no_backward_sync(network, enabled=number < len(batches)):
            images = network.normalise(batch.images)
            losses = task.losses(network(images), item, normaliser=normaliser)
            if not torch.isfinite(losses["loss"]):
                raise _not_finite(network, images, batch, losses)
            fabric.backward(losses["loss"])
        for name, value in losses.items():
            total[name] = total[name] + value.detach() if name in total else value.detach()
    share = fabric.world_size
    result = {name: float(sum_over_processes(fabric, value)) / share for name, value in total.items()}
    if clip_norm > 0:
        norm = fabric.clip_gradients(network, optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        result["gradient_norm"] = float(norm if norm is not None else torch.nan)
    optimizer.step()
    optimizer.zero_grad()
    return result


def _not_finite(network: nn.Module, images: Tensor, batch: Batch, losses: dict[str, Tensor]) -> TrainingError:
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
    return TrainingError(
        f"the loss is not finite ({values}) on the images {', '.join(batch.names)}; {first_not_finite(network, images)}",
        "look at these images and their boxes; if they are sound, lower --lr or use --precision 32",
    )
