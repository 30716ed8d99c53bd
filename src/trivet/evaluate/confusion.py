"""What single predictions and images look like at one score threshold: confusion matrix, worst images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from trivet.evaluate.matching import Matches
from trivet.evaluate.mistakes import BACKGROUND_IOU, FOREGROUND_IOU
from trivet.evaluate.overlaps import Pairs
from trivet.evaluate.ranking import RankedBoxes
from trivet.evaluate.scores import ImageMistakes


@dataclass(frozen=True)
class Pairing:
    """Predictions and objects at one score threshold, each in at most one pair.

    Args:
        shown: Whether a prediction is shown: it reaches the threshold and is not ignored.
        truth: The object each shown prediction is paired with, -1 for none.
    """

    shown: Bool[np.ndarray, " k"]
    truth: Int64[np.ndarray, " k"]


def pair_up(found: RankedBoxes, matches: Matches, pairs: Pairs, *, score: float) -> Pairing:
    """Pair the predictions of at least this score with objects, the right class first.

    Hits of the right class stand first, so that a confusion is a real one; then what is left is paired across
    classes, the highest IoU first.

    Args:
        found: The predictions.
        matches: What `match` made of them at IoU .5.
        pairs: The overlaps of any class.
        score: The least score of a prediction that is shown.
    """
    right = matches.right[:, 0, 0]
    shown = (found.scores >= score) & ~matches.ignored[:, 0, 0]
    truth = np.where(shown & right, matches.truth, -1)
    taken = np.zeros(len(matches.counted), bool)
    taken[truth[truth >= 0]] = True
    left = pairs.where(
        (pairs.iou >= FOREGROUND_IOU) & (shown & ~right)[pairs.prediction] & ~taken[pairs.truth]
    )
    for place in np.argsort(-left.iou, kind="stable"):
        prediction, wanted = left.prediction[place], left.truth[place]
        if truth[prediction] < 0 and not taken[wanted]:
            truth[prediction], taken[wanted] = wanted, True
    return Pairing(shown, truth)


def confusion_matrix(
    found: RankedBoxes, objects: RankedBoxes, pairing: Pairing, *, classes: int
) -> Int64[np.ndarray, "rows columns"]:
    """Count pairs by class: rows are truth, columns predictions, the last of each stands for background."""
    paired = pairing.truth >= 0
    rows = np.full(len(found), classes)
    rows[paired] = objects.labels[pairing.truth[paired]]
    missed = ~objects.crowd
    missed[pairing.truth[paired]] = False
    cells = np.concatenate(
        [
            rows[pairing.shown] * (classes + 1) + found.labels[pairing.shown],
            objects.labels[missed] * (classes + 1) + classes,
        ]
    )
    return np.bincount(cells, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)


def image_mistakes(
    found: RankedBoxes,
    objects: RankedBoxes,
    pairing: Pairing,
    pairs: Pairs,
    image_ids: Int64[np.ndarray, " n"],
) -> tuple[ImageMistakes, ...]:
    """Count what is right and wrong in each image.

    Args:
        found: The predictions.
        objects: The truth.
        pairing: Both, paired up.
        pairs: The overlaps of any class.
        image_ids: The images' ids, ascending.
    """
    paired = pairing.truth >= 0
    right = paired.copy()
    right[paired] = objects.labels[pairing.truth[paired]] == found.labels[paired]
    near = (objects.labels[pairs.truth] == found.labels[pairs.prediction]) & (pairs.iou >= BACKGROUND_IOU)
    best = np.zeros(len(found))
    np.maximum.at(best, pairs.prediction[near], pairs.iou[near])
    poor = pairing.shown & ~paired & (best > 0) & (best < FOREGROUND_IOU)

    def count(boxes: RankedBoxes, which: np.ndarray) -> np.ndarray:
        return np.bincount(boxes.image[which], minlength=len(image_ids))

    hits = count(found, right)
    columns = (
        image_ids,
        hits,
        count(objects, ~objects.crowd) - hits,
        count(found, pairing.shown & ~paired & ~poor),
        count(found, paired & ~right),
        count(found, poor),
    )
    return tuple(_mistakes(*row) for row in np.stack(columns, axis=1).tolist())


def worst_images(images: tuple[ImageMistakes, ...], most: int) -> tuple[ImageMistakes, ...]:
    """Return the images with mistakes, lowest score first, of equal scores those with more mistakes first."""
    faulty = [image for image in images if image.score < 1]
    return tuple(sorted(faulty, key=lambda image: (image.score, -_count(image), image.image_id))[:most])


def typical_images(images: tuple[ImageMistakes, ...], most: int) -> tuple[ImageMistakes, ...]:
    """Return the images whose scores are nearest to the median score of the images with objects."""
    with_objects = [image for image in images if image.found + image.missed]
    if not with_objects:
        return ()
    median = float(np.median([image.score for image in with_objects]))
    return tuple(sorted(with_objects, key=lambda image: (abs(image.score - median), image.image_id))[:most])


def _mistakes(
    image_id: int, found: int, missed: int, false: int, wrong_class: int, poor_place: int
) -> ImageMistakes:
    all_of_it = found + missed + false + wrong_class + poor_place
    score = found / all_of_it if all_of_it else 1.0
    return ImageMistakes(image_id, found, missed, false, wrong_class, poor_place, score)


def _count(image: ImageMistakes) -> int:
    return image.missed + image.false + image.wrong_class + image.poor_place
