"""The scores of each task as tables for the terminal."""

import math
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trivet.evaluate.classification_scores import ClassificationScores
from trivet.evaluate.scores import DetectionScores, Interval
from trivet.evaluate.segmentation_scores import SegmentationScores
from trivet.report.naming import plain_label
from trivet.report.sentences import absent_words, advice

BAR = 20  # characters of a whole bar
MOST_PAIRS = 5


def detection_tables(scores: DetectionScores) -> list[RenderableType]:
    """Lay out a detector's figures, each class, and what its mistakes cost."""
    sizes = ", ".join(f"{size} {_figure(value)}" for size, value in scores.by_size.items())
    figures = {"mAP50": scores.map50, "mAP": scores.map, "mAP75": scores.map75}
    told = {"by size": sizes, "scored": f"{scores.images:,} images, {scores.boxes:,} objects"}
    classes = table("class", "AP", "", "AP50", "AP75", "recall", "objects", right=(1, 3, 4, 5, 6))
    for row in scores.per_class:
        rest = (_figure(value) for value in (row.ap50, row.ap75, row.ar100))
        classes.add_row(_name(row.name), _figure(row.ap), _bar(row.ap), *rest, f"{row.truths:,}")
    main = _main_figures(figures, scores.interval95, told)
    return [main, classes, _error_table(scores)] if scores.errors else [main, classes]


def segmentation_tables(scores: SegmentationScores, names: Sequence[str]) -> list[RenderableType]:
    """Lay out a segmenter's figures, each class, and its most frequent mistakes."""
    figures = {
        "mIoU": scores.miou,
        "pixel accuracy": scores.pixel_accuracy,
        "boundary F1": scores.boundary_f1,
    }
    told = {"scored": f"{scores.images:,} images, {scores.pixels:,} pixels, {scores.void:,} void"}
    if scores.absent:
        told["left out"] = absent_words(scores)
    classes = table("class", "IoU", "", "accuracy", "boundary F1", "of all pixels", right=(1, 3, 4, 5))
    for row in scores.per_class:
        rest = (_figure(value) for value in (row.accuracy, row.boundary_f1))
        classes.add_row(_name(row.name), _figure(row.iou), _bar(row.iou), *rest, f"{row.share:.1%}")
    pairs = table("truth", "taken for", "of all pixels", right=(2,))
    for pair in scores.confused(MOST_PAIRS):
        share = pair.pixels / scores.pixels
        pairs.add_row(_name(names[pair.truth]), _name(names[pair.predicted]), f"{share:.1%}")
    main = _main_figures(figures, scores.interval95, told)
    return [main, classes, pairs] if pairs.row_count else [main, classes]


def classification_tables(scores: ClassificationScores, names: Sequence[str]) -> list[RenderableType]:
    """Lay out a classifier's figures, each class, and its most frequent mistakes."""
    figures = {"top-1": scores.top1, "top-5": scores.top5, "balanced accuracy": scores.balanced_accuracy}
    figures["calibration error"] = scores.ece
    told = {"scored": f"{scores.images:,} images"}
    classes = table("class", "accuracy", "", "precision", "images", "predictions", right=(1, 3, 4, 5))
    for row in scores.per_class:
        classes.add_row(
            _name(row.name),
            _figure(row.accuracy),
            _bar(row.accuracy),
            _figure(row.precision),
            f"{row.images:,}",
            f"{row.predictions:,}",
        )
    pairs = table("truth", "taken for", "images", "of the class", right=(2, 3))
    for pair in scores.confused[:MOST_PAIRS]:
        pairs.add_row(
            _name(names[pair.truth]), _name(names[pair.predicted]), f"{pair.images:,}", f"{pair.share:.1%}"
        )
    shown = {name: value for name, value in figures.items() if name != "top-5" or math.isfinite(value)}
    main = _main_figures(shown, scores.interval95, told)
    return [main, classes, pairs] if pairs.row_count else [main, classes]


def table(*columns: str, right: Sequence[int] = ()) -> Table:
    """Return an empty table without lines; the columns of `right` are flush right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i in right else "left", overflow="fold")
    return made


_KEYS = {
    "top-1": "top1",
    "top-5": "top5",
    "pixel accuracy": "pixel_accuracy",
    "boundary F1": "boundary_f1",
    "balanced accuracy": "balanced_accuracy",
}


def _main_figures(figures: dict[str, float], intervals: dict[str, Interval], told: dict[str, str]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, value in figures.items():
        interval = intervals.get(_KEYS.get(name, name.lower()))
        grid.add_row(Text(name, style="bold"), Text(_figure(value), style="bold"), _range(interval))
    for name, words in told.items():
        grid.add_row(Text(name), Text(""), Text(words))
    return grid


def _error_table(scores: DetectionScores) -> Table:
    rows = table("mistake", "AP50 lost", "count", "what helps", right=(1, 2))
    for error in scores.errors:
        remedy = advice(error)[1] if error.count else ""
        rows.add_row(error.name, _figure(error.ap_lost), f"{error.count:,}", remedy)
    return rows


def _range(interval: Interval | None) -> Text:
    return Text(
        "" if interval is None else f"95% interval {interval.low:.3f} to {interval.high:.3f}", style="dim"
    )


def _name(name: str) -> Text:
    return Text(plain_label(name, 32))


def _bar(share: float) -> Text:
    """Return a bar of blocks, an eighth of a character exact."""
    eighths = round(8 * BAR * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0
    return Text("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), style="blue")


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
