"""Contents of pages as a real run would give them: blood cells with plausible figures, or eighty classes."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from trivet.data.problems import problem
from trivet.doctor.finding import Finding, Where
from trivet.evaluate.scores import (
    BestThreshold,
    ClassScore,
    DetectionScores,
    ErrorShare,
    ImageMistakes,
    Interval,
    Operation,
    PrCurves,
)
from trivet.report.contents import AuditContents, Choice, DataFacts, Picture, ReportContents
from trivet.structures import BoxTarget, Detections

CELLS = ("RBC", "WBC", "Platelets")


@pytest.fixture
def make_scores() -> Callable[[int], DetectionScores]:
    return scores_of


@pytest.fixture
def make_history() -> Callable[[int], list[dict[str, float]]]:
    return history_of


@pytest.fixture(scope="session")
def report_contents() -> ReportContents:
    return ReportContents(
        title="Blood cells",
        task="detection",
        names=CELLS,
        scores=scores_of(3),
        history=history_of(24),
        choices=CHOICES,
        facts=facts_of(3),
        problems=PROBLEMS,
        findings=FINDINGS,
        gallery=gallery_of(cells() or [blobs(seed) for seed in range(4)]),
        environment={"python": "3.11.9", "torch": "2.14.1", "processor": "2 cores", "memory": "7.6 GB"},
        command="trivet fit bccd --minutes 45",
    )


@pytest.fixture(scope="session")
def large_contents() -> ReportContents:
    """Eighty classes, some without truth, one epoch, a picture that is all noise: the largest JPEG."""
    noise = np.random.default_rng(0).integers(0, 256, (2400, 3200, 3), dtype=np.uint8)
    names = tuple(f"class with a long name {i}" for i in range(80))
    return ReportContents(
        title="Eighty classes",
        task="detection",
        names=names,
        scores=scores_of(80, without_truth=(3, 79)),
        history=history_of(1),
        facts=facts_of(80),
        problems=[problem("zero-area-box", f"images/{i}.jpg", "box 3 is 0 x 12") for i in range(3000)],
        gallery=gallery_of([(noise, np.array([[10.0, 10, 2000, 1500]]), np.array([79]))] * 16),
    )


@pytest.fixture(scope="session")
def audit_contents() -> AuditContents:
    return AuditContents(
        title="Blood cells",
        names=CELLS,
        facts=facts_of(3),
        problems=PROBLEMS,
        findings=FINDINGS,
        checks={"exact duplicates": "none", "near duplicates": "not checked: over 100,000 images"},
        environment={"python": "3.11.9"},
        command="trivet audit bccd",
    )


CHOICES = (
    Choice(
        "model", "efficientdet_lite0", "automatic", "205 images and 2 cores: the smallest that fits the data"
    ),
    Choice("image size", "384 x 512", "automatic", "half of all boxes are then larger than 60 px"),
    Choice("batch", "8", "automatic", "peak memory 2.1 GB of 7.6 GB"),
    Choice("minutes", "45", "given"),
)
PROBLEMS = (
    problem("zero-area-box", "Annotations/BloodImage_00338.xml", "object 12 is 0 x 34 px"),
    problem("zero-area-box", "Annotations/BloodImage_00343.xml", "object 3 is 21 x 0 px"),
    problem("clipped-box", "Annotations/BloodImage_00101.xml", "object 2 ends at 641 of 640 px"),
)
FINDINGS = (
    Finding(
        "leak-across-splits",
        "error",
        "3 images of the validation split are also in the training split",
        Where(file="ImageSets/Main/val.txt", line=17),
        {"images": 3, "share": 0.034},
        "The same photograph was saved under two names.",
        "Remove them from one split; the score is too high by an unknown amount.",
        verdict="proven",
    ),
    Finding(
        "frozen-layer-in-optimizer",
        "warning",
        "12 parameters are in the optimizer but never get a gradient",
        Where(object="model.backbone.blocks.0"),
        {"parameters": 12},
        "The backbone is frozen.",
        "Leave them out.",
        "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-opt = AdamW(model.parameters())\n+opt = AdamW(trainable(model))\n",
        "confirmed",
    ),
    Finding("rare-class", "note", "Platelets are 7 % of the objects", evidence={"objects": 361}),
)


def scores_of(classes: int, *, without_truth: Sequence[int] = ()) -> DetectionScores:
    """Make the scores of a detector whose classes are found ever less well."""
    names = CELLS if classes == 3 else tuple(f"class with a long name {i}" for i in range(classes))
    rng = np.random.default_rng(classes)
    ap50 = np.linspace(0.97, 0.55, classes)
    ap50[list(without_truth)] = np.nan
    recall = np.linspace(0, 1, 101)
    precision = np.clip(1 - recall[None] ** (1 / (1.05 - ap50[:, None])), 0, 1)
    confusion = np.zeros((classes + 1, classes + 1), np.int64)
    confusion[np.arange(classes), np.arange(classes)] = rng.integers(40, 900, classes)
    confusion[:-1, -1], confusion[-1, :-1] = rng.integers(1, 60, classes), rng.integers(1, 60, classes)
    confusion[rng.integers(0, classes, 2 * classes), rng.integers(0, classes, 2 * classes)] += 7
    return DetectionScores(
        map=0.571,
        map50=0.861,
        map75=0.623,
        by_size={"small": math.nan if without_truth else 0.214, "medium": 0.533, "large": 0.702},
        ar={"1": 0.31, "10": 0.59, "100": 0.66},
        ar_by_size={"small": 0.32, "medium": 0.61, "large": 0.78},
        per_class=tuple(
            ClassScore(
                n, float(a) * 0.7, float(a), float(a) * 0.8, float(a) * 0.75, 100 * (i + 1), 130 * (i + 1)
            )
            for i, (n, a) in enumerate(zip(names, ap50, strict=True))
        ),
        interval95={"map": Interval(0.542, 0.603), "map50": Interval(0.828, 0.889)},
        curves=PrCurves(recall, precision, precision / 2),
        confusion=confusion,
        confusion_at=Operation(0.3, 0.5),
        errors=(
            ErrorShare("missed", 41, 0.052),
            ErrorShare("background", 77, 0.031),
            ErrorShare("poor place", 33, 0.017),
            ErrorShare("wrong class", 9, 0.006),
            ErrorShare("double", 4, 0.001),
            ErrorShare("both", 0, 0.0),
        ),
        worst=(ImageMistakes(7, 3, 4, 2, 1, 0, 0.3),),
        typical=(ImageMistakes(8, 12, 1, 1, 0, 0, 0.86),),
        best_threshold=tuple(BestThreshold(n, 0.41, 0.9, 0.92, 0.88) for n in names),
        images=72,
        boxes=int(confusion[:-1].sum()),
    )


def history_of(epochs: int, steps: int = 26) -> list[dict[str, float]]:
    """Make the rows of a run that goes well: one an epoch, every second one with a validation."""
    rows = []
    for epoch in range(1, epochs + 1):
        t = epoch / max(epochs, 10)
        parts = {"class": 1.4 * math.exp(-5 * t) + 0.1, "box": 0.8 * math.exp(-3 * t) + 0.15}
        row = {
            "epoch": epoch,
            "step": epoch * steps,
            "progress": t,
            "lr": 2e-3 * (1 - t),
            "loss": sum(parts.values()),
        }
        row |= parts | {"seconds": 61.2, "waited": 0.4}
        if epoch % 2 == 0 or epochs == 1:
            row |= {"val_map": 0.6 * (1 - math.exp(-4 * t)), "val_map50": 0.9 * (1 - math.exp(-5 * t))}
            row |= {
                "val_loss": row["loss"] + 0.3 * t,
                "val_class": parts["class"],
                "val_box": parts["box"] + 0.3 * t,
            }
        rows.append(row)
    return rows


def facts_of(classes: int) -> DataFacts:
    rng = np.random.default_rng(classes)
    return DataFacts(
        rows={
            "format": "Pascal VOC",
            "images": "364",
            "objects": "4,888",
            "splits": "as given: 205 / 87 / 72",
        },
        counts={split: rng.integers(10, 4000, classes).tolist() for split in ("train", "val", "test")},
        sides_px=rng.lognormal(4, 0.5, 2000).astype(np.float32),
    )


def gallery_of(images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[Picture]:
    """Make pictures whose predictions miss some objects and place the others a little off."""
    rng = np.random.default_rng(0)
    pictures = []
    for i, (image, boxes, labels) in enumerate(images):
        kept = rng.random(len(labels)) > 0.2
        moved = torch.tensor(boxes[kept] + rng.normal(0, 4, (kept.sum(), 4)), dtype=torch.float32)
        scores = torch.tensor(np.sort(rng.uniform(0.3, 1, kept.sum()))[::-1].copy(), dtype=torch.float32)
        pictures.append(
            Picture(
                image,
                f"{i:05d}.jpg: {(~kept).sum()} missed, {kept.sum()} found",
                "worst" if i < len(images) // 2 else "typical",
                BoxTarget(torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)),
                Detections(moved, scores, torch.tensor(labels[kept])),
            )
        )
    return pictures


def cells() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Read four photographs of blood cells; none where the shared data is absent."""
    root = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bccd"
    found = []
    for name in ("BloodImage_00007", "BloodImage_00012", "BloodImage_00100", "BloodImage_00200"):
        if not (root / "Annotations" / f"{name}.xml").exists():
            continue
        objects = [*ElementTree.parse(root / "Annotations" / f"{name}.xml").iter("object")]
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = np.array([[float(o.findtext(f"bndbox/{side}", "0")) for side in sides] for o in objects])
        labels = np.array([CELLS.index(o.findtext("name", "")) for o in objects])
        image = np.asarray(Image.open(root / "JPEGImages" / f"{name}.jpg").convert("RGB"))
        found.append((image, boxes, labels))
    return found


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw an image of soft discs with their boxes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:480, :640]
    image = np.full((480, 640, 3), 225.0)
    centres, radii = rng.uniform((60, 60), (580, 420), (14, 2)), rng.uniform(15, 50, 14)
    for (cx, cy), radius in zip(centres, radii, strict=True):
        image[np.hypot(x - cx, y - cy) < radius] = rng.uniform(60, 200, 3)
    boxes = np.hstack([centres - radii[:, None], centres + radii[:, None]])
    return image.astype(np.uint8), boxes, rng.integers(0, 3, 14)
