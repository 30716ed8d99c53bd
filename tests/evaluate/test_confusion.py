import numpy as np
import pytest

from tests.evaluate.coco_tables import predictions_of, random_tables, truth_of
from trivet.evaluate.confusion import (
    confusion_matrix,
    image_mistakes,
    pair_up,
    typical_images,
    worst_images,
)
from trivet.evaluate.matching import match
from trivet.evaluate.mistakes import image_pairs
from trivet.evaluate.ranking import rank_predictions, rank_truth
from trivet.evaluate.scores import ImageMistakes
from trivet.structures import LabelMap

LABELS = LabelMap.from_names(["a", "b"])
BOX = (0, 0, 10, 10)
CLOSE = (0, 0, 10, 9)
POOR = (0, 0, 10, 4)
AWAY = (50, 50, 60, 60)


def judged(truth, predictions, labels=LABELS, *, score=0.5):
    objects = rank_truth(truth, labels)
    found = rank_predictions(predictions, truth, labels, most=100)
    pairs = image_pairs(found, objects)
    pairing = pair_up(found, match(found, objects), pairs, score=score)
    matrix = confusion_matrix(found, objects, pairing, classes=len(labels))
    return matrix, image_mistakes(found, objects, pairing, pairs, np.sort(truth.image_ids))


def confusion(images, rows, **choices):
    crowd = choices.pop("crowd", frozenset())
    matrix, per_image = judged(truth_of(images, crowd=crowd), predictions_of(rows), **choices)
    return matrix.tolist(), per_image


CASES = {
    "found": ([(0, *BOX)], [(0, 0.9, *CLOSE)], [[1, 0, 0], [0, 0, 0], [0, 0, 0]], (1, 0, 0, 0, 0)),
    "wrong class": ([(0, *BOX)], [(1, 0.9, *CLOSE)], [[0, 1, 0], [0, 0, 0], [0, 0, 0]], (0, 1, 0, 1, 0)),
    "poor place": ([(0, *BOX)], [(0, 0.9, *POOR)], [[0, 0, 1], [0, 0, 0], [1, 0, 0]], (0, 1, 0, 0, 1)),
    "background": ([], [(1, 0.9, *BOX)], [[0, 0, 0], [0, 0, 0], [0, 1, 0]], (0, 0, 1, 0, 0)),
    "missed": ([(1, *BOX)], [], [[0, 0, 0], [0, 0, 1], [0, 0, 0]], (0, 1, 0, 0, 0)),
    "double": (
        [(0, *BOX)],
        [(0, 0.9, *BOX), (0, 0.8, *CLOSE)],
        [[1, 0, 0], [0, 0, 0], [1, 0, 0]],
        (1, 0, 1, 0, 0),
    ),
    "both": ([(0, *BOX)], [(1, 0.9, *POOR)], [[0, 0, 1], [0, 0, 0], [0, 1, 0]], (0, 1, 1, 0, 0)),
    "below the threshold": (
        [(0, *BOX)],
        [(0, 0.4, *BOX)],
        [[0, 0, 1], [0, 0, 0], [0, 0, 0]],
        (0, 1, 0, 0, 0),
    ),
    # A better scored prediction of another class does not take the object from the right one.
    "right class first": (
        [(0, *BOX)],
        [(1, 0.9, *BOX), (0, 0.6, *CLOSE)],
        [[1, 0, 0], [0, 0, 0], [0, 1, 0]],
        (1, 0, 1, 0, 0),
    ),
    "highest IoU first": (
        [(0, *BOX), (0, 0, 0, 10, 8)],
        [(1, 0.9, *CLOSE), (1, 0.8, *BOX)],
        [[0, 2, 0], [0, 0, 0], [0, 0, 0]],
        (0, 2, 0, 2, 0),
    ),
}


@pytest.mark.parametrize(("objects", "rows", "matrix", "counts"), CASES.values(), ids=CASES)
def test_known_cases(objects, rows, matrix, counts):
    found, (image,) = confusion({1: objects}, [(1, *row) for row in rows])
    assert found == matrix
    assert (image.found, image.missed, image.false, image.wrong_class, image.poor_place) == counts
    assert image.score == counts[0] / sum(counts)


def test_what_a_crowd_region_absorbs_is_not_shown():
    images = {1: [(0, 0, 0, 90, 90)]}
    matrix, (image,) = confusion(images, [(1, 0, 0.9, *BOX), (1, 1, 0.9, *AWAY)], crowd={0})
    assert matrix == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert (image.missed, image.false) == (0, 1)


def test_an_image_without_anything_is_right():
    _, (image,) = confusion({1: []}, [])
    assert image == ImageMistakes(1, 0, 0, 0, 0, 0, 1.0)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.8])
def test_every_object_and_every_shown_prediction_is_counted_once(score):
    truth, predictions, labels = random_tables(images=30, crowd=0)
    matrix, per_image = judged(truth, predictions, labels, score=score)
    assert matrix[:-1].sum(axis=1).tolist() == np.bincount(truth.labels, minlength=3).tolist()
    shown = predictions.labels[predictions.scores >= np.float32(score)]
    assert matrix[:, :-1].sum(axis=0).tolist() == np.bincount(shown, minlength=3).tolist()
    assert [image.image_id for image in per_image] == sorted(truth.image_ids)
    for image in per_image:
        assert image.found + image.missed == (truth.image_ids[truth.image_index()] == image.image_id).sum()
    assert sum(image.found for image in per_image) == np.trace(matrix[:-1])
    assert sum(image.wrong_class for image in per_image) == matrix[:-1, :-1].sum() - np.trace(matrix[:-1])


def image_with(image_id, score, missed=1):
    return ImageMistakes(image_id, 1, missed, 0, 0, 0, score)


def test_worst_images_have_the_lowest_score_then_the_most_mistakes():
    images = (
        image_with(1, 0.5),
        image_with(2, 0.0),
        image_with(3, 0.0, missed=4),
        image_with(4, 1.0, missed=0),
    )
    assert [image.image_id for image in worst_images(images, 9)] == [3, 2, 1]
    assert [image.image_id for image in worst_images(images, 1)] == [3]


def test_typical_images_are_nearest_to_the_median():
    images = tuple(image_with(number, number / 10) for number in range(1, 10))
    empty = ImageMistakes(99, 0, 0, 0, 0, 0, 0.5)
    assert [image.image_id for image in typical_images((*images, empty), 3)] == [5, 4, 6]
    assert typical_images((empty,), 3) == ()
