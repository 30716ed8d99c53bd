"""Choosing batch, accumulation and recomputation for the memory there is, and verifying the choice on the device."""

import gc
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from trivet.data.dataset import Dataset
from trivet.errors import UsageError
from trivet.memory.plan import MIB, Device, MemoryPlan
from trivet.recipe.draft import Draft
from trivet.recipe.plan import advise
from trivet.recipe.planned_step import PlannedStep, plan_recipe
from trivet.recipe.precisions import PRECISIONS
from trivet.recipe.recipe import Chosen, Recipe
from trivet.recipe.run import model_of

Measure = Callable[[int], int]
"""A batch -> the bytes that two steps and a validation at the worst case took; raises where they do not fit."""
Measuring = Callable[[Recipe, int, int], Measure]
"""A recipe, its classes and the most boxes of an image -> what measures it."""
TAKES_MEMORY = (
    "model.name",
    "model.size_hw",
    "train.batch",
    "train.accumulate",
    "train.precision",
    "train.recompute",
)
"""Recipe keys that say how much training takes."""
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


def choose_for_memory(
    draft: Draft, train: Dataset, memory: int, *, measuring: Measuring | None = None
) -> MemoryPlan:
    """Change a drafted recipe so that it trains within this many bytes; what was given stays as it is.

    Args:
        draft: Everything is chosen by now.
        train: The training images: their classes, and the most boxes one has.
        memory: Bytes of the device, or of the process on a CPU.
        measuring: Verifies a batch on the device; `None` trusts the plan.

    Returns:
        The plan of the recipe that was chosen, corrected by what was measured.

    Raises:
        UsageError: If nothing fits.
    """
    recipe, classes = draft.recipe(), len(train.labels)
    device: Device = "cuda" if recipe.machine.accelerator == "cuda" else "cpu"
    boxes = most_boxes(train) * (4 if recipe.augment.mosaic else 2 if recipe.augment.mixup else 1)
    plan = plan_recipe(recipe, classes=classes, device=device, boxes=boxes)
    fixed = [key for key, chosen in draft.chosen.items() if chosen.by != "automatic"]
    if not plan.fits(recipe.train.batch, memory):
        advice = advise(recipe, plan, memory, classes=classes, device=device, boxes=boxes, fixed=fixed)
        if advice is None:
            raise _does_not_fit(plan, recipe.train.batch, memory, fixed)
        told = (
            f"{memory / MIB:,.0f} MiB hold {advice.plan.with_margin(advice.batch) / MIB:,.0f}: {advice.why}"
        )
        for key, value in advice.values.items():
            draft.values[key] = value
            if key not in fixed:
                draft.chosen[key] = Chosen(by="automatic", why=told)
        plan = advice.plan
    else:
        need = plan.with_margin(recipe.train.batch) / MIB
        draft.chosen["train.batch"] = _reason(draft, f"{need:,.0f} of {memory / MIB:,.0f} MiB")
    if measuring is not None:
        plan = _verify(draft, plan, memory, measuring(draft.recipe(), classes, boxes))
    return plan


def _does_not_fit(plan: MemoryPlan, batch: int, memory: int, fixed: list[str]) -> UsageError:
    given = [key for key in sorted(fixed) if key in TAKES_MEMORY]
    told = f" while {', '.join(given)} {'stays' if len(given) == 1 else 'stay'} as given" if given else ""
    hint = "give a smaller --batch, --size or --model, or more --memory"
    if plan.context >= memory:
        hint = f"the program takes {plan.context / MIB:,.0f} MiB before it has a model: give more --memory"
    return UsageError(
        f"training takes {plan.with_margin(batch) / MIB:,.0f} MiB, and nothing makes it fit into "
        f"{memory / MIB:,.0f} MiB{told}",
        hint,
    )


def most_boxes(train: Dataset) -> int:
    """Return the most boxes an image of the training split has."""
    return int(np.diff(train.truth.offsets).max(initial=0))


def settle(
    plan: MemoryPlan, batch: int, wanted: int, memory: int, measure: Measure
) -> tuple[int, MemoryPlan]:
    """Find the batch that truly fits: measured, and never above one that failed.

    Args:
        plan: What training is planned to take.
        batch: Images in a forward pass, as planned.
        wanted: The effective batch, which stays; candidates divide it.
        memory: Bytes there are.
        measure: Takes two steps at the worst case.

    Returns:
        The batch, and the plan corrected by the measurement.

    Raises:
        UsageError: If not even one image fits.
    """
    candidates = [count for count in range(batch, 0, -1) if wanted % count == 0]
    for candidate in candidates:
        try:
            taken = measure(candidate)
        except OUT_OF_MEMORY:
            continue
        plan = plan.corrected(candidate, taken)
        if taken <= memory:
            return candidate, plan
    raise UsageError(
        f"two steps on the device took more than {memory / MIB:,.0f} MiB at every batch down to {candidates[-1]}",
        "give a smaller --size, --recompute backbone,neck,head or a smaller --model",
    )


def _verify(draft: Draft, plan: MemoryPlan, memory: int, measure: Measure) -> MemoryPlan:
    batch = int(draft.values["train.batch"])
    wanted = batch * int(draft.values.get("train.accumulate", 1))
    found, plan = settle(plan, batch, wanted, memory, measure)
    told = f"two steps at the worst case took {plan.total(found) / MIB:,.0f} of {memory / MIB:,.0f} MiB"
    draft.values["train.batch"], draft.values["train.accumulate"] = found, math.ceil(wanted / found)
    draft.chosen["train.batch"] = _reason(draft, told)
    if found != batch:
        draft.chosen["train.accumulate"] = Chosen(by="automatic", why=told)
    return plan


def _reason(draft: Draft, told: str) -> Chosen:
    old = draft.chosen.get("train.batch", Chosen(by="automatic"))
    return Chosen(by=old.by, why=f"{old.why}; {told}" if old.why else told)


def measure_on_device(recipe: Recipe, classes: int, boxes: int) -> Measure:
    """Return what takes two steps and a validation of a recipe, for real, with the most boxes, and says what they took.

    On CUDA that is what the whole device holds then, other programs included; on a CPU the process's resident peak.
    """

    def measure(batch: int) -> int:
        cuda = recipe.machine.accelerator == "cuda"
        _forget()
        settings = recipe.train
        fabric = Fabric(
            accelerator=recipe.machine.accelerator, devices=1, precision=PRECISIONS[settings.precision]
        )
        plain = recipe.model_copy(
            update={"model": recipe.model.model_copy(update={"pretrained": False})}, deep=False
        )
        model = model_of(plain, classes=classes)
        step = PlannedStep(plain, model, batch, "cuda" if cuda else "cpu", boxes, fabric=fabric)
        for _ in range(2):
            step.run()
        step.validate()
        if cuda:
            free, total = torch.cuda.mem_get_info()
            taken = total - free
        else:
            taken = _resident_peak()
        del step, model
        _forget()
        return taken

    return measure


def _forget() -> None:
    """Give back what is cached, and let the resident peak start anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident_peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
