"""Training as a recipe says, in this process or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything

from trivet.data.batching import TrainLoader, eval_loader, train_loader
from trivet.data.cache_images import cache_images
from trivet.data.class_mix import ClassMix
from trivet.data.dataset import Dataset
from trivet.data.mix import Mix
from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.models.compact import fit_whitening, needs_whitening
from trivet.models.files import save_weights
from trivet.models.kernels import held, use_fast_kernels
from trivet.models.model import Model
from trivet.models.weights import load_weights
from trivet.recipe.assess import ASSESSORS
from trivet.recipe.machine import look_at_machine
from trivet.recipe.precisions import PRECISIONS
from trivet.recipe.recipe import ModelRecipe, Recipe
from trivet.recipe.run_folder import RunFolder, build_task
from trivet.structures import TaskName
from trivet.train.allocator import keep_freed_memory
from trivet.train.loop import Job, Listener, Validation, train
from trivet.train.processes import part

MIXES: dict[TaskName, tuple[str, ...]] = {
    "detection": ("mosaic", "mixup"),
    "segmentation": ("mosaic",),
    "classification": ("mixup", "cutmix"),
}
"""Which ways of mixing images serve which task."""
WHITENED_IMAGES = 2000
"""So many training images a whitening layer is fitted to."""


@dataclass(frozen=True)
class Plan:
    """Everything a training process needs; it travels to the processes of a distributed run."""

    recipe: Recipe
    folder: RunFolder
    train: Dataset
    val: Dataset
    resume: bool = False
    start_from: Path | None = None
    listeners: Sequence[Listener] = ()
    seconds_before: float = 0.0


def train_run(plan: Plan) -> None:
    """Train in this process or several, as the recipe says; the results are in the run folder."""
    machine = plan.recipe.machine
    if machine.accelerator == "cpu":
        keep_freed_memory()
    if machine.threads:
        torch.set_num_threads(machine.threads)
    fabric = Fabric(
        accelerator=machine.accelerator,
        devices=machine.devices,
        strategy="ddp_spawn" if machine.devices > 1 else "auto",
        precision=PRECISIONS[plan.recipe.train.precision],
    )
    fabric.launch(partial(_train_process, plan=plan))


def _train_process(fabric: Fabric, plan: Plan) -> None:
    recipe, labels = plan.recipe, plan.train.labels
    if fabric.world_size > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(recipe.machine.threads or max(1, look_at_machine().cores // fabric.world_size))
    seed_everything(recipe.train.seed, verbose=False)
    model = model_of(recipe, classes=len(labels))
    task = build_task(model, recipe)
    if plan.start_from is not None:
        started = load_weights(model, plan.start_from, new_labels=labels).text()
        if fabric.is_global_zero:
            plan.folder.weights.write_text(started + "\n")
    _whiten(model, plan.train)
    if fabric.device.type == "cpu":
        use_fast_kernels(model)
    val = eval_loader(
        cache_images(plan.val, recipe.data.cache),
        size_hw=recipe.model.size_hw,
        batch=recipe.train.batch,
        workers=recipe.data.workers,
        fill_rgb=model.fill_rgb,
    )

    def validate(candidate: torch.nn.Module) -> Validation:
        assert isinstance(candidate, Model), "the loop hands back the model it was given, or its average"
        with held(candidate):
            return ASSESSORS[recipe.task.kind].validate(candidate, task, val, plan.val)

    def keep_best(candidate: torch.nn.Module) -> None:
        assert isinstance(candidate, Model), "the loop hands back the model it was given, or its average"
        save_weights(candidate, plan.folder.best, labels=labels)

    job = Job(
        task,
        _train_batches(plan, model, fabric),
        recipe.train,
        fabric,
        plan.folder.path,
        validate,
        keep_best,
        plan.listeners,
        validation_images=len(plan.val),
        seconds_before=plan.seconds_before,
    )
    train(model, job, resume=plan.resume)
    part(fabric)


def model_of(recipe: Recipe, *, classes: int) -> Model:
    """Build a recipe's model, with its pretrained weights."""
    return model_as(recipe.model, classes=classes)


def model_as(chosen: ModelRecipe, *, classes: int) -> Model:
    """Build the model that the part of a recipe names, with its pretrained weights."""
    return build_model(
        chosen.name,
        backbone=chosen.backbone,
        neck=chosen.neck,
        head=chosen.head,
        classes=classes,
        pretrained=chosen.pretrained,
        size_hw=chosen.size_hw,
        **chosen.options,
    )


def mix_of(recipe: Recipe) -> Mix | ClassMix | None:
    """Return how a recipe's training images are mixed.

    Raises:
        UsageError: If a way of mixing is asked for that the task cannot use.
    """
    kind, augment = recipe.task.kind, recipe.augment
    usable = MIXES[kind]
    for name in ("mosaic", "mixup", "cutmix"):
        if getattr(augment, name) and name not in usable:
            raise UsageError(
                f"augment.{name} does not serve {kind}, got {getattr(augment, name)}",
                f"for {kind}: {', '.join(usable)}",
            )
    if not (augment.mosaic or augment.mixup or augment.cutmix):
        return None
    if kind == "classification":
        return ClassMix(mixup=augment.mixup, cutmix=augment.cutmix)
    return Mix(mosaic=augment.mosaic, mixup=augment.mixup)


def _whiten(model: Model, train: Dataset) -> None:
    """Fit the first layer of a network that has one to be fitted, on images from all over the training split."""
    if not needs_whitening(model):
        return
    chosen = np.unique(np.linspace(0, len(train) - 1, WHITENED_IMAGES).astype(np.int64))
    loader = eval_loader(
        train.take(chosen), size_hw=model.spec.size_hw, batch=len(chosen), fill_rgb=model.fill_rgb
    )
    fit_whitening(model, next(iter(loader)).images)


def _train_batches(plan: Plan, model: Model, fabric: Fabric) -> TrainLoader:
    recipe = plan.recipe
    if recipe.train.batch % fabric.world_size:
        raise UsageError(
            f"a batch of {recipe.train.batch} does not divide over {fabric.world_size} processes",
            f"give --batch {recipe.train.batch // fabric.world_size * fabric.world_size or fabric.world_size}",
        )
    return train_loader(
        cache_images(plan.train, recipe.data.cache),
        size_hw=recipe.model.size_hw,
        batch=recipe.train.batch // fabric.world_size,
        augmentation=recipe.augment.strength,
        orientation=recipe.augment.orientation,
        mix=mix_of(recipe),
        workers=recipe.data.workers,
        seed=recipe.train.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        fill_rgb=model.fill_rgb,
    )
