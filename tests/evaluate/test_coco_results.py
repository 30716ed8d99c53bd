import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.evaluate.coco_tables import random_tables, truth_of
from trivet.errors import DataError
from trivet.evaluate.coco_results import category_ids_of, read_coco_results, write_coco_results
from trivet.structures import LabelMap, PredictionTable

LABELS = LabelMap(("cat", "dog"), (17, 3))
TRUTH = truth_of({4: [], 9: []})
ROW = {"image_id": 4, "category_id": 17, "bbox": [1.5, 2, 3, 4], "score": 0.5}


def results_file(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_rows_become_columns(tmp_path):
    rows = [ROW, {**ROW, "image_id": 9, "category_id": 3, "score": 1, "segmentation": {"size": [1, 2]}}]
    found = read_coco_results(results_file(tmp_path, rows), TRUTH, LABELS)
    assert found.image_ids.tolist() == [4, 9]
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == [0.5, 1.0]
    np.testing.assert_array_equal(found.boxes_xyxy, [[1.5, 2, 4.5, 6]] * 2)
    assert found.boxes_xyxy.dtype == np.float32


def test_no_rows_are_no_predictions(tmp_path):
    found = read_coco_results(results_file(tmp_path, []), TRUTH, LABELS)
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("count", [0, 1, 10_000, 25_001])
def test_written_predictions_come_back_bit_for_bit(tmp_path, count):
    draws = np.random.default_rng(count)
    corner = draws.uniform(-5, 3000, (count, 2))
    boxes = np.concatenate([corner, corner + draws.uniform(0, 900, (count, 2))], axis=1).astype(np.float32)
    given = PredictionTable(
        draws.choice([4, 9], count),
        boxes,
        draws.random(count).astype(np.float32),
        draws.integers(0, 2, count),
    )
    path = tmp_path / "out.json"
    write_coco_results(path, given, LABELS)
    again = read_coco_results(path, TRUTH, LABELS)
    for column in ("image_ids", "boxes_xyxy", "scores", "labels"):
        np.testing.assert_array_equal(getattr(again, column), getattr(given, column))
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]


def test_pycocotools_reads_what_is_written(tmp_path):
    truth, predictions, labels = random_tables(images=5, classes=2)
    write_coco_results(tmp_path / "out.json", predictions, labels)
    coco = COCO()
    coco.dataset = {"info": {}, "images": [{"id": int(i)} for i in truth.image_ids], "categories": []}
    coco.createIndex()
    assert len(coco.loadRes(str(tmp_path / "out.json")).anns) == len(predictions)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = results_file(tmp_path, "before")
    bad = PredictionTable(np.array([4]), np.full((1, 4), 1.0), np.array([0.5]), np.array([2]))
    with pytest.raises(IndexError):
        write_coco_results(path, bad, LABELS)
    assert path.read_text() == "before"


def test_category_ids_are_the_files_or_count_from_one():
    assert category_ids_of(LABELS) == [17, 3]
    assert category_ids_of(LabelMap(("a", "b"), ("a", "b"))) == [1, 2]
    assert category_ids_of(LabelMap(("a", "b"), (0, "b"))) == [1, 2]


BAD_ROWS = {
    "unknown image": ({"image_id": 5}, "row 1: image id 5 is one that the 2 images of the truth do not have"),
    "unknown class": ({"category_id": 1}, "row 1: category id 1 is none of the label map's: 3, 17"),
    "huge class": ({"category_id": 10**30}, "row 1: category id 10{30} has more than 64 bits"),
    "huge image": ({"image_id": -(10**18) * 9}, "row 1: image id -9000000000000000000 is one"),
    "broken id": ({"image_id": 4.5}, "Expected `int`, got `float`, in row 1, image_id"),
    "text id": ({"image_id": "5"}, "Expected `int`, got `str`, in row 1, image_id"),
    "three numbers": ({"bbox": [1, 2, 3]}, "Expected `array` of length 4, in row 1, bbox"),
    "text box": ({"bbox": [1, 2, 3, "4"]}, r"Expected `float`, got `str`, in row 1, bbox\[3\]"),
    "null score": ({"score": None}, "Expected `float`, got `null`, in row 1, score"),
    "negative width": ({"bbox": [1, 2, -3, 4]}, r"row 1: box \[1.0, 2.0, -3.0, 4.0\] has a negative width"),
    "huge box": ({"bbox": [1, 2, 1e300, 4]}, r"row 1: box \[1.0, 2.0, 1e\+300, 4.0\] is beyond any image"),
    "high score": ({"score": 1.01}, "row 1: score 1.01 is outside of 0-1"),
    "low score": ({"score": -0.1}, "row 1: score -0.1 is outside of 0-1"),
    "NaN score": ({"score": float("nan")}, "is not JSON near row 1"),
    "infinite box": ({"bbox": [1, 2, float("inf"), 4]}, "is not JSON near row 1"),
}


@pytest.mark.parametrize(("change", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named(tmp_path, change, message):
    path = results_file(tmp_path, [ROW, {**ROW, **change}, ROW])
    with pytest.raises(DataError, match=message) as raised:
        read_coco_results(path, TRUTH, LABELS)
    assert str(path) in str(raised.value)


def test_a_missing_field_is_named(tmp_path):
    row = {name: value for name, value in ROW.items() if name != "bbox"}
    with pytest.raises(DataError, match="missing required field `bbox`, in row 0"):
        read_coco_results(results_file(tmp_path, [row]), TRUTH, LABELS)


def test_other_rows_with_the_fault_are_counted(tmp_path):
    rows = [{**ROW, "score": 2}] * 3
    with pytest.raises(DataError, match="2 other rows have the same fault"):
        read_coco_results(results_file(tmp_path, rows), TRUTH, LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[{", "is not JSON"),
        ('{"annotations": []}', "Expected `array`, got `object`"),
        ("[" * 100_000, "is not JSON|Expected `object`"),
        ('[{"extra": ' + "[" * 100_000, "is not JSON"),
        ("\x00\xff", "is not JSON"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_coco_results(results_file(tmp_path, content), TRUTH, LABELS)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.json cannot be read: No such file"):
        read_coco_results(tmp_path / "nothing.json", TRUTH, LABELS)
