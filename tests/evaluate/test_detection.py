import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluate.coco_tables import (
    coco_eval,
    coco_eval_files,
    jittered,
    predictions_of,
    random_tables,
    truth_of,
)
from trivet.errors import UsageError
from trivet.evaluate.coco_results import read_coco_results, write_coco_results
from trivet.evaluate.detection import evaluate_detection, quick_scores
from trivet.evaluate.scores import DetectionScores
from trivet.structures import LabelMap, PredictionTable, TruthTable

CLASSES = LabelMap.from_names(["a", "b", "c"])


def twelve_figures(scores):
    figures = [scores.map, scores.map50, scores.map75, *scores.by_size.values()]
    return np.array([*figures, *scores.ar.values(), *scores.ar_by_size.values()])


def assert_equals_pycocotools(truth, predictions, labels):
    scores = evaluate_detection(truth, predictions, labels, bootstrap=0)
    oracle = coco_eval(truth, predictions, len(labels))
    np.testing.assert_allclose(np.nan_to_num(twelve_figures(scores), nan=-1), oracle.stats, atol=1e-9)
    precision = np.where(oracle.eval["precision"] < 0, np.nan, oracle.eval["precision"])[:, :, :, 0, 2]
    recall = np.where(oracle.eval["recall"] < 0, np.nan, oracle.eval["recall"])[:, :, 0, 2]
    per_class = [[one.ap, one.ap50, one.ap75, one.ar100] for one in scores.per_class]
    over_all = precision.mean(axis=1)
    wanted = [over_all.mean(axis=0), over_all[0], over_all[5], recall.mean(axis=0)]
    np.testing.assert_allclose(per_class, np.array(wanted).T, atol=1e-9)
    np.testing.assert_allclose(scores.curves.precision, precision[0].T, atol=1e-9)
    quick = quick_scores(truth, predictions, labels)
    np.testing.assert_array_equal([quick.map, quick.map50], [scores.map, scores.map50])
    return scores


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 12),
    classes=st.integers(1, 4),
    per_image=st.sampled_from([0.0, 0.5, 3.0, 12.0]),
    predictions=st.sampled_from([0.0, 1.0, 15.0]),
    crowd=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    ties=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_all_figures_equal_pycocotools(**choices):
    assert_equals_pycocotools(*random_tables(**choices))


@pytest.mark.parametrize("ties", [False, True])
def test_more_predictions_than_count_equal_pycocotools(ties):
    tables = random_tables(images=4, classes=1, per_image=60, predictions=260, ties=ties)
    assert len(tables[1]) > 4 * 200
    scores = assert_equals_pycocotools(*tables)
    assert scores.per_class[0].predictions == 400


def test_no_predictions_equal_pycocotools():
    truth, _, labels = random_tables()
    scores = assert_equals_pycocotools(truth, predictions_of([]), labels)
    assert scores.map == 0


def test_classes_without_truth_are_left_out():
    truth = truth_of({1: [(0, 0, 0, 10, 10)], 2: []})
    rows = [(1, 0, 0.9, 0, 0, 10, 10), (2, 1, 0.8, 0, 0, 10, 10)]
    scores = assert_equals_pycocotools(truth, predictions_of(rows), CLASSES)
    assert scores.map == pytest.approx(1)
    assert np.isnan(scores.per_class[1].ap)
    assert (scores.per_class[1].truths, scores.per_class[1].predictions) == (0, 1)


def test_no_truth_at_all_gives_nan_and_still_counts():
    truth = truth_of({1: [], 2: []})
    scores = evaluate_detection(truth, predictions_of([(1, 0, 0.9, 0, 0, 10, 10)]), CLASSES)
    assert np.isnan(scores.map)
    assert np.isnan(scores.interval95["map"].low)
    assert (scores.images, scores.boxes) == (2, 0)
    assert scores.confusion[3].tolist() == [1, 0, 0, 0]
    assert json.dumps(scores.to_json(), allow_nan=False)


def test_no_images_at_all_give_nan():
    scores = evaluate_detection(truth_of({}), predictions_of([]), CLASSES)
    assert np.isnan(scores.map)
    assert scores.interval95 == {}


def test_the_order_of_images_does_not_matter():
    truth, predictions, labels = random_tables(ties=True)
    turned = truth.take(np.arange(len(truth))[::-1])
    first, second = (evaluate_detection(table, predictions, labels).to_json() for table in (truth, turned))
    assert first == second


