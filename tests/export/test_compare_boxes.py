import pytest
import torch

from trivet.export.compare_boxes import compare_boxes
from trivet.structures import Detections

RULES = {"nms_iou": 0.5, "score_threshold": 0.001, "most": 100}


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = torch.tensor([row[:5] for row in rows], dtype=torch.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], torch.tensor([row[5] for row in rows], dtype=torch.int64))


ONE, OTHER = (10.0, 10.0, 30.0, 40.0, 0.9, 1), (50.0, 10.0, 80.0, 40.0, 0.5, 0)


def test_nothing_equals_nothing():
    assert compare_boxes(found(), found(), **RULES).faults == ()


def test_order_does_not_matter():
    result = compare_boxes(found(ONE, OTHER), found(OTHER, ONE), **RULES)
    assert (result.pairs, result.pixels, result.scores, result.faults) == (2, 0, 0, ())


@pytest.mark.parametrize(
    ("changed", "equal"),
    [
        ((10.4, 10.0, 30.0, 40.0, 0.9, 1), True),
        ((10.6, 10.0, 30.0, 40.0, 0.9, 1), False),
        ((10.0, 10.0, 30.0, 40.0, 0.9009, 1), True),
        ((10.0, 10.0, 30.0, 40.0, 0.9011, 1), False),
        ((10.0, 10.0, 30.0, 40.0, 0.9, 0), False),
    ],
)
def test_half_a_pixel_a_thousandth_of_score_and_the_same_label(changed, equal):
    result = compare_boxes(found(ONE, OTHER), found(changed, OTHER), **RULES)
    assert bool(result.faults) is not equal
    assert result.pairs == (2 if equal else 1)
    if not equal:
        assert "only PyTorch has label 1 with score 0.9000 at (10.0, 10.0, 30.0, 40.0)" in result.faults


def test_a_box_at_the_edge_of_suppression_and_what_it_had_suppressed_are_no_fault():
    best = (0.0, 0.0, 100.0, 100.0, 0.9, 0)
    edge = (0.0, 0.0, 100.0, 50.2, 0.8, 0)  # overlaps the best by 0.502
    freed = (0.0, 0.0, 100.0, 45.0, 0.7, 0)  # overlaps the edge case, and the best by 0.45
    result = compare_boxes(found(best, edge), found(best, freed), **RULES)
    assert (result.pairs, result.edge_cases, result.faults) == (1, 2, ())


def test_a_missing_box_that_no_rounding_explains_is_a_fault():
    result = compare_boxes(found(ONE, OTHER), found(ONE), **RULES)
    assert result.faults == ("only PyTorch has label 0 with score 0.5000 at (50.0, 10.0, 80.0, 40.0)",)


def test_scores_at_the_threshold_and_at_the_end_of_a_full_list_may_go_either_way():
    weak = (50.0, 10.0, 80.0, 40.0, 0.0015, 0)
    assert compare_boxes(found(ONE, weak), found(ONE), **RULES).faults == ()
    rules = RULES | {"most": 1}
    assert compare_boxes(found(ONE), found((50.0, 10.0, 80.0, 40.0, 0.8995, 0)), **rules).faults == ()
