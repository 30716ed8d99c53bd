"""How big a model is: parameters and multiply-adds, without doing the arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trivet.errors import UsageError


@dataclass(frozen=True)
class ModelCount:
    """The size of a model at one input size.

    Args:
        parameters: Trainable or not.
        macs: Multiply-adds of convolutions, transposed too, and linear layers for one image; 1 of them is 2 FLOPs, though papers
            often call it one.
        by_part: Part name -> (parameters, macs).
    """

    parameters: int
    macs: int
    by_part: dict[str, tuple[int, int]]


def count_model(model: nn.Module, size_hw: tuple[int, int]) -> ModelCount:
    """Count a model's parameters and the multiply-adds of one image, part by part.

    The model runs on shapes alone: nothing is computed or allocated, so that the largest takes no memory, and
    its weights and mode are left as they are.

    Args:
        model: Any model of images `[1, 3, h, w]`.
        size_hw: The image's size in pixels.
    """
    if min(size_hw) < 1:
        raise UsageError(f"an image has sides of at least 1 pixel, got size_hw={size_hw}")
    macs: dict[str, int] = {}
    modes = {module: module.training for module in model.modules()}
    hooks = [
        layer.register_forward_hook(_adder(macs, name))
        for name, part in model.named_children()
        for layer in part.modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    ]
    shapes = {
        name: torch.empty_like(value, device="meta")
        for name, value in chain(model.named_parameters(), model.named_buffers())
    }
    try:
        model.eval()
        with torch.no_grad():
            functional_call(model, shapes, (torch.empty(1, 3, *size_hw, device="meta"),))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    by_part = {name: (count_parameters(part), macs.get(name, 0)) for name, part in model.named_children()}
    return ModelCount(count_parameters(model), sum(macs.values()), by_part)


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module's parameters are, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def _adder(macs: dict[str, int], part: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Return a hook that adds a layer's multiply-adds to its part.

    They are one for an output number and input it sees; a transposed convolution is one run backwards: one for an
    input number and output it reaches.
    """

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor), "a convolution or linear layer has a weight"
        counted = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else result
        macs[part] = macs.get(part, 0) + counted.numel() * weight[0].numel()

    return add
