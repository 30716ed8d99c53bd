"""The verb `compare`: published models and runs side by side, with what each costs on this machine."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trivet.errors import UsageError
from trivet.models.count import count_model
from trivet.models.kernels import held, use_fast_kernels
from trivet.models.model import Model
from trivet.models.zoo import zoo_entry, zoo_names
from trivet.recipe.machine import look_at_machine
from trivet.recipe.planned_step import PlannedStep, plan_recipe
from trivet.recipe.recipe import Recipe, make_recipe, read_recipe
from trivet.recipe.run import model_of
from trivet.recipe.run_folder import RunFolder, open_run_folder, read_labels
from trivet.recipe.score import score
from trivet.report.comparison import ComparedModel, Comparison

ROUNDS = 3
"""Each time is the least of so many, after one that warms up."""
MEMORY_SHARE = 0.7
"""Of this machine's memory: a step that is planned to take more is not measured."""
BOXES = 20
"""Objects an image of a measured step."""


def compare_models(
    models: Sequence[str | Path],
    *,
    on: str | Path | None = None,
    batch: int = 2,
    precision: str = "32",
    seconds: float | int = 60.0,
    plan: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare published models and runs: size, planned memory, measured time, published and own accuracy.

    Args:
        models: Names of the zoo and run folders.
        on: A data set to score the run folders on; without it, what each scored on its own validation split.
        batch: Images of the training step that is planned and measured.
        precision: Of the planned step, as a recipe names it.
        seconds: No time is measured that would take longer, judged by the model before it; 0 measures none.
        plan: Plan the memory of training on a GPU.
        progress: Told what is being done.

    Raises:
        UsageError: If a name is unknown, no run lies in a folder, or nothing is given.
    """
    if not models or batch < 1 or seconds < 0:
        raise UsageError(
            "compare takes at least one model, a batch of at least 1 and seconds of at least 0",
            "trivet compare efficientdet_d0 efficientdet_d1",
        )
    if on is not None and not any(_is_run(name) for name in models):
        raise UsageError("--on scores run folders, and none was given", "leave it out, or add a run folder")
    opened = [
        _opened(name, batch, precision) for name in models
    ]  # a typo is told before anything is measured
    rows: list[ComparedModel] = []
    rate = 0.0  # seconds of a step a multiply-add, by the model before
    for item in opened:
        if progress is not None:
            progress(item.name)
        row = _counted(item, on)
        if plan:
            row = replace(
                row, memory=plan_recipe(item.recipe, classes=item.classes, device="cuda").total(batch)
            )
        row, rate = _timed(row, item, batch, seconds=seconds, rate=rate)
        rows.append(row)
    return Comparison(tuple(rows), batch, precision, torch.get_num_threads())


@dataclass(frozen=True)
class _Opened:
    """What is compared: a recipe to build it from, and what is known of its accuracy, per cent."""

    name: str
    recipe: Recipe
    classes: int
    published: float | None = None


def _is_run(name: str | Path) -> bool:
    return (Path(name) / "recipe.toml").is_file()


def _opened(name: str | Path, batch: int, precision: str) -> _Opened:
    changes: dict[str, Any] = {"train.batch": batch, "train.precision": precision, "model.pretrained": False}
    if _is_run(name):
        folder = open_run_folder(name)
        values, _ = read_recipe(folder.recipe)
        return _Opened(str(name), make_recipe(values | changes), len(read_labels(folder.labels)))
    entry = zoo_entry(str(name))
    values = {
        "data.path": ".",
        "task.kind": entry.task,
        "model.name": str(name),
        "model.size_hw": (entry.size, entry.size),
        "train.epochs": 1,
    }
    published = entry.top1 if entry.task == "classification" else entry.ap
    if published is None and f"tf_{name}" in zoo_names():  # the authors' own weights of the same design
        published = zoo_entry(f"tf_{name}").ap
    return _Opened(str(name), make_recipe(values | changes), entry.classes, published)


def _counted(item: _Opened, on: str | Path | None) -> ComparedModel:
    """Return a model's size and accuracy."""
    count = count_model(model_of(item.recipe, classes=item.classes), item.recipe.model.size_hw)
    own = None
    if _is_run(item.name):
        scores = _written(Path(item.name)) if on is None else score(item.name, on, bootstrap=0).to_json()
        own = next(
            (100 * scores[key] for key in ("map", "miou", "top1") if scores.get(key) is not None), None
        )
    return ComparedModel(
        name=item.name,
        task=item.recipe.task.kind,
        size_hw=item.recipe.model.size_hw,
        parameters=count.parameters,
        macs=count.macs,
        published=item.published,
        own=own,
    )


def _written(folder: Path) -> dict[str, Any]:
    """Return what a run scored on its own validation split; nothing where it was never scored."""
    try:
        return dict(json.loads(RunFolder(folder).scores.read_text()))
    except (OSError, ValueError):
        return {}


def _timed(
    row: ComparedModel, item: _Opened, batch: int, *, seconds: float | int, rate: float
) -> tuple[ComparedModel, float]:
    """Measure a step and an image, unless they would take too long or too much memory."""
    rounds = ROUNDS + 1
    if seconds == 0:
        return row, rate
    if rate * row.macs * batch * rounds > seconds:
        return replace(row, why_not=f"a step would take about {rate * row.macs * batch:.0f} s"), rate
    taken = plan_recipe(item.recipe, classes=item.classes, device="cpu").total(batch)
    memory = look_at_machine().memory_gib * 2**30
    if memory and taken > MEMORY_SHARE * memory:
        return replace(row, why_not=f"a step would take {taken / 2**30:.0f} GiB of memory"), rate
    model = model_of(item.recipe, classes=item.classes)
    with held(model):
        image = _least(lambda: _look(model, item.recipe))
    use_fast_kernels(model)
    step = PlannedStep(item.recipe, model, batch, "cpu", BOXES)
    try:
        step_seconds = _least(step.run)
    except ValueError as fault:  # batch norm of one image, where the coarsest map is one cell
        return replace(row, image_seconds=image, why_not=f"a step of {batch} cannot be taken: {fault}"), rate
    row = replace(row, step_seconds=step_seconds, image_seconds=image)
    return row, step_seconds / (row.macs * batch)


@torch.inference_mode()
def _look(model: Model, recipe: Recipe) -> None:
    """Put one image through the network."""
    model.eval()
    pixels = torch.zeros(1, 3, *recipe.model.size_hw, dtype=torch.uint8)
    model(model.normalise(pixels.to(memory_format=torch.channels_last)))


def _least(work: Callable[[], object]) -> float:
    """Return the least seconds of some rounds, the first of which warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times[1:])
