"""Which module made the first number that is not finite."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [tensor for name in value.__dataclass_fields__ for tensor in _tensors(getattr(value, name))]
    return []


def _finite(value: object) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(value) if tensor.is_floating_point())


@torch.no_grad()
def first_not_finite(model: nn.Module, images: Tensor) -> str:
    """Run the model once more and say where the first NaN or infinity comes from.

    Weights are looked at first: after a step that went wrong every output is spoilt. Batch-norm statistics are
    not changed by the second run.

    Returns:
        A clause for an error message.
    """
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not _finite(value):
            return f"the weights {name} are already not finite, so an earlier step spoilt them"
    if not _finite(images):
        return "the normalised images are not finite"
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            if not found and not _finite(output):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(look(name)) for name, module in leaves]
    training = model.training
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
        model.train(training)
    return (
        f"the first module with such an output is {found[0]}"
        if found
        else "every module's output is finite, the loss itself is not"
    )
