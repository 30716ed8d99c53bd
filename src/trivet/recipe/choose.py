"""The automatic choices: what was not given, from the data set's fingerprint and the machine."""

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.propose import propose_anchors
from trivet.models.backbone import packaged_weights
from trivet.models.zoo import zoo_entry
from trivet.recipe.fingerprint import Fingerprint, boxes_at_input, fingerprint
from trivet.recipe.machine import Machine
from trivet.recipe.recipe import Chosen, Recipe, checked_value, make_recipe
from trivet.structures import LabelMap, TruthTable

COMFORTABLE_SIDE = 32.0
"""Pixels at the network's input that a typical object of the classes with the smallest ones should have."""
LITE0_STEP_SECONDS = 0.9
"""One training step of the default CPU model: batch 8 at 320 x 320 on two cores."""


class Draft:
    """Values given so far, and who chose each.

    Args:
        given: Dotted keys, as in a recipe; `None` values count as not given.
        chosen: Who chose those of `given` that come from a recipe file.

    Raises:
        UsageError: If a key is unknown or a value does not fit its type.
    """

    def __init__(self, given: Mapping[str, Any], chosen: Mapping[str, Chosen] | None = None) -> None:
        self.values = {key: checked_value(key, value) for key, value in given.items() if value is not None}
        self.chosen = {key: Chosen(by="given") for key in self.values} | dict(chosen or {})

    def has(self, key: str) -> bool:
        """Return whether a value is there."""
        return key in self.values

    def offer(self, key: str, value: Any, why: str) -> None:
        """Choose a value unless there is one."""
        if key not in self.values and value is not None:
            self.values[key] = value
            self.chosen[key] = Chosen(by="automatic", why=why)

    def recipe(self) -> Recipe:
        """Return the finished recipe."""
        return make_recipe(self.values, self.chosen)


def choose_model(draft: Draft, machine: Machine) -> None:
    """Choose the model and its weights."""
    made_of_parts = draft.has("model.backbone")
    if not made_of_parts and machine.accelerator == "cpu":
        draft.offer("model.name", "efficientdet_lite0", "the quickest of the family on a CPU")
    elif not made_of_parts:
        name = "tf_efficientdet_d1" if machine.memory_gib >= 12 else "tf_efficientdet_d0"
        draft.offer("model.name", name, f"trains at its own size in {machine.memory_gib:.0f} GiB")
    name = draft.values.get("model.backbone") or zoo_entry(str(draft.values["model.name"])).backbone
    offline = packaged_weights(str(name)) is not None
    why = "ImageNet weights are installed" if offline else "ImageNet weights from timm's hub"
    draft.offer("model.pretrained", True, f"{why}; a small data set needs them")


