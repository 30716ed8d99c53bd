"""Fixes that can be applied to live objects, each with its placebo: the same machinery without the effect."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trivet.doctor.probe.modules import BATCH_NORMS
from trivet.doctor.probe.session import Patches

TINY = 1e-7


@dataclass
class Trial:
    """What a training in an experiment works with; a fix changes it.

    Args:
        clears: Whether gradients are cleared before each backward.
        patches: Undone after the trial.
    """

    model: nn.Module
    loss_function: Callable[[Any, Any], torch.Tensor]
    optimizer: torch.optim.Optimizer
    clears: bool = True
    patches: Patches = field(default_factory=Patches)


@dataclass(frozen=True)
class Fix:
    """How a fault is set right.

    Args:
        apply: Changes a trial; with `False` it goes the same way without effect.
        fault: Sets up what the fault is in the loop, in every arm, where model, loss and optimizer do not hold it.
        rates: Factors of the learning rate that the fix is, where the fault is the rate itself.
    """

    apply: Callable[[Trial, bool], None]
    fault: Callable[[Trial], None] | None = None
    rates: tuple[float, ...] = ()


def give_all_parameters(trial: Trial, real: bool) -> None:
    """Add a group of what the optimizer lacks; without effect: at a learning rate of 0."""
    held = {id(p) for group in trial.optimizer.param_groups for p in group["params"]}
    missing = [p for p in trial.model.parameters() if p.requires_grad and id(p) not in held]
    if missing:
        rate = trial.optimizer.param_groups[0]["lr"]
        trial.optimizer.add_param_group({"params": missing, "lr": rate if real else rate * 0.0})


def take_logarithm(trial: Trial, real: bool) -> None:
    """Turn the probabilities that cross-entropy is given into logits."""
    _change_input(trial, "cross_entropy", lambda p: p.clamp_min(TINY).log() if real else p)


def take_logit(trial: Trial, real: bool) -> None:
    """Turn the probabilities that binary cross-entropy is given into logits."""
    _change_input(
        trial, "binary_cross_entropy_with_logits", lambda p: torch.logit(p, eps=TINY) if real else p
    )


def take_shape_of_target(trial: Trial, real: bool) -> None:
    """Give outputs the shape of their targets, where the counts agree."""

    def shaped(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return output.reshape(target.shape) if real and output.numel() == target.numel() else output

    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        _change_input(trial, name, shaped, with_target=True)


def reverse_momentum(trial: Trial, real: bool) -> None:
    """Give batch norms the momentum that was meant: 1 - m, or the default where m is 0."""
    norms = (layer for layer in trial.model.modules() if isinstance(layer, BATCH_NORMS))
    for layer in norms:
        wrong = layer.momentum is not None and (layer.momentum > 0.5 or layer.momentum == 0)
        if real and wrong:
            layer.momentum = 1 - layer.momentum if layer.momentum else 0.1


def clear_gradients(trial: Trial, real: bool) -> None:
    """Clear gradients before each backward."""
    trial.clears = real


def train_in_train_mode(trial: Trial, real: bool) -> None:
    """Train in train mode."""
    trial.model.train(real)


def scale_input(trial: Trial, real: bool) -> None:
    """Give the model inputs of zero mean and unit scale, by the first batch it sees."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def scaled(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first = inputs[0]
        if not isinstance(first, torch.Tensor) or not first.is_floating_point():
            return inputs
        if not seen:
            seen.append((first.mean(), first.std().clamp_min(TINY)))
        mean, spread = seen[0]
        return ((first - mean) / spread, *inputs[1:]) if real else inputs

    entry = getattr(
        trial.model, "entry", trial.model
    )  # a script's steps, repeated, have modules of their own
    entry.register_forward_pre_hook(scaled)


def leave(_: Trial, real: bool) -> None:
    """Change nothing but the learning rate."""


def _accumulate(trial: Trial) -> None:
    trial.clears = False


def _evaluate(trial: Trial) -> None:
    trial.model.eval()


def _change_input(
    trial: Trial, name: str, change: Callable[..., torch.Tensor], *, with_target: bool = False
) -> None:
    """Change what a loss of `torch.nn.functional` is given, also where the loss function is that function itself."""

    def wrapped(original: Any) -> Any:
        def loss(input: torch.Tensor, target: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            changed = change(input, target) if with_target else change(input)
            return original(changed, target, *args, **kwargs)

        return loss

    original = getattr(F, name)
    trial.patches.wrap(F, name, wrapped)
    if trial.loss_function is original:
        trial.loss_function = getattr(F, name)


FIXES: dict[str, Fix] = {
    "parameter-not-in-optimizer": Fix(give_all_parameters),
    "probabilities-into-cross-entropy": Fix(take_logarithm),
    "sigmoid-before-bce-with-logits": Fix(take_logit),
    "loss-broadcast": Fix(take_shape_of_target),
    "batchnorm-momentum": Fix(reverse_momentum),
    "missing-zero-grad": Fix(clear_gradients, fault=_accumulate),
    "trains-in-eval-mode": Fix(train_in_train_mode, fault=_evaluate),
    "input-not-normalised": Fix(scale_input),
    "lr-too-low": Fix(leave, rates=(10.0, 100.0)),
    "lr-too-high": Fix(leave, rates=(0.1, 0.01)),
}
"""Name of the finding -> how it is set right on live objects."""
