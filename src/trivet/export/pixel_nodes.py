"""From a segmenter's logits to a label for each pixel of the original image, as ONNX nodes.

The same steps as `tasks.resample.strips_at_original`: bilinear between the centres of the logits' cells, some rows at a
time, so that the logits of a large picture never stand in memory as a whole.
"""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from trivet.export.graph import Graph, described
from trivet.export.letterbox_nodes import PlacedImages

_AT_ONCE = 1 << 22  # values of a strip


def add_masks(
    graph: Graph,
    logits: str,
    placed: PlacedImages,
    *,
    classes: int,
    cells_hw: tuple[int, int],
    size_hw: tuple[int, int],
    names: Sequence[str],
) -> None:
    """Add the nodes that label each original pixel.

    Args:
        graph: Where the nodes go.
        logits: Name of the logits, `[b, classes, *cells_hw]`.
        placed: The letterboxed images.
        classes: How many classes.
        cells_hw: Size of the logits.
        size_hw: Size of the network's input.
        names: Of the results: labels uint8 `[b, h, w]` and their probabilities, float32 `[b, h, w]`.
    """
    top, bottom, share_y = _taps(graph, placed, 0, cells_hw, size_hw)
    left, right, share_x = _taps(graph, placed, 1, cells_hw, size_hw)
    height, width = placed.original_hw
    values = graph.op("Mul", graph.op("Mul", width, placed.batch), np.int64(classes))
    rows = graph.op("Max", graph.op("Div", np.int64(_AT_ONCE), values), np.int64(1))
    rows = graph.op("Min", rows, height)
    last = graph.op("Sub", height, np.int64(1))
    trips = graph.op("Add", graph.op("Div", last, rows), np.int64(1))
    strip = Graph(f"{graph.prefix}/strip")
    first = strip.op("Mul", "strip/trip", rows)
    lines = strip.op("Min", strip.op("Add", strip.count_up(rows), first), last)
    upper, lower = (
        strip.op("Gather", logits, strip.op("Gather", tap, lines), axis=2) for tap in (top, bottom)
    )
    share = strip.op("Unsqueeze", strip.op("Gather", share_y, lines), np.array([1]))
    across = _between(strip, upper, lower, share)
    before, after = (strip.op("Gather", across, tap, axis=3) for tap in (left, right))
    there = _between(strip, before, after, share_x)
    best = strip.op("ReduceMax", there, np.array([1]), keepdims=1)
    total = strip.op("ReduceSum", strip.op("Exp", strip.op("Sub", there, best)), np.array([1]), keepdims=0)
    strip.cast(strip.op("ArgMax", there, axis=1, keepdims=0), TensorProto.UINT8, result="strip/labels")
    strip.op("Reciprocal", total, result="strip/scores")
    strip.op("Identity", "strip/going", result="strip/go_on")
    body = strip.body(
        "strip",
        [described("strip/trip", TensorProto.INT64, ()), described("strip/going", TensorProto.BOOL, ())],
        [
            described("strip/go_on", TensorProto.BOOL, ()),
            described("strip/labels", TensorProto.UINT8, ("batch", "rows", "width")),
            described("strip/scores", TensorProto.FLOAT, ("batch", "rows", "width")),
        ],
    )
    stacks = graph.ops("Loop", trips, np.bool_(True), results=(None, None), body=body)
    whole = graph.join(placed.batch, np.int64(-1), width)
    end = graph.op("Unsqueeze", height, np.array([0]))
    for stack, name in zip(stacks, names, strict=True):  # (strips, b, rows, w), the last strip too long
        image = graph.op("Reshape", graph.op("Transpose", stack, perm=[1, 0, 2, 3]), whole)
        graph.op("Slice", image, np.array([0]), end, np.array([1]), result=name)


def _taps(
    graph: Graph, placed: PlacedImages, axis: int, cells_hw: tuple[int, int], size_hw: tuple[int, int]
) -> tuple[str, str, str]:
    """Return the two cells around each original pixel of an axis, and how much the second one counts."""
    cells = cells_hw[axis]
    pixels = graph.op("Add", graph.to_double(graph.count_up(placed.original_hw[axis])), np.float64(0.5))
    in_cells = graph.op(
        "Mul", graph.op("Mul", pixels, placed.scale_yx[axis]), np.float64(cells / size_hw[axis])
    )
    at = graph.op("Max", graph.op("Sub", in_cells, np.float64(0.5)), np.float64(0))
    at = graph.op("Min", at, np.float64(cells - 1))
    floor = graph.op("Floor", at)
    first = graph.to_int(floor)
    second = graph.op("Min", graph.op("Add", first, np.int64(1)), np.int64(cells - 1))
    return first, second, graph.to_float(graph.op("Sub", at, floor))


def _between(graph: Graph, start: str, end: str, share: str) -> str:
    return graph.op("Add", start, graph.op("Mul", graph.op("Sub", end, start), share))
