"""What the zoo knows of one published model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trivet.structures import TaskName


@dataclass(frozen=True)
class ZooEntry:
    """One published model.

    Args:
        backbone: A name of `BACKBONES` or of timm.
        size: Side of its square input, in pixels.
        options: Keyword arguments of its parts, as `build_model` takes them.
        parameters: Exact count with `classes` classes.
        gmacs: Multiply-adds of its convolutions for one image at `size`, in 10^9.
        source: Who published it, and the figures below.
        ap: COCO AP in per cent, or `None` where no weights were published.
        split: The COCO split of `ap`.
        published_parameters: The authors' count, in 10^6.
        published_flops: The authors' FLOPs for one image, in 10^9; they count a multiply-add as one.
        neck: A name of `NECKS`.
        head: A name of `HEADS`.
        task: What it was made for.
        classes: How many classes it was published for.
        top1: ImageNet top-1 accuracy in per cent, or `None` where no weights were published.
    """

    backbone: str
    size: int
    options: Mapping[str, Any]
    parameters: int
    gmacs: float
    source: str
    ap: float | None = None
    split: str = "val2017"
    published_parameters: float | None = None
    published_flops: float | None = None
    neck: str = "bifpn"
    head: str = "anchor"
    task: TaskName = "detection"
    classes: int = 90
    top1: float | None = None
