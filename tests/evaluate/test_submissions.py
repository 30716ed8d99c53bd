import csv
import json
import weakref

import cv2
import numpy as np
import pytest
import torch

from tests.evaluate.coco_tables import coco_eval
from trivet.errors import DataError, StorageError, UsageError
from trivet.evaluate.board import check_box_submission, check_mask_submission
from trivet.evaluate.mask_counts import SegmentationCounts
from trivet.evaluate.submissions import (
    read_box_rows,
    read_mask_rows,
    shrunk_mask,
    write_box_submission,
    write_mask_submission,
)
from trivet.structures import Detections, LabelMap, PredictionTable, TruthTable

LABELS = LabelMap.from_names(["background", "paper", "metal"])
IMAGES = ("batch_01_vt/0002.jpg", "batch_01_vt/0021.jpg")


def masks(count=2, side=512):
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 3, (16, 16)), np.ones((side // 16,) * 2)).astype(np.uint8)
        for _ in range(count)
    ]


@pytest.fixture
def mask_file(tmp_path):
    path = tmp_path / "submission.csv"
    assert write_mask_submission(path, zip(IMAGES, masks(), strict=True)) == 2
    return path


def changed(path, change):
    """Rewrite a submission through a function of its rows."""
    limit = csv.field_size_limit(1 << 24)
    with path.open(newline="") as file:
        rows = change(list(csv.reader(file)))
    csv.field_size_limit(limit)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def told(path, images=IMAGES, classes=3):
    faults = []
    read = list(read_mask_rows(path, images=images, classes=classes, faults=faults))
    return [f"{fault.row}: {fault.image_id}: {fault.text}" for fault in faults], read


def test_the_segmentation_format_to_the_letter(mask_file):
    lines = mask_file.read_text().split("\n")
    assert lines[0] == "image_id,PredictionString"
    assert lines[3] == ""
    image_id, string = lines[1].split(",")
    assert image_id == IMAGES[0]
    wanted = masks()[0][::2, ::2]  # nearest, 512 to 256: every second pixel
    assert string == " ".join(str(label) for label in wanted.ravel())
    assert len(string.split(" ")) == 65_536


def test_masks_come_back_as_they_were_written(mask_file):
    faults, read = told(mask_file)
    assert faults == []
    assert [image_id for image_id, _ in read] == list(IMAGES)
    for (_, found), mask in zip(read, masks(), strict=True):
        np.testing.assert_array_equal(found, shrunk_mask(mask))


def test_ids_can_be_shifted(tmp_path):
    path = tmp_path / "shifted.csv"
    write_mask_submission(path, [(IMAGES[0], masks()[0])], add=1)
    faults = []
    (row,) = read_mask_rows(path, images=IMAGES[:1], classes=3, add=1, faults=faults)
    np.testing.assert_array_equal(row[1], shrunk_mask(masks()[0]))
    assert told(path, IMAGES[:1])[0] == [f"2: {IMAGES[0]}: class id 3 is out of range, wanted 0 to 2"]


def with_string(row, string):
    return lambda rows: [*rows[:row], [rows[row][0], string], *rows[row + 1 :]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: rows[:2], f"0: {IMAGES[1]}: has no row"),
        (lambda rows: rows[:2], "0: : 1 rows, wanted 2, one an image"),
        (lambda rows: [*rows, rows[1]], f"4: {IMAGES[0]}: has a row already"),
        (
            lambda rows: [*rows, ["other.jpg", rows[1][1]]],
            "4: other.jpg: is none of the images to be predicted",
        ),
        (
            lambda rows: [*rows, [IMAGES[0].rsplit("/", 1)[-1], rows[1][1]]],
            f"is none of the images to be predicted; the data set has {IMAGES[0]}",
        ),
        (
            lambda rows: [["image", "PredictionString"], *rows[1:]],
            "1: : the header is 'image,PredictionString', wanted",
        ),
        (lambda rows: [row[::-1] for row in rows], "1: : the header is 'PredictionString,image_id', wanted"),
        (lambda rows: [], "1: : the header is '', wanted"),
        (with_string(1, "0 1 2"), f"2: {IMAGES[0]}: 3 class ids, wanted 65,536 (256 x 256)"),
        (with_string(1, " ".join(["0"] * 65_537)), f"2: {IMAGES[0]}: 65,537 class ids"),
        (
            with_string(2, " ".join(["3"] * 65_536)),
            f"3: {IMAGES[1]}: class id 3 is out of range, wanted 0 to 2",
        ),
        (
            with_string(1, " ".join(["9" * 30] * 65_536)),
            f"2: {IMAGES[0]}: class id 1000000000 is out of range",
        ),
        (with_string(1, " ".join(["-1"] * 65_536)), f"2: {IMAGES[0]}: '-1' is not a class id"),
        (with_string(1, " ".join(["1.0"] * 65_536)), f"2: {IMAGES[0]}: '1.0' is not a class id"),
        (with_string(1, " ".join(["\N{SUPERSCRIPT TWO}"] * 65_536)), "is not a class id"),
        (lambda rows: [*rows, ["a", "b", "c"]], "4: : 3 columns, wanted 2"),
    ],
)
def test_faults_of_a_segmentation_submission(mask_file, change, fault):
    faults, _ = told(changed(mask_file, change))
    assert any(fault in one for one in faults), faults


