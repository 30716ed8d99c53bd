"""Batch-norm policies for small batches and short runs."""

from torch import nn

from trivet.train.settings import BatchNormPolicy

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def adapt_momentum(model: nn.Module, steps: int) -> float:
    """Set every batch norm's momentum so that its statistics settle within `steps` steps.

    With momentum m the first value still weighs (1 - m)^n after n steps. Published detectors use m = 0.01, for
    hundreds of thousands of steps; a run of 200 steps would validate on statistics that are still 13 % initial.
    The momentum is chosen so that half the steps leave 1 %, within 0.01-0.1; none is lowered.

    Returns:
        The momentum.
    """
    momentum = min(max(1 - 0.01 ** (2 / max(steps, 1)), 0.01), 0.1)
    for module in model.modules():
        if isinstance(module, BATCH_NORM) and module.momentum is not None:
            module.momentum = max(module.momentum, momentum)
    return momentum


def hold_statistics(model: nn.Module, policy: BatchNormPolicy, *, backbone_frozen: bool) -> None:
    """Put the batch norms that must not learn statistics into evaluation mode; call after `model.train()`."""
    for name, module in model.named_modules():
        in_backbone = name.startswith("backbone.")
        held = policy == "frozen" or (in_backbone and (policy == "frozen-backbone" or backbone_frozen))
        if held and isinstance(module, BATCH_NORM):
            module.eval()
