"""effdet as the oracle, and random truth and outputs to compare it on."""

import importlib
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from trivet.geometry.anchors import AnchorSpec, level_sizes_hw
from trivet.structures import AnchorOutput, Batch, BoxTarget, Placement

RATIOS = [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)]


@pytest.fixture(scope="session")
def effdet() -> SimpleNamespace:
    """effdet's modules; importing them warns of what torch has deprecated since."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ("anchors", "bench", "loss", "soft_nms")
        modules = {name: importlib.import_module(f"effdet.{name}") for name in names}
        return SimpleNamespace(package=importlib.import_module("effdet"), **modules)


def make_batch(size_hw: tuple[int, int], targets: list[tuple[Tensor, Tensor]]) -> Batch:
    count = len(targets)
    return Batch(
        torch.zeros(count, 3, *size_hw, dtype=torch.uint8),
        tuple(BoxTarget(boxes, labels) for boxes, labels in targets),
        torch.arange(count),
        tuple(f"image-{i}.jpg" for i in range(count)),
        tuple(Placement(size_hw) for _ in range(count)),
    )


def random_boxes(count: int, size_hw: tuple[int, int]) -> Tensor:
    size_wh = torch.tensor([size_hw[1], size_hw[0]])
    centre = torch.rand(count, 2) * size_wh
    half = torch.rand(count, 2) ** 2 * size_wh * 0.4 + 2
    return torch.cat([(centre - half).clamp(min=0), (centre + half).minimum(size_wh)], dim=1)


def random_batch(size_hw: tuple[int, int], counts: list[int], classes: int, seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    targets = [(random_boxes(count, size_hw), torch.randint(0, classes, (count,))) for count in counts]
    return make_batch(size_hw, targets)


def random_output(
    spec: AnchorSpec, size_hw: tuple[int, int], images: int, classes: int, **options
) -> AnchorOutput:
    torch.manual_seed(options.get("seed", 1))
    sizes = level_sizes_hw(spec, size_hw)
    logits = [
        torch.randn(images, spec.per_cell * classes, h, w) * options.get("spread", 1) - 3 for h, w in sizes
    ]
    deltas = [torch.randn(images, spec.per_cell * 4, h, w) * 0.3 for h, w in sizes]
    return AnchorOutput(tuple(m.requires_grad_() for m in logits), tuple(m.requires_grad_() for m in deltas))


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Makers of truth and outputs."""
    return SimpleNamespace(
        batch=make_batch, boxes=random_boxes, random_batch=random_batch, random_output=random_output
    )


@pytest.fixture(scope="session")
def effdet_labels(effdet: SimpleNamespace) -> Callable[..., tuple]:
    """effdet's targets of a batch: its labels count from 1 and its boxes are (y, x, y, x)."""

    def label(spec: AnchorSpec, size_hw: tuple[int, int], batch: Batch, classes: int) -> tuple:
        anchors = effdet.anchors.Anchors(
            spec.min_level, spec.max_level, spec.octaves, list(spec.ratios), spec.scale, size_hw
        )
        boxes = [target.boxes_xyxy[:, [1, 0, 3, 2]] for target in batch.targets]
        labels = [target.labels + 1 for target in batch.targets]
        return effdet.anchors.AnchorLabeler(anchors, classes).batch_label_anchors(boxes, labels)

    return label
