"""A plain training step of any module: forward pass, loss, backward pass, optimizer."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trivet.memory.example import Example
from trivet.memory.ledger import AVERAGE, INPUT, LOSS, WEIGHTS
from trivet.memory.step import copy_of

Loss = Callable[..., Tensor]
MakesOptimizer = Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer]
_RETURNS = "the loss, an object or mapping with a `loss`, or a mapping of scalar losses"


class PlainStep:
    """A plain training step of a module.

    Args:
        module: Copied.
        inputs: What it is called with.
        targets: What the loss is called with after the output.
        loss: Returns a scalar; `None` where the module returns its own (`own_loss`).
        optimizer: One made for the module's parameters, or a function of parameters that makes one.
        as_on: Returns the context of forward pass and loss.
        average: Whether an average of the weights is kept beside them.
        keeps_gradients: Whether gradients stay from step to step.
        real: Whether the copy of the module is real.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Example,
        targets: Example,
        loss: Loss | None,
        optimizer: MakesOptimizer,
        *,
        as_on: Callable[[], AbstractContextManager],
        average: bool,
        keeps_gradients: bool,
        real: bool,
    ) -> None:
        self.module = copy_of(module, real=real).train()
        self.average: list[Tensor] = list(copy_of(module, real=real).parameters()) if average else []
        self.inputs, self.targets, self.loss = inputs, targets, loss
        self.as_on, self.keeps_gradients = as_on, keeps_gradients
        self._optimizer = again(optimizer, module, self.module)

    def parts(self) -> dict[str, list[Tensor]]:
        """Return what is there before the step, by kind."""
        weights: list[Tensor] = [*self.module.parameters(), *self.module.buffers()]
        return {
            WEIGHTS: weights,
            AVERAGE: self.average,
            INPUT: self.inputs.tensors(),
            LOSS: self.targets.tensors(),
        }

    def optimizer(self) -> Optimizer:
        """Return the optimizer."""
        return self._optimizer

    def run(self) -> None:
        """Take one step."""
        with self.as_on():
            output = self.module(*self.inputs.args, **self.inputs.kwargs)
            if self.loss is None:
                loss = own_loss(output)
            else:
                loss = self.loss(output, *self.targets.args, **self.targets.kwargs)
        del output
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=not self.keeps_gradients)


def own_loss(output: Any) -> Tensor:
    """Return the loss that a module returned: a scalar, `.loss` or `["loss"]`, or the sum of a mapping of scalars.

    Args:
        output: What the module returned in training.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(output, Mapping) and "loss" in output:
        found = output["loss"]
    elif isinstance(output, Mapping) and output and all(map(_is_scalar, output.values())):
        found = sum(output.values())
    else:
        found = getattr(output, "loss", output)
    if not _is_scalar(found):
        keys = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise ValueError(
            f"the module returned a {type(output).__name__}{keys}, in which no loss was found; without a loss the "
            f"module has to return {_RETURNS}; give a loss, a function of what the module returns"
        )
    return found


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


def again(optimizer: MakesOptimizer, module: nn.Module, twin: nn.Module) -> Optimizer:
    """Return the same kind of optimizer for the parameters of a module's copy.

    Args:
        optimizer: One made for the module's parameters, or a function of parameters that makes one.
        module: The module.
        twin: The copy.

    Raises:
        ValueError: If it cannot be made again.
    """
    if not isinstance(optimizer, Optimizer):
        return optimizer(twin.parameters())
    twins = {id(real): copied for real, copied in zip(module.parameters(), twin.parameters(), strict=True)}
    try:
        groups = [
            {**copy.copy(group), "params": [twins[id(parameter)] for parameter in group["params"]]}
            for group in optimizer.param_groups
        ]
        known = inspect.signature(type(optimizer)).parameters
        return type(optimizer)(
            groups, **{key: value for key, value in optimizer.defaults.items() if key in known}
        )
    except (KeyError, TypeError) as fault:
        raise ValueError(
            f"cannot make {type(optimizer).__name__} again for the planned parameters ({fault!r}); "
            "give a function of parameters that makes the optimizer"
        ) from fault
