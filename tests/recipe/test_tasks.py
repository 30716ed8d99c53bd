"""Masks and classes through the verbs: fit, score, predict, on data made on the spot."""

import json
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from trivet.data.digits import write_digits
from trivet.errors import UsageError
from trivet.evaluate.classification_scores import ClassificationScores
from trivet.evaluate.segmentation_scores import SegmentationScores
from trivet.recipe.assess_segmentation import predicted_masks
from trivet.recipe.fit import fit, resume
from trivet.recipe.overfitting import overfitting_findings
from trivet.recipe.predict import predict
from trivet.recipe.predict_files import predict_files
from trivet.recipe.prepare import read_splits
from trivet.recipe.run_folder import load_run
from trivet.recipe.score import score
from trivet.recipe.submission import is_submission, score_submission, write_submission


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return write_digits(
        tmp_path_factory.mktemp("masks") / "digits",
        images={"train": 8, "val": 4, "test": 4},
        classes=3,
        size_hw=(64, 64),
        heights=(0.2, 0.5),
    )


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Handwritten digits in class folders, of two sizes and in grey."""
    folder = tmp_path_factory.mktemp("classes") / "ink"
    digits = load_digits()
    for number, (image, digit) in enumerate(zip(digits.images[:80], digits.target[:80], strict=True)):
        split = "train" if number < 56 else "val"
        path = folder / split / f"digit-{digit % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 32 if number % 5 else 29
        cv2.imwrite(str(path), cv2.resize((image * 15).astype(np.uint8), (side, side)))
    return folder


@pytest.fixture(scope="module")
def segmenter(masks, tmp_path_factory):
    values = {
        "task.kind": "segmentation",
        "train.epochs": 2,
        "train.batch": 4,
        "model.size_hw": (64, 96),
        "model.pretrained": False,
    }
    return fit(masks, values, out=tmp_path_factory.mktemp("runs"), name="masks", listeners=())


@pytest.fixture(scope="module")
def classifier(classes, tmp_path_factory):
    values = {"train.epochs": 3, "train.batch": 14, "model.options": {"widths": (8, 16, 16)}}
    return fit(classes, values, out=tmp_path_factory.mktemp("runs"), name="classes", listeners=())


def test_a_segmenter_is_fitted_scored_and_reported(segmenter, masks):
    assert isinstance(segmenter.scores, SegmentationScores)
    folder = segmenter.folder
    written = json.loads(folder.scores.read_text())
    assert written["task"] == "segmentation"
    assert written["miou"] == pytest.approx(segmenter.scores.miou)
    predicted = sorted((folder.path / "predictions").glob("*.png"))
    assert len(predicted) == 4
    for path in predicted:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(str(masks / "masks" / "val" / f"{path.stem.split('-', 1)[1]}.png"), -1)
        assert mask.shape == truth.shape
        assert mask.max() < 4
    assert "mIoU" in folder.report.read_text()
    rows = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert {"val_miou", "val_pixel_accuracy", "val_loss", "lovasz"} <= rows[-1].keys()


@dataclass(frozen=True)
class Held:
    masks: list[np.ndarray]

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return self.masks[index]

    def take(self, indices):
        return Held([self.masks[index] for index in indices])


def test_masks_learnt_by_heart_are_told_from_masks_that_are_not(segmenter, masks):
    run = load_run(segmenter.folder.path)
    splits = read_splits(run.recipe.data, seed=0, task="segmentation")
    known = Held([found.labels.numpy() for _, found in predicted_masks(run, splits.train)])
    by_heart = replace(splits.train, masks=known)
    (finding,) = overfitting_findings(run, by_heart, splits.val, segmenter.scores)
    assert finding.title.startswith("Train mIoU 1.000 is ")
    assert finding.evidence["validation mIoU"] == pytest.approx(segmenter.scores.miou)
    gap, interval = finding.evidence["gap"], segmenter.scores.interval95["miou"]
    # nothing is uncertain about 1.000, so that the gap is as uncertain as the other score
    assert finding.evidence["interval95"] == pytest.approx([1 - interval.high, 1 - interval.low])
    assert gap == pytest.approx(1 - segmenter.scores.miou)
    assert overfitting_findings(run, splits.val, splits.val, segmenter.scores) == []


def test_written_masks_score_as_the_run_did(segmenter, masks):
    again = score(segmenter.folder.path / "predictions", masks, split="val", bootstrap=0)
    assert again.miou == pytest.approx(segmenter.scores.miou, abs=1e-12)
    np.testing.assert_array_equal(again.confusion, segmenter.scores.confusion)


def test_masks_of_another_split_are_refused(segmenter, masks):
    with pytest.raises(UsageError, match="has no mask for the image"):
        score(segmenter.folder.path / "predictions", masks, split="train")


def test_predicted_masks_are_written_in_the_images_own_size(segmenter, masks, tmp_path):
    images = sorted((masks / "images" / "test").iterdir())
    found = predict_files(load_run(segmenter.folder.path), images, out=tmp_path)
    assert [line.split(":")[0] for line in found.lines()] == [str(path) for path in images]
    content = found.to_json()
    assert content["task"] == "segmentation"
    for image in content["images"]:
        mask = cv2.imread(image["mask"], cv2.IMREAD_UNCHANGED)
        assert mask.shape == (image["height"], image["width"])
        for entry in image["classes"]:
            assert (mask == entry["label"]).mean() == pytest.approx(entry["share"], abs=1e-5)


def test_images_are_looked_at_mirrored_too_when_asked(segmenter, classifier, masks):
    once, twice = (score(segmenter.folder.path, masks, bootstrap=0, flip=flip) for flip in (False, True))
    assert once.pixels == twice.pixels
    assert not np.array_equal(once.confusion, twice.confusion)
    assert twice.miou == pytest.approx(once.miou, abs=0.1)
    path = sorted((masks / "images" / "test").iterdir())[0]
    run = load_run(classifier.folder.path, flip=True)
    shares = [next(predict(one, [path])).found.scores for one in (load_run(classifier.folder.path), run)]
    assert shares[1].sum() == pytest.approx(1, abs=1e-5)
    assert not np.allclose(*shares, atol=1e-6)
    with pytest.raises(UsageError, match="only a run can look at images again"):
        score(segmenter.folder.path / "predictions", masks, split="val", flip=True)


def test_a_competition_file_is_written_and_scored_as_the_board_does(segmenter, masks, tmp_path):
    run = load_run(segmenter.folder.path)
    path = tmp_path / "submission.csv"
    assert write_submission(run, [masks / "images" / "test"], path, format="boostcamp-seg") == 4
    assert is_submission(path) == "boostcamp-seg"
    result = score_submission(path, masks, split="test")
    assert (result.faults, result.scored) == ((), 4)
    assert result.score == pytest.approx(
        score(segmenter.folder.path, split="test", bootstrap=0).miou, abs=0.02
    )
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:3]) + "\n")
    faults = score_submission(path, masks, split="test").faults
    assert [fault.image_id for fault in faults] == ["", "000003.jpg", "000004.jpg"]


def test_a_competition_file_of_another_task_is_refused(classifier, masks, tmp_path):
    run = load_run(classifier.folder.path)
    with pytest.raises(UsageError, match=r"boostcamp-seg is for segmentation, and .* for classification"):
        write_submission(run, [masks / "images"], tmp_path / "x.csv", format="boostcamp-seg")
    with pytest.raises(UsageError, match="did you mean 'boostcamp-seg'"):
        write_submission(run, [masks / "images"], tmp_path / "x.csv", format="boostcamp-sgm")
    assert not (tmp_path / "x.csv").exists()


def test_a_classifier_is_fitted_scored_and_reported(classifier, classes):
    assert isinstance(classifier.scores, ClassificationScores)
    assert classifier.scores.images == 24
    assert "digit-0" in classifier.folder.report.read_text()
    predictions = json.loads(classifier.folder.predictions.read_text())
    assert len(predictions) == 24
    hits = sum(row["classes"][0]["name"] in row["image"].split("/") for row in predictions)
    assert hits / 24 == pytest.approx(classifier.scores.top1)
    again = score(classifier.folder.predictions, classes, split="val", bootstrap=0)
    assert again.top1 == pytest.approx(classifier.scores.top1)
    np.testing.assert_array_equal(again.confusion, classifier.scores.confusion)


def test_predicted_classes_are_told(classifier, classes, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    images = [*sorted((classes / "val" / "digit-1").iterdir())[:3], broken]
    found = predict_files(load_run(classifier.folder.path), images, out=tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").iterdir())) == 3
    rows = list(found.csv_rows())
    assert rows[0] == ("image", "label", "name", "score")
    assert sum(float(row[3]) for row in rows[1:5]) == pytest.approx(1, abs=1e-4)
    assert found.to_json()["images"][3]["fault"].startswith(str(broken))


def test_a_finished_classifier_resumes_to_the_same_scores(classifier):
    again = resume(classifier.folder.path, listeners=())
    assert again.scores.to_json() == classifier.scores.to_json()


def test_a_model_of_another_task_is_refused(classes, tmp_path):
    with pytest.raises(UsageError, match="is for detection, and the task is classification"):
        fit(
            classes,
            {"model.name": "efficientdet_lite0", "model.pretrained": False, "train.epochs": 1},
            out=tmp_path,
            listeners=(),
        )


def test_masks_are_refined_when_asked(segmenter, masks):
    plain = score(segmenter.folder.path, split="test", bootstrap=0)
    refined = score(segmenter.folder.path, split="test", bootstrap=0, crf="pydensecrf")
    assert refined.pixels == plain.pixels
    image = sorted((masks / "images" / "test").iterdir())[:1]
    found = [
        next(predict(load_run(segmenter.folder.path, crf=crf), image)).found for crf in (None, "deeplab-v1")
    ]
    assert found[0].labels.shape == found[1].labels.shape
    assert (found[0].scores != found[1].scores).any()


def test_only_masks_can_be_refined(classifier):
    with pytest.raises(UsageError, match=r"a dense CRF refines masks, and .* was trained for classification"):
        load_run(classifier.folder.path, crf="deeplab-v1")
