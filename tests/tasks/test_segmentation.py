import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

from tests.tasks.mask_batches import class_batch, mask_batch, random_masks
from trivet.errors import DataError, TrainingError, UsageError
from trivet.geometry.dense_crf import dense_crf
from trivet.structures import MaskScores, Placement
from trivet.tasks.losses import PIXEL_LOSSES
from trivet.tasks.losses.lovasz import LovaszLoss
from trivet.tasks.segmentation import SegmentationTask, refine
from trivet.train.step import Task, take_step

ALL = dict.fromkeys(PIXEL_LOSSES, 0.5)


@pytest.fixture
def case():
    torch.manual_seed(0)
    return torch.randn(3, 4, 6, 9, requires_grad=True), random_masks(3, (24, 36), 4)


def test_it_is_a_task_of_the_loop():
    assert isinstance(SegmentationTask(2), Task)


def test_cross_entropy_is_torchs_mean_over_the_pixels_that_count(case):
    logits, masks = case
    found = SegmentationTask(4).losses(logits, mask_batch(masks))
    full = F.interpolate(logits, size=(24, 36), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found["loss"], F.cross_entropy(full, masks.long(), ignore_index=255))
    assert found["positives"] == (masks != 255).sum()
    assert found.keys() == {"loss", "cross_entropy", "positives"}


def test_a_sum_of_losses_reports_its_parts(case):
    logits, masks = case
    weights = {"cross_entropy": 1.0, "dice": 0.5, "lovasz": 0.25}
    found = SegmentationTask(4, loss=weights).losses(logits, mask_batch(masks))
    for name in weights:
        alone = SegmentationTask(4, loss=name).losses(logits, mask_batch(masks))
        torch.testing.assert_close(found[name], alone["loss"])
        assert not found[name].requires_grad
    torch.testing.assert_close(found["loss"], sum(w * found[name] for name, w in weights.items()))


@pytest.mark.parametrize("loss", [*PIXEL_LOSSES, ALL], ids=str)
def test_image_by_image_with_a_common_divisor_is_the_batch(case, loss):
    logits, masks = case
    task = SegmentationTask(4, loss=loss)
    whole = task.losses(logits, mask_batch(masks))
    count = whole["positives"]
    parts = [
        task.losses(logits[i : i + 1], mask_batch(masks[i : i + 1]), normaliser=lambda _: count)["loss"]
        for i in range(3)
    ]
    torch.testing.assert_close(sum(parts), whole["loss"])
    torch.testing.assert_close(
        torch.autograd.grad(sum(parts), logits)[0], torch.autograd.grad(whole["loss"], logits)[0]
    )


class Pixelwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return self.head(images)

    def normalise(self, images):
        return images.float() / 255


@pytest.mark.parametrize("empty", [(), (0,), (2,), (0, 1, 2)])
def test_a_step_of_several_batches_is_that_of_one_large_batch(empty):
    torch.manual_seed(0)
    images, masks = torch.randint(0, 256, (3, 3, 6, 8), dtype=torch.uint8), random_masks(3, (6, 8), 4)
    for i in empty:
        masks[i] = 255
    moved = []
    for groups in ([slice(0, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]):
        fabric, model = Fabric(accelerator="cpu", devices=1), Pixelwise()
        network, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=1.0))
        batches = []
        for group in groups:
            batch = mask_batch(masks[group])
            batch.images.copy_(images[group])
            batches.append(batch)
        losses = take_step(fabric, network, SegmentationTask(4, loss=ALL), batches, optimizer, clip_norm=0.0)
        moved.append((losses["loss"], [p.detach().clone() for p in model.parameters()]))
    (one_loss, one), (several_loss, several) = moved
    assert several_loss == pytest.approx(one_loss, rel=1e-5)
    assert np.isfinite(one_loss)
    torch.testing.assert_close(several, one)
    before = list(Pixelwise().parameters())
    assert all(torch.equal(a, b) for a, b in zip(one, before, strict=True)) == (len(empty) == 3)


@pytest.mark.parametrize("loss", [*PIXEL_LOSSES, ALL], ids=str)
def test_a_batch_without_a_pixel_that_counts_costs_nothing(case, loss):
    logits, masks = case
    found = SegmentationTask(4, loss=loss).losses(logits, mask_batch(torch.full_like(masks, 255)))
    assert found["loss"] == 0
    assert found["positives"] == 0
    assert torch.autograd.grad(found["loss"], logits)[0].count_nonzero() == 0


def test_deep_supervision_adds_the_other_outputs(case):
    logits, masks = case
    finer = torch.randn(3, 4, 12, 18, requires_grad=True)
    batch, plain = mask_batch(masks), SegmentationTask(4)
    one, other = (plain.losses(values, batch)["loss"] for values in (logits, finer))
    found = SegmentationTask(4, auxiliary_weight=0.3).losses((logits, finer), batch)
    torch.testing.assert_close(found["loss"], one + 0.3 * other)
    torch.testing.assert_close(found["auxiliary"], 0.3 * other)
    torch.testing.assert_close(found["cross_entropy"], one)
    found["loss"].backward()
    torch.testing.assert_close(finer.grad, 0.3 * torch.autograd.grad(other, finer)[0])
    several = SegmentationTask(4, auxiliary_weight=(0.3, 0.1)).losses([logits, finer, logits], batch)
    torch.testing.assert_close(several["loss"], 1.1 * one + 0.3 * other)
    with pytest.raises(UsageError, match="1 outputs beside the first, but 2 auxiliary weights"):
        SegmentationTask(4, auxiliary_weight=(0.3, 0.1)).losses((logits, finer), batch)


