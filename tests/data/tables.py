"""Splits made of tables alone, without image files."""

from pathlib import Path

import numpy as np

from trivet.data.audit_context import AuditContext
from trivet.data.dataset import Dataset, Names, Splits
from trivet.geometry.anchors import AnchorSpec
from trivet.structures import LabelMap, TruthTable


def table(*images, size_hw=(100, 200), classes=3, split="train", names=None, root="/nowhere"):
    """Each image is a list of rows (label, left, top, right, bottom) and, if any, crowd."""
    rows = [row for image in images for row in image]
    boxes = np.array([row[1:5] for row in rows], np.float32).reshape(-1, 4)
    truth = TruthTable(
        np.arange(len(images)),
        np.tile(np.array([size_hw], np.int32), (len(images), 1)),
        np.concatenate([[0], np.cumsum([len(image) for image in images])]).astype(np.int64),
        boxes,
        np.array([row[0] for row in rows], np.int64),
        np.array([len(row) > 5 and bool(row[5]) for row in rows], bool),
        ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float32),
    )
    names = names or [f"{split}{i}.jpg" for i in range(len(images))]
    labels = LabelMap.from_names([f"class{i}" for i in range(classes)])
    return Dataset(Path(root), split, labels, truth, Names.of(names))


def splits_of(train, val=None, test=None):
    return Splits("coco", train.labels, train, val, test)


def context_of(train, val=None, *, size_hw=(512, 512), prints=None):
    return AuditContext(splits_of(train, val), size_hw, AnchorSpec(), prints)
