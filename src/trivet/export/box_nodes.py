"""From an anchor head's maps to the boxes that are left after suppression, as ONNX nodes.

The same steps as `tasks.box_task.predict_boxes`: the best (anchor, class) pairs above a threshold, decoded, cut
at the image's border, thinned out class by class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trivet.errors import UsageError
from trivet.export.graph import Graph
from trivet.export.letterbox_nodes import PlacedImages
from trivet.geometry.anchors import SizeHW
from trivet.geometry.boxes import cxcywh_from_xyxy
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.box_task import BoxTask
from trivet.tasks.suppression import HardNms

_NOTHING = np.float32(-1)  # the score of what is no candidate


@dataclass(frozen=True)
class CandidateNodes:
    """Names of what is known of the candidates `[b, n]` before suppression, best first.

    Args:
        boxes_xyxy: float32 `[b, n, 4]`, in pixels of the input.
        scores: float32, -1 where there is no candidate.
        labels: int64.
    """

    boxes_xyxy: str
    scores: str
    labels: str


def check_suppression(task: BoxTask) -> HardNms:
    """Return a task's suppressor.

    Raises:
        UsageError: If it has no counterpart among ONNX's operators.
    """
    if not isinstance(task.nms, HardNms):
        raise UsageError(
            f"{type(task.nms).__name__} has no counterpart in ONNX",
            "export a run with task.options nms='hard'",
        )
    return task.nms


def add_candidates(
    graph: Graph,
    class_logits: Sequence[str],
    box_deltas: Sequence[str],
    placed: PlacedImages,
    task: BoxTask,
    *,
    size_hw: SizeHW,
    feature_hw: Sequence[SizeHW],
) -> CandidateNodes:
    """Add the nodes that choose and decode the best (anchor, class) pairs of each image.

    Args:
        graph: Where the nodes go.
        class_logits: Names of a head's maps, finest level first.
        box_deltas: Likewise.
        placed: The letterboxed images.
        task: What the maps mean.
        size_hw: Size of the network's input.
        feature_hw: Size of each level's maps.
    """
    tables = _Tables.of(task, size_hw, feature_hw)
    # One anchor's classes side by side: so their maximum is found several times as fast, and they are read in one go.
    class_logits = [
        graph.reshape(graph.op("Transpose", maps, perm=[0, 2, 3, 1]), 0, -1, task.classes)
        for maps in class_logits
    ]
    deltas = graph.op("Concat", *(graph.reshape(maps, 0, -1) for maps in box_deltas), axis=1)
    anchors = _likely_anchors(graph, class_logits, task)  # (b, a)
    logits = _all_classes(graph, class_logits, anchors, tables)
    values, pairs = _above(graph, logits, task)
    labels = graph.op("Mod", pairs, np.int64(task.classes))
    rows = graph.op("Div", pairs, np.int64(task.classes))
    chosen = graph.op("GatherElements", anchors, rows, axis=1)  # (b, n)
    boxes = _decoded(graph, deltas, chosen, tables, placed, size_hw)
    scores = graph.op("Sigmoid", values)
    seen = graph.op("Greater", values, _least_logit(task))
    if not task.keep_empty_boxes:
        seen = graph.op("And", seen, _has_area(graph, boxes))
    return CandidateNodes(boxes, graph.op("Where", seen, scores, _NOTHING), labels)


def add_suppression(
    graph: Graph, found: CandidateNodes, placed: PlacedImages, task: BoxTask, names: Sequence[str]
) -> None:
    """Add the nodes that thin the candidates out and bring them to the original images' pixels.

    Args:
        graph: Where the nodes go.
        found: The candidates.
        placed: The letterboxed images.
        task: What the maps mean.
        names: Of the results: boxes `[b, m, 4]`, scores `[b, m]`, labels `[b, m]` and how many of an image's are
            real, `[b]`; the others have score 0 and label -1.
    """
    kept = graph.op("Where", _kept(graph, found, check_suppression(task), task), found.scores, _NOTHING)
    count = graph.op("Gather", graph.op("Shape", kept), np.int64(1), axis=0)
    most = graph.op("Unsqueeze", graph.op("Min", count, np.int64(task.most)), np.array([0]))
    scores, rows = graph.ops("TopK", kept, most, results=(None, None), axis=1)
    real = graph.op("Greater", scores, np.float32(task.score_threshold))
    four = graph.op("Unsqueeze", rows, np.array([2]))
    boxes = graph.op(
        "GatherElements", found.boxes_xyxy, graph.op("Expand", four, np.array([1, 1, 4])), axis=1
    )
    scale = _xyxy(graph, *(graph.to_float(scale) for scale in placed.scale_yx[::-1]))
    edge = _xyxy(graph, *(graph.to_float(side) for side in placed.original_hw[::-1]))
    boxes = graph.op("Min", graph.op("Max", graph.op("Div", boxes, scale), np.float32(0)), edge)
    graph.op("Where", graph.op("Unsqueeze", real, np.array([2])), boxes, np.float32(0), result=names[0])
    graph.op("Where", real, scores, np.float32(0), result=names[1])
    labels = graph.op("GatherElements", found.labels, rows, axis=1)
    graph.op("Where", real, labels, np.int64(-1), result=names[2])
    graph.op("ReduceSum", graph.to_int(real), np.array([1]), result=names[3], keepdims=0)


@dataclass(frozen=True)
class _Tables:
    """What is known of every anchor beforehand, in the order of the grid: level, cell, anchor of the cell.

    Args:
        cells: int64 `[a]`, cells of the anchor's level: the step from one channel of box deltas to the next.
        ranges: Where the anchors of each level begin and end.
        box_starts: int64 `[a]`, where its first box delta is.
        anchors_cxcywh: float32 `[a, 4]`.
        reach_xy: float32 `[a, 2]`, the range of its box's centre, in pixels; `None` where it is unbounded.
    """

    cells: np.ndarray
    ranges: tuple[tuple[int, int], ...]
    box_starts: np.ndarray
    anchors_cxcywh: np.ndarray
    reach_xy: np.ndarray | None = None

    @classmethod
    def of(cls, task: BoxTask, size_hw: SizeHW, feature_hw: Sequence[SizeHW]) -> "_Tables":
        grid = AnchorGrid(task.anchors, size_hw, tuple(feature_hw))
        anchors = cxcywh_from_xyxy(grid.anchors_xyxy()).numpy()
        slots = task.anchors.per_cell
        columns: list[tuple[np.ndarray, np.ndarray]] = []
        box_start = 0
        for height, width in feature_hw:
            cells = height * width
            cell, slot = (index.ravel() for index in np.mgrid[:cells, :slots])
            columns.append((np.full(slots * cells, cells), box_start + slot * 4 * cells + cell))
            box_start += slots * 4 * cells
        reach = None
        if grid.reaches is not None:
            counts = [slots * height * width for height, width in feature_hw]
            reach = np.repeat(np.array(grid.reaches, np.float32), counts, axis=0)
        cells_of, box_of = (np.concatenate(column) for column in zip(*columns, strict=True))
        starts = [int(start) for start in grid.starts]
        return cls(
            cells_of.astype(np.int64),
            tuple(pairwise(starts)),
            box_of.astype(np.int64),
            anchors,
            reach,
        )


def _least_logit(task: BoxTask) -> np.float32:
    """Return above which logit a pair is a candidate."""
    share = task.score_threshold
    return np.float32(math.log(share / (1 - share)) if share > 0 else -math.inf)


def _likely_anchors(graph: Graph, class_logits: Sequence[str], task: BoxTask) -> str:
    """Return int64 `[b, a]`: the anchors whose best class is above the threshold, no more than there may be pairs.

    The best pairs are all of these anchors: one whose best class is not among the best is not either.
    """
    best = [graph.op("ReduceMax", rows, np.array([2]), keepdims=0) for rows in class_logits]
    return _above(graph, graph.op("Concat", *best, axis=1), task)[1]


def _all_classes(graph: Graph, class_logits: Sequence[str], anchors: str, tables: _Tables) -> str:
    """Return float32 `[b, n * classes]`: the logits of `n` anchors, taken from each level where they lie.

    Joining the levels first would copy every logit there is for the few that are wanted.
    """
    found: str | None = None
    for rows, (start, stop) in zip(class_logits, tables.ranges, strict=True):
        here = graph.op("Sub", anchors, np.int64(start))
        inside = graph.op("Min", graph.op("Max", here, np.int64(0)), np.int64(stop - start - 1))
        values = graph.op("GatherND", rows, graph.op("Unsqueeze", inside, np.array([2])), batch_dims=1)
        beyond = graph.op("Unsqueeze", graph.op("Less", anchors, np.int64(start)), np.array([2]))
        found = values if found is None else graph.op("Where", beyond, found, values)
    assert found is not None, "a head has levels"
    return graph.reshape(found, 0, -1)


def _above(graph: Graph, logits: str, task: BoxTask) -> tuple[str, str]:
    """Return the best logits `[b, n]` and their positions; n is enough for all above the threshold in any image."""
    above = graph.to_float(
        graph.op("Greater", logits, _least_logit(task))
    )  # summed faster than whole numbers
    counts = graph.op("ReduceSum", above, np.array([1]), keepdims=0)
    most = graph.to_int(graph.op("ReduceMax", counts, np.array([0]), keepdims=1))
    most = graph.op("Max", graph.op("Min", most, np.array([task.candidates])), np.array([1]))
    values, positions = graph.ops("TopK", logits, most, results=(None, None), axis=1)
    return values, positions


def _decoded(
    graph: Graph, deltas: str, chosen: str, tables: _Tables, placed: PlacedImages, size_hw: SizeHW
) -> str:
    """Return float32 `[b, n, 4]`: the anchors' boxes, cut at the image's border in the input."""
    steps, starts = (graph.op("Gather", table, chosen) for table in (tables.cells, tables.box_starts))
    ty, tx, th, tw = (
        graph.op(
            "GatherElements",
            deltas,
            graph.op("Add", starts, graph.op("Mul", steps, np.int64(number))),
            axis=1,
        )
        for number in range(4)
    )
    anchor_x, anchor_y, anchor_w, anchor_h = (
        graph.op("Gather", np.ascontiguousarray(column), chosen) for column in tables.anchors_cxcywh.T
    )
    range_x, range_y = anchor_w, anchor_h
    if tables.reach_xy is not None:  # see `geometry.box_code.decode_in_cell`
        tx, ty = (graph.op("Sub", graph.op("Sigmoid", t), np.float32(0.5)) for t in (tx, ty))
        range_x, range_y = (
            graph.op("Gather", np.ascontiguousarray(column), chosen) for column in tables.reach_xy.T
        )
    edges = []
    for t, reach, length, anchor, side, axis in (
        (tx, range_x, tw, anchor_x, anchor_w, 1),
        (ty, range_y, th, anchor_y, anchor_h, 0),
    ):
        centre = graph.op("Add", graph.op("Mul", t, reach), anchor)
        half = graph.op("Div", graph.op("Mul", graph.op("Exp", length), side), np.float32(2))
        border = graph.op(
            "Min",
            graph.op("Mul", graph.to_float(placed.original_hw[axis]), graph.to_float(placed.scale_yx[axis])),
            np.float32(size_hw[axis]),
        )
        edges.append(
            [
                graph.op("Min", graph.op("Max", graph.op(way, centre, half), np.float32(0)), border)
                for way in ("Sub", "Add")
            ]
        )
    (left, right), (top, bottom) = edges
    rows = [graph.op("Unsqueeze", edge, np.array([2])) for edge in (left, top, right, bottom)]
    return graph.op("Concat", *rows, axis=2)


def _has_area(graph: Graph, boxes: str) -> str:
    left, top, right, bottom = graph.ops("Split", boxes, results=(None,) * 4, axis=2, num_outputs=4)
    both = graph.op("And", graph.op("Greater", right, left), graph.op("Greater", bottom, top))
    return graph.op("Squeeze", both, np.array([2]))


def _kept(graph: Graph, found: CandidateNodes, nms: HardNms, task: BoxTask) -> str:
    """Return bool `[b, n]`: which candidates no better one of their class overlaps."""
    scores = graph.op("Unsqueeze", found.scores, np.array([1]))  # (b, 1, n)
    if not nms.across_classes and task.classes > 1:
        rows = np.arange(task.classes, dtype=np.int64).reshape(1, -1, 1)
        mine = graph.op("Equal", graph.op("Unsqueeze", found.labels, np.array([1])), rows)
        scores = graph.op("Where", mine, scores, _NOTHING)
    picked = graph.op(
        "NonMaxSuppression",
        found.boxes_xyxy,
        scores,
        np.array([task.most], np.int64),
        np.array([nms.iou], np.float32),
        np.array([task.score_threshold], np.float32),
    )  # (k, 3): image, class, candidate
    places = graph.op("Gather", picked, np.array([0, 2]), axis=1)
    ones = graph.op(
        "Expand", np.float32(1), graph.op("Slice", graph.op("Shape", picked), np.array([0]), np.array([1]))
    )
    zeros = graph.op("Mul", found.scores, np.float32(0))
    return graph.op("Greater", graph.op("ScatterND", zeros, places, ones), np.float32(0))


def _xyxy(graph: Graph, x: str, y: str) -> str:
    """Return float32 `[4]`: x, y, x, y."""
    return graph.op(
        "Concat", *(graph.op("Unsqueeze", value, np.array([0])) for value in (x, y, x, y)), axis=0
    )
