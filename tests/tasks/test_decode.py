import pytest
import torch

from trivet.errors import TrainingError
from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.grid import AnchorGrid
from trivet.structures import AnchorOutput, Placement
from trivet.tasks.decode import (
    Candidates,
    area_of,
    check_finite,
    decode_candidates,
    select_candidates,
    with_objectness,
)

SPEC = AnchorSpec(3, 4, octaves=1)
GRID = AnchorGrid.of_input(SPEC, (64, 64))


def quiet_output(classes: int = 2) -> AnchorOutput:
    return AnchorOutput(
        (torch.full((1, 3 * classes, 8, 8), -9.0), torch.full((1, 3 * classes, 4, 4), -9.0)),
        (torch.zeros(1, 12, 8, 8), torch.zeros(1, 12, 4, 4)),
    )


def test_one_loud_logit_is_found_where_it_sits():
    output = quiet_output()
    output.class_logits[1][0, 2 * 2 + 1, 3, 1] = 2.0  # level p4, anchor 2, class 1, row 3, column 1
    output.box_deltas[1][0, 8:12, 3, 1] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    found = select_candidates(output, 0, GRID, classes=2, score_threshold=0.001, most=10)
    assert found.anchors.tolist() == [8 * 8 * 3 + (3 * 4 + 1) * 3 + 2]
    assert found.labels.tolist() == [1]
    assert found.logits.tolist() == [2.0]
    torch.testing.assert_close(found.box_deltas, torch.tensor([[0.1, 0.2, 0.3, 0.4]]))


def test_the_most_are_the_best_over_all_levels():
    torch.manual_seed(0)
    output = AnchorOutput((torch.randn(1, 6, 8, 8), torch.randn(1, 6, 4, 4)), quiet_output().box_deltas)
    found = select_candidates(output, 0, GRID, classes=2, score_threshold=0.001, most=20)
    every = torch.cat([level.flatten() for level in output.class_logits])
    assert found.logits.equal(every.topk(20).values)


def test_a_threshold_of_zero_lets_everything_through():
    found = select_candidates(quiet_output(), 0, GRID, classes=2, score_threshold=0.0, most=10_000)
    assert len(found.anchors) == GRID.count * 2


def candidates(deltas: list[list[float]]) -> Candidates:
    count = len(deltas)
    at = torch.full((count,), (4 * 8 + 4) * 3)
    return Candidates(at, torch.zeros_like(at), torch.zeros(count), torch.tensor(deltas).reshape(-1, 4))


def test_boxes_are_cut_at_the_image_and_empty_ones_go():
    inside, outside = [0.0, 0.0, 0.0, 0.0], [-9.0, 0.0, 0.0, 0.0]
    found = decode_candidates(candidates([inside, outside]), GRID, (0.0, 0.0, 40.0, 64.0))
    assert found.boxes_xyxy.tolist() == [[20, 20, 40, 52]]
    assert found.scores.tolist() == [0.5]
    assert (
        len(decode_candidates(candidates([inside, outside]), GRID, (0.0, 0.0, 40.0, 64.0), keep_empty=True))
        == 2
    )


def test_area_of_a_placement():
    assert area_of(None, (30, 40)) == (0, 0, 40, 30)
    assert area_of(Placement((100, 200), (0.2, 0.2), (5.0, 0.0)), (30, 40)) == pytest.approx((0, 5, 40, 25))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_not_finite_are_refused(value):
    output = quiet_output()
    check_finite(output)
    output.class_logits[1][0, 0, 0, 0] = value
    output.box_deltas[0][0, 0, 0, :2] = value
    with pytest.raises(
        TrainingError, match=r"by level, \[0, 1\] class logits and \[2, 0\] box deltas"
    ) as caught:
        check_finite(output)
    assert "lower learning rate" in caught.value.hint


def test_large_half_precision_outputs_are_finite():
    check_finite(AnchorOutput((torch.full((1, 6, 8, 8), 6e4).half(),), (torch.zeros(1, 12, 8, 8).half(),)))


def test_scores_of_objects_and_classes_are_multiplied():
    draw = torch.Generator().manual_seed(0)
    classes, sure = (torch.randn(2, n, 3, 4, generator=draw).double() * 8 for n in (6, 2))
    output = AnchorOutput((classes.float(),), (torch.zeros(2, 8, 3, 4),), (sure.float(),))
    scored = with_objectness(output)
    wanted = (classes.unflatten(1, (2, 3)).sigmoid() * sure.sigmoid()[:, :, None]).flatten(1, 2)
    torch.testing.assert_close(scored.class_logits[0].double().sigmoid(), wanted, rtol=1e-4, atol=1e-7)
    assert scored.objectness == ()


def test_extreme_logits_stay_finite_and_ordered():
    far = torch.tensor([-200.0, -100.0, 0.0, 100.0, 200.0])
    logits = far.view(1, 5, 1, 1)
    output = AnchorOutput((logits,), (torch.zeros(1, 4, 1, 1),), (torch.full((1, 1, 1, 1), 150.0),))
    found = with_objectness(output).class_logits[0].flatten()
    assert found.isfinite().all()
    assert found.tolist() == sorted(found.tolist())
    assert found[:4].tolist() == pytest.approx(
        far[:4].tolist(), abs=1e-4
    )  # the surer of the two hardly matters


def test_an_output_without_objectness_is_left_alone():
    output = quiet_output()
    assert with_objectness(output) is output
