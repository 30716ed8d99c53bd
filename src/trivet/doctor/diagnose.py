"""Diagnosing one batch: `trivet.diagnose(model, batch, loss_function)`."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trivet.doctor.borrow import borrowed
from trivet.doctor.checks import CHECKS
from trivet.doctor.diagnosis import Diagnosis, diagnose_trace
from trivet.doctor.probe import Probe

STEPS = 12
"""Virtual steps on the batch: enough for every check that is not about the length of training."""
STEP_SIZE = 1e-3
"""Learning rate of the optimizer that stands in for one that is not given."""

Loss = Callable[[Any, Any], torch.Tensor]

ABOUT_THE_LOOP = (
    "missing-zero-grad",
    "accumulation-cancelled",
    "validates-in-train-mode",
    "clip-before-unscale",
    "scheduler-collapses-lr",
    "scheduler-never-steps",
    "trains-in-eval-mode",
    "batchnorm-stats-stale",
    "random-in-eval",
    "pretrained-weights-not-loaded",
    "graph-retained",
    "data-order-repeats",
    "samples-repeat",
    "host-memory-growth",
    "loader-bound",
    "plateau",
    "overfitting",
)
"""What only a whole loop can show."""
ABOUT_THE_OPTIMIZER = (
    "foreign-parameter-in-optimizer",
    "parameter-not-in-optimizer",
    "parameter-never-changes",
    "regularisation-moves-frozen-weights",
    "exploding-gradient",
    "lr-too-low",
    "lr-too-high",
)
"""What cannot be judged of an optimizer that is not the user's."""


def diagnose(
    model: nn.Module,
    batch: Sequence[Any],
    loss_function: Loss,
    optimizer: torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """Take a few virtual training steps on one batch, and say what is wrong with model, loss and optimizer.

    Afterwards weights, buffers, gradients, optimizer state, training modes and all random state are what they were,
    to the bit. Call it between two steps, not between a forward and its backward.

    Args:
        model: In the mode it trains in; a model wholly in eval mode is put into train mode meanwhile.
        batch: Inputs and targets. Inputs are a tensor, a tuple of arguments or a dict of keywords of the model.
        loss_function: (output of the model, targets) -> a scalar to be minimised.
        optimizer: The one that trains the model; without it, nothing is said about optimizers.

    Raises:
        ValueError: If the batch is not a pair, or a lazy parameter has no shape yet.
        RuntimeError: If this process is watched already.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
        >>> images, labels = torch.randn(16, 3), torch.arange(16) % 2
        >>> found = diagnose(net, (images, labels), nn.functional.cross_entropy)
        >>> [finding.name for finding in found.findings]
        ['probabilities-into-cross-entropy']
    """
    if isinstance(batch, torch.Tensor) or len(batch) != 2:
        raise ValueError("batch must be a pair (inputs, targets)")
    with borrowed(model, loss_function, optimizer):
        probe = Probe()
        with probe, torch.inference_mode(False), torch.enable_grad():
            probe.watch_also(model, *([optimizer] if optimizer is not None else []))
            try:
                _take_steps(model, batch, loss_function, optimizer)
            except Exception as fault:  # whatever the user's code raises is told as a finding
                probe.exception = fault
            trace = probe.trace()
        # Judged before random state is put back: checkers of types at run time draw random numbers too.
        return _leave_out(diagnose_trace(trace), optimizer is not None)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor, a tuple of arguments or a dict of keywords."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def fresh(value: Any) -> Any:
    """Copy the tensors in nested tuples, lists and dicts, so that a model may change its input in place."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {key: fresh(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(fresh, value))
    return type(value)(map(fresh, value)) if isinstance(value, (list, tuple)) else value


def step_with(optimizer: torch.optim.Optimizer, compute_loss: Callable[[], torch.Tensor]) -> None:
    """Take one step; an optimizer that evaluates the loss several times (LBFGS) is given the closure it wants."""

    def closure() -> Any:
        optimizer.zero_grad()
        loss = compute_loss()
        loss.backward()
        return loss.detach()

    closure_wanted = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure_wanted is not None and closure_wanted.default is inspect.Parameter.empty:
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def _take_steps(
    model: nn.Module, batch: Sequence[Any], loss_function: Loss, optimizer: torch.optim.Optimizer | None
) -> None:
    if not any(module.training for module in model.modules()):
        model.train()
    loss_function = _watched(loss_function)
    if optimizer is None:
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained or [nn.Parameter(torch.zeros(1))], lr=STEP_SIZE)
    for _ in range(STEPS):
        inputs, targets = fresh(tuple(batch))

        def compute_loss(given: Any = inputs, wanted: Any = targets) -> torch.Tensor:
            return loss_function(call_model(model, given), wanted)

        step_with(optimizer, compute_loss)


def _watched(loss_function: Loss) -> Loss:
    """Return the recording twin of a loss of `torch.nn.functional`, which replaces it there while it is watched."""
    twin = getattr(nn.functional, getattr(loss_function, "__name__", ""), None)
    return twin if twin is not None and getattr(twin, "__wrapped__", None) is loss_function else loss_function


def _leave_out(diagnosis: Diagnosis, with_optimizer: bool) -> Diagnosis:
    """Drop what one batch cannot show, and say so."""
    reasons = dict.fromkeys(ABOUT_THE_LOOP, "one batch says nothing about the loop")
    if not with_optimizer:
        reasons |= dict.fromkeys(ABOUT_THE_OPTIMIZER, "no optimizer was given")
    reasons = {name: reason for name, reason in reasons.items() if name in CHECKS}
    kept = [finding for finding in diagnosis.findings if finding.name not in reasons]
    return replace(diagnosis, findings=kept, not_checked={**diagnosis.not_checked, **reasons})
