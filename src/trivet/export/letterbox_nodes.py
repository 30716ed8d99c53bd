"""Letterboxing as ONNX nodes: the pixels OpenCV makes (`data.place`), of images of any size.

An image that shrinks is averaged over each new pixel's area; one that grows is interpolated with whole weights and
OpenCV's cuts in between. Both are the same for an axis: which pixels count for a new one, and how much.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from trivet.export.graph import Graph, described

_ONE = np.float32(2048)  # what OpenCV's weights of a growing image add up to
_LEAST_SHARE = 1e-3  # of a pixel, to count in OpenCV's averaging
_FEW = (
    3  # old pixels a new one, below which sums come out alike in any order, as far as millions of pixels show
)

Pair = tuple[str, str]


@dataclass(frozen=True)
class PlacedImages:
    """Names of what later nodes need of a letterboxed batch.

    Args:
        pixels: float32 `[b, 3, h, w]`, 0-255, padded.
        normalised: The same as the network takes it.
        batch: int64, how many images.
        original_hw: int64 each, the size of the images as given.
        fitted_hw: int64 each, their size in the input.
        scale_yx: float64 each, input pixels a pixel as given.
    """

    pixels: str
    normalised: str
    batch: str
    original_hw: Pair
    fitted_hw: Pair
    scale_yx: Pair


def add_letterbox(
    graph: Graph,
    image: str,
    *,
    size_hw: tuple[int, int],
    fill_rgb: tuple[int, int, int],
    mean: np.ndarray,
    std: np.ndarray,
) -> PlacedImages:
    """Add the nodes that letterbox and normalise uint8 images `[b, h, w, 3]`.

    Args:
        graph: Where the nodes go.
        image: The name of the images.
        size_hw: The network's input.
        fill_rgb: Padding colour.
        mean: Of the backbone, 0-255, float32 `[3]`.
        std: Likewise.
    """
    shape = graph.op("Shape", image)
    batch, height, width = (graph.op("Gather", shape, np.int64(axis), axis=0) for axis in range(3))
    fitted_hw = _fitted(graph, (height, width), size_hw)
    sides = ((height, fitted_hw[0]), (width, fitted_hw[1]))
    scale_y, scale_x = (graph.op("Div", graph.to_double(new), graph.to_double(old)) for old, new in sides)
    shrinks = graph.op("And", *(graph.op("LessOrEqual", new, old) for old, new in sides))
    # sums of few terms come out the same in any order, which is quicker; other sizes take a step more
    little = [graph.op("Less", old, graph.op("Mul", new, np.int64(_FEW))) for old, new in sides]
    resized = _either(
        graph,
        graph.op("And", shrinks, graph.op("And", *little)),
        lambda part: _averaged(part, image, batch, sides, few=True),
        lambda whole: _either(
            whole,
            shrinks,
            lambda part: _averaged(part, image, batch, sides, few=False),
            lambda part: _interpolated(part, image, sides),
        ),
    )
    fill = np.array(fill_rgb, np.float32).reshape(1, 3, 1, 1)
    mean, std = (value.astype(np.float32).reshape(1, 3, 1, 1) for value in (mean, std))
    room = [graph.op("Sub", np.int64(size), new) for size, new in zip(size_hw, fitted_hw, strict=True)]
    edges = graph.join(*[np.int64(0)] * 6, *room)
    # Padding takes one number for all channels: the colour is taken away before it and added after it.
    around_fill = graph.op("Pad", graph.op("Sub", resized, fill), edges)
    static = graph.reshape(around_fill, 0, 3, *size_hw)
    pixels = graph.op("Add", static, fill)
    normalised = graph.op("Div", graph.op("Sub", pixels, mean), std)
    return PlacedImages(pixels, normalised, batch, (height, width), fitted_hw, (scale_y, scale_x))


def _fitted(graph: Graph, image_hw: Pair, size_hw: tuple[int, int]) -> Pair:
    """Return the size of the image in the input, rounded as `data.letterbox.fitted_wh` does it."""
    doubles = [graph.to_double(side) for side in image_hw]
    scales = [graph.op("Div", np.float64(size), side) for size, side in zip(size_hw, doubles, strict=True)]
    scale = graph.op("Min", *scales)
    height, width = (
        graph.to_int(
            graph.op(
                "Min",
                graph.op("Max", graph.op("Round", graph.op("Mul", side, scale)), np.float64(1)),
                np.float64(size),
            )
        )
        for side, size in zip(doubles, size_hw, strict=True)
    )
    return height, width


def _either(
    graph: Graph,
    condition: str,
    then: Callable[[Graph], str],
    otherwise: Callable[[Graph], str],
) -> str:
    branches = {}
    for name, make in (("then_branch", then), ("else_branch", otherwise)):
        part = Graph(f"{graph.name(name)}")
        result = make(part)
        branches[name] = part.body(
            name, [], [described(result, TensorProto.FLOAT, ("batch", 3, "fitted_height", "fitted_width"))]
        )
    return graph.op("If", condition, **branches)


def _averaged(graph: Graph, image: str, batch: str, sides: tuple[Pair, Pair], *, few: bool) -> str:
    """Average each new pixel's area; float32 `[b, 3, h, w]` of whole numbers.

    Columns first, and one pixel after the other, as OpenCV does: where an average lies just between two levels the order
    of the sums decides, and one level can move a box. By whole factors OpenCV sums whole numbers, and divides at the end.

    Args:
        graph: Where the nodes go.
        image: The name of the images.
        batch: How many.
        sides: Old and new height, old and new width.
        few: Whether a new pixel covers few old ones, so that one product of matrices gives the same.
    """
    (height, new_height), (_, new_width) = sides
    by_whole = None if few else graph.op("And", *(_is_whole(graph, side) for side in sides))
    # one axis is moved at a time, which ONNX Runtime does several times as fast as to swap two
    columns = graph.op("Transpose", image, perm=[0, 2, 3, 1])  # [b, w, 3, h]
    columns = _weighted_rows(graph, graph.reshape(columns, 0, 0, -1), sides[1], by_whole)
    columns = graph.op("Reshape", columns, graph.join(batch, new_width, np.int64(3), height))
    rows = graph.op("Transpose", columns, perm=[0, 3, 1, 2])  # [b, h, w, 3]
    rows = _weighted_rows(graph, graph.reshape(rows, 0, 0, -1), sides[0], by_whole)
    rows = graph.op("Reshape", rows, graph.join(batch, new_height, new_width, np.int64(3)))
    pixels = graph.op("Transpose", rows, perm=[0, 3, 1, 2])
    if by_whole is not None:
        area = graph.to_float(graph.op("Mul", *(graph.op("Div", old, new) for old, new in sides)))
        share = graph.op("Where", by_whole, graph.op("Div", np.float32(1), area), np.float32(1))
        return graph.op("Round", graph.op("Mul", pixels, share))
    # OpenCV rounds .5 up when it halves an image, where all are quarters, and else to the even number.
    halved = graph.op(
        "And", *(graph.op("Equal", old, graph.op("Mul", new, np.int64(2))) for old, new in sides)
    )
    nudge = graph.op("Where", halved, np.float32(0.1), np.float32(0))
    return graph.op("Round", graph.op("Add", pixels, nudge))


def _is_whole(graph: Graph, side: Pair) -> str:
    return graph.op("Equal", graph.op("Mod", *side), np.int64(0))


def _weighted_rows(graph: Graph, rows: str, side: Pair, by_whole: str | None) -> str:
    """Return `[b, new, k]` of `[b, old, k]`: each new row the average of those it covers, or their sum by whole factors.

    Without `by_whole` the sums are of few terms.
    """
    old, new = graph.to_double(side[0]), graph.to_double(side[1])
    scale = graph.op("Div", old, new)
    start = graph.op("Mul", graph.to_double(graph.count_up(side[1])), scale)
    cell = graph.op("Min", scale, graph.op("Sub", old, start))
    most = graph.op("Add", graph.to_int(graph.op("Floor", scale)), np.int64(2))
    start, cell = (graph.op("Unsqueeze", value, np.array([1])) for value in (start, cell))
    taps = graph.op("Add", graph.op("Floor", start), graph.to_double(graph.count_up(most)))  # (new, taps)
    ends = graph.op("Min", graph.op("Add", taps, np.float64(1)), graph.op("Add", start, cell))
    covered = graph.op("Sub", ends, graph.op("Max", taps, start))
    counts = graph.op("Greater", covered, np.float64(_LEAST_SHARE))
    shares = graph.op("Div", graph.op("Where", counts, covered, np.float64(0)), cell)
    taps = graph.op("Min", graph.to_int(taps), graph.op("Sub", side[0], np.int64(1)))
    if by_whole is None:
        return _multiplied(graph, rows, taps, graph.to_float(shares))
    shares = graph.op("Where", graph.op("And", by_whole, counts), np.float64(1), shares)
    return _added(graph, rows, taps, graph.to_float(shares), most)


def _multiplied(graph: Graph, rows: str, taps: str, shares: str) -> str:
    """Add up rows `[b, old, k]` by taps `[new, taps]` in one product of matrices."""
    picked = graph.op("Gather", rows, taps, axis=1)  # (b, new, taps, k)
    weights = graph.op("Unsqueeze", shares, np.array([1]))  # (new, 1, taps)
    return graph.op("Squeeze", graph.op("MatMul", weights, graph.to_float(picked)), np.array([2]))


def _added(graph: Graph, rows: str, taps: str, shares: str, count: str) -> str:
    """Add up rows by taps, one tap after the other, each product rounded before it is added."""
    shape = graph.op("Shape", rows)
    batch, width = (graph.op("Gather", shape, np.int64(axis), axis=0) for axis in (0, 2))
    new = graph.op("Gather", graph.op("Shape", taps), np.int64(0), axis=0)
    nothing = graph.op("Expand", np.zeros((1, 1, 1), np.float32), graph.join(batch, new, width))
    tap = Graph(graph.name("tap"))
    total, trip, going = (f"{tap.prefix}/{name}" for name in ("total", "trip", "going"))
    picked = tap.op("Gather", rows, tap.op("Gather", taps, trip, axis=1), axis=1)
    share = tap.op("Unsqueeze", tap.op("Gather", shares, trip, axis=1), np.array([1]))
    tap.op("Add", total, tap.op("Mul", tap.to_float(picked), share), result=f"{total}/after")
    tap.op("Identity", going, result=f"{going}/on")
    sums = [
        described(name, TensorProto.FLOAT, ("batch", "new", "width")) for name in (total, f"{total}/after")
    ]
    flags = [described(name, TensorProto.BOOL, ()) for name in (going, f"{going}/on")]
    inputs = [described(trip, TensorProto.INT64, ()), flags[0], sums[0]]
    return graph.op("Loop", count, np.bool_(True), nothing, body=tap.body("tap", inputs, [flags[1], sums[1]]))


def _interpolated(graph: Graph, image: str, sides: tuple[Pair, Pair]) -> str:
    """Interpolate linearly, columns first; float32 `[b, 3, h, w]` of whole numbers."""
    left, right, share_left, share_right = _neighbours(graph, sides[1], held=True)
    shares = [graph.op("Unsqueeze", share, np.array([1])) for share in (share_left, share_right)]
    lines = _sum_of_two(graph, image, (left, right), shares, axis=2)
    # from here on OpenCV has 4 bits less, then 16 less, then 2 less
    lines = graph.op("Floor", graph.op("Div", lines, np.float32(16)))
    top, bottom, share_top, share_bottom = _neighbours(graph, sides[0], held=False)
    shares = [graph.op("Unsqueeze", share, np.array([1, 2])) for share in (share_top, share_bottom)]
    parts = [
        graph.op(
            "Floor",
            graph.op("Div", graph.op("Mul", graph.op("Gather", lines, at, axis=1), share), np.float32(65536)),
        )
        for at, share in zip((top, bottom), shares, strict=True)
    ]
    total = graph.op("Add", graph.op("Add", *parts), np.float32(2))
    pixels = graph.op("Floor", graph.op("Div", total, np.float32(4)))
    return graph.op("Transpose", pixels, perm=[0, 3, 1, 2])


def _sum_of_two(graph: Graph, image: str, taps: Pair, shares: list[str], *, axis: int) -> str:
    products = [
        graph.op("Mul", graph.to_float(graph.op("Gather", image, at, axis=axis)), share)
        for at, share in zip(taps, shares, strict=True)
    ]
    return graph.op("Add", *products)


def _neighbours(graph: Graph, side: Pair, *, held: bool) -> tuple[str, str, str, str]:
    """Return the two pixels on either side of each new one, int64, and their weights, whole numbers as float32.

    Args:
        graph: Where the nodes go.
        side: The old and the new length.
        held: Whether a pixel beyond the border has no weight (OpenCV's columns) or repeats the last (its rows).
    """
    scale = graph.op("Div", graph.to_double(side[0]), graph.to_double(side[1]))
    centres = graph.op("Add", graph.to_double(graph.count_up(side[1])), np.float64(0.5))
    at = graph.to_float(graph.op("Sub", graph.op("Mul", centres, scale), np.float64(0.5)))
    first = graph.op("Floor", at)
    share = graph.op("Sub", at, first)
    last = graph.op("Sub", side[0], np.int64(1))
    if held:
        inside = graph.op(
            "And",
            graph.op("GreaterOrEqual", first, np.float32(0)),
            graph.op("Less", first, graph.to_float(last)),
        )
        share = graph.op("Where", inside, share, np.float32(0))
    index = graph.to_int(first)
    taps = [
        graph.op("Min", graph.op("Max", tap, np.int64(0)), last)
        for tap in (index, graph.op("Add", index, np.int64(1)))
    ]
    weights = [
        graph.op("Round", graph.op("Mul", value, _ONE))
        for value in (graph.op("Sub", np.float32(1), share), share)
    ]
    return taps[0], taps[1], weights[0], weights[1]
