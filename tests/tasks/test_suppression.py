import pytest
import torch

from trivet.errors import UsageError
from trivet.structures import Detections
from trivet.tasks.suppression import SUPPRESSORS, HardNms, SoftNms, build_suppressor

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]])
FOUND = Detections(BOXES, torch.tensor([0.9, 0.8, 0.7, 0.0005]), torch.tensor([0, 0, 1, 0]))


@pytest.mark.parametrize("name", sorted(SUPPRESSORS))
class TestEverySuppressor:
    def test_best_first_above_the_threshold(self, name):
        kept = build_suppressor(name)(FOUND, score_threshold=0.001, most=100)
        assert (kept.scores.diff() <= 0).all()
        assert (kept.scores > 0.001).all()
        assert kept.labels[:2].tolist() == [0, 1]

    def test_at_most_so_many(self, name):
        kept = build_suppressor(name)(FOUND, score_threshold=0.0, most=1)
        assert kept.scores.tolist() == pytest.approx([0.9])

    def test_nothing_stays_nothing(self, name):
        assert len(build_suppressor(name)(Detections.empty(), score_threshold=0.0, most=10)) == 0


def test_hard_keeps_classes_apart_unless_told():
    assert HardNms()(FOUND, score_threshold=0.0, most=9).labels.tolist() == [0, 1, 0]
    assert HardNms(across_classes=True)(FOUND, score_threshold=0.0, most=9).labels.tolist() == [0, 0]
    assert len(HardNms(iou=0.95)(FOUND, score_threshold=0.0, most=9)) == 4


def test_soft_fades_across_classes_when_told():
    apart = SoftNms()(FOUND, score_threshold=0.01, most=9)
    across = SoftNms(across_classes=True)(FOUND, score_threshold=0.01, most=9)
    assert apart.scores[1] == pytest.approx(0.7)
    assert across.scores[1] < 0.2


def test_unknown_name():
    with pytest.raises(UsageError, match="unknown suppressor 'sof'; did you mean 'soft'"):
        build_suppressor("sof")
