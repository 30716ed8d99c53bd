"""How to train: every number the loop needs, with its default in this one place."""

import math
from dataclasses import dataclass
from typing import Literal

from trivet.errors import UsageError

BatchNormPolicy = Literal["adapt", "as-built", "frozen-backbone", "frozen"]


@dataclass(frozen=True)
class TrainSettings:
    """The training part of a recipe.

    Args:
        epochs: Budget in passes over the data; give this or `minutes`.
        minutes: Budget in minutes of wall-clock time, validation included; the schedule is stretched to it.
        batch: Images in one forward pass, over all processes.
        accumulate: Forward passes per optimizer step; the effective batch is `batch * accumulate`.
        optimizer: Name in `train.optimizers.OPTIMIZERS`.
        lr: Peak learning rate of neck and head.
        backbone_lr: Peak learning rate of the backbone.
        weight_decay: Decoupled for AdamW, L2 for SGD; norms, biases and fusion weights are left out.
        momentum: SGD's momentum, AdamW's beta1.
        schedule: Name in `train.schedules.SCHEDULES`, or `plateau`.
        warmup: Share of the budget over which the learning rate rises from near zero, 0-1.
        clip_norm: Largest L2 norm of all gradients together; 0 does not clip.
        ema: Decay of the averaged weights, reached by a ramp; 0 keeps no average.
        freeze_backbone: Share of the budget, from the start, during which the backbone and its batch-norm
            statistics stand still: 0 never, 1 always.
        batch_norm: `adapt` sets every batch norm's momentum so that its statistics settle within the budget,
            `as-built` leaves them, `frozen-backbone` and `frozen` use the statistics the weights came with.
        precision: `32`, `bf16` or `16` (mixed precision; `16` needs CUDA).
        validations: How often validation runs over the whole budget, always at an epoch's end.
        patience: Stop after this many validations without a better score; `None` never stops early.
        plain_share: Last share of the budget trained without mosaic and mixup, 0-1.
        seed: Seeds weights, data order and augmentation.
        recompute: Parts (`backbone`, `neck`, `head`) whose blocks keep their inputs only and run again during the backward
            pass: less memory for about a third more of their time.
        leave_out: Parts (`head`, `neck.layers.0`) whose parameters the optimizer is not given: they keep their
            first values. Refused unless `leave_out_anyway` is set too, as it is nearly always a mistake.
        leave_out_anyway: Train without `leave_out`'s parameters, to see what that costs.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch: int = 8
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-3
    backbone_lr: float = 3e-4
    weight_decay: float = 0.02
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.04
    clip_norm: float = 10.0
    ema: float = 0.998
    freeze_backbone: float = 0.0
    batch_norm: BatchNormPolicy = "adapt"
    precision: Literal["32", "bf16", "16"] = "32"
    validations: int = 20
    patience: int | None = None
    plain_share: float = 0.2
    seed: int = 0
    recompute: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    leave_out_anyway: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise UsageError(
                f"training needs one budget, got epochs={self.epochs} and minutes={self.minutes}",
                "give --epochs or --minutes, not both",
            )
        positive = {"batch", "accumulate", "lr", "validations", "epochs", "minutes"}
        not_negative = {"backbone_lr", "weight_decay", "clip_norm"}
        shares = {"warmup", "freeze_backbone", "plain_share", "ema", "momentum"}
        for name in sorted(positive | not_negative | shares):
            value = getattr(self, name)
            if value is None:
                continue
            if not (math.isfinite(value) and (value > 0 if name in positive else value >= 0)):
                raise UsageError(
                    f"{name} must be {'above 0' if name in positive else '0 or more'}, got {value}"
                )
            if name in shares and value > 1:
                raise UsageError(f"{name} lies in 0-1, got {value}")
        if self.leave_out_anyway and not self.leave_out:
            raise UsageError(
                "leave_out_anyway is set, but leave_out names no part", "name the part, or drop both"
            )
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience counts validations from 1, got {self.patience}")