def test_the_other_rows_of_a_faulty_file_are_read(mask_file):
    faults, read = told(changed(mask_file, with_string(1, "0 1")))
    assert len(faults) == 1
    assert [image_id for image_id, _ in read] == [IMAGES[1]]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x00", b"image_id,PredictionString\na.jpg,\x81\n", None])
def test_a_file_that_is_no_csv(tmp_path, content):
    path = tmp_path / "submission.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        told(path)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "endless.csv"
    with path.open("wb") as file:
        file.write(b"image_id,PredictionString\na,")
        file.truncate(1 << 28)
    with pytest.raises(DataError, match="line of over"):
        told(path)


def test_writing_is_whole_or_not_at_all(mask_file):
    before = mask_file.read_bytes()
    with pytest.raises(UsageError, match="comes twice"):
        write_mask_submission(mask_file, [(IMAGES[0], masks()[0])] * 2)
    assert mask_file.read_bytes() == before
    assert [path.name for path in mask_file.parent.iterdir()] == [mask_file.name]
    with pytest.raises(StorageError, match="cannot write"):
        write_mask_submission(mask_file / "below", [])


def test_one_row_is_in_memory_at_a_time(tmp_path):
    path, alive = tmp_path / "many.csv", []

    def rows():
        for place in range(4):
            assert sum(reference() is not None for reference in alive) <= 1
            mask = masks(1)[0]
            alive.append(weakref.ref(mask))
            yield f"{place}.jpg", mask

    write_mask_submission(path, rows())
    with path.open("a") as file:
        file.write("0.jpg,\n")
    faults = []
    reading = read_mask_rows(path, images=["0.jpg"], classes=3, faults=faults)
    assert next(reading)[0] == "0.jpg"
    assert faults == []  # what comes later has not been read yet
    assert list(reading) == []
    assert len(faults) == 5


def test_the_board_scores_the_competitions_own_sample(shared_data, tmp_path):
    folder = shared_data / "trash_competition_sample"
    data = json.loads((folder / "val.json").read_text())
    labels = LabelMap.from_names(["Background", *(category["name"] for category in data["categories"])])
    truth = []
    for image in data["images"]:
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for item in data["annotations"]:
            if item["image_id"] == image["id"]:
                for part in item["segmentation"]:
                    cv2.fillPoly(
                        mask, [np.array(part).reshape(-1, 2).round().astype(np.int32)], item["category_id"]
                    )
        truth.append(mask)
    names = [image["file_name"] for image in data["images"]]
    found = [np.roll(mask, 5, axis=1) for mask in truth]
    path = tmp_path / "submission.csv"
    write_mask_submission(path, zip(names, found, strict=True))
    images = {name: place for place, name in enumerate(names)}
    result = check_mask_submission(path, images, truth.__getitem__, labels)
    counts = SegmentationCounts(11, boundaries=False)
    for place, (one, other) in enumerate(zip(found, truth, strict=True)):
        counts.add(place, one[::2, ::2].copy(), other[::2, ::2].copy())
    assert result.faults == ()
    assert (result.metric, result.scored) == ("mIoU", 10)
    assert result.score == counts.miou()
    assert 0.3 < result.score < 0.95
    write_mask_submission(path, zip(names, truth, strict=True))
    assert check_mask_submission(path, images, truth.__getitem__, labels).score == 1


