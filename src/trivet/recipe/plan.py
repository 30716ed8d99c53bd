"""The verb `plan`: what training by a recipe takes, whether it fits, and what would make it fit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trivet.memory.plan import Device, MemoryPlan
from trivet.models.zoo import zoo_entry
from trivet.recipe.planned_step import WORST_BOXES, flat_values, plan_recipe
from trivet.recipe.recipe import Recipe, make_recipe

COMFORTABLE_BATCH = 4
"""Batch norms want at least so many images in one forward pass."""
PARTS = ("backbone", "neck", "head")
SMALLER = (0.75, 0.5)
"""Shares of the input's side that are tried where nothing else helps."""


@dataclass(frozen=True)
class Change:
    """Something that makes training take less.

    Args:
        name: What it is called.
        values: The recipe keys it sets.
        arguments: The same as arguments of `trivet fit`.
        cost: What is lost by it.
    """

    name: str
    values: dict[str, Any]
    arguments: str
    cost: str


@dataclass(frozen=True)
class Remedy:
    """A change, or several, and what they save."""

    change: Change
    plan: MemoryPlan
    saves: int


@dataclass(frozen=True)
class Advice:
    """The cheapest way to train within the memory there is.

    Args:
        values: The recipe keys to set.
        arguments: The same as arguments of `trivet fit`.
        why: In words, what was needed and what it costs.
        plan: What training then takes, by batch.
        batch: Images in one forward pass.
    """

    values: dict[str, Any]
    arguments: str
    why: str
    plan: MemoryPlan
    batch: int


def recipe_for(name: str, **values: Any) -> Recipe:
    """Return a recipe to train a published model, for planning: dotted keys as keyword arguments with `__` for the dot.

    Raises:
        UsageError: If there is no such model or a value does not fit.
    """
    entry = zoo_entry(name)
    given = {key.replace("__", "."): value for key, value in values.items() if value is not None}
    start = {
        "data.path": "",
        "model.name": name,
        "model.size_hw": (entry.size, entry.size),
        "model.pretrained": False,
        "task.kind": entry.task,
        "train.epochs": 1,
    }
    return make_recipe(start | given)


