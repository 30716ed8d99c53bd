import pytest
import torch

from trivet.errors import DataError, TrainingError, UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.boxes import pairwise_iou
from trivet.structures import AnchorOutput, Placement
from trivet.tasks.assign import ASSIGNERS
from trivet.tasks.detection import DetectionTask
from trivet.tasks.losses import BOX_LOSSES, CLASS_LOSSES
from trivet.tasks.suppression import SUPPRESSORS

SIZE = (96, 160)
SPEC = AnchorSpec()
CLASSES = 3


def test_losses_of_an_output(make):
    output, batch = make.random_output(SPEC, SIZE, 2, CLASSES), make.random_batch(SIZE, [3, 0], CLASSES)
    losses = DetectionTask(CLASSES, SPEC).losses(output, batch)
    assert set(losses) == {"loss", "class", "box", "positives"}
    torch.testing.assert_close(losses["loss"].detach(), losses["class"] + 50 * losses["box"])
    losses["loss"].backward()
    for maps in output.class_logits + output.box_deltas:
        assert maps.grad is not None
    assert not losses["class"].requires_grad


@pytest.mark.parametrize("box_loss", sorted(BOX_LOSSES))
@pytest.mark.parametrize("class_loss", sorted(CLASS_LOSSES))
@pytest.mark.parametrize("assign", sorted(ASSIGNERS))
def test_every_combination_of_parts_learns_a_batch(make, assign, class_loss, box_loss):
    """The maps themselves are trained: after a while the task predicts the truth it was given."""
    spec, size = AnchorSpec(3, 5), (64, 96)
    task = DetectionTask(CLASSES, spec, assign=assign, class_loss=class_loss, box_loss=box_loss)
    boxes = torch.tensor([[5.0, 10.0, 40.0, 50.0], [50.0, 10.0, 90.0, 60.0]])
    batch = make.batch(size, [(boxes, torch.tensor([0, 2])), (boxes[:1], torch.tensor([1]))])
    output = make.random_output(spec, size, 2, CLASSES, spread=0.1)
    optimizer = torch.optim.Adam([*output.class_logits, *output.box_deltas], lr=0.2)
    for _ in range(50):
        optimizer.zero_grad()
        task.losses(output, batch)["loss"].backward()
        optimizer.step()
    first, second = task.predict(output, size)
    assert first.labels[:2].sort().values.tolist() == [0, 2]
    assert second.labels[0] == 1
    assert (pairwise_iou(boxes, first.boxes_xyxy[:2]).amax(dim=1) > 0.8).all()
    assert first.scores[1] > 0.5


def test_two_classes_of_one_box_both_train(make):
    box = torch.tensor([[40.0, 30.0, 80.0, 70.0]]).repeat(2, 1)
    batch = make.batch(SIZE, [(box, torch.tensor([2, 1]))])
    raised = {}
    for name, task in (("ours", DetectionTask(3, SPEC)), ("effdet", DetectionTask.like_effdet(3, SPEC))):
        output = make.random_output(SPEC, SIZE, 1, 3)
        task.losses(output, batch)["loss"].backward()
        grads = [maps.grad.unflatten(1, (9, 3)) for maps in output.class_logits]
        raised[name] = [label for label in range(3) if any((grad[:, :, label] < 0).any() for grad in grads)]
    assert raised == {"ours": [1, 2], "effdet": [2]}


def test_label_zero_trains(make):
    batch = make.batch(SIZE, [(torch.tensor([[40.0, 30.0, 80.0, 70.0]]), torch.tensor([0]))])
    output = make.random_output(SPEC, SIZE, 1, 1)
    losses = DetectionTask(1, SPEC).losses(output, batch)
    losses["loss"].backward()
    assert losses["positives"] > 0
    assert any((maps.grad < 0).any() for maps in output.class_logits)


def test_images_without_objects_cost_little_and_train(make):
    """At the usual initial scores of 0.01 a batch of negatives costs no more than a few per image."""
    output = make.random_output(SPEC, SIZE, 4, CLASSES, spread=0)
    quiet = AnchorOutput(tuple(m.detach() - 1.6 for m in output.class_logits), output.box_deltas)
    losses = DetectionTask(CLASSES, SPEC).losses(quiet, make.random_batch(SIZE, [0, 0, 0, 0], CLASSES))
    assert losses["positives"] == 0
    assert losses["box"] == 0
    assert 0 < losses["class"] < 4 * 0.01 * sum(m.numel() for m in quiet.class_logits) / 400


