from dataclasses import replace

import numpy as np
import pytest

from tests.evaluate.coco_tables import coco_eval, random_tables
from trivet.evaluate import bootstrap
from trivet.evaluate.bootstrap import bootstrap_intervals, resampled_ap
from trivet.evaluate.matching import match
from trivet.evaluate.precision import average_precision
from trivet.evaluate.ranking import rank_predictions, rank_truth


def prepared(**choices):
    truth, predictions, labels = random_tables(**choices)
    found = rank_predictions(predictions, truth, labels, most=100)
    objects = rank_truth(truth, labels)
    return truth, predictions, labels, found, objects, match(found, objects)


def repeated(truth, predictions, weights):
    """Make the data set in which the image with the i-th id occurs `weights[i]` times, under new ids."""
    places = np.repeat(np.argsort(truth.image_ids), weights)
    again = truth.take(places)
    rows = [np.flatnonzero(predictions.image_ids == image) for image in again.image_ids]
    joined = np.concatenate(rows)
    new_ids = np.arange(len(places))
    return replace(again, image_ids=new_ids), replace(
        predictions,
        image_ids=np.repeat(new_ids, [len(part) for part in rows]),
        boxes_xyxy=predictions.boxes_xyxy[joined],
        scores=predictions.scores[joined],
        labels=predictions.labels[joined],
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_scores_as_the_data_set_it_stands_for(seed):
    truth, predictions, labels, found, objects, matches = prepared(images=25, classes=3, seed=seed, crowd=0.2)
    weights = np.random.default_rng(seed).multinomial(25, np.full(25, 1 / 25), size=5)
    ap = resampled_ap(found, objects, matches, weights, classes=3)
    for number, weight in enumerate(weights):
        again, repeats = repeated(truth, predictions, weight)
        more = rank_predictions(repeats, again, labels, most=100)
        them = rank_truth(again, labels)
        naive = average_precision(more, them, match(more, them), classes=3).ap[:, 0]
        np.testing.assert_allclose(ap[number], naive, atol=1e-12)
        oracle = coco_eval(again, repeats, 3)
        np.testing.assert_allclose([np.nanmean(ap[number]), np.nanmean(ap[number, :, 0])], oracle.stats[:2])


def test_a_class_without_truth_in_a_resample_has_no_ap():
    *_, found, objects, matches = prepared(images=6, classes=3, per_image=1, seed=3)
    weights = np.array([[6, 0, 0, 0, 0, 0], [0, 6, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    ap = resampled_ap(found, objects, matches, weights, classes=3)
    for number, weight in enumerate(weights):
        for label in range(3):
            rows = objects.of_label(label)
            there = (weight[objects.image[rows]][matches.counted[rows, 0]]).sum() > 0
            assert np.isnan(ap[number, label]).all() != there
    plain = average_precision(found, objects, matches, classes=3).ap[:, 0]
    np.testing.assert_allclose(ap[2], plain)


def test_parts_make_no_difference(monkeypatch):
    *_, found, objects, matches = prepared(images=10)
    weights = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=7)
    whole = resampled_ap(found, objects, matches, weights, classes=3)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 1)
    parts = resampled_ap(found, objects, matches, weights, classes=3)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def intervals(images=60, resamples=300, seed=0, **choices):
    *_, found, objects, matches = prepared(images=images, **choices)
    given = {"images": images, "classes": 3, "resamples": resamples, "seed": seed}
    ap = average_precision(found, objects, matches, classes=3).ap
    return bootstrap_intervals(found, objects, matches, **given), float(ap.mean()), float(ap[:, :, 0].mean())


def test_intervals_hold_the_score_and_narrow_with_more_images():
    few, map_few, map50_few = intervals(images=20)
    many, *_ = intervals(images=320)
    assert few["map"].low < map_few < few["map"].high
    assert few["map50"].low < map50_few < few["map50"].high
    ratio = (few["map"].high - few["map"].low) / (many["map"].high - many["map"].low)
    assert 2.5 < ratio < 6.5  # 16 times the images: a quarter of the width


def test_intervals_are_repeatable():
    assert intervals()[0] == intervals()[0]
    assert intervals()[0] != intervals(seed=1)[0]


@pytest.mark.parametrize("choices", [{"images": 1}, {"resamples": 0}, {"resamples": 1}])
def test_nothing_to_resample_gives_no_interval(choices):
    assert intervals(**choices)[0] == {}
