"""What PyTorch's own profiler says a training step takes: the truth for plans, found without them."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

STEPS_BEFORE = 2


def measured_peak(
    module: nn.Module, example: Any, loss_of: Callable[[Any], Tensor], optimizer: torch.optim.Optimizer
) -> int:
    """Return the most bytes that are alive on the CPU at one time of the third step of training.

    Args:
        module: Trained.
        example: A mapping of arguments by name or a tuple of arguments by place.
        loss_of: Returns the scalar loss from what the module returns.
        optimizer: Of the module's parameters.
    """

    def step() -> None:
        output = module(**example) if isinstance(example, Mapping) else module(*example)
        loss = loss_of(output)
        del output
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    module.train()
    for _ in range(STEPS_BEFORE):
        step()
    there = [
        *module.parameters(),
        *module.buffers(),
        *tree_leaves([*optimizer.state.values()]),
        *tree_leaves(example),
    ]
    before = sum(tensor.untyped_storage().nbytes() for tensor in there if isinstance(tensor, Tensor))
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return before + max(accumulate(changes, initial=0))
