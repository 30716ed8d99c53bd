import pytest
import torch
import torch.nn.functional as F

from tests.tasks.mask_batches import class_batch, mask_batch
from trivet.errors import DataError, TrainingError, UsageError
from trivet.structures import ClassScores
from trivet.tasks.classification import ClassificationTask
from trivet.tasks.losses.soft_labels import SoftCrossEntropy
from trivet.train.step import Task


def mixed(images: int, classes: int):
    torch.manual_seed(0)
    labels, other = torch.randint(0, classes, (2, images))
    return torch.randn(images, classes, requires_grad=True), labels, other, torch.rand(images)


def test_it_is_a_task_of_the_loop():
    assert isinstance(ClassificationTask(2), Task)


def test_plain_labels_cost_torchs_cross_entropy():
    logits, labels, *_ = mixed(7, 5)
    found = ClassificationTask(5).losses(logits, class_batch(labels))
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, labels))
    assert found["positives"] == 7
    assert found.keys() == {"loss", "positives"}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_mixed_labels_cost_the_cross_entropy_of_the_mixed_target(smoothing):
    logits, labels, other, share = mixed(7, 5)
    target = (1 - share)[:, None] * F.one_hot(labels, 5) + share[:, None] * F.one_hot(other, 5)
    target = (1 - smoothing) * target + smoothing / 5
    task = ClassificationTask(5, label_smoothing=smoothing)
    found = task.losses(logits, class_batch(labels, other, share))["loss"]
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, F.cross_entropy(logits, target))
    torch.testing.assert_close(
        torch.autograd.grad(found, logits)[0], torch.autograd.grad(expected, logits)[0]
    )


@pytest.mark.parametrize(("split", "images"), [(1, 2), (2, 5), (5, 6)])
def test_parts_of_a_batch_add_up(split, images):
    logits, labels, other, share = mixed(images, 4)
    task = ClassificationTask(4, label_smoothing=0.1)
    whole = task.losses(logits, class_batch(labels, other, share))["loss"]
    parts = [
        task.losses(
            logits[part],
            class_batch(labels[part], other[part], share[part]),
            normaliser=lambda _: torch.tensor(float(images)),
        )["loss"]
        for part in (slice(0, split), slice(split, None))
    ]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_cost_what_they_do_in_float32(dtype):
    logits, labels, *_ = mixed(7, 5)
    half = logits.detach().to(dtype)
    found = ClassificationTask(5).losses(half, class_batch(labels))["loss"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.cross_entropy(half.float(), labels))


def test_predictions_are_the_softmax():
    logits, *_ = mixed(3, 5)
    found = ClassificationTask(5).predict(logits, (8, 8))
    assert all(isinstance(one, ClassScores) for one in found)
    torch.testing.assert_close(torch.stack([one.scores for one in found]), logits.detach().softmax(dim=1))


@pytest.mark.parametrize(
    ("labels", "other", "share", "message"),
    [
        ([0, 3], [0, 0], [0.0, 0.0], r"image-1.jpg: the image has the label 3, .* 3 classes are 0 to 2"),
        ([0, 1], [-1, 1], [0.0, 0.0], r"image-0.jpg: the image has the label -1"),
        ([0, 1], [0, 1], [0.0, 1.5], r"image-1.jpg: the share of a mixed image is 0-1, got 1.5"),
        ([0, 1], [0, 1], [float("nan"), 0.0], r"image-0.jpg: the share of a mixed image is 0-1, got nan"),
    ],
)
def test_faulty_truth_names_its_image(labels, other, share, message):
    batch = class_batch(torch.tensor(labels), torch.tensor(other), torch.tensor(share))
    with pytest.raises(DataError, match=message):
        ClassificationTask(3).losses(torch.zeros(2, 3), batch)


def test_what_does_not_fit_is_refused():
    task, batch = ClassificationTask(3), class_batch(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"2 images and 3 classes need logits \[2, 3\], got \[2, 4\]"):
        task.losses(torch.zeros(2, 4), batch)
    with pytest.raises(UsageError, match="learns from classes, and the batch holds MaskTargets"):
        task.losses(torch.zeros(1, 3), mask_batch(torch.zeros(1, 4, 4, dtype=torch.uint8)))
    with pytest.raises(TrainingError, match="not finite: 1 of 6 logits"):
        task.predict(torch.tensor([[0.0, float("nan"), 0.0], [0.0, 0.0, 0.0]]), (8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "at least one class"),
        ({"loss": "cross"}, "unknown image loss 'cross'; did you mean 'cross_entropy'"),
        ({"label_smoothing": 1.0}, "label smoothing is in 0-1"),
        ({"loss": SoftCrossEntropy(), "label_smoothing": 0.1}, "beside a loss that is an object"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        ClassificationTask(**({"classes": 3} | options))
