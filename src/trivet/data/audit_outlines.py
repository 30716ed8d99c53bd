"""Checks of outlines: objects of several classes on one pixel, and boxes drawn as polygons."""

import numpy as np

from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted
from trivet.data.dataset import Dataset
from trivet.data.mask_shapes import ShapeMasks, Shapes
from trivet.data.order_dependence import OrderDependence, order_dependence
from trivet.doctor.finding import Finding, Where

MUCH = 0.01
"""Share of an image's pixels from which an order dependence is a warning."""
RECTANGULAR = 0.97
"""A polygon is nearly a rectangle when it fills this share of its box."""
LEAST_SIDE = 8.0
"""Smaller boxes are not looked at: a small object fills its box by rounding."""
MANY = 0.2


def overlapping_labels(context: AuditContext) -> list[Finding]:
    """Pixels that outlines of several classes cover: their label is decided by the rule for overlaps."""
    parts = {split.split: (split, order_dependence(split)) for split in _outlined(context)}
    contested = sum(int(part.contested.sum()) for _, part in parts.values())
    if not contested:
        return []
    total = sum(int(part.pixels.sum()) for _, part in parts.values())
    images = sum(int((part.contested > 0).sum()) for _, part in parts.values())
    worst, largest = _worst(parts)
    names = context.splits.labels.names
    pairs: dict[str, int] = {}
    for _, part in parts.values():
        for (one, other), count in part.by_pair.items():
            pair = f"{names[one]} / {names[other]}"
            pairs[pair] = pairs.get(pair, 0) + count
    ranked = dict(sorted(pairs.items(), key=lambda item: -item[1])[:MOST_EXAMPLES])
    first_pair = next(iter(ranked))
    return [
        Finding(
            name="overlapping-labels",
            severity="warning" if largest >= MUCH else "note",
            title=f"{contested / total:.2%} of the pixels, on {counted(images, 'image')}, carry several labels",
            where=Where(file=worst[0].split(": ")[0]),
            evidence={
                "share": contested / total,
                "images": images,
                "largest_share": largest,
                "pixels_by_pair": ranked,
                "rules_differ": _differences(parts),
                "examples": worst,
            },
            cause=f"Outlines of different classes overlap, most of all {first_pair}; up to {largest:.1%} of one image.",
            remedy="Choose the rule that the score is taken by (overlap=): small-on-top, highest-id or longest-first.",
            verdict="proven",
        )
    ]


def rectangular_outlines(context: AuditContext) -> list[Finding]:
    """Polygons that are boxes: their corners are background that is called object."""
    examples: list[str] = []
    found = polygons = 0
    for split in _outlined(context):
        masks = split.masks
        assert isinstance(masks, ShapeMasks), "only splits with outlines are looked at"
        for image in range(len(split)):
            for shape in masks.shapes.rows(image):
                fill = box_fill(masks.shapes, shape)
                polygons += fill is not None
                if fill is not None and fill >= RECTANGULAR:
                    found += 1
                    name = context.splits.labels.names[int(masks.shapes.labels[shape])]
                    examples.append(f"{split.name(image)}: {name}, {fill:.1%} of its box")
    if not found:
        return []
    return [
        Finding(
            name="rectangular-outline",
            severity="warning" if found > MANY * polygons else "note",
            title=f"{counted(found, 'outline is', 'outlines are')} nearly a rectangle ({found / polygons:.1%})",
            where=Where(file=examples[0].split(": ")[0]),
            evidence={"outlines": found, "share": found / polygons, "examples": examples[:MOST_EXAMPLES]},
            cause="The object is one, or its box was drawn in place of its outline.",
            remedy="Look at some; draw the outlines of those that are not rectangles.",
        )
    ]


def box_fill(shapes: Shapes, shape: int) -> float | None:
    """Return which share (0-1) of its upright box a polygon fills; `None` for what is no single polygon, or small."""
    parts = list(shapes.parts(shape))
    if shapes.runs[shape] or shapes.labels[shape] == 255 or len(parts) != 1:
        return None
    points = parts[0].reshape(-1, 2) / 5
    x, y = points.T
    width, height = np.ptp(x), np.ptp(y)
    if min(width, height) < LEAST_SIDE:
        return None
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(area / (width * height))


def _outlined(context: AuditContext) -> list[Dataset]:
    return [split for split in context.splits.given if isinstance(split.masks, ShapeMasks)]


def _worst(parts: dict[str, tuple[Dataset, OrderDependence]]) -> tuple[list[str], float]:
    """Return the worst images in words, and the largest share."""
    shares = [
        (part.contested[i] / part.pixels[i], split.name(i))
        for split, part in parts.values()
        for i in part.worst(MOST_EXAMPLES)
    ]
    shares.sort(reverse=True)
    return [f"{name}: {share:.2%}" for share, name in shares[:MOST_EXAMPLES]], float(shares[0][0])


def _differences(parts: dict[str, tuple[Dataset, OrderDependence]]) -> dict[str, float]:
    total = sum(int(part.pixels.sum()) for _, part in parts.values())
    pairs = next(iter(parts.values()))[1].between
    return {
        f"{one} / {other}": sum(int(part.between[one, other].sum()) for _, part in parts.values()) / total
        for one, other in pairs
    }