def box_tables():
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 400, (20, 2))
    boxes = np.hstack([corners, corners + rng.uniform(20, 100, (20, 2))]).astype(np.float32)
    truth = TruthTable(
        np.array([10, 20]),
        np.full((2, 2), 512, np.int32),
        np.array([0, 8, 20]),
        boxes,
        rng.integers(0, 3, 20),
        np.zeros(20, bool),
        (boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )
    found = []
    for place in range(2):
        rows = truth.rows(place)
        moved = boxes[rows] + rng.normal(0, 5, boxes[rows].shape).astype(np.float32)
        scores = np.sort(rng.random(len(moved)).astype(np.float32))[::-1].copy()
        found.append(
            Detections(
                torch.from_numpy(moved), torch.from_numpy(scores), torch.from_numpy(truth.labels[rows])
            )
        )
    return truth, found


def test_boxes_come_back_bit_for_bit_and_are_scored(tmp_path):
    truth, found = box_tables()
    path = tmp_path / "boxes.csv"
    assert write_box_submission(path, zip(IMAGES, found, strict=True)) == 2
    lines = path.read_text().splitlines()
    assert lines[0] == "PredictionString,image_id"
    string, _, image_id = lines[1].rpartition(",")
    assert image_id == IMAGES[0]
    assert string.endswith(" ")
    assert len(string.split()) == 6 * len(found[0])
    faults = []
    for (_, again), detections in zip(
        read_box_rows(path, images=IMAGES, classes=3, faults=faults), found, strict=True
    ):
        assert torch.equal(again.boxes_xyxy, detections.boxes_xyxy)
        assert torch.equal(again.scores, detections.scores)
        assert torch.equal(again.labels, detections.labels)
    result = check_box_submission(path, {IMAGES[0]: 0, IMAGES[1]: 1}, truth, LABELS)
    oracle = coco_eval(truth, PredictionTable.from_detections([10, 20], found), 3)
    assert result.faults == ()
    assert result.score == pytest.approx(oracle.stats[1])


def test_low_scores_can_be_left_out(tmp_path):
    _, found = box_tables()
    path = tmp_path / "boxes.csv"
    write_box_submission(path, [(IMAGES[0], found[0])], least_score=0.5)
    ((_, again),) = read_box_rows(path, images=IMAGES[:1], classes=3, faults=[])
    assert len(again) == int((found[0].scores >= 0.5).sum()) < len(found[0])


@pytest.mark.parametrize(
    ("string", "fault"),
    [
        ("0 0.5 1 2 3", "5 values, wanted a multiple of 6: label score left top right bottom"),
        ("0 0.5 1 2 3 x", "a value is no number"),
        ("0 0.5 1 2 3 nan", "a value that is not finite"),
        ("3 0.5 1 2 3 4", "label 3.0 is out of range, wanted 0 to 2"),
        ("0.5 0.5 1 2 3 4", "label 0.5 is out of range"),
        ("-1 0.5 1 2 3 4", "label -1.0 is out of range"),
        ("0 1.5 1 2 3 4", "score 1.5 is outside of 0-1"),
        ("0 0.5 10 2 3 4", "box [10.0, 2.0, 3.0, 4.0] ends before it begins"),
        ("0 0.5 1 2 3 4e9", "is beyond any image"),
    ],
)
def test_faults_of_a_detection_submission(tmp_path, string, fault):
    path = tmp_path / "boxes.csv"
    path.write_text(f"PredictionString,image_id\n{string},{IMAGES[0]}\n,{IMAGES[1]}\n")
    faults = []
    read = list(read_box_rows(path, images=IMAGES, classes=3, faults=faults))
    assert [image_id for image_id, _ in read] == [IMAGES[1]]  # an image without boxes is no fault
    assert len(read[0][1]) == 0
    assert len(faults) == 1
    assert (faults[0].row, faults[0].image_id) == (2, IMAGES[0])
    assert fault in faults[0].text