def with_values(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """Return a recipe with some of its dotted keys set."""
    return make_recipe(flat_values(recipe) | values, recipe.chosen)


def changes_of(recipe: Recipe, device: Device) -> list[Change]:
    """Return what can be changed in a recipe to save memory, the cheapest first."""
    found: list[Change] = []
    settings = recipe.train
    if settings.precision == "32" and device == "cuda":
        found.append(
            Change(
                "mixed precision",
                {"train.precision": "bf16"},
                "--precision bf16",
                "values of 8 significant bits; usually faster",
            )
        )
    again = [tuple(p for p in PARTS if p in {*first, *settings.recompute}) for first in (PARTS[:1], PARTS)]
    for parts in dict.fromkeys(again):
        if set(parts) != set(settings.recompute):
            found.append(
                Change(
                    f"recompute {', '.join(parts)}",
                    {"train.recompute": parts},
                    f"--recompute {','.join(parts)}",
                    "their forward pass runs twice; the gradients stay the same",
                )
            )
    if settings.freeze_backbone < 1:
        found.append(
            Change(
                "frozen backbone",
                {"train.freeze_backbone": 1.0},
                "--set train.freeze_backbone=1",
                "the backbone keeps its pretrained weights",
            )
        )
    for share in SMALLER:
        size = smaller_size(recipe.model.size_hw, share)
        if size != recipe.model.size_hw:
            text = f"{size[0]}" if size[0] == size[1] else f"{size[0]}x{size[1]}"
            found.append(
                Change(
                    f"input of {text} px",
                    {"model.size_hw": size},
                    f"--size {text}",
                    "small objects get smaller",
                )
            )
    return found


def smaller_size(size_hw: tuple[int, int], share: float) -> tuple[int, int]:
    """Return a smaller input: sides that are multiples of 32 and at least 64."""
    height, width = (max(64, round(side * share / 32) * 32) for side in size_hw)
    return height, width


def remedies_of(
    recipe: Recipe, plan: MemoryPlan, *, classes: int, device: Device, boxes: int = WORST_BOXES
) -> list[Remedy]:
    """Plan each change by itself and return what it saves at the recipe's batch."""
    batch = recipe.train.batch
    found = []
    for change in changes_of(recipe, device):
        changed = plan_recipe(with_values(recipe, change.values), classes=classes, device=device, boxes=boxes)
        found.append(Remedy(change, changed, plan.total(batch) - changed.total(batch)))
    return found


def advise(
    recipe: Recipe,
    plan: MemoryPlan,
    memory: int,
    *,
    classes: int,
    device: Device,
    boxes: int = WORST_BOXES,
    fixed: Sequence[str] = (),
) -> Advice | None:
    """Find the cheapest combination that keeps the effective batch and fits.

    Accumulation is tried first with every combination: it costs nothing but that batch norms see fewer images at a
    time, and so down to `COMFORTABLE_BATCH` of them. Then, one added to the other: mixed precision, recomputing the
    backbone, recomputing everything, fewer images at a time with the backbone's batch norms held still, and at last a
    smaller input.

    Args:
        recipe: What is wanted; its `batch * accumulate` is kept.
        plan: What it takes.
        memory: Bytes there are.
        classes: How many classes the data set has.
        device: Where it trains.
        boxes: The most boxes an image has.
        fixed: Recipe keys that must stay as they are.

    Returns:
        The advice; `None` where nothing fits.
    """
    wanted = recipe.train.batch * recipe.train.accumulate
    least = min(COMFORTABLE_BATCH, wanted)

    def planned(values: dict[str, Any]) -> tuple[MemoryPlan, int]:
        changed = plan
        if values:
            changed = plan_recipe(with_values(recipe, values), classes=classes, device=device, boxes=boxes)
        return changed, _divisor(changed, wanted, memory, recipe.train.batch, fixed)

    combinations = list(_combinations(recipe, device, fixed))
    whole = [one for one in combinations if "model.size_hw" not in one[0]]
    needed = recipe.train.batch if "train.batch" in fixed else least
    for values, words, costs in whole:
        if _surely_alive(plan, values, needed) + plan.context > memory:
            continue  # no need to plan it
        changed, batch = planned(values)
        if batch >= needed:
            return _advice(values, words, costs, changed, batch, wanted)
    for values, words, costs in whole:
        if _surely_alive(plan, values, 1) + plan.context > memory:
            continue
        changed, batch = planned(values)
        if batch:
            still = {"train.batch_norm": "frozen-backbone"}
            words = [*words, "--set train.batch_norm=frozen-backbone"]
            held = f"batch norms would see {batch} at a time: the backbone's keep their statistics"
            return _advice(values | still, words, [*costs, held], changed, batch, wanted)
    for values, words, costs in combinations[len(whole) :]:
        changed, batch = planned(values)
        if batch >= needed:
            return _advice(values, words, costs, changed, batch, wanted)
    return None


def _surely_alive(plan: MemoryPlan, values: dict[str, Any], batch: int) -> float:
    """Return bytes that are alive at one time whatever a change of precision or recomputing saves.

    At best every tensor takes half, and of the parts that are computed again nothing stays.
    """
    share = 0.5 if "train.precision" in values else 1.0
    if "train.recompute" not in values:
        return share * plan.alive(batch)
    gone = values["train.recompute"]
    saved = plan.curve.saved_by_module(batch, depth=1)
    return share * sum(size for name, size in saved.items() if name in PARTS and name not in gone)


def _combinations(
    recipe: Recipe, device: Device, fixed: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[str], list[str]]]:
    values: dict[str, Any] = {}
    words: dict[str, str] = {}
    costs: dict[str, str] = {}
    yield {}, [], []
    for change in changes_of(recipe, device):
        (key,) = change.values
        if key in fixed or key == "train.freeze_backbone":
            continue
        values |= change.values
        words[key], costs[key] = change.arguments, f"{change.name}: {change.cost}"
        yield dict(values), list(words.values()), list(costs.values())


def _divisor(plan: MemoryPlan, wanted: int, memory: int, batch: int, fixed: Sequence[str]) -> int:
    """Return the largest batch that divides the wanted one and fits; 0 where none does."""
    if "train.batch" in fixed:
        return batch if plan.fits(batch, memory) else 0
    divisors = [count for count in range(1, wanted + 1) if wanted % count == 0]
    return max((count for count in divisors if plan.fits(count, memory)), default=0)


def _advice(
    values: dict[str, Any],
    words: list[str],
    costs: list[str],
    plan: MemoryPlan,
    batch: int,
    wanted: int,
) -> Advice:
    accumulate = math.ceil(wanted / batch)
    arguments = [f"--batch {batch}", *([f"--accumulate {accumulate}"] if accumulate > 1 else []), *words]
    split = [f"{accumulate} forward passes of {batch} images a step"] if accumulate > 1 else []
    chosen = values | {"train.batch": batch, "train.accumulate": accumulate}
    return Advice(chosen, " ".join(arguments), "; ".join([*split, *costs]) or "fits as it is", plan, batch)
