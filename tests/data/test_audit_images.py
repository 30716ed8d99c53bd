import numpy as np

from tests.data.tables import context_of, table
from trivet.data import audit_images
from trivet.data.fingerprints import Fingerprints


def prints_of(*digests, seed=0, gray=(), faults=None):
    """Images that are the same where their digest is."""
    thumbnails = np.stack([np.random.default_rng(d + seed).integers(0, 256, (32, 32, 3)) for d in digests])
    thumbnails[list(gray)] = thumbnails[list(gray)][..., :1]
    hashes = np.stack([np.random.default_rng(d + seed).integers(0, 256, 16) for d in digests])
    rows = np.array([[d] * 16 for d in digests], np.uint8)
    return Fingerprints(rows, thumbnails.astype(np.uint8), hashes.astype(np.uint8), faults or {})


def by_name(findings):
    return {found.name: found for found in findings}


def test_the_same_image_in_two_splits_is_an_error():
    context = context_of(table([], []), table([], [], split="val"), prints=(prints_of(1, 2), prints_of(2, 3)))
    found = by_name(audit_images.same_images(context))
    assert list(found) == ["leak-across-splits"]
    leak = found["leak-across-splits"]
    assert (leak.severity, leak.verdict) == ("error", "proven")
    assert leak.title == "1 image of val or test is the same as one of another split"
    assert leak.evidence["examples"] == [["train: train1.jpg", "val: val0.jpg"]]


def test_the_same_image_twice_in_a_split_is_a_duplicate():
    context = context_of(table([], [], []), prints=(prints_of(5, 5, 5),))
    found = by_name(audit_images.same_images(context))
    assert list(found) == ["duplicate-image"]
    assert found["duplicate-image"].title == "2 images repeat another of the same split"


def test_nearly_the_same_images_are_suspected_only():
    one, other = prints_of(1, 2), prints_of(1, 9)
    other = Fingerprints(other.digests + 100, other.thumbnails, other.hashes, {})
    context = context_of(table([], []), table([], [], split="val"), prints=(one, other))
    found = by_name(audit_images.same_images(context))
    assert found["near-leak-across-splits"].verdict == "suspected"
    assert found["near-leak-across-splits"].severity == "warning"


def test_unreadable_images_are_errors_by_name():
    prints = prints_of(1, 2, faults={1: "cut short"})
    (found,) = audit_images.unreadable_images(context_of(table([], []), prints=(prints,)))
    assert found.severity == "error"
    assert found.evidence["examples"] == ["train1.jpg: cut short"]


def test_gray_images_are_counted_among_colour_only():
    def check(gray):
        return audit_images.images_without_colour(
            context_of(table([], [], []), prints=(prints_of(1, 2, 3, gray=gray),))
        )

    (found,) = check([0, 2])
    assert found.title == "2 images have no colour (66.7%)"
    assert check([]) == []
    assert check([0, 1, 2]) == []


def test_negatives_are_noted_and_a_majority_is_a_warning():
    box = (0, 0, 0, 9, 9)
    (found,) = audit_images.images_without_objects(context_of(table([box], [], [box])))
    assert (found.severity, found.evidence["images"]) == ("note", 1)
    (found,) = audit_images.images_without_objects(context_of(table([box], [], [])))
    assert found.severity == "warning"
    assert audit_images.images_without_objects(context_of(table([box]))) == []


def test_without_fingerprints_images_are_not_judged():
    context = context_of(table([], []))
    assert audit_images.same_images(context) == audit_images.unreadable_images(context) == []
    assert audit_images.images_without_colour(context) == []
