"""The automatic choices for segmenters."""

import numpy as np

from trivet.data.dataset import Dataset
from trivet.recipe.choose_common import (
    affordable_side,
    choose_average,
    choose_budget,
    choose_hardware,
    choose_rates,
    choose_weights,
    expected_steps,
)
from trivet.recipe.draft import Draft
from trivet.recipe.machine import Machine

SEGMENTER_STEP_SECONDS = 0.5
"""One training step of the default segmenter: batch 8 at 320 x 320 on two cores, augmentation and validation included."""
DENSE = ("deconvnet", "deeplab")
"""How the names of networks begin whose work is dense convolutions."""


def choose_segmentation(draft: Draft, train: Dataset, machine: Machine) -> None:
    """Choose everything that was not given for a segmenter."""
    images = len(train)
    if not draft.has("model.backbone"):
        draft.offer(
            "model.name", "semantic_fpn_lite0", "a light head on a pretrained backbone: quick on any machine"
        )
    choose_weights(draft)
    choose_budget(draft, images)
    _choose_size(draft, train, machine)
    few = images < 5000
    draft.offer("augment.strength", "medium" if few else "light", f"{images} training images")
    draft.offer(
        "task.options",
        {"loss": {"cross_entropy": 1.0, "lovasz": 0.5}},
        "cross-entropy learns every pixel, Lovasz the IoU that is scored",
    )
    choose_rates(draft, adamw=3e-3, sgd=0.01, batch=8)
    choose_average(draft, expected_steps(draft, images, machine, step_seconds=SEGMENTER_STEP_SECONDS))
    choose_hardware(draft, machine, dense=str(draft.values.get("model.name")).startswith(DENSE))


def _choose_size(draft: Draft, train: Dataset, machine: Machine) -> None:
    if draft.has("model.size_hw"):
        return
    sizes = train.truth.sizes_hw[train.truth.sizes_hw.min(axis=1) > 0]
    height, width = (int(side) for side in np.median(sizes, axis=0)) if len(sizes) else (512, 512)
    longest, why = min(float(max(height, width)), 1024.0), "the images' own size, at most 1024 px"
    if machine.accelerator == "cpu":
        affordable = affordable_side(
            draft, len(train), (height, width), machine, step_seconds=SEGMENTER_STEP_SECONDS
        )
        if affordable < longest:
            longest, why = affordable, f"the budget affords {affordable:.0f} px of {longest:.0f} on this CPU"
    sides = [max(round(side / max(height, width) * longest / 32), 2) * 32 for side in (height, width)]
    draft.offer("model.size_hw", tuple(sides), f"{why}; the images' own shape ({width} x {height})")
