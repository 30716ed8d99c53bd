"""Optimizers whose groups follow a parameter's role, and the proof that none is left out."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from trivet.errors import TrainingError, look_up, unknown_name
from trivet.train.settings import TrainSettings

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def _adamw(groups: list[dict], settings: TrainSettings, fused: bool | None) -> Optimizer:
    return AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.momentum, 0.999),
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def _sgd(groups: list[dict], settings: TrainSettings, fused: bool | None) -> Optimizer:
    return SGD(
        groups,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


OPTIMIZERS: dict[str, Callable[[list[dict], TrainSettings, bool | None], Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


def parameter_groups(model: nn.Module, settings: TrainSettings) -> list[dict]:
    """Split a model's parameters by role: the backbone or the rest, with or without weight decay.

    Parameters of `settings.leave_out` are in no group. Norm weights, biases and other vectors and scalars (BiFPN's fusion weights) are not decayed. Parameters that
    are frozen now have their group too, so that they can be thawed later. Every group remembers its peak
    learning rate as `peak_lr` and the names of its parameters as `names`.
    """
    undecayed = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name == "bias" or parameter.ndim < 2
    }
    groups: dict[tuple[bool, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if _belongs(name, settings.leave_out):
            continue
        in_backbone = name.startswith("backbone.")
        decayed = id(parameter) not in undecayed
        lr = settings.backbone_lr if in_backbone else settings.lr
        group = groups.setdefault(
            (in_backbone, decayed),
            {
                "role": f"{'backbone' if in_backbone else 'neck and head'}, {'decayed' if decayed else 'not decayed'}",
                "params": [],
                "names": [],
                "lr": lr,
                "peak_lr": lr,
                "weight_decay": settings.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def build_optimizer(model: nn.Module, settings: TrainSettings, *, fused: bool | None = None) -> Optimizer:
    """Build the optimizer of a model and check that it holds every trainable parameter exactly once.

    Args:
        model: Whose parameters it moves.
        settings: Which optimizer, and its numbers.
        fused: Whether a step is one pass over each parameter by an operator of its own; PyTorch's choice when not given.

    Raises:
        UsageError: If the optimizer's name is unknown, or there is no part of a name in `leave_out`.
        TrainingError: If parameters are left out and `leave_out_anyway` is not set.
    """
    for part in settings.leave_out:
        if not any(_belongs(name, (part,)) for name, _ in model.named_parameters()):
            raise unknown_name("part of the model", part, [name for name, _ in model.named_children()])
    build = look_up("optimizer", settings.optimizer, OPTIMIZERS)
    optimizer = build(parameter_groups(model, settings), settings, fused)
    if not settings.leave_out_anyway:
        check_coverage(model, optimizer)
    return optimizer


def _belongs(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def check_coverage(model: nn.Module, optimizer: Optimizer) -> None:
    """Prove that every trainable parameter of the model is in exactly one group of the optimizer.

    Raises:
        TrainingError: If a trainable parameter is in no group or in two, or a group holds a stranger.
    """
    held: list[torch.Tensor] = [
        parameter for group in optimizer.param_groups for parameter in group["params"]
    ]
    ids = [id(parameter) for parameter in held]
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    left_out = [
        (name, parameter.numel())
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in set(ids)
    ]
    if left_out:
        numbers = sum(count for _, count in left_out)
        raise TrainingError(
            f"{len(left_out)} trainable parameters ({numbers:,} numbers) are in no group of the optimizer and would "
            f"never learn: {_some([name for name, _ in left_out])}",
            "build the optimizer from model.parameters()",
        )
    twice = (
        sorted({named.get(key, "?") for key in ids if ids.count(key) > 1}) if len(set(ids)) < len(ids) else []
    )
    if twice:
        raise TrainingError(f"parameters are in more than one group of the optimizer: {_some(twice)}")
    strangers = sum(key not in named for key in ids)
    if strangers:
        raise TrainingError(f"the optimizer holds {strangers} parameters that are not the model's")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
