"""Checks on boxes and the labels of their objects."""

from collections.abc import Iterator

from trivet.doctor.checks.common import NotCheckedError, part_made_at, where
from trivet.doctor.finding import Finding
from trivet.doctor.origins import table_at
from trivet.doctor.probe.data.boxes import BOX_FUNCTIONS
from trivet.doctor.probe.losses import CLASS_LOSSES
from trivet.doctor.source import Place
from trivet.doctor.trace import Trace
from trivet.doctor.trace_data import BoxTrace

SURE_BOXES = 20
"""Boxes of which some would reach over the border of the picture, were their corners taken for centres."""
MOSTLY = 0.5
"""Share of boxes that end before they begin, from which on not some boxes are wrong, but the format of all."""
OFTEN_FLAT = 0.05
"""Share of the boxes of batches without a size, from which on annotations alone do not explain them."""
OFTEN = 20
"""Targets a class, on average, from which on one that never occurs is no chance."""
SIZED = "(x, y, width, height)"
"""What COCO's key `bbox` holds."""
TORCHVISION_BOXES = "positive height and width"


def box_format(trace: Trace) -> Iterator[Finding]:
    """Boxes that are no two corners, where two corners are wanted."""
    if not trace.data.boxes:
        raise NotCheckedError("no boxes were seen")
    for boxes in trace.data.boxes:
        if boxes.taken_for:
            yield Finding(
                "box-format",
                "error",
                f"`{boxes.source}` takes for two corners what `{boxes.compared}` takes for {boxes.taken_for}",
                where(boxes.place, boxes.source),
                {"loss": boxes.compared, "format": boxes.taken_for},
                "two losses compare the same predicted boxes with the same objects, in two formats",
                "convert the predictions for the one of them: `torchvision.ops.box_convert(boxes, "
                f"{'xywh' if boxes.taken_for.startswith('(x,') else 'cxcywh'!r}, 'xyxy')`",
                verdict="proven",
            )
            continue
        meant = _meant_format(boxes)
        if meant:
            yield Finding(
                "box-format",
                "error",
                f"{boxes.inverted} of {boxes.boxes} boxes end before they begin, such as {boxes.example}; "
                f"{boxes.boxes - _misfits(boxes, meant)} of them lie in the picture as {meant}",
                where(_made_at(trace, boxes, meant), boxes.source),
                {"boxes": boxes.boxes, "inverted": boxes.inverted, "as_size": boxes.as_size}
                | {"as_centre": boxes.as_centre},
                f"the annotations are {meant}, and are used as (x1, y1, x2, y2)",
                "convert them: `torchvision.ops.box_convert(boxes, "
                f"{'xywh' if meant == '(x, y, width, height)' else 'cxcywh'!r}, 'xyxy')`",
                verdict="proven",
            )


def _made_at(trace: Trace, boxes: BoxTrace, meant: str) -> Place | None:
    """Where boxes are read or made that a detector is given; what a function compares is made by the program around it."""
    made = part_made_at(trace, "boxes", "target")
    if meant == SIZED and "bbox" in trace.data.keyed:
        return trace.data.keyed["bbox"]
    return boxes.place or made if boxes.source in BOX_FUNCTIONS else made or boxes.place


def _raw_box_at(trace: Trace, boxes: BoxTrace) -> Place | None:
    """Where COCO's boxes are read, if many come out turned round, as sizes taken for corners do."""
    often = boxes.inverted >= OFTEN_FLAT * boxes.boxes
    return trace.data.keyed.get("bbox") if often else None


def _misfits(boxes: BoxTrace, meant: str) -> int:
    return boxes.boxes - (boxes.as_size if meant.startswith("(x,") else boxes.as_centre)


