import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from trivet.errors import UsageError
from trivet.evaluate.classification import (
    ClassificationScores,
    ConfusedPair,
    ImageClass,
    evaluate_classification,
)
from trivet.structures import LabelMap

LABELS = LabelMap.from_names(list("abcdefgh"))


def table(seed=0, images=60, classes=7):
    """Make labels and probabilities that are right more often than not; class 7 has no images."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    scores = rng.random((images, 8)).astype(np.float32)
    scores[np.arange(images), labels] += rng.random(images).astype(np.float32)
    return labels, scores / scores.sum(axis=1, keepdims=True)


def scored(labels, scores, names=LABELS, **options):
    return evaluate_classification(np.arange(len(labels)), labels, scores, names, **options)


@settings(max_examples=12)
@given(st.integers(0, 10_000))
def test_against_scikit_learn(seed):
    labels, scores = table(seed)
    found = scored(labels, scores, bootstrap=0)
    guess = scores.argmax(axis=1)
    assert found.top1 == pytest.approx(accuracy_score(labels, guess))
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=range(8)))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, guess, labels=range(8)))
    known = np.unique(labels)
    assert found.balanced_accuracy == pytest.approx(
        recall_score(labels, guess, labels=known, average="macro", zero_division=0)
    )
    recall = recall_score(labels, guess, labels=range(8), average=None, zero_division=np.nan)
    np.testing.assert_allclose([row.accuracy for row in found.per_class], recall)
    precision = precision_score(labels, guess, labels=range(8), average=None, zero_division=np.nan)
    np.testing.assert_allclose([row.precision for row in found.per_class], precision)
    assert [row.images for row in found.per_class] == np.bincount(labels, minlength=8).tolist()
    assert [row.predictions for row in found.per_class] == np.bincount(guess, minlength=8).tolist()


def test_of_equal_scores_the_first_label_is_the_likelier():
    scores = np.full((8, 8), 1 / 8, np.float32)
    found = scored(np.arange(8), scores, bootstrap=0)
    assert found.top1 == 1 / 8  # a constant model is right on one class, not on all
    assert found.top5 == 5 / 8
    assert found.confusion[:, 0].tolist() == [1] * 8


def test_many_rows_are_ranked_as_few_are():
    labels, scores = table(images=10_000)
    found = scored(labels, scores, bootstrap=0)
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=range(8)))


def test_top5_says_nothing_of_five_classes():
    labels, scores = table(classes=3)
    scores = scores[:, :5] / scores[:, :5].sum(axis=1, keepdims=True)
    found = scored(labels, scores, LabelMap.from_names(list("abcde")))
    assert math.isnan(found.top5)
    assert set(found.interval95) == {"top1", "balanced_accuracy"}
    assert found.to_json()["top5"] is None


def test_intervals_are_those_of_resampled_images():
    labels, scores = table(images=80)
    found = scored(labels, scores, bootstrap=1000)
    guess, rng = scores.argmax(axis=1), np.random.default_rng(5)
    naive = {"top1": [], "balanced_accuracy": []}
    for _ in range(300):
        drawn = rng.integers(0, 80, 80)
        naive["top1"].append((guess[drawn] == labels[drawn]).mean())
        known = np.unique(labels[drawn])
        hits = [(guess[drawn] == labels[drawn])[labels[drawn] == label].mean() for label in known]
        naive["balanced_accuracy"].append(np.mean(hits))
    for name, values in naive.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert found.interval95[name] == pytest.approx((low, high), abs=0.25 * (high - low))
    assert scored(labels, scores, bootstrap=0).interval95 == {}


def test_the_worst_are_the_most_confident_mistakes():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.05, 0.95]], np.float32)
    labels = np.array([0, 1, 0, 0])
    found = evaluate_classification([5, 6, 7, 8], labels, scores, LabelMap.from_names(["cat", "dog"]))
    assert [image.image_id for image in found.worst] == [8, 7, 6]
    assert found.worst[0] == ImageClass(8, 0, 1, float(np.float32(0.95)), float(np.float32(0.05)))
    assert found.confused == (ConfusedPair(0, 1, 2, 2 / 3), ConfusedPair(1, 0, 1, 1.0))
    assert found.typical[0].image_id in (6, 7)
    assert found.confidence == pytest.approx(0.7875)


def test_scores_survive_json():
    found = scored(*table())
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["task"] == "classification"
    assert {"top1", "top5", "per_class", "interval95", "images", "ece"} <= set(plain)
    assert plain["per_class"][7]["accuracy"] is None
    assert ClassificationScores.from_json(plain).to_json() == found.to_json()
    with pytest.raises(UsageError, match="not the scores of classification"):
        ClassificationScores.from_json({})
    with pytest.raises(UsageError, match="scores cannot be read"):
        ClassificationScores.from_json({"task": "classification"})


def test_nothing_to_score():
    found = scored(np.zeros(0, np.int64), np.zeros((0, 8), np.float32))
    assert math.isnan(found.top1)
    assert math.isnan(found.ece)
    assert found.worst == found.reliability == ()


def test_a_row_of_only_the_likeliest_classes_is_scored():
    labels, scores = table()
    kept = np.where(scores >= np.sort(scores, axis=1)[:, [-5]], scores, 0)
    assert scored(labels, kept.astype(np.float32)).top1 == scored(labels, scores).top1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels, scores: (labels[:-1], scores), "60 images|59 images"),
        (lambda labels, scores: (labels, scores[:, :-1]), r"scores are \[images, 8\] for 8 classes"),
        (lambda labels, scores: (np.where(labels == labels[3], 8, labels), scores), "label 8, wanted 0 to 7"),
        (lambda labels, scores: (labels - 9, scores), "wanted 0 to 7"),
        (lambda labels, scores: (labels, 20 * scores - 10), "softmax of the logits"),
        (lambda labels, scores: (labels, scores * 3), "probabilities that sum to 1"),
        (lambda labels, scores: (labels, scores * 0), "probabilities that sum to 1"),
        (lambda labels, scores: (labels, scores * np.float32("nan")), "probabilities that sum to 1"),
    ],
)
def test_what_cannot_be_scored_is_named(change, message):
    labels, scores = change(*table())
    with pytest.raises(UsageError, match=message):
        scored(labels, scores)