def test_options_reach_the_losses_they_change(case):
    logits, masks = case
    found = SegmentationTask(
        4, loss={"cross_entropy": 1.0, "dice": 1.0}, class_weights=[1.0, 2.0, 3.0, 0.0], label_smoothing=0.1
    ).losses(logits, mask_batch(masks))
    full = F.interpolate(logits, size=(24, 36), mode="bilinear", align_corners=False)
    theirs = F.cross_entropy(
        full,
        masks.long(),
        ignore_index=255,
        weight=torch.tensor([1.0, 2, 3, 0]),
        label_smoothing=0.1,
        reduction="sum",
    )
    torch.testing.assert_close(found["cross_entropy"], theirs / (masks != 255).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "dise"}, "unknown pixel loss 'dise'; did you mean 'dice'"),
        ({"loss": {}}, "at least one, each with a positive weight"),
        ({"loss": {"dice": 0.0}}, "at least one, each with a positive weight"),
        ({"loss": "dice", "label_smoothing": 0.1}, "smoothing has no effect on dice"),
        ({"loss": "lovasz", "class_weights": [1.0] * 4}, "class_weights has no effect on lovasz"),
        (
            {"loss": LovaszLoss(), "label_smoothing": 0.1},
            "smoothing is given beside a loss that is an object",
        ),
        ({"class_weights": [1.0]}, "4 classes need 4 class weights, got 1"),
        ({"label_smoothing": 1.5}, "label smoothing is in 0-1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SegmentationTask(4, **options)


@pytest.mark.parametrize("classes", [0, 256])
def test_a_number_of_classes_that_masks_cannot_hold_is_refused(classes):
    with pytest.raises(UsageError, match="1 to 255 classes"):
        SegmentationTask(classes)


def test_an_object_is_a_loss_too(case):
    logits, masks = case
    found = SegmentationTask(4, loss=LovaszLoss()).losses(logits, mask_batch(masks))
    torch.testing.assert_close(
        found["LovaszLoss"], SegmentationTask(4, loss="lovasz").losses(logits, mask_batch(masks))["loss"]
    )


def test_a_label_that_is_no_class_names_its_image(case):
    logits, masks = case
    masks[1, 3, 5] = 4
    with pytest.raises(
        DataError, match=r"image-1.jpg: .* label 4 at row 3, column 5 \(1 such pixels\), .*0 to 3"
    ):
        SegmentationTask(4).losses(logits, mask_batch(masks))


def test_what_does_not_fit_is_refused(case):
    logits, masks = case
    task, batch = SegmentationTask(5), mask_batch(masks)
    with pytest.raises(UsageError, match=r"need logits \[3, 5, h, w\], got \[3, 4, 6, 9\]"):
        task.losses(logits, batch)
    with pytest.raises(UsageError, match="got an empty tuple"):
        task.losses((), batch)
    with pytest.raises(UsageError, match="learns from masks, and the batch holds ClassTargets"):
        SegmentationTask(4).losses(logits, class_batch(torch.zeros(3, dtype=torch.int64)))


def test_prediction_at_the_inputs_size_is_the_argmax_of_the_softmax(case):
    logits, _ = case
    full = F.interpolate(logits, size=(24, 36), mode="bilinear", align_corners=False).softmax(dim=1)
    for output in (logits, (logits, -logits)):
        found = SegmentationTask(4).predict(output, (24, 36))
        for one, probabilities in zip(found, full, strict=True):
            assert isinstance(one, MaskScores)
            torch.testing.assert_close(one.scores, probabilities.max(dim=0).values.detach())
            assert torch.equal(one.labels.long(), probabilities.argmax(dim=0))


def test_prediction_is_in_the_pixels_of_the_original_without_padding():
    # An image of 50 x 40 (left half class 0, right half class 1) at half size, top left in an input of 32 x 32 that
    # says class 2 in its padding.
    logits = torch.full((1, 3, 32, 32), -9.0)
    logits[0, 0, :25, :10], logits[0, 1, :25, 10:20] = 9, 9
    logits[0, 2, 25:], logits[0, 2, :, 20:] = 9, 9
    task = SegmentationTask(3)
    (found,) = task.predict(logits, (32, 32), placements=(Placement((50, 40), (0.5, 0.5)),))
    assert torch.equal(found.labels, (torch.arange(40) >= 20).to(torch.uint8).expand(50, 40))
    (shares,) = task.probabilities(logits, (32, 32), placements=(Placement((50, 40), (0.5, 0.5)),))
    assert shares.shape == (3, 50, 40)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(50, 40))
    torch.testing.assert_close(shares.max(dim=0).values, found.scores)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_refused(value):
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 1, 2, 2] = value
    with pytest.raises(TrainingError, match="not finite: 1 of 32 logits"):
        SegmentationTask(2).predict(logits, (16, 16))


def test_refined_masks_are_those_of_the_crf():
    torch.manual_seed(0)
    probabilities = torch.randn(3, 12, 10).softmax(dim=0)
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    mirrored = np.ascontiguousarray(image[:, :, ::-1])[
        :, :, ::-1
    ]  # as a picture read as BGR is turned to RGB
    found = refine(probabilities, mirrored, "deeplab-v2")
    expected = dense_crf(probabilities, torch.tensor(image), "deeplab-v2")
    torch.testing.assert_close(found.scores, expected.max(dim=0).values)
    assert torch.equal(found.labels.long(), expected.argmax(dim=0))
