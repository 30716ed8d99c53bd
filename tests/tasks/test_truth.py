import pytest
import torch

from trivet.errors import DataError
from trivet.structures import BoxTarget
from trivet.tasks.truth import join_truth

CPU = torch.device("cpu")
GOOD = BoxTarget(torch.tensor([[0.0, 0.0, 5.0, 5.0]]), torch.tensor([0]))


def test_columns_of_a_batch():
    other = BoxTarget(torch.tensor([[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]]), torch.tensor([2, 1]))
    none = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    truth = join_truth([GOOD, none, other], ["a", "b", "c"], 3, CPU)
    assert truth.image.tolist() == [0, 2, 2]
    assert truth.labels.tolist() == [0, 2, 1]
    assert truth.boxes_xyxy.tolist() == [[0, 0, 5, 5], [1, 1, 2, 2], [3, 3, 4, 4]]
    assert truth.images == 3


def test_a_batch_without_objects():
    none = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    truth = join_truth([none, none], ["a", "b"], 3, CPU)
    assert truth.boxes_xyxy.shape == (0, 4)
    assert truth.images == 2


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("box", "label", "message"),
    [
        ([0.0, 0, 5, 5], 3, r"bad\.jpg: object 1 has label 3, but labels of 3 classes are 0 to 2"),
        ([0.0, 0, 5, 5], -1, r"bad\.jpg: object 1 has label -1"),
        (
            [9.0, 0, 5, 5],
            0,
            r"bad\.jpg: object 1 has the box \[9.0, 0.0, 5.0, 5.0\], whose corners are swapped",
        ),
        (
            [0.0, 9, 5, 5],
            0,
            r"bad\.jpg: object 1 .* corners are swapped\nboxes are \(left, top, right, bottom\)",
        ),
        ([0.0, NAN, 5, 5], 0, r"bad\.jpg: object 1 has the box \[0.0, nan, 5.0, 5.0\], which is not finite"),
        ([0.0, 0, INF, 5], 0, r"bad\.jpg: object 1 .* which is not finite"),
    ],
)
def test_faults_name_the_image_and_the_object(box, label, message):
    bad = BoxTarget(torch.tensor([[0.0, 0.0, 5.0, 5.0], box]), torch.tensor([0, label]))
    with pytest.raises(DataError, match=message):
        join_truth([GOOD, bad], ["good.jpg", "bad.jpg"], 3, CPU)


def test_integer_boxes_are_refused():
    bad = object.__new__(BoxTarget)  # as a loader that does not use our types would make it
    object.__setattr__(bad, "boxes_xyxy", torch.zeros(1, 4, dtype=torch.int64))
    object.__setattr__(bad, "labels", torch.zeros(1, dtype=torch.int64))
    with pytest.raises(DataError, match=r"bad\.jpg: boxes_xyxy are float32 pixels, got torch.int64"):
        join_truth([bad], ["bad.jpg"], 3, CPU)


def test_float_labels_are_refused():
    bad = object.__new__(BoxTarget)
    object.__setattr__(bad, "boxes_xyxy", torch.zeros(1, 4))
    object.__setattr__(bad, "labels", torch.zeros(1))
    with pytest.raises(DataError, match=r"bad\.jpg: labels are int64, got torch.float32"):
        join_truth([bad], ["bad.jpg"], 3, CPU)
