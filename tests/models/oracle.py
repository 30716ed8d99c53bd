"""effdet as an oracle: its networks, and weights and images that a formula gives."""

import math
import warnings

import torch
from torch import Tensor, nn

from trivet.structures import AnchorOutput

GOLDEN = 0.6180339887498949
PLASTIC = 0.7548776662466927


def effdet_net(name: str, size_hw: tuple[int, int], **changes) -> nn.Module:
    """Build effdet's network of this name for one input size, with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from effdet import EfficientDet, get_efficientdet_config
    config = get_efficientdet_config(name)
    config.image_size = size_hw
    for key, value in changes.items():
        config[key] = value
    return EfficientDet(config, pretrained_backbone=False)


def formula_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fill a state dict by a formula of each tensor's place, so that every machine has the same weights."""
    return {key: _formula_tensor(key, k, state[key]) for k, key in enumerate(sorted(state))}


def _formula_tensor(key: str, k: int, tensor: Tensor) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(tensor)
    i = torch.arange(tensor.numel(), dtype=torch.float64)
    u = ((i * GOLDEN + (k + 1) * PLASTIC) % 1 - 0.5).reshape(tensor.shape)
    if tensor.dim() >= 2:
        return (u * 2 * math.sqrt(3 / tensor[0].numel())).float()
    if key.endswith("edge_weights"):
        return (1 + 0.5 * u).float()
    scale = key.endswith("running_var") or ("bn" in key and key.endswith(".weight"))
    return (1 + 0.2 * u if scale else 0.2 * u).float()


def formula_image(size_hw: tuple[int, int]) -> Tensor:
    """Return a normalised image `[1, 3, h, w]` by formula."""
    i = torch.arange(3 * size_hw[0] * size_hw[1], dtype=torch.float64)
    return (i * GOLDEN % 1 * 2 - 1).float().reshape(1, 3, *size_hw)


def largest_difference(theirs: tuple[list[Tensor], list[Tensor]], ours: AnchorOutput) -> float:
    """Return the largest absolute difference of all levels of both outputs."""
    pairs = [*zip(theirs[0], ours.class_logits, strict=True), *zip(theirs[1], ours.box_deltas, strict=True)]
    return max(float((a - b).abs().max()) for a, b in pairs)
