import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.report.task_contents import (
    STREET,
    THINGS,
    class_table,
    classification_contents,
    segmentation_contents,
    segmentation_scores,
)
from tests.report.test_page import HOSTILE, outline, sections
from trivet.errors import UsageError
from trivet.evaluate.classification import evaluate_classification
from trivet.report.contents import AuditContents, Picture, ReportContents
from trivet.report.page import write_audit_page, write_report
from trivet.structures import BoxTarget, ClassScores, Detections, LabelMap

MAKE = {"segmentation": segmentation_contents, "classification": classification_contents}


@pytest.fixture(scope="module")
def contents():
    return {task: make() for task, make in MAKE.items()}


@pytest.fixture(scope="module")
def pages(contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {task: write_report(folder / f"{task}.html", one) for task, one in contents.items()}


def test_sections_of_a_segmenter(pages):
    assert sections(pages["segmentation"]) == ["score", "classes", "history", "gallery", "data"]
    words = " ".join(outline(pages["segmentation"]).words)
    for part in (
        "mIoU",
        "Boundary F1",
        "0.75% of the image",
        "tram is neither in the truth nor predicted",
        "void",
    ):
        assert part in words
    assert re.search(r"tram\s+car\s+1\.040%\s+car\s+road\s+0\.310%", words)  # the larger share first
    assert "50.00%" in words  # class pixels as shares


def test_sections_of_a_classifier(pages):
    assert sections(pages["classification"]) == [
        "score",
        "classes",
        "calibration",
        "history",
        "gallery",
        "data",
    ]
    words = " ".join(outline(pages["classification"]).words)
    for part in (
        "Top-1",
        "Top-5",
        "Calibration error",
        "The most confident mistakes",
        "Images of each class",
    ):
        assert part in words


@pytest.mark.parametrize("task", MAKE)
def test_a_page_stands_alone(pages, task):
    page = outline(pages[task])
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags


@pytest.mark.parametrize("task", MAKE)
def test_hostile_names_stay_text(contents, task, tmp_path):
    names = [HOSTILE, *contents[task].names[1:]]
    scores = contents[task].scores
    row = replace(scores.per_class[0], name=HOSTILE)
    changed = replace(
        contents[task], names=names, scores=replace(scores, per_class=(row, *scores.per_class[1:]))
    )
    page = outline(write_report(tmp_path / "page.html", changed))
    assert "script" not in page.tags
    assert page.handlers == []
    assert HOSTILE in "".join(page.words)


def test_small_pictures_keep_every_pixel(pages):
    page = pages["classification"].read_text()
    assert page.count('class="crisp"') == 13
    assert page.count("data:image/png") == 13


def test_a_page_without_intervals_top5_or_void(tmp_path):
    labels, scores = class_table(40)
    few = scores[:, :3] / scores[:, :3].sum(axis=1, keepdims=True)
    bare = evaluate_classification(np.arange(40), labels % 3, few, LabelMap.from_names("abc"), bootstrap=0)
    text = write_report(
        tmp_path / "a.html", ReportContents("t", "classification", "abc", scores=bare)
    ).read_text()
    assert "Top-5" not in text
    assert "95% interval" not in text
    truth = np.zeros((6, 6), np.uint8)
    whole = segmentation_scores([(truth, truth)])
    text = write_report(
        tmp_path / "b.html", ReportContents("t", "segmentation", STREET, scores=whole)
    ).read_text()
    assert "void pixels" not in text
    assert "Most confused" not in text


@pytest.mark.parametrize("task", MAKE)
def test_a_run_that_was_not_scored_has_a_page(task, tmp_path):
    path = write_report(tmp_path / "page.html", ReportContents("t", task, ("a", "b")))
    assert f"{task[:8]}" in path.read_text()
    assert "it has not been scored" in path.read_text()


def test_an_audit_of_masks(contents, tmp_path):
    facts = contents["segmentation"].facts
    path = write_audit_page(tmp_path / "audit.html", AuditContents("Streets", STREET, facts=facts))
    words = " ".join(outline(path).words)
    assert "Pixels of each class" in words
    assert "Pixels with several labels" in words


def test_scores_of_another_task_are_refused():
    with pytest.raises(UsageError, match="report on classification cannot show SegmentationScores"):
        ReportContents("t", "classification", STREET, scores=segmentation_scores())


def test_a_picture_holds_truth_and_prediction_of_one_task():
    image, mask = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
    nothing = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(UsageError, match="got ndarray and Detections"):
        Picture(image, "c", "worst", mask, Detections.empty())
    with pytest.raises(UsageError, match="got BoxTarget and ClassScores"):
        Picture(image, "c", "worst", nothing, ClassScores(torch.ones(len(THINGS)) / len(THINGS)))
    with pytest.raises(UsageError, match=r"as large as its image, got \(5, 4\) for \(4, 5\)"):
        Picture(image, "c", "worst", mask.T.copy(), mask.T.copy())
