"""The training step of a recipe, set up on fake tensors for the memory planner."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, unset_fake_temporarily
from torch.optim import Optimizer

from trivet.memory.ledger import AVERAGE, INPUT, LOSS, WEIGHTS
from trivet.memory.plan import Device, MemoryPlan, as_on, scratch_of, step_as_on
from trivet.memory.step import FakeTensors, account, fake_copy
from trivet.models.kernels import use_fast_kernels
from trivet.models.kernels.planned import kernels_without_values
from trivet.models.model import Model
from trivet.recipe.precisions import PRECISIONS
from trivet.recipe.recipe import ModelRecipe, Recipe, make_recipe
from trivet.recipe.run import model_as
from trivet.recipe.run_folder import build_task
from trivet.structures import Batch, BoxTarget, ClassTargets, MaskTargets, Placement
from trivet.tasks.losses.focal import as_elsewhere
from trivet.train.batch_norm import hold_statistics
from trivet.train.optimizers import build_optimizer
from trivet.train.recompute import recompute
from trivet.train.step import take_step

WORST_BOXES = 100
"""Boxes an image where the data set is not known: COCO's most crowded images have about as many."""


def plan_recipe(recipe: Recipe, *, classes: int, device: Device, boxes: int = WORST_BOXES) -> MemoryPlan:
    """Plan the memory of training by a recipe: its own step, optimizer, averaged weights and losses.

    Args:
        recipe: The recipe; its batch does not matter.
        classes: How many classes the data set has.
        device: Where it will train.
        boxes: The most boxes an image has.
    """
    plain = make_recipe(
        {
            key: value
            for key, value in flat_values(recipe).items()
            if key not in ("train.batch", "model.pretrained")
        }
        | {"train.batch": 1, "model.pretrained": False}
    )
    return _plan(plain.model_dump_json(), classes, device, boxes)


@lru_cache(maxsize=32)
def _plan(recipe_json: str, classes: int, device: Device, boxes: int) -> MemoryPlan:
    recipe = Recipe.model_validate_json(recipe_json)
    shape = _shape_of(recipe.model.model_dump_json(), classes)

    def prepare(batch: int) -> PlannedStep:
        return PlannedStep(recipe, fake_copy(shape), batch, device, boxes)

    with _without_a_word():
        return MemoryPlan(account(prepare, scratch=scratch_of(device)), device)


def flat_values(recipe: Recipe) -> dict[str, Any]:
    """Return what is set in a recipe as dotted keys."""
    plain = recipe.model_dump(exclude={"chosen"}, exclude_none=True)
    return {f"{section}.{key}": value for section, content in plain.items() for key, value in content.items()}