def coco128_truth(path):
    data = json.loads(path.read_text())
    ids = sorted(image["id"] for image in data["images"])
    file_ids = sorted(category["id"] for category in data["categories"])
    rows = sorted(data["annotations"], key=lambda row: ids.index(row["image_id"]))
    boxes = np.array([row["bbox"] for row in rows])
    boxes[:, 2:] += boxes[:, :2]
    counts = np.bincount([ids.index(row["image_id"]) for row in rows], minlength=len(ids))
    truth = TruthTable(
        np.array(ids),
        np.zeros((len(ids), 2), np.int32),
        np.concatenate([[0], np.cumsum(counts)]),
        boxes.astype(np.float32),
        np.array([file_ids.index(row["category_id"]) for row in rows]),
        np.array([row["iscrowd"] for row in rows], bool),
        np.array([row["area"] for row in rows], np.float32),
    )
    return truth, LabelMap(tuple(map(str, file_ids)), tuple(file_ids))


def test_real_coco_files_score_as_in_pycocotools(shared_data, tmp_path):
    path = shared_data / "coco128" / "instances_train2017.json"
    truth, labels = coco128_truth(path)
    assert truth.crowd.sum() == 10
    draws = np.random.default_rng(0)
    write_coco_results(tmp_path / "all.json", jittered(truth, len(labels), draws, per_image=90), labels)
    rows = json.loads((tmp_path / "all.json").read_text())
    rounded = [{**row, "bbox": [round(number, 2) for number in row["bbox"]]} for row in rows]
    results = tmp_path / "rounded.json"
    results.write_text(json.dumps(rounded))
    scores = evaluate_detection(truth, read_coco_results(results, truth, labels), labels, bootstrap=0)
    oracle = coco_eval_files(path, results)
    np.testing.assert_allclose(twelve_figures(scores), oracle.stats, atol=1e-6)
    assert 0.1 < scores.map < 0.9


def test_real_blood_cells_equal_pycocotools(shared_data):
    from trivet.data.sources import read_dataset

    test = read_dataset(shared_data / "bccd", check="none").test
    predictions = jittered(test.truth, 3, np.random.default_rng(0), per_image=60, ties=True)
    scores = assert_equals_pycocotools(test.truth, predictions, test.labels)
    assert scores.images == 72


def test_perfect_predictions_score_1_without_mistakes():
    truth, _, labels = random_tables(crowd=0)
    perfect = PredictionTable(
        truth.image_ids[truth.image_index()],
        truth.boxes_xyxy,
        np.linspace(0.5, 1, len(truth.labels), dtype=np.float32),
        truth.labels,
    )
    scores = evaluate_detection(truth, perfect, labels)
    assert scores.map == pytest.approx(1)
    assert scores.interval95["map"] == pytest.approx((1, 1))
    assert all(error.ap_lost == 0 and error.count == 0 for error in scores.errors)
    assert scores.worst == ()
    assert {image.score for image in scores.typical} == {1.0}
    assert np.trace(scores.confusion) == scores.confusion.sum() == scores.boxes
    assert scores.confusion_at.score == 0.5


def test_scores_come_back_from_json():
    scores = evaluate_detection(*random_tables(classes=4, per_image=1), bootstrap=20)
    again = DetectionScores.from_json(json.loads(json.dumps(scores.to_json(), allow_nan=False)))
    assert again.to_json() == scores.to_json()


def test_a_given_threshold_is_used():
    scores = evaluate_detection(*random_tables(), score=0.9, bootstrap=0, gallery=3)
    assert scores.confusion_at.score == 0.9
    assert len(scores.worst) == len(scores.typical) == 3


def test_other_size_ranges_are_named_in_the_result():
    truth, predictions, labels = random_tables()
    scores = evaluate_detection(truth, predictions, labels, sizes={"tiny": (0.0, 1e10)}, bootstrap=0)
    assert scores.by_size == {"tiny": scores.map}
    assert scores.ar_by_size == {"tiny": scores.ar["100"]}


@pytest.mark.parametrize(
    "sizes", [{"tiny": (5.0, 4.0)}, {"tiny": (-1.0, 4.0)}, {"all": (0.0, 4.0)}, {"tiny": (0.0, np.nan)}]
)
def test_bad_size_ranges_are_refused(sizes):
    with pytest.raises(UsageError, match=r"size range '(tiny|all)' is .*, wanted another name than 'all'"):
        evaluate_detection(*random_tables(), sizes=sizes)


def test_tables_that_do_not_fit_are_refused():
    truth, predictions, labels = random_tables()
    with pytest.raises(UsageError, match="prediction 0 is for image 999"):
        quick_scores(truth, replace(predictions, image_ids=np.full(len(predictions), 999)), labels)