def test_processes_share_a_normaliser(make):
    """Two halves with (positives of all + 1) / 2 average to the loss of the whole."""
    output, batch = make.random_output(SPEC, SIZE, 2, CLASSES), make.random_batch(SIZE, [5, 1], CLASSES)
    task = DetectionTask(CLASSES, SPEC)
    whole = task.losses(output, batch)
    halves = []
    for i in range(2):
        part = AnchorOutput(
            tuple(m[i : i + 1] for m in output.class_logits), tuple(m[i : i + 1] for m in output.box_deltas)
        )
        target = batch.targets[i]
        one = make.batch(SIZE, [(target.boxes_xyxy, target.labels)])
        halves.append(task.losses(part, one, normaliser=lambda _: (whole["positives"] + 1) / 2))
    torch.testing.assert_close(sum(half["loss"] for half in halves) / 2, whole["loss"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs(make, dtype):
    full, batch = make.random_output(SPEC, SIZE, 2, CLASSES), make.random_batch(SIZE, [5, 1], CLASSES)
    half = AnchorOutput(
        tuple(m.detach().to(dtype) for m in full.class_logits),
        tuple(m.detach().to(dtype) for m in full.box_deltas),
    )
    task = DetectionTask(CLASSES, SPEC)
    torch.testing.assert_close(
        task.losses(half, batch)["loss"], task.losses(full, batch)["loss"].detach(), rtol=0.02, atol=0
    )
    assert all(found.boxes_xyxy.dtype == torch.float32 for found in task.predict(half, SIZE))


@pytest.mark.parametrize("nms", sorted(SUPPRESSORS))
def test_predictions_are_well_formed(make, nms):
    output = make.random_output(SPEC, SIZE, 2, CLASSES)
    for found in DetectionTask(CLASSES, SPEC, nms=nms, most=30).predict(output, SIZE):
        assert len(found) == 30
        assert (found.scores.diff() <= 0).all()
        x1, y1, x2, y2 = found.boxes_xyxy.unbind(1)
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 <= SIZE[1]).all()
        assert (y2 <= SIZE[0]).all()
        assert ((x2 > x1) & (y2 > y1)).all()


def test_few_anchors_do_not_crash(make):
    spec = AnchorSpec(3, 7)
    output = make.random_output(spec, (8, 8), 1, 1)
    (found,) = DetectionTask(1, spec).predict(output, (8, 8))
    assert 0 < len(found) <= 45


def test_nothing_above_the_threshold_is_nothing(make):
    output = make.random_output(SPEC, SIZE, 2, CLASSES)
    assert [
        len(found) for found in DetectionTask(CLASSES, SPEC, score_threshold=0.99).predict(output, SIZE)
    ] == [0, 0]


def test_boxes_end_where_the_image_was_placed(make):
    output = make.random_output(SPEC, SIZE, 1, CLASSES)
    placement = Placement((48, 80), (1.0, 1.0), (10.0, 20.0))  # rows 10 to 58, columns 20 to 100
    (found,) = DetectionTask(CLASSES, SPEC).predict(output, SIZE, placements=[placement])
    assert found.boxes_xyxy[:, :2].amin(dim=0).tolist() == [20, 10]
    assert found.boxes_xyxy[:, 2:].amax(dim=0).tolist() == [100, 58]
    assert found.to_original(placement).boxes_xyxy[:, 2:].amax(dim=0).tolist() == [80, 48]


def test_outputs_that_are_not_finite_are_refused(make):
    output = make.random_output(SPEC, SIZE, 1, CLASSES)
    with torch.no_grad():
        output.class_logits[2][0, 0] = float("nan")
    with pytest.raises(TrainingError, match="the model's output is not finite"):
        DetectionTask(CLASSES, SPEC).predict(output, SIZE)


def test_faulty_truth_names_its_image(make):
    output = make.random_output(SPEC, SIZE, 2, CLASSES)
    good, bad = torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([[9.0, 1, 1, 9]])
    with pytest.raises(DataError, match=r"image-1\.jpg: object 0 has label 3"):
        DetectionTask(CLASSES, SPEC).losses(
            output, make.batch(SIZE, [(good, torch.tensor([2])), (good, torch.tensor([3]))])
        )
    with pytest.raises(DataError, match=r"image-0\.jpg: object 0 .* swapped"):
        DetectionTask(CLASSES, SPEC).losses(
            output, make.batch(SIZE, [(bad, torch.tensor([2])), (good, torch.tensor([2]))])
        )


@pytest.mark.parametrize(
    ("spec", "classes", "size", "message"),
    [
        (AnchorSpec(3, 6), 3, SIZE, "levels 3 to 6 need an output of 4 levels, got 5"),
        (
            AnchorSpec(2, 6),
            3,
            SIZE,
            r"class logits of level 2 are \(1, 27, 12, 20\), but .* need \(1, 27, 24, 40\)",
        ),
        (SPEC, 4, SIZE, r"class logits of level 3 .* 4 classes need \(1, 36, 12, 20\)"),
        (AnchorSpec(octaves=2), 3, SIZE, "6 anchors a cell"),
        (SPEC, 3, SIZE[::-1], "`size_hw` as"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(make, spec, classes, size, message):
    output = make.random_output(SPEC, SIZE, 1, 3)
    with pytest.raises(UsageError, match=message):
        DetectionTask(classes, spec).predict(output, size)


def test_a_batch_of_another_length_is_refused(make):
    with pytest.raises(UsageError, match="but 2 images of 96 x 160"):
        DetectionTask(3, SPEC).losses(
            make.random_output(SPEC, SIZE, 1, 3), make.random_batch(SIZE, [1, 1], 3)
        )


def test_levels_that_were_rounded_down_fit(make):
    """A backbone whose first layer cuts the input into patches loses the last, incomplete ones."""
    spec = AnchorSpec(3, 3)
    output = AnchorOutput((torch.zeros(1, 27, 12, 12),), (torch.zeros(1, 36, 12, 12),))
    (found,) = DetectionTask(3, spec).predict(output, (100, 100))
    assert len(found) == 100


@pytest.mark.parametrize(
    "options",
    [{"classes": 0}, {"most": 0}, {"candidates": 0}, {"score_threshold": 1.0}, {"score_threshold": -0.1}],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="at least one class, prediction and candidate"):
        DetectionTask(**{"classes": 3, "anchors": SPEC, **options})