@contextmanager
def _without_a_word() -> Iterator[None]:
    """Keep Fabric from telling which precision it uses: nothing is trained."""
    log = logging.getLogger("lightning_fabric.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


@lru_cache(maxsize=2)
def _shape_of(model_json: str, classes: int) -> Model:
    """Build a model on fake tensors, or on real ones where it asks for a value as it is made; it is to be copied."""
    chosen = ModelRecipe.model_validate_json(model_json)
    try:
        with FakeTensors():
            return model_as(chosen, classes=classes)
    except DataDependentOutputException:
        return model_as(chosen, classes=classes)


class PlannedStep:
    """What `train` does in one step, with the model, the optimizer and the average of a recipe.

    Args:
        recipe: The recipe.
        model: Its model, of fake tensors.
        batch: Images.
        device: Where it will train.
        boxes: Boxes an image.
        fabric: Where it runs for real; on fake tensors if not given.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Any,
        batch: int,
        device: Device,
        boxes: int,
        *,
        fabric: Fabric | None = None,
    ) -> None:
        settings = recipe.train
        self.recipe, self.module, self.device = recipe, model, device
        self.keeps_gradients = False
        self.task = build_task(model, recipe)
        if device == "cpu":
            use_fast_kernels(model)
        recompute(model, settings.recompute)
        _channels_last(model)
        frozen = settings.freeze_backbone >= 1
        model.get_submodule("backbone").requires_grad_(not frozen)
        model.train()
        hold_statistics(model, settings.batch_norm, backbone_frozen=frozen)
        averaged = [*model.parameters(), *model.buffers()] if settings.ema else []
        self.average = [tensor.detach().clone() for tensor in averaged]
        fused = device == "cpu" and settings.precision != "16"
        optimizer = build_optimizer(model, settings, fused=fused or None)
        self.real = fabric is not None
        if fabric is None:
            # Float16 and bfloat16 take the same bytes, and a CPU computes in the latter only.
            precision = "bf16" if settings.precision == "16" else settings.precision
            fabric = Fabric(accelerator="cpu", devices=1, precision=PRECISIONS[precision])
            step_as_on(device, optimizer)
        else:
            model.to(fabric.device)
        self.fabric = fabric
        self.network, self.wrapped = fabric.setup(model, optimizer, move_to_device=False)
        self._optimizer = optimizer
        self.batches = [
            _batch_of(recipe, model.task, model.spec.classes, batch, boxes)
            for _ in range(min(settings.accumulate, 2))
        ]

    def parts(self) -> dict[str, list[Tensor]]:
        """Return what is there before the step, by kind."""
        targets = [tensor for batch in self.batches for tensor in _truth(batch)]
        return {
            WEIGHTS: [*self.module.parameters(), *self.module.buffers()],
            AVERAGE: self.average,
            INPUT: [batch.images for batch in self.batches],
            LOSS: targets,
        }

    def optimizer(self) -> Optimizer:
        """Return the optimizer."""
        return self._optimizer

    def run(self) -> None:
        """Take one step; the average of the weights moves in place and takes nothing more."""
        with self._as_planned():
            take_step(
                self.fabric,
                self.network,
                self.task,
                self.batches,
                self.wrapped,
                clip_norm=self.recipe.train.clip_norm,
            )

    @contextmanager
    def _as_planned(self) -> Iterator[None]:
        """Treat fake tensors as the device would treat its own."""
        if self.real:
            yield
            return
        with as_on(self.device), kernels_without_values() if self.device == "cpu" else as_elsewhere():
            yield

    @torch.no_grad()
    def validate(self) -> None:
        """Predict one batch, as validation does."""
        self.module.eval()
        batch = self.batches[0].to(self.fabric.device)
        output = self.network(self.network.normalise(batch.images))
        self.task.predict(output, self.recipe.model.size_hw, placements=batch.placements)
        self.module.train()


def _channels_last(model: Model) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def _truth(batch: Batch) -> list[Tensor]:
    if isinstance(batch.targets, tuple):
        return [tensor for target in batch.targets for tensor in (target.boxes_xyxy, target.labels)]
    return [value for value in vars(batch.targets).values() if isinstance(value, Tensor)]


def _batch_of(recipe: Recipe, task: str, classes: int, count: int, boxes: int) -> Batch:
    """Make a batch: fake images, or random ones where the step is taken for real, and real truth."""
    height, width = recipe.model.size_hw
    images = torch.empty(count, 3, height, width, dtype=torch.uint8)
    if type(images) is Tensor:
        # Pictures of one colour leave batch norms nothing to divide by, and gradients overflow layer by layer.
        images.random_(0, 256)
    with unset_fake_temporarily():
        targets: Any
        if task == "detection":
            targets = tuple(_boxes((height, width), classes, boxes) for _ in range(count))
        elif task == "segmentation":
            targets = MaskTargets(torch.zeros(count, height, width, dtype=torch.uint8))
        else:
            labels = torch.arange(count) % classes
            targets = ClassTargets(labels, labels, torch.zeros(count))
        ids = torch.arange(count)
    return Batch(
        images,
        targets,
        ids,
        tuple(map(str, range(count))),
        tuple(Placement((height, width)) for _ in range(count)),
    )


def _boxes(size_hw: tuple[int, int], classes: int, count: int) -> BoxTarget:
    """Spread boxes of several sizes evenly over an image."""
    height, width = size_hw
    rows = max(1, math.isqrt(count))
    number = torch.arange(count)
    x, y = (number % rows + 0.5) / rows * width, (number // rows + 0.5) / max(1, -(-count // rows)) * height
    half = min(height, width) / 64 * 2.0 ** (number % 4)
    corners = torch.stack([x - half, y - half, x + half, y + half], dim=1)
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    return BoxTarget(corners.clamp(min=0).minimum(limit), number % classes)
