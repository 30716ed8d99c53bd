import importlib
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.suppress import hard_nms, soft_nms


def crowd(count: int, groups: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    left_top = torch.rand(count, 2) * 60
    boxes = torch.cat([left_top, left_top + torch.rand(count, 2) * 40 + 5], dim=1)
    return boxes, torch.rand(count), torch.randint(0, groups, (count,))


@pytest.mark.parametrize("suppress", [hard_nms, soft_nms])
def test_no_boxes_stay_no_boxes(suppress):
    kept = suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    kept = kept if suppress is hard_nms else kept[0]
    assert kept.shape == (0,)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 1000))
def test_hard_nms_keeps_exactly_what_no_better_kept_box_overlaps(count, groups, seed):
    boxes, scores, labels = crowd(count, groups, seed)
    overlap = pairwise_iou(boxes, boxes)
    expected: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(labels[i] != labels[k] or overlap[i, k] <= 0.5 for k in expected):
            expected.append(i)
    assert hard_nms(boxes, scores, labels).tolist() == expected
    assert hard_nms(boxes, scores, labels, most=3).tolist() == expected[:3]


@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_equals_effdet(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = importlib.import_module("effdet.soft_nms")
    boxes, scores, groups = crowd(200, 3, seed)
    theirs, their_scores = oracle.batched_soft_nms(boxes, scores, groups, score_threshold=0.001)
    ours, our_scores = soft_nms(boxes, scores, groups, most=200)
    assert ours.tolist() == theirs.tolist()
    torch.testing.assert_close(our_scores, their_scores, atol=1e-5, rtol=0)


def test_stopping_early_does_not_change_what_is_kept():
    boxes, scores, groups = crowd(150, 2)
    every, every_score = soft_nms(boxes, scores, groups, most=150)
    some, some_score = soft_nms(boxes, scores, groups, most=40)
    assert some.tolist() == every[:40].tolist()
    assert torch.equal(some_score, every_score[:40])
    assert (every_score.diff() <= 0).all()


def test_soft_nms_fades_by_the_published_formula():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 20], [0.0, 0, 10, 10]])
    keep, scores = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]))
    assert keep.tolist() == [0, 2, 1]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.7, 0.8 * torch.exp(torch.tensor(-0.5)).item()]))


def test_scores_that_are_given_are_not_changed():
    boxes, scores, groups = crowd(20, 1)
    before = scores.clone()
    soft_nms(boxes, scores, groups)
    assert torch.equal(scores, before)
