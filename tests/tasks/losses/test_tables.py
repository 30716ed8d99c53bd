import pytest

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.tasks.detection import DetectionTask
from trivet.tasks.losses import FocalLoss, build_class_loss


def test_label_smoothing_reaches_the_loss_of_a_task():
    task = DetectionTask(3, AnchorSpec(), label_smoothing=0.1)
    assert task.class_loss == FocalLoss(smoothing=0.1)


def test_smoothing_beside_an_object_is_refused():
    with pytest.raises(
        UsageError, match=r"label_smoothing=0\.1 is given beside a class loss that is an object"
    ):
        build_class_loss(FocalLoss(), smoothing=0.1)


def test_a_smoothing_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"smoothing in 0-1, got .*smoothing=2"):
        build_class_loss("focal", smoothing=2.0)
