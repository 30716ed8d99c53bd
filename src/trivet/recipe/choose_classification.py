"""The automatic choices for classifiers."""

import math

import numpy as np

from trivet.data.dataset import Dataset
from trivet.recipe.choose_common import choose_hardware, choose_rates, choose_weights
from trivet.recipe.draft import Draft
from trivet.recipe.machine import Machine

SMALL_SIDE = 64
"""Pictures up to so many pixels are classified by a small dense network, trained from scratch."""

COMPACT_RATES = {"compact": (500, 1300), "compact_wide": (160, 520)}
"""Training images of 32 x 32 a second and core, in float32 and in bfloat16 where the processor has it."""
WIDE_EPOCHS = 8
"""From so many epochs on, the wide network gains more by its width than the narrow one by longer training."""


def choose_classification(draft: Draft, train: Dataset, machine: Machine) -> None:
    """Choose everything that was not given for a classifier."""
    images = len(train)
    sizes = train.truth.sizes_hw[train.truth.sizes_hw.min(axis=1) > 0]
    height, width = (int(side) for side in np.median(sizes, axis=0)) if len(sizes) else (224, 224)
    small = max(height, width) <= SMALL_SIDE
    if small and not draft.has("model.backbone"):
        _choose_compact(draft, images, (height, width), machine)
        draft.offer("model.pretrained", False, "made for small pictures, trained from scratch")
        draft.offer("model.size_hw", (height, width), "the pictures' own size")
    elif not draft.has("model.backbone"):
        draft.offer("model.name", "efficientnet_lite0", "the quickest of the family on a CPU")
    if not draft.has("model.pretrained"):
        choose_weights(draft)
    draft.offer("model.size_hw", (224, 224), "what the backbone was trained on")
    _choose_budget(draft, images, small=small)
    draft.offer("augment.strength", "medium" if images < 100_000 else "light", f"{images:,} training images")
    draft.offer("task.options", {"label_smoothing": 0.1}, "keeps a classifier from being too sure of itself")
    _choose_optimizer(draft, small=small)
    choose_hardware(draft, machine, dense=str(draft.values.get("model.name")) in COMPACT_RATES)


def _choose_compact(draft: Draft, images: int, size_hw: tuple[int, int], machine: Machine) -> None:
    """Choose the width of the network for small pictures: the wide one if the budget holds `WIDE_EPOCHS` of it."""
    pictures = f"pictures of {size_hw[1]} x {size_hw[0]}: dense convolutions at full resolution"
    minutes = draft.values.get("train.minutes")
    if minutes is None or machine.accelerator != "cpu":
        wide, why = machine.bf16 or machine.accelerator != "cpu", f"what a {machine.accelerator} can do"
    else:
        smaller = 32 * 32 / max(size_hw[0] * size_hw[1], 1)
        rate = COMPACT_RATES["compact_wide"][machine.bf16] * machine.cores * smaller
        epochs = float(minutes) * 60 * 0.8 * rate / max(images, 1)
        wide, why = (
            epochs >= WIDE_EPOCHS,
            f"{minutes:g} minutes hold about {epochs:.0f} epochs of the wide one",
        )
    draft.offer("model.name", "compact_wide" if wide else "compact", f"{pictures}; {why}")


def _choose_budget(draft: Draft, images: int, *, small: bool) -> None:
    batch = min(256 if small else 32, max(1, images // 8))
    draft.offer("train.batch", batch, f"{images:,} training images")
    if not (draft.has("train.epochs") or draft.has("train.minutes")):
        steps = max(1, images // int(draft.values["train.batch"]))
        epochs = min(max(math.ceil(3000 / steps), 10), 100)
        draft.offer("train.epochs", epochs, f"about 3,000 steps, {steps} an epoch; 10 to 100")
    draft.offer("train.validations", 10, "often enough to pick the best weights")


def _choose_optimizer(draft: Draft, *, small: bool) -> None:
    if small:
        draft.offer("train.optimizer", "sgd", "from scratch on small pictures SGD generalises best")
        draft.offer("train.schedule", "onecycle", "one rise and one fall suit a short budget")
        draft.offer("train.weight_decay", 5e-4, "usual for SGD from scratch")
    choose_rates(draft, adamw=1.5e-3, sgd=0.4, batch=32 if not small else 256)
