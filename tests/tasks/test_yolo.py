"""YOLOv4's losses and predictions against their formulas, written as loops in float64."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torchvision.ops import box_iou, complete_box_iou_loss, generalized_box_iou_loss, nms

from trivet.errors import DataError, TrainingError, UsageError
from trivet.geometry.anchors import AnchorSpec, level_sizes_hw
from trivet.geometry.grid import AnchorGrid
from trivet.geometry.pixel_anchors import PixelAnchors
from trivet.models.heads.yolo import COCO_ANCHORS
from trivet.structures import AnchorOutput, Placement
from trivet.tasks.box_task import BoxTask
from trivet.tasks.detection import DetectionTask
from trivet.tasks.truth import join_truth
from trivet.tasks.yolo import YoloTask

ANCHORS = PixelAnchors(3, tuple(COCO_ANCHORS[i : i + 3] for i in (0, 3, 6)), (1.2, 1.1, 1.05))
CLASSES = 4
SIZE = (96, 128)
SIZES = level_sizes_hw(ANCHORS, SIZE)


def yolo_output(images=2, *, classes=CLASSES, seed=1, dtype=torch.float32, size_hw=SIZE):
    torch.manual_seed(seed)
    sizes = level_sizes_hw(ANCHORS, size_hw)

    def maps(channels, shift, spread):
        made = [(torch.randn(images, channels, *size) * spread + shift).to(dtype) for size in sizes]
        return tuple(one.requires_grad_() for one in made)

    return AnchorOutput(maps(3 * classes, 0.0, 1.5), maps(12, 0.0, 0.5), maps(3, -2.0, 1.5))


def every_anchor(output, size_hw=SIZE):
    """Yield (anchor number within its image, image, class logits, box in float64, objectness logit), as darknet lays it out."""
    number = 0
    for level, (rows, columns) in enumerate(level_sizes_hw(ANCHORS, size_hw)):
        stride_y, stride_x = size_hw[0] / rows, size_hw[1] / columns
        reach = ANCHORS.reach[level]
        for y in range(rows):
            for x in range(columns):
                for slot, (w, h) in enumerate(ANCHORS.shapes[level]):
                    for image in range(len(output.class_logits[0])):
                        classes = output.class_logits[level][image].unflatten(0, (3, -1))[slot, :, y, x]
                        ty, tx, th, tw = (
                            output.box_deltas[level][image].unflatten(0, (3, 4))[slot, :, y, x].double()
                        )
                        centre_x = (reach * tx.sigmoid() - (reach - 1) / 2 + x) * stride_x
                        centre_y = (reach * ty.sigmoid() - (reach - 1) / 2 + y) * stride_y
                        half_w, half_h = w * tw.exp() / 2, h * th.exp() / 2
                        box = torch.stack(
                            [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
                        )
                        yield (
                            number,
                            image,
                            classes.double(),
                            box,
                            output.objectness[level][image, slot, y, x].double(),
                        )
                    number += 1


def losses_by_loops(task, output, batch):
    """The sums before they are divided, in float64, and the number of positives."""
    truth = join_truth(batch.targets, batch.names, task.classes, torch.device("cpu"))
    count = sum(rows * columns * 3 for rows, columns in SIZES)
    objects = [[] for _ in batch.targets]
    matches = {}
    for row, box in enumerate(truth.boxes_xyxy.double()):
        w, h = float(box[2] - box[0]), float(box[3] - box[1])
        overlaps = [min(w, a) * min(h, b) / (w * h + a * b - min(w, a) * min(h, b)) for a, b in COCO_ANCHORS]
        objects[int(truth.image[row])].append(box)
        for n, overlap in enumerate(overlaps):
            if overlap > 0.213 or overlap == max(overlaps):
                rows, columns = SIZES[n // 3]
                i = int(float(box[0] + box[2]) / 2 / SIZE[1] * columns)
                j = int(float(box[1] + box[3]) / 2 / SIZE[0] * rows)
                start = sum(r * c * 3 for r, c in SIZES[: n // 3])
                key = int(truth.image[row]), start + (j * columns + i) * 3 + n % 3
                matches.setdefault(key, []).append((overlap, row))
    objectness = classes = boxes = torch.zeros((), dtype=torch.float64)
    for number, image, logits, box, sure in every_anchor(output):
        assert number < count
        hits = matches.get((image, number), [])
        if hits:
            _, best = max(hits, key=lambda hit: hit[0])
            targets = torch.full_like(logits, task.label_smoothing / 2)
            for _, row in hits:
                targets[truth.labels[row]] = 1 - task.label_smoothing / 2
            classes = classes + bce(logits, targets, reduction="sum")
            boxes = boxes + complete_box_iou_loss(box, truth.boxes_xyxy[best].double())
            objectness = objectness - torch.log(sure.sigmoid())
            continue
        if objects[image] and float(logits.detach().sigmoid().max()) > 0.25:
            best = box_iou(box[None].detach(), torch.stack(objects[image])).max()
            if float(best) > task.ignore_threshold:
                continue
        objectness = objectness - torch.log(1 - sure.sigmoid())
    return {"class": classes, "box": boxes, "objectness": objectness}, len(matches)


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        ([6, 0], {}),
        ([20, 3], {"ignore_threshold": 0.3}),
        ([9, 2], {"label_smoothing": 0.1, "box_weight": 2.0, "class_weight": 0.5, "objectness_weight": 3.0}),
        ([0, 0], {}),
    ],
)
def test_losses_are_those_of_the_formulas(make, counts, options):
    batch, output = make.random_batch(SIZE, counts, CLASSES), yolo_output()
    task = YoloTask(CLASSES, ANCHORS, **options)
    wanted, positives = losses_by_loops(task, output, batch)
    found = task.losses(output, batch)
    assert float(found["positives"]) == positives
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(
            float(value.detach()) / (positives + 1), rel=1e-5, abs=1e-7
        )
    total = (
        task.objectness_weight * wanted["objectness"]
        + task.class_weight * wanted["class"]
        + task.box_weight * wanted["box"]
    ) / (positives + 1)
    assert float(found["loss"].detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    leaves = [*output.class_logits, *output.box_deltas, *output.objectness]
    slopes = torch.autograd.grad(found["loss"], leaves)
    expected = torch.autograd.grad(total, leaves, allow_unused=True)
    for slope, want in zip(slopes, expected, strict=True):
        torch.testing.assert_close(
            slope, torch.zeros_like(slope) if want is None else want, rtol=1e-3, atol=1e-6
        )


def test_letting_off_depends_on_overlap_and_on_a_likely_class(make):
    batch = make.random_batch(SIZE, [12, 5], CLASSES)
    output = yolo_output(seed=3)
    truth = join_truth(batch.targets, batch.names, CLASSES, torch.device("cpu"))
    grid = AnchorGrid.of_input(ANCHORS, SIZE)
    counts = [
        int(YoloTask(CLASSES, ANCHORS, ignore_threshold=t).let_off(output, truth, grid).sum())
        for t in (0.0, 0.3, 0.7, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] >= counts[3] == 0
    unsure = output._replace(class_logits=tuple(torch.full_like(m, -1.2) for m in output.class_logits))
    assert not YoloTask(CLASSES, ANCHORS, ignore_threshold=0.0).let_off(unsure, truth, grid).any()


@pytest.mark.parametrize(
    ("name", "oracle"), [("ciou", complete_box_iou_loss), ("giou", generalized_box_iou_loss)]
)
def test_box_losses_are_torchvisions(make, name, oracle):
    boxes, others = make.boxes(40, SIZE), make.boxes(40, SIZE)
    task = YoloTask(CLASSES, ANCHORS, box_loss=name)
    torch.testing.assert_close(1 - task.overlap(boxes, others), oracle(boxes, others), rtol=1e-4, atol=1e-5)


def test_all_negatives_cost_what_silence_costs(make):
    losses = YoloTask(CLASSES, ANCHORS).losses(yolo_output(), make.random_batch(SIZE, [0, 0], CLASSES))
    assert float(losses["positives"]) == float(losses["box"]) == float(losses["class"]) == 0
    assert float(losses["objectness"]) > 0
    losses["loss"].backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_is_taken(make, dtype):
    batch = make.random_batch(SIZE, [5, 2], CLASSES)
    task = YoloTask(CLASSES, ANCHORS)
    whole, half = (task.losses(yolo_output(dtype=d), batch) for d in (torch.float32, dtype))
    assert half["loss"].dtype == torch.float32
    assert float(half["loss"].detach()) == pytest.approx(float(whole["loss"].detach()), rel=0.02)
    assert len(task.predict(yolo_output(dtype=dtype), SIZE)) == 2


def test_normaliser_replaces_the_divisor(make):
    batch, output = make.random_batch(SIZE, [5, 2], CLASSES), yolo_output()
    task = YoloTask(CLASSES, ANCHORS)
    usual, sums = task.losses(output, batch), task.losses(output, batch, normaliser=torch.ones_like)
    for name in ("loss", "class", "box", "objectness"):
        assert float(sums[name].detach()) == pytest.approx(
            float(usual[name].detach()) * (float(usual["positives"]) + 1), rel=1e-5
        )


def predictions_by_loops(task, output, image):
    found = []
    for _, at, logits, box, sure in every_anchor(output):
        if at == image:
            limit = torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]], dtype=torch.float64)
            box = box.clamp(min=0).minimum(limit)
            found += [(float(s), label, box) for label, s in enumerate(sure.sigmoid() * logits.sigmoid())]
    found = sorted((one for one in found if one[0] > task.score_threshold), key=lambda one: -one[0])
    found = found[: task.candidates]
    boxes = torch.stack([box for *_, box in found])
    scores, labels = torch.tensor([s for s, *_ in found]), torch.tensor([label for _, label, _ in found])
    kept = []
    for label in range(task.classes):
        rows = (labels == label).nonzero()[:, 0]
        kept += rows[nms(boxes[rows].float(), scores[rows], 0.5)].tolist()
    kept = sorted(kept, key=lambda row: -float(scores[row]))[: task.most]
    return boxes[kept], scores[kept], labels[kept]


@torch.no_grad()
def test_predictions_are_those_of_the_formulas():
    task, output = YoloTask(CLASSES, ANCHORS, score_threshold=0.05), yolo_output(seed=5)
    for image, found in enumerate(task.predict(output, SIZE)):
        boxes, scores, labels = predictions_by_loops(task, output, image)
        assert len(found) == len(scores) > 20
        torch.testing.assert_close(found.scores, scores.float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.boxes_xyxy, boxes.float(), rtol=1e-4, atol=1e-2)
        assert found.labels.tolist() == labels.tolist()


@torch.no_grad()
def test_predictions_end_at_the_images_border():
    output = yolo_output(1)
    placement = Placement((48, 128))
    (found,) = YoloTask(CLASSES, ANCHORS).predict(output, SIZE, placements=[placement])
    assert float(found.boxes_xyxy[:, 3].max()) <= 48


def test_sizes_that_do_not_divide_are_decoded_too():
    size = (50, 70)
    output = yolo_output(1, size_hw=size)
    (found,) = YoloTask(CLASSES, ANCHORS, score_threshold=0.0).predict(output, size)
    assert len(found) == 100


def test_both_tasks_are_box_tasks():
    assert isinstance(YoloTask(1, ANCHORS), BoxTask)
    assert isinstance(DetectionTask(1, AnchorSpec()), BoxTask)


def test_an_output_that_is_not_finite_is_refused():
    output = yolo_output()
    broken = output._replace(objectness=tuple(m * float("nan") for m in output.objectness))
    with pytest.raises(TrainingError, match=r"and \[1152, 288, 72\] objectness logits are NaN or infinite"):
        YoloTask(CLASSES, ANCHORS).predict(broken, SIZE)


def test_faulty_truth_is_named(make):
    batch = make.batch(SIZE, [(torch.tensor([[1.0, 1.0, 9.0, 9.0]]), torch.tensor([CLASSES]))])
    with pytest.raises(DataError, match=r"image-0\.jpg: object 0 has label 4"):
        YoloTask(CLASSES, ANCHORS).losses(yolo_output(1), batch)


def test_an_output_without_objectness_is_refused():
    output = yolo_output()._replace(objectness=())
    with pytest.raises(UsageError, match="output lacks objectness, and YoloTask wants one with"):
        YoloTask(CLASSES, ANCHORS).predict(output, SIZE)


def test_an_output_of_other_classes_is_refused():
    with pytest.raises(UsageError, match=r"3 anchors a cell and 5 classes need \(2, 15, 12, 16\)"):
        YoloTask(5, ANCHORS).predict(yolo_output(), SIZE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "at least one class"),
        ({"anchors": AnchorSpec()}, r"anchors are PixelAnchors, got AnchorSpec\n.*trivet\.DetectionTask"),
        ({"match_threshold": 0.0}, r"threshold in \(0, 1\], got 0\.0"),
        ({"ignore_threshold": 1.5}, r"ignore_threshold is in 0-1, got 1\.5"),
        ({"label_smoothing": -0.1}, "label_smoothing is in 0-1"),
        ({"box_weight": math.inf}, "box_weight is 0 or more and finite, got inf"),
        ({"class_weight": math.nan}, "class_weight is 0 or more and finite, got nan"),
        ({"box_loss": "cious"}, "unknown box loss 'cious'; did you mean 'ciou'"),
        ({"nms": "har"}, "unknown suppressor 'har'; did you mean 'hard'"),
        ({"score_threshold": 1.0}, "score threshold in 0-1"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        YoloTask(**{"classes": CLASSES, "anchors": ANCHORS, **options})


def test_the_other_task_refuses_anchors_in_pixels():
    with pytest.raises(UsageError, match=r"an AnchorSpec, got PixelAnchors\n.*trivet\.YoloTask"):
        DetectionTask(CLASSES, ANCHORS)
