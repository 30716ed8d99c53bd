"""One optimizer step."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

from trivet.errors import TrainingError
from trivet.structures import Batch
from trivet.train.blame import first_not_finite
from trivet.train.processes import sum_over_processes


@runtime_checkable
class Task(Protocol):
    """What the loop needs of a task."""

    prior_count: float
    """Added to the number of matches that losses are divided by: 1 where a batch may have none, else 0."""

    def losses(
        self, output: Any, batch: Batch, *, normaliser: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the losses by name; `loss` is the one to differentiate.

        Losses are sums over matches (`positives`) divided by what `normaliser` makes of their number.
        """


class _Normaliser:
    """Divides the losses of a whole step, over batches and processes, by its matches + the task's prior count.

    How many matches the later batches of a step have is known only when they were run: the first batch's number
    stands for them, and `correction` says by how much the gradients are off in the end.
    """

    def __init__(self, fabric: Fabric, batches: int, prior_count: float) -> None:
        self.fabric, self.batches, self.prior_count = fabric, batches, prior_count
        self.divisor: Tensor | None = None
        self.total: Tensor | float = 0.0

    def __call__(self, positives: Tensor) -> Tensor:
        everyone = sum_over_processes(self.fabric, positives)
        self.total = self.total + everyone
        if self.divisor is None:
            # Processes average their gradients: dividing by the mean number gives the sum over the global number.
            # A first batch without matches must not make it 0: the later ones may have some.
            self.divisor = (everyone * self.batches + self.prior_count).clamp(min=1) / self.fabric.world_size
        return self.divisor

    def correction(self) -> Tensor:
        assert self.divisor is not None, "a task calls its normaliser once a batch"
        total = torch.as_tensor(self.total + self.prior_count).clamp(min=1)
        return self.divisor * self.fabric.world_size / total


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
        task: Computes losses.
        batches: The step's batches, on any device.
        optimizer: As `fabric.setup` gave it.
        clip_norm: Largest gradient norm; 0 does not clip.

    Returns:
        The losses by name and `gradient_norm` (before clipping; only when clipping).

    Raises:
        TrainingError: If the loss is not finite; it names the images and the first module that produced it.
    """
    normaliser = _Normaliser(fabric, len(batches), task.prior_count)
    total: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, 1):
        batch = batch.to(fabric.device)
        with fabric.no_backward_sync(network, enabled=number < len(batches)):
            images = network.normalise(batch.images)
            losses = task.losses(network(images), batch, normaliser=normaliser)
            if not torch.isfinite(losses["loss"]):
                raise _not_finite(network.module, images, batch, losses)
            fabric.backward(losses["loss"])
        for name, value in losses.items():
            total[name] = total[name] + value.detach() if name in total else value.detach()
    share = fabric.world_size
    result = {name: float(sum_over_processes(fabric, value)) / share for name, value in total.items()}
    if len(batches) > 1:
        _correct(network, result, normaliser.correction())
    if clip_norm > 0:
        norm = fabric.clip_gradients(network, optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        result["gradient_norm"] = float(norm if norm is not None else torch.nan)
    optimizer.step()
    optimizer.zero_grad()
    return result


def _correct(network: nn.Module, losses: dict[str, float], factor: Tensor) -> None:
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    torch._foreach_mul_(gradients, factor)
    for name in losses.keys() - {"positives"}:
        losses[name] *= float(factor)


def _not_finite(model: nn.Module, images: Tensor, batch: Batch, losses: dict[str, Tensor]) -> TrainingError:
    values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in losses.items())
    return TrainingError(
        f"the loss is not finite ({values}) on the images {', '.join(batch.names)}; {first_not_finite(model, images)}",
        "look at these images and their boxes; if they are sound, lower --lr or use --precision 32",
    )