def _meant_format(boxes: BoxTrace) -> str:
    if boxes.boxes < 4 or boxes.inverted < max(2, 0.05 * boxes.boxes):
        return ""
    size, centre = (count >= 0.99 * boxes.boxes for count in (boxes.as_size, boxes.as_centre))
    if size and not (centre and not boxes.known_size and boxes.boxes >= SURE_BOXES):
        return SIZED
    if centre:
        return "(centre x, centre y, width, height)"
    if (
        boxes.boxes >= SURE_BOXES
        and boxes.inverted >= MOSTLY * boxes.boxes
        and boxes.as_size + boxes.as_centre
    ):
        sized = boxes.as_size > boxes.as_centre
        return SIZED if sized else "(centre x, centre y, width, height)"
    return ""


def degenerate_boxes(trace: Trace) -> Iterator[Finding]:
    """Boxes without width or height."""
    refused = trace.exception is not None and TORCHVISION_BOXES in trace.exception.message
    if not trace.data.boxes and not refused:
        raise NotCheckedError("no boxes were seen")
    found = [b for b in trace.data.boxes if b.flat + b.inverted and not _meant_format(b)]
    found = [b for b in found if b.source != "batch" or b.flat >= OFTEN_FLAT * b.boxes]
    for boxes in found[:1]:
        bad = boxes.flat + boxes.inverted
        made = trace.data.keyed.get("clipped") if boxes.flat >= OFTEN_FLAT * boxes.boxes else None
        harmful = refused or trace.backward.not_finite > 0 or boxes.inverted > 0
        yield Finding(
            "degenerate-boxes",
            "error" if harmful else "warning",
            f"{bad} of {boxes.boxes} boxes have no width or no height",
            where(
                made or _raw_box_at(trace, boxes) or part_made_at(trace, "boxes", "target") or boxes.place,
                boxes.source,
            ),
            {"boxes": boxes.boxes, "flat": boxes.flat, "inverted": boxes.inverted, "example": boxes.example},
            "boxes at the border of a crop, clicks, or rounding leave nothing of them; the logarithm of their size is "
            "minus infinity",
            "drop boxes narrower than a pixel or two after each crop and resize, labels with them",
            verdict="proven",
        )
    if refused and not found and trace.exception is not None:
        place = trace.exception.places[0] if trace.exception.places else None
        yield Finding(
            "degenerate-boxes",
            "error",
            "the detector refuses boxes without width or height",
            where(part_made_at(trace, "boxes", "target") or place, "boxes"),
            {"message": trace.exception.message[:300]},
            "a crop or rounding leaves nothing of some boxes",
            "drop boxes narrower than a pixel or two after each crop and resize, labels with them",
            verdict="proven",
        )


def label_off_by_one(trace: Trace) -> Iterator[Finding]:
    """Objects labelled 0 where a detector takes 0 for the background; classes of which the first never occurs."""
    yield from _counted_from_one(trace)
    for seen in trace.data.detections:
        if seen.zeros >= 2:
            made = part_made_at(trace, "labels")
            yield Finding(
                "label-off-by-one",
                "error",
                f"{seen.zeros} of {seen.labels} objects are labelled 0, which `{seen.model}` takes for the background",
                where(table_at(made) or made or seen.place, seen.model),
                {"zeros": seen.zeros, "labels": seen.labels},
                "torchvision's detector keeps class 0 for the background",
                "add 1 to the labels, and 1 to `num_classes`",
                verdict="proven",
            )


def _counted_from_one(trace: Trace) -> Iterator[Finding]:
    for seen in trace.data.classes:
        counts = seen.counts
        whole = len(counts) >= 3 and not counts[0] and all(counts[1:]) and sum(counts) >= OFTEN * len(counts)
        if whole and not seen.spatial and seen.function in CLASS_LOSSES:
            yield Finding(
                "label-off-by-one",
                "note",
                f"no target is ever 0, and each of 1 to {len(counts) - 1} occurs: `{seen.function}` has an output too many",
                where(part_made_at(trace, "target", "labels") or seen.place, seen.function),
                {"counts": counts[:50]},
                "the labels count from 1, or 0 is kept for something that never occurs (padding, background)",
                "subtract 1 from the labels, and 1 from the outputs, if 0 means nothing",
                verdict="suspected",
            )
