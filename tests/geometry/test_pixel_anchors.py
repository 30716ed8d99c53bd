import math

import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, anchors_xyxy
from trivet.geometry.box_code import decode, decode_in_cell
from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.coverage import best_iou
from trivet.geometry.grid import AnchorGrid
from trivet.geometry.pixel_anchors import PixelAnchors

ANCHORS = PixelAnchors(3, (((12, 16), (19, 36)), ((36, 75), (76, 55))), (1.2, 1.1))
SHAPES = [shape for level in ANCHORS.shapes for shape in level]
SIZE = (64, 96)


def test_every_cell_has_its_levels_anchors_whatever_its_size():
    found = anchors_xyxy(ANCHORS, SIZE).tolist()
    wanted = [
        [(at + 0.5) * stride + half for half, at in ((-w / 2, x), (-h / 2, y), (w / 2, x), (h / 2, y))]
        for stride, shapes in zip((8, 16), ANCHORS.shapes, strict=True)
        for y in range(SIZE[0] // stride)
        for x in range(SIZE[1] // stride)
        for w, h in shapes
    ]
    assert found == wanted
    assert (ANCHORS.per_cell, ANCHORS.max_level, list(ANCHORS.levels)) == (2, 4, [3, 4])


def by_the_formulas(deltas, shape, cell, grid, size_hw, reach):
    """The paper's and darknet's, in cells and shares of the input: b = s sigmoid(t) - (s - 1) / 2 + c, a exp(t)."""
    ty, tx, th, tw = deltas
    sigmoid = [1 / (1 + math.exp(-t)) for t in (tx, ty)]
    x, y = (
        (reach * value - 0.5 * (reach - 1) + at) / cells
        for value, at, cells in zip(sigmoid, cell, grid[::-1], strict=True)
    )
    width, height = math.exp(tw) * shape[0] / size_hw[1], math.exp(th) * shape[1] / size_hw[0]
    x, width = x * size_hw[1], width * size_hw[1]
    y, height = y * size_hw[0], height * size_hw[0]
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


@pytest.mark.parametrize("size_hw", [(64, 96), (60, 100)], ids=str)
def test_decodes_as_the_formulas_say(size_hw):
    grid = AnchorGrid.of_input(ANCHORS, size_hw)
    torch.manual_seed(0)
    deltas = torch.randn(grid.count, 4) * 2
    found = grid.decode(deltas, torch.arange(grid.count))
    number = 0
    for cells, shapes, reach in zip(grid.feature_hw, ANCHORS.shapes, ANCHORS.reach, strict=True):
        for y in range(cells[0]):
            for x in range(cells[1]):
                for shape in shapes:
                    wanted = by_the_formulas(deltas[number].tolist(), shape, (x, y), cells, size_hw, reach)
                    assert found[number].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-3)
                    number += 1
    assert number == grid.count


def test_a_centre_never_leaves_its_reach():
    grid = AnchorGrid.of_input(ANCHORS, SIZE)
    numbers = torch.arange(grid.count)
    anchors = grid.anchors_xyxy()
    for far in (-50.0, 50.0):
        boxes = grid.decode(torch.tensor([far, far, 0.0, 0.0]).expand(grid.count, 4), numbers)
        moved = ((boxes - anchors)[:, :2]).abs()
        assert torch.allclose(moved[: 8 * 12 * 2], torch.tensor(8 * 1.2 / 2))
        assert torch.allclose(moved[8 * 12 * 2 :], torch.tensor(16 * 1.1 / 2))


def test_numbers_of_later_images_decode_alike():
    grid = AnchorGrid.of_input(ANCHORS, SIZE)
    deltas, numbers = torch.randn(5, 4), torch.tensor([0, 3, 191, 192, 239])
    assert torch.equal(grid.decode(deltas, numbers), grid.decode(deltas, numbers + 2 * grid.count))


def test_anchors_in_strides_keep_their_own_box_code():
    grid = AnchorGrid.of_input(AnchorSpec(3, 4), SIZE)
    deltas, numbers = torch.randn(6, 4), torch.arange(6)
    assert grid.reaches is None
    assert torch.equal(grid.decode(deltas, numbers), decode(deltas, grid.anchors_xyxy()[:6]))


def test_wild_sizes_are_bounded_where_asked():
    deltas, anchor = torch.tensor([[0.0, 0.0, 300.0, 300.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = decode_in_cell(deltas, anchor, torch.ones(1, 2), most_log=1.0)
    assert boxes.isfinite().all()
    assert float(boxes[0, 2] - boxes[0, 0]) == pytest.approx(10 * math.e, rel=1e-5)


def test_nearby_loses_no_anchor_that_overlaps_enough():
    grid = AnchorGrid.of_input(ANCHORS, SIZE)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 50.0], [3.0, 2.0, 15.0, 18.0], [0.0, 0.0, 96.0, 64.0]])
    near = grid.nearby(boxes, 0.3)
    for row, overlap in enumerate(pairwise_iou(boxes, grid.anchors_xyxy())):
        assert set((overlap >= 0.3).nonzero()[:, 0].tolist()) <= set(near[row].tolist())


def test_coverage_is_that_of_shapes():
    boxes = torch.tensor([[1.0, 1.0, 20.0, 37.0], [50.0, 9.0, 51.0, 63.0]])
    found = best_iou(ANCHORS, SIZE, boxes)
    assert found[0] == pytest.approx(1.0)  # 19 x 36, wherever its centre lies
    assert found[1] == pytest.approx(
        max(min(1, w) * min(54, h) / (54 + w * h - min(54, h)) for w, h in SHAPES)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, (((1, 2),), ((1, 2), (3, 4))), (1, 1)), r"as many anchors, at least one, on every level"),
        ((3, (), ()), "at least one, on every level"),
        ((-1, (((1, 2),),), (1,)), "min_level=-1"),
        (
            (3, (((1, 2),),), (1, 1)),
            r"1 levels need as many values of reach, from 1 to 3, got \(1\.0, 1\.0\)",
        ),
        ((3, (((1, 2),),), (0.5,)), r"got \(0\.5,\)"),
        ((3, (((1, 0),),), (1,)), "above 0 and finite"),
        ((3, (((1, float("nan")),),), (1,)), "above 0 and finite"),
    ],
)
def test_refuses_what_makes_no_anchors(arguments, message):
    with pytest.raises(UsageError, match=message):
        PixelAnchors(*arguments)
