import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from trivet.errors import UsageError
from trivet.evaluate.segmentation import (
    Confused,
    SegmentationCounts,
    SegmentationScores,
    evaluate_segmentation,
)
from trivet.structures import LabelMap

LABELS = LabelMap.from_names(["road", "car", "sky", "tram"])


def masks(seed=0, images=6, size_hw=(13, 17), classes=3, void=0.1):
    """Make pairs of a predicted and a true mask; the last class of `LABELS` is in neither."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(images):
        truth = rng.integers(0, classes, size_hw).astype(np.uint8)
        predicted = np.where(rng.random(size_hw) < 0.3, rng.integers(0, classes, size_hw), truth)
        truth[rng.random(size_hw) < void] = 255
        pairs.append((predicted.astype(np.uint8), truth))
    return pairs


def counted(pairs, classes=4, **options):
    counts = SegmentationCounts(classes, **options)
    for image_id, (predicted, truth) in enumerate(pairs):
        counts.add(image_id, predicted, truth)
    return counts


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_against_scikit_learn(seed):
    pairs = masks(seed)
    found = np.concatenate([predicted[truth != 255] for predicted, truth in pairs])
    there = np.concatenate([truth[truth != 255] for _, truth in pairs])
    scores = evaluate_segmentation(counted(pairs, boundaries=False), LABELS, bootstrap=0)
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(there, found, labels=range(4)))
    iou = jaccard_score(there, found, labels=[0, 1, 2], average=None)
    np.testing.assert_allclose([row.iou for row in scores.per_class[:3]], iou)
    assert scores.miou == pytest.approx(iou.mean())
    assert scores.pixel_accuracy == pytest.approx((found == there).mean())
    assert scores.pixels == len(there)
    assert scores.void == sum(truth.size for _, truth in pairs) - len(there)


def test_a_class_that_is_nowhere_is_left_out_and_named():
    scores = evaluate_segmentation(counted(masks()), LABELS)
    assert scores.absent == ("tram",)
    assert math.isnan(scores.per_class[3].iou)
    assert scores.miou == pytest.approx(np.mean([row.iou for row in scores.per_class[:3]]))
    predicted, truth = masks()[0]
    predicted[0, 0], truth[0, 0] = 3, 0  # predicted once: now it counts, as 0
    assert evaluate_segmentation(counted([(predicted, truth)]), LABELS).per_class[3].iou == 0


def test_miou_of_the_set_is_no_mean_over_images_or_batches():
    truth = np.zeros((4, 5), np.uint8)
    truth[0, 0] = 1
    good, bad = truth.copy(), np.zeros((4, 5), np.uint8)
    counts = counted([(good, truth), (bad, truth), (bad, truth)], classes=2, boundaries=False)
    assert counts.miou() == pytest.approx((57 / 59 + 1 / 3) / 2)
    one = (19 / 20 + 0) / 2
    assert counts.miou(metric="batch") == pytest.approx((1 + one + one) / 3)
    assert counts.miou(metric="batch", batch=2) == pytest.approx(((38 / 39 + 1 / 2) / 2 + one) / 2)
    assert counts.miou(metric="batch", batch=3) == pytest.approx(counts.miou())


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_batch_figure_is_that_of_the_usual_training_script(batch):
    pairs = masks(3, images=7)

    def logged(part):
        matrix = sum(confusion_matrix(t[t != 255], p[t != 255], labels=range(4)) for p, t in part)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nanmean(np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix)))

    wanted = np.mean([logged(pairs[start : start + batch]) for start in range(0, 7, batch)])
    assert counted(pairs, boundaries=False).miou(metric="batch", batch=batch) == pytest.approx(wanted)


def test_intervals_are_those_of_resampled_images():
    pairs = masks(5, images=12, size_hw=(7, 9))
    scores = evaluate_segmentation(counted(pairs), LABELS, bootstrap=300, seed=1)
    rng = np.random.default_rng(9)
    naive = []
    for _ in range(300):
        drawn = [pairs[i] for i in rng.integers(0, 12, 12)]
        naive.append(counted(drawn, boundaries=False).miou())
    low, high = np.percentile(naive, [2.5, 97.5])
    assert scores.interval95["miou"] == pytest.approx((low, high), abs=0.25 * (high - low))
    for name in ("miou", "pixel_accuracy", "boundary_f1"):
        low, high = scores.interval95[name]
        assert low < getattr(scores, name) < high
    assert evaluate_segmentation(counted(pairs), LABELS, bootstrap=0).interval95 == {}
    assert evaluate_segmentation(counted(pairs[:1]), LABELS).interval95 == {}


def test_the_worst_images_come_first_and_perfect_ones_not_at_all():
    _, truth = masks(1, images=1, void=0)[0]
    half, wrong = truth.copy(), truth.copy()
    half[:6] = (half[:6] + 1) % 3
    wrong[:] = (wrong + 1) % 3
    void = np.full_like(truth, 255)
    scores = evaluate_segmentation(
        counted([(truth, truth), (half, truth), (wrong, truth), (truth, void)]), LABELS
    )
    assert [image.image_id for image in scores.worst] == [2, 1]
    assert scores.worst[0].iou == scores.worst[0].pixel_accuracy == 0
    assert scores.typical[0].image_id == 1
    assert scores.images == 4
    confusion = confusion_matrix(truth.ravel(), wrong.ravel(), labels=range(4))
    row, column = np.unravel_index(confusion.argmax(), confusion.shape)
    assert scores.worst[0].confused == Confused(int(row), int(column), int(confusion.max()))


def test_most_confused_pixels():
    scores = evaluate_segmentation(counted(masks()), LABELS, bootstrap=0)
    wrong = scores.confusion - np.diag(np.diag(scores.confusion))
    pairs = scores.confused(100)
    assert sum(pair.pixels for pair in pairs) == wrong.sum()
    assert all(wrong[pair.truth, pair.predicted] == pair.pixels for pair in pairs)
    assert [pair.pixels for pair in pairs] == sorted((pair.pixels for pair in pairs), reverse=True)


def test_shares_and_images_of_classes():
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 1]], np.uint8)
    row = evaluate_segmentation(counted([(predicted, truth)]), LABELS).per_class[1]
    assert (row.share, row.predicted_share, row.accuracy, row.precision) == (1 / 3, 2 / 3, 1, 0.5)
    assert (row.iou, row.images) == (0.5, 1)


def test_scores_survive_json():
    scores = evaluate_segmentation(counted(masks()), LABELS)
    plain = json.loads(json.dumps(scores.to_json()))
    assert plain["task"] == "segmentation"
    assert plain["per_class"][3]["iou"] is None
    assert {"miou", "pixel_accuracy", "interval95", "images"} <= set(plain)
    again = SegmentationScores.from_json(plain)
    assert again.to_json() == scores.to_json()
    assert again.confusion.dtype == np.int64
    with pytest.raises(UsageError, match="not the scores of segmentation: 'task' is 'detection'"):
        SegmentationScores.from_json({**plain, "task": "detection"})


def test_nothing_to_score():
    scores = evaluate_segmentation(SegmentationCounts(4), LABELS)
    assert math.isnan(scores.miou)
    assert math.isnan(scores.pixel_accuracy)
    assert scores.worst == scores.typical == ()
    assert scores.absent == LABELS.names


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (
            np.zeros((3, 4), np.uint8),
            np.zeros((4, 3), np.uint8),
            r"prediction is \(3, 4\) but the truth is \(4, 3\)",
        ),
        (np.full((3, 4), 4, np.uint8), np.zeros((3, 4), np.uint8), "prediction has label 4, wanted 0 to 3"),
        (np.zeros((3, 4), np.uint8), np.full((3, 4), 11, np.uint8), "truth has label 11, wanted 0 to 3"),
        (np.full((3, 4), 255, np.uint8), np.zeros((3, 4), np.uint8), "prediction has label 255"),
    ],
)
def test_masks_that_cannot_be_scored_change_nothing(predicted, truth, message):
    counts = counted(masks())
    before = counts.confusion.copy()
    with pytest.raises(UsageError, match=message):
        counts.add(99, predicted, truth)
    assert len(counts) == 6
    np.testing.assert_array_equal(counts.confusion, before)


def test_what_is_predicted_on_void_does_not_matter():
    truth, predicted = np.array([[0, 255]], np.uint8), np.array([[0, 77]], np.uint8)
    assert counted([(predicted, truth)]).miou() == 1


def test_misuse_is_named():
    counts = counted(masks())
    with pytest.raises(UsageError, match="image 2 was counted before"):
        counts.add(2, *masks()[0])
    with pytest.raises(UsageError, match="4 classes were counted, and the label map has 2"):
        evaluate_segmentation(counts, LabelMap.from_names(["a", "b"]))
    with pytest.raises(UsageError, match="1 to 255 classes, got 256"):
        SegmentationCounts(256)
    with pytest.raises(UsageError, match="tolerance is a share"):
        SegmentationCounts(3, tolerance=1.5)
