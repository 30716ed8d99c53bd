import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.propose import propose_anchors, ratios_of


def test_anchors_that_suit_stay():
    torch.manual_seed(0)
    proposal = propose_anchors(torch.rand(500, 2) * 60 + 60, (320, 320))
    assert proposal.spec == AnchorSpec()
    assert proposal.after is proposal.before
    assert proposal.larger is None
    assert "anchors meet 100% of boxes" in proposal.reason


def test_small_boxes_get_smaller_anchors():
    proposal = propose_anchors(torch.full((50, 2), 18.0), (320, 320))
    assert proposal.before.share < 0.1
    assert proposal.after.share > 0.95
    assert proposal.spec.scale < 4
    assert proposal.spec.per_cell == AnchorSpec().per_cell
    assert f"with scale {proposal.spec.scale:g}" in proposal.reason


def test_long_boxes_get_long_anchors():
    proposal = propose_anchors(torch.tensor([[240.0, 30.0], [30.0, 240.0]]).repeat(30, 1), (320, 320))
    assert proposal.before.share < 0.1
    assert proposal.after.share > 0.9
    assert max(x / y for x, y in proposal.spec.ratios) == pytest.approx(8, rel=0.01)


def test_tiny_boxes_ask_for_a_larger_input():
    proposal = propose_anchors(torch.full((50, 2), 7.0), (320, 320))
    assert proposal.after.share < 0.9
    assert proposal.larger is not None
    assert proposal.larger.size_hw > (320, 320)
    assert proposal.larger.after.share > proposal.after.share + 0.02
    assert "; at " in proposal.reason


def test_a_proposal_is_reproducible():
    torch.manual_seed(1)
    boxes = (torch.rand(5000, 2) * 4 + 1.5).exp()
    assert propose_anchors(boxes, (320, 320)) == propose_anchors(boxes.flip(0), (320, 320))


def test_ratios_are_the_clusters_of_the_boxes():
    boxes = torch.tensor([[40.0, 10.0]] * 5 + [[10.0, 10.0]] * 5 + [[10.0, 90.0]] * 5)
    assert ratios_of(boxes, 3) == ((2.0, 0.5), (1.0, 1.0), (0.333, 3.0))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(0, 2), "got none"),
        (torch.tensor([[3.0, 0.0]]), "got 1 boxes with the least side 0.0"),
        (torch.tensor([[3.0, float("nan")]]), "got 1 boxes"),
    ],
)
def test_boxes_without_sides_are_refused(boxes, message):
    with pytest.raises(UsageError, match=message):
        propose_anchors(boxes, (320, 320))
