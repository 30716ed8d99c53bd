"""Automatic choices that the tasks share."""

import math

from trivet.models.backbone import has_imagenet_weights, packaged_weights
from trivet.models.zoo import zoo_entry
from trivet.recipe.draft import Draft
from trivet.recipe.machine import Machine

LITE0_STEP_SECONDS = 0.9
"""One training step of the default CPU detector: batch 8 at 320 x 320 on two cores."""
GPU_STEP_SECONDS = 0.1
"""About what a step of the default detector takes on a graphics card; only choices of little weight rest on it."""


def choose_weights(draft: Draft) -> None:
    """Choose the weights of the backbone."""
    name = draft.values.get("model.backbone") or zoo_entry(str(draft.values["model.name"])).backbone
    if not has_imagenet_weights(str(name)):
        draft.offer(
            "model.pretrained", False, f"no ImageNet weights of {name} can be had; --from takes a file"
        )
        return
    offline = packaged_weights(str(name)) is not None
    why = "ImageNet weights are installed" if offline else "ImageNet weights from timm's hub"
    draft.offer("model.pretrained", True, f"{why}; a small data set needs them")


def choose_budget(draft: Draft, images: int) -> None:
    """Choose batch and length for this many training images."""
    batch = 8 if images >= 32 else max(1, min(4, images))
    draft.offer("train.batch", batch, f"{images} training images")
    if not (draft.has("train.epochs") or draft.has("train.minutes")):
        steps_per_epoch = max(1, images // int(draft.values["train.batch"]))
        epochs = min(max(math.ceil(2500 / steps_per_epoch), 12), 150)
        draft.offer("train.epochs", epochs, f"about 2,500 steps, {steps_per_epoch} an epoch; 12 to 150")


def affordable_side(
    draft: Draft,
    images: int,
    median_hw: tuple[int, int],
    machine: Machine,
    *,
    step_seconds: float = LITE0_STEP_SECONDS,
) -> float:
    """Return the longer side at which the budget still gives some forty epochs, at least 256."""
    batch = int(draft.values["train.batch"])
    minutes = draft.values.get("train.minutes")
    seconds = float(minutes) * 60 * 0.85 if minutes else 3600.0
    epochs = int(draft.values.get("train.epochs", 40))
    steps = max(1, images // batch) * max(min(epochs, 40), 1)
    at_320 = step_seconds * batch / 8 * 2 / max(machine.cores, 1)
    pixels = 320 * 320 * seconds / (steps * at_320)
    height, width = median_hw
    return max(256.0, min(640.0, math.sqrt(pixels * max(height, width) / min(height, width))))


def expected_steps(
    draft: Draft, images: int, machine: Machine, *, step_seconds: float = LITE0_STEP_SECONDS
) -> int:
    """Return about how many optimizer steps the budget holds; a batch and a size are chosen by now."""
    batch = int(draft.values["train.batch"])
    if draft.has("train.epochs"):
        return max(1, images // batch) * int(draft.values["train.epochs"])
    if machine.accelerator != "cpu":
        return round(float(draft.values["train.minutes"]) * 60 / GPU_STEP_SECONDS)
    height, width = draft.values["model.size_hw"]
    seconds = step_seconds * batch / 8 * 2 / max(machine.cores, 1) * height * width / 320**2
    return max(1, round(float(draft.values["train.minutes"]) * 60 * 0.8 / seconds))


def choose_average(draft: Draft, steps: int) -> None:
    """Choose the decay of the averaged weights: an average over about a tenth of a short run."""
    decay = round(min(0.998, max(0.9, 1 - 10 / max(steps, 1))), 4)
    draft.offer("train.ema", decay, f"averages about {1 / (1 - decay):.0f} of some {steps:,} steps")


def choose_rates(draft: Draft, *, adamw: float, sgd: float, batch: int) -> None:
    """Choose the learning rates that suit a new neck and head on a pretrained, or a new, backbone.

    Args:
        draft: Has a batch by now.
        adamw: Peak rate of neck and head for AdamW at an effective batch of `batch`.
        sgd: The same for SGD.
        batch: The effective batch these are for.
    """
    effective = int(draft.values["train.batch"]) * int(draft.values.get("train.accumulate", 1))
    linear = draft.values.get("train.optimizer", "adamw") == "sgd"
    base, grows = (sgd, effective / batch) if linear else (adamw, math.sqrt(effective / batch))
    how = "with the batch" if linear else "with the square root of the batch"
    draft.offer("train.lr", round(base * grows, 6), f"{base:g} at batch {batch}, growing {how} ({effective})")
    share = 0.35 if draft.values.get("model.pretrained") else 1.0
    draft.offer(
        "train.backbone_lr", round(share * float(draft.values["train.lr"]), 6), f"{share:g} of train.lr"
    )


def choose_hardware(draft: Draft, machine: Machine, *, dense: bool = False) -> None:
    """Choose precision, workers and accelerator.

    Args:
        draft: The recipe in the making.
        machine: Where it will run.
        dense: Whether the network's work is dense convolutions. On a CPU only those gain from bfloat16: others are
            faster in float32 by the compiled kernels.
    """
    draft.offer("train.precision", *_precision(machine, dense=dense))
    if machine.accelerator == "cpu":
        draft.offer("data.workers", machine.cores // 4, f"the network itself uses the {machine.cores} cores")
    else:
        draft.offer(
            "data.workers", max(0, min(machine.cores - 1, 8)), f"{machine.cores} cores, one left for training"
        )
    draft.offer("machine.accelerator", machine.accelerator, "what this machine has")


def _precision(machine: Machine, *, dense: bool) -> tuple[str, str]:
    """Return the precision, and why."""
    if not machine.bf16:
        return "32", f"the {machine.accelerator} lacks fast bfloat16"
    if machine.accelerator == "cpu" and not dense:
        return "32", "the cpu has fast bfloat16, but little of this network is dense convolutions"
    return "bf16", f"the {machine.accelerator} has fast bfloat16"
