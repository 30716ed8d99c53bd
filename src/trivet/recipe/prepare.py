"""Before training: read the data, choose what was not given, make the run folder."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trivet.data.dataset import Splits
from trivet.data.sources import read_dataset
from trivet.data.sources.folder import Check
from trivet.errors import UsageError
from trivet.models.weights import load_weights
from trivet.recipe.audit import MOST_DECODED
from trivet.recipe.choose import choose
from trivet.recipe.draft import Draft
from trivet.recipe.fit_memory import choose_for_memory, measure_on_device
from trivet.recipe.host_memory import check_host
from trivet.recipe.machine import environment, look_at_machine
from trivet.recipe.recipe import Chosen, DataRecipe, Recipe, read_recipe, write_recipe
from trivet.recipe.run import mix_of, model_of
from trivet.recipe.run_folder import RunFolder, new_run_folder, open_run_folder, write_json
from trivet.structures import TaskName

ALTERNATIVES = (("train.epochs", "train.minutes"), ("model.name", "model.backbone"))
"""Keys of which one excludes the other: what is given on the command line drops its alternative in a file."""
MODEL_KEYS = ("model.name", "model.backbone", "model.neck", "model.head", "model.options", "model.size_hw")


def draft_run(
    data: str | Path | None, values: Mapping[str, Any], recipe: Path | None, start_from: Path | None = None
) -> Draft:
    """Join what was given with a recipe file, and with the model of the run it starts from; what was given wins.

    Raises:
        UsageError: If no data set is given, or a key is unknown.
    """
    file_values, file_chosen = read_recipe(recipe) if recipe else ({}, {})
    given = {key: value for key, value in values.items() if value is not None}
    if data is not None:
        given["data.path"] = str(Path(data).resolve())
    for one, other in (*ALTERNATIVES, *((b, a) for a, b in ALTERNATIVES)):
        if one in given:
            file_values.pop(other, None)
    chosen = {key: file_chosen.get(key, Chosen(by="recipe")) for key in file_values if key not in given}
    if start_from is not None and start_from.is_dir():
        model = {
            key: value
            for key, value in read_recipe(start_from / "recipe.toml")[0].items()
            if key in MODEL_KEYS
        }
        if not given.keys() & {"model.name", "model.backbone"}:
            file_values = model | file_values
            chosen = dict.fromkeys(model, Chosen(by="automatic", why=f"the model of {start_from}")) | chosen
    draft = Draft({**file_values, **given}, chosen)
    if not draft.has("data.path"):
        raise UsageError("no data set was given", "trivet fit DATA")
    return draft


def read_splits(data: DataRecipe, *, seed: int, task: TaskName | None = None) -> Splits:
    """Read the data set of a recipe, for its task or, when `None`, for what it holds.

    Raises:
        UsageError: If it cannot be read or has no validation images and none can be held back.
    """
    splits = _read(data, seed, task, "headers")
    if sum(len(dataset) for dataset in splits.given) <= MOST_DECODED:
        splits = _read(
            data, seed, task, "pixels"
        )  # a picture cut off after its head would else stop training halfway
    if splits.val is None or not len(splits.val):
        raise UsageError(
            f"{data.path} has no validation images: {len(splits.train)} training images are too few to hold some back",
            "add images, or give a validation split",
        )
    return splits


def _read(data: DataRecipe, seed: int, task: TaskName | None, check: Check) -> Splits:
    return read_dataset(
        data.path,
        format=data.format,
        on_bad=data.on_bad,
        check=check,
        val_share=data.val_share,
        seed=seed,
        groups=data.groups,
        labels=data.labels,
        images=data.images,
        task=task,
        overlap=data.overlap,
    )


def prepare_run(
    data: str | Path | None,
    values: Mapping[str, Any],
    *,
    recipe: Path | None = None,
    start_from: Path | None = None,
    out: Path = Path("runs"),
    name: str | None = None,
    memory: int | None = None,
) -> tuple[Recipe, Splits, RunFolder]:
    """Read the data, choose what was not given, and make the run folder.

    Args:
        data: The data set; `None` takes the recipe file's.
        values: What was given, by dotted recipe key; these win over the recipe file.
        recipe: A recipe file to start from.
        start_from: A run folder whose model is taken, or a weights file.
        out: Where run folders are made.
        name: What the run folder is called; the data set's name when not given.
        memory: Bytes of the device, or of the process on a CPU: batch, accumulation, precision, recomputation and size
            are chosen so that training fits, and two steps at the worst case verify it.

    Raises:
        UsageError: If the data set or a value cannot be used.
    """
    draft = draft_run(data, values, recipe, start_from)
    section = {
        key.removeprefix("data."): value for key, value in draft.values.items() if key.startswith("data.")
    }
    splits = read_splits(
        DataRecipe(**section), seed=int(draft.values.get("train.seed", 0)), task=draft.values.get("task.kind")
    )
    machine = look_at_machine()
    threads = int(draft.values.get("machine.threads", 0)) or torch.get_num_threads()
    choose(draft, splits, replace(machine, cores=min(machine.cores, threads)))
    _check_batch(draft.recipe(), len(splits.train))  # before memory: there it would be said less clearly
    plan = None
    if memory is not None:
        plan = choose_for_memory(draft, splits.train, memory, measuring=measure_on_device)
    made = draft.recipe()
    check_host(made, plan)
    mix_of(made)  # says what cannot be mixed before anything is written
    if start_from is not None:
        _check_weights(made, splits, weights_file(start_from))
    folder = new_run_folder(out, name or Path(made.data.path).stem)
    write_recipe(made, folder.recipe)
    write_json(folder.labels, splits.labels.to_json())
    write_json(folder.environment, environment() | {"command": shlex.join(sys.argv)})
    return made, splits, folder


def weights_file(start_from: Path) -> Path:
    """Return the weights a run starts from: a run folder's best ones, or the file itself."""
    return open_run_folder(start_from).best if start_from.is_dir() else start_from


def _check_weights(recipe: Recipe, splits: Splits, path: Path) -> None:
    """Refuse weights that cannot be read or do not fit before anything is written."""
    plain = recipe.model_copy(update={"model": recipe.model.model_copy(update={"pretrained": False})})
    load_weights(model_of(plain, classes=len(splits.labels)), path, new_labels=splits.labels)


def _check_batch(recipe: Recipe, images: int) -> None:
    if recipe.train.batch > images:
        raise UsageError(
            f"a batch of {recipe.train.batch} is larger than the {images} training images",
            f"give --batch {images} or less",
        )