def choose_budget(draft: Draft, facts: Fingerprint) -> None:
    """Choose batch and length."""
    batch = 8 if facts.images >= 32 else max(1, min(4, facts.images))
    draft.offer("train.batch", batch, f"{facts.images} training images")
    if not (draft.has("train.epochs") or draft.has("train.minutes")):
        steps_per_epoch = max(1, facts.images // int(draft.values["train.batch"]))
        epochs = min(max(math.ceil(2500 / steps_per_epoch), 12), 150)
        draft.offer("train.epochs", epochs, f"about 2,500 steps, {steps_per_epoch} an epoch; 12 to 150")


def choose_size(draft: Draft, facts: Fingerprint, machine: Machine) -> None:
    """Choose the input size: small objects comfortable, the images' own shape, what the budget affords."""
    if draft.has("model.size_hw"):
        return
    height, width = facts.median_hw
    wanted = COMFORTABLE_SIDE / facts.small_side if facts.small_side else 512.0
    longest = min(max(wanted, 256.0), float(max(height, width)) * 1.5, 1024.0)
    why = f"{COMFORTABLE_SIDE:.0f} px for the classes whose objects are {facts.small_side:.1%} of the longer side"
    if machine.accelerator == "cpu":
        affordable = _affordable_side(draft, facts, machine)
        if affordable < longest:
            longest, why = (
                affordable,
                f"{why} would need {longest:.0f}, the budget affords {affordable:.0f} on this CPU",
            )
    sides = [max(round(side / max(height, width) * longest / 32), 4) * 32 for side in (height, width)]
    draft.offer("model.size_hw", tuple(sides), f"{why}; the images' own shape ({width} x {height})")


def _affordable_side(draft: Draft, facts: Fingerprint, machine: Machine) -> float:
    """Return the longer side at which the budget still gives some forty epochs, at least 256."""
    batch = int(draft.values["train.batch"])
    minutes = draft.values.get("train.minutes")
    seconds = float(minutes) * 60 * 0.85 if minutes else 3600.0
    epochs = int(draft.values.get("train.epochs", 40))
    steps = max(1, facts.images // batch) * max(min(epochs, 40), 1)
    at_320 = LITE0_STEP_SECONDS * batch / 8 * 2 / max(machine.cores, 1)
    pixels = 320 * 320 * seconds / (steps * at_320)
    height, width = facts.median_hw
    return max(256.0, min(640.0, math.sqrt(pixels * max(height, width) / min(height, width))))


def choose_training(draft: Draft, facts: Fingerprint, machine: Machine) -> None:
    """Choose augmentation, losses, precision, learning rates and workers."""
    few = facts.images < 5000
    draft.offer("augment.strength", "medium" if few else "light", f"{facts.images} training images")
    each = facts.boxes / max(facts.images, 1)
    mosaic = 0.3 if few and each < 10 else 0.0
    draft.offer("augment.mosaic", mosaic, f"{each:.0f} objects an image{' are enough' if each >= 10 else ''}")
    draft.offer(
        "task.options",
        {"box_loss": "giou"},
        "trains the overlap itself: places better than Huber on few images",
    )
    _choose_rates(draft)
    precision = "bf16" if machine.accelerator == "cuda" and machine.bf16 else "32"
    fast = "has" if machine.bf16 else "lacks"
    draft.offer("train.precision", precision, f"the {machine.accelerator} {fast} fast bfloat16")
    if machine.accelerator == "cpu":
        draft.offer("data.workers", machine.cores // 4, f"the network itself uses the {machine.cores} cores")
    else:
        draft.offer(
            "data.workers", max(0, min(machine.cores - 1, 8)), f"{machine.cores} cores, one left for training"
        )
    draft.offer("machine.accelerator", machine.accelerator, "what this machine has")


def _choose_rates(draft: Draft) -> None:
    """Choose the learning rates that suit a new neck and head on a pretrained, or a new, backbone."""
    effective = int(draft.values["train.batch"]) * int(draft.values.get("train.accumulate", 1))
    sgd = draft.values.get("train.optimizer", "adamw") == "sgd"
    base, grows = (0.01, effective / 8) if sgd else (6e-3, math.sqrt(effective / 8))
    how = "with the batch" if sgd else "with the square root of the batch"
    draft.offer("train.lr", round(base * grows, 6), f"{base:g} at batch 8, growing {how} ({effective})")
    share = 0.35 if draft.values.get("model.pretrained") else 1.0
    draft.offer(
        "train.backbone_lr", round(share * float(draft.values["train.lr"]), 6), f"{share:g} of train.lr"
    )


def choose_anchors(draft: Draft, boxes_wh: Float[Tensor, "n 2"]) -> None:
    """Choose anchors that meet the training boxes at the chosen size; weights of a whole detector keep theirs.

    Args:
        draft: Has a size by now.
        boxes_wh: Widths and heights of the training boxes in pixels of the network's input.
    """
    if (
        draft.has("model.options")
        or isinstance(draft.values.get("model.pretrained"), str)
        or not len(boxes_wh)
    ):
        return
    own = zoo_entry(str(draft.values["model.name"])).options if draft.has("model.name") else {}
    spec = AnchorSpec(
        ratios=own.get("anchor_ratios", AnchorSpec().ratios), scale=own.get("anchor_scale", 4.0)
    )
    proposal = propose_anchors(boxes_wh, draft.values["model.size_hw"], spec=spec)
    if proposal.spec == spec:
        return
    options = {"anchor_scale": proposal.spec.scale, "anchor_ratios": proposal.spec.ratios}
    draft.offer("model.options", options, proposal.reason)


def choose(draft: Draft, truth: TruthTable, labels: LabelMap, machine: Machine) -> None:
    """Choose everything that was not given.

    Args:
        draft: What was given.
        truth: The training truth.
        labels: Its classes.
        machine: Where it will run.
    """
    facts = fingerprint(truth, labels)
    choose_model(draft, machine)
    choose_budget(draft, facts)
    choose_size(draft, facts, machine)
    choose_anchors(draft, boxes_at_input(truth, draft.values["model.size_hw"]))
    choose_training(draft, facts, machine)
