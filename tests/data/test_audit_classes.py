from dataclasses import replace

import numpy as np
import pytest

from tests.data.tables import context_of, table
from trivet.data import audit_classes
from trivet.structures import LabelMap


def boxes(*counts):
    return [(label, 0, 0, 9, 9) for label, count in enumerate(counts) for _ in range(count)]


def only(findings):
    assert len(findings) == 1, findings
    return findings[0]


def test_a_class_without_training_box_is_told_also_where_others_have_it():
    context = context_of(table(boxes(20, 0, 20)), table(boxes(1, 1, 0), split="val"))
    found = only(audit_classes.absent_classes(context))
    assert found.title == "1 class has no training box: class1"
    assert found.evidence == {"classes": ["class1"], "in_other_splits": ["class1"]}
    assert audit_classes.absent_classes(context_of(table(boxes(1, 1, 1)))) == []


def test_images_with_a_class_each_are_counted_as_images():
    labels = np.array([0] * 12 + [1])
    train = replace(table(*[[]] * 13), task="classification", class_labels=labels)
    context = context_of(train)
    assert context.splits.task == "classification"
    assert only(audit_classes.absent_classes(context)).title == "1 class has no training image: class2"
    assert only(audit_classes.rare_classes(context)).evidence == {"images": {"class1": 1}}
    assert "12 times the training images of class1" in only(audit_classes.uneven_classes(context)).title


def test_crowd_regions_are_no_examples():
    assert only(audit_classes.absent_classes(context_of(table([(0, 0, 0, 9, 9, True)], classes=1))))


def test_few_examples_are_told():
    found = only(audit_classes.rare_classes(context_of(table(boxes(9, 10, 0)))))
    assert found.evidence["boxes"] == {"class0": 9}


@pytest.mark.parametrize(
    ("counts", "uneven"), [((100, 10, 0), 1), ((99, 10, 50), 0), ((5, 0, 0), 0), ((0, 0, 0), 0)]
)
def test_uneven_classes_are_told_from_a_ratio_of_ten(counts, uneven):
    assert len(audit_classes.uneven_classes(context_of(table(boxes(*counts))))) == uneven


@pytest.mark.parametrize(
    ("ids", "told"), [((0, 1, 2), 0), ((1, 2, 3), 1), ((0, 1, 5), 1), (("a", "b", "c"), 0)]
)
def test_ids_that_are_not_labels_are_told(ids, told):
    context = context_of(table(boxes(1, 1, 1)))
    labels = LabelMap(context.splits.labels.names, ids)
    context = replace(context, splits=replace(context.splits, labels=labels))
    assert len(audit_classes.ids_apart_from_labels(context)) == told
