"""The automatic choices for detectors."""

from jaxtyping import Float
from torch import Tensor

from trivet.data.dataset import Dataset
from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.propose import propose_anchors
from trivet.geometry.propose_pixels import propose_shapes
from trivet.models.heads.yolo import COCO_ANCHORS
from trivet.models.zoo import zoo_entry
from trivet.recipe.choose_common import (
    LITE0_STEP_SECONDS,
    affordable_side,
    choose_average,
    choose_budget,
    choose_hardware,
    choose_rates,
    choose_weights,
    expected_steps,
)
from trivet.recipe.draft import Draft
from trivet.recipe.fingerprint import Fingerprint, boxes_at_input, fingerprint
from trivet.recipe.machine import Machine
from trivet.recipe.recipe import Chosen

COMFORTABLE_SIDE = 32.0
"""Pixels at the network's input that a typical object of the classes with the smallest ones should have."""
YOLO_STEP_SECONDS = {True: 2.5, False: 6.0}
"""One training step of YOLOv4, batch 8 at 320 x 320 on two cores, with fast bfloat16 and without."""
YOLO_RATE = 1e-3
"""Peak rate of AdamW at a batch of 8 for a network that starts from random numbers."""
MOSAIC_STEPS = 1500
"""Mosaics slow the beginning down: a shorter run does better without."""


def choose_detection(draft: Draft, train: Dataset, machine: Machine) -> None:
    """Choose everything that was not given for a detector."""
    facts = fingerprint(train.truth, train.labels)
    choose_model(draft, machine)
    choose_budget(draft, facts.images)
    choose_size(draft, facts, machine)
    choose_anchors(draft, boxes_at_input(train.truth, draft.values["model.size_hw"]))
    choose_training(draft, facts, machine)


def choose_model(draft: Draft, machine: Machine) -> None:
    """Choose the model and its weights."""
    made_of_parts = draft.has("model.backbone")
    if not made_of_parts and machine.accelerator == "cpu":
        draft.offer("model.name", "efficientdet_lite0", "the quickest of the family on a CPU")
    elif not made_of_parts:
        name = "tf_efficientdet_d1" if machine.memory_gib >= 12 else "tf_efficientdet_d0"
        draft.offer("model.name", name, f"trains at its own size in {machine.memory_gib:.0f} GiB")
    choose_weights(draft)


def choose_size(draft: Draft, facts: Fingerprint, machine: Machine) -> None:
    """Choose the input size: small objects comfortable, the images' own shape, what the budget affords."""
    if draft.has("model.size_hw"):
        return
    height, width = facts.median_hw
    wanted = COMFORTABLE_SIDE / facts.small_side if facts.small_side else 512.0
    longest = min(max(wanted, 256.0), float(max(height, width)) * 1.5, 1024.0)
    why = f"{COMFORTABLE_SIDE:.0f} px for the classes whose objects are {facts.small_side:.1%} of the longer side"
    if machine.accelerator == "cpu":
        seconds = _step_seconds(draft, machine)
        affordable = affordable_side(draft, facts.images, facts.median_hw, machine, step_seconds=seconds)
        if affordable < longest:
            longest, why = (
                affordable,
                f"{why} would need {longest:.0f}, the budget affords {affordable:.0f} on this CPU",
            )
    sides = [max(round(side / max(height, width) * longest / 32), 4) * 32 for side in (height, width)]
    draft.offer("model.size_hw", tuple(sides), f"{why}; the images' own shape ({width} x {height})")


def choose_training(draft: Draft, facts: Fingerprint, machine: Machine) -> None:
    """Choose augmentation, losses, precision, learning rates and workers."""
    few = facts.images < 5000
    draft.offer("augment.strength", "medium" if few else "light", f"{facts.images} training images")
    steps = expected_steps(draft, facts.images, machine, step_seconds=_step_seconds(draft, machine))
    each = facts.boxes / max(facts.images, 1)
    mosaic = 0.3 if few and each < 10 and steps >= MOSAIC_STEPS else 0.0
    why = f"{each:.0f} objects an image{' are enough' if each >= 10 else ''}"
    draft.offer("augment.mosaic", mosaic, why if steps >= MOSAIC_STEPS else f"{steps:,} steps are few for it")
    choose_average(draft, steps)
    yolo = _head_of(draft) == "yolo"
    if not yolo:  # whose box loss is CIoU as published
        why = "trains the overlap itself: places better than Huber on few images"
        draft.offer("task.options", {"box_loss": "giou"}, why)
    choose_rates(draft, adamw=YOLO_RATE if yolo else 6e-3, sgd=0.01, batch=8)
    choose_hardware(draft, machine, dense=yolo)


def choose_anchors(draft: Draft, boxes_wh: Float[Tensor, "n 2"]) -> None:
    """Choose anchors that meet the training boxes at the chosen size; weights of a whole detector keep theirs.

    Args:
        draft: Has a size by now.
        boxes_wh: Widths and heights of the training boxes in pixels of the network's input.
    """
    if isinstance(draft.values.get("model.pretrained"), str) or not len(boxes_wh):
        return
    if _head_of(draft) == "yolo":
        _choose_shapes(draft, boxes_wh)
        return
    if draft.has("model.options"):
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


def _choose_shapes(draft: Draft, boxes_wh: Float[Tensor, "n 2"]) -> None:
    """Choose the anchors of a YOLO head, unless they were given; other options of the model may have been."""
    given = draft.values.get("model.options", {})
    if "anchors" in given or "levels" in given:
        return
    shapes = propose_shapes(boxes_wh, COCO_ANCHORS)
    if shapes.shapes == COCO_ANCHORS:
        return
    draft.values["model.options"] = {**given, "anchors": shapes.shapes}
    by = draft.chosen["model.options"].by if given else "automatic"
    draft.chosen["model.options"] = Chosen(by=by, why=f"anchors: {shapes.reason}")


def _step_seconds(draft: Draft, machine: Machine) -> float:
    """Return about how long a training step of batch 8 at 320 x 320 takes on two cores."""
    return YOLO_STEP_SECONDS[machine.bf16] if _head_of(draft) == "yolo" else LITE0_STEP_SECONDS


def _head_of(draft: Draft) -> str:
    """Return the name of the head of the model that was chosen."""
    if draft.has("model.head"):
        return str(draft.values["model.head"])
    return zoo_entry(str(draft.values["model.name"])).head if draft.has("model.name") else "anchor"
