import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.grid import AnchorGrid

GRID = AnchorGrid.of_input(AnchorSpec(3, 6), (100, 164))


def test_every_anchor_has_its_own_cell():
    """Numbering the channels of a head's maps as a head lays them out gives the anchors' order back."""
    numbers = torch.arange(2 * GRID.count)
    seen = []
    for level, rows in enumerate(GRID.by_level(numbers)):
        at = GRID.cells(level, numbers[rows])
        height, width = GRID.feature_hw[level]
        shape = (2, height, width, GRID.spec.per_cell)
        flat = ((at.image * height + at.y) * width + at.x) * GRID.spec.per_cell + at.slot
        assert flat.tolist() == list(range(torch.Size(shape).numel()))
        seen.append(rows)
    assert torch.cat(seen).sort().values.equal(numbers)


def test_cells_read_the_maps_of_a_head():
    height, width = GRID.feature_hw[0]
    maps = torch.arange(2 * 36 * height * width).reshape(2, 36, height, width).float()
    number = torch.tensor([GRID.count + (3 * width + 5) * 9 + 2])  # second image, row 3, column 5, anchor 2
    at = GRID.cells(0, number)
    assert at.of(maps, at.slot[:, None] * 4 + torch.arange(4)).tolist() == [maps[1, 8:12, 3, 5].tolist()]


def test_no_anchors_have_no_cells():
    none = torch.zeros(0, dtype=torch.int64)
    assert [len(rows) for rows in GRID.by_level(none)] == [0, 0, 0, 0]


boxes = st.tuples(
    st.floats(-60, 220, width=32),
    st.floats(-60, 160, width=32),
    st.floats(1, 300, width=32),
    st.floats(1, 300, width=32),
).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
SHAPES = [((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)), ((2.5, 0.4), (0.3, 3.0))]


@settings(deadline=None, max_examples=50)
@given(
    max_level=st.integers(3, 7),
    octaves=st.integers(1, 3),
    shapes=st.sampled_from(SHAPES),
    scale=st.floats(0.7, 6),
    size_hw=st.tuples(st.integers(8, 190), st.integers(8, 190)),
    box=boxes,
    threshold=st.sampled_from([0.3, 0.5, 0.7]),
)
def test_nearby_anchors_are_all_that_overlap_and_the_best_one(
    max_level, octaves, shapes, scale, size_hw, box, threshold
):
    grid = AnchorGrid.of_input(AnchorSpec(3, max_level, octaves, shapes, scale), size_hw)
    given_box = torch.tensor([box])
    overlap = pairwise_iou(given_box, grid.anchors_xyxy())[0]
    near = grid.nearby(given_box, threshold)[0]
    near = near[near >= 0]
    assert len(near.unique()) == len(near)
    missed = overlap.clone()
    missed[near] = -1
    assert missed.max() < threshold + 1e-5
    assert overlap[near].max() >= overlap.max() - 1e-5


def test_nearby_of_no_boxes_is_empty():
    assert len(GRID.nearby(torch.zeros(0, 4), 0.5)) == 0
