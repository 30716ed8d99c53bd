import pytest

from tests.data.tables import context_of, table
from trivet.data import audit_boxes


def only(findings):
    assert len(findings) == 1, findings
    return findings[0]


def test_equal_boxes_of_one_image_and_class_are_duplicates():
    box = (0, 1, 2, 30, 40)
    train = table([box, box, box], [box], [(1, *box[1:]), (0, 1, 2, 30, 40.5)])
    found = only(audit_boxes.duplicate_boxes(context_of(train, table([box, box], split="val"))))
    assert found.name == "duplicate-box"
    assert found.evidence["boxes"] == 3
    assert found.evidence["by_split"] == {"train": 2, "val": 1}
    assert found.evidence["examples"][0] == "train0.jpg: class0 (1, 2, 30, 40)"
    assert found.title == "3 boxes are the same as an earlier one of the same image and class"


def test_equal_boxes_of_two_classes_are_told_apart_from_duplicates():
    train = table([(0, 1, 2, 30, 40), (1, 1, 2, 30, 40)])
    found = only(audit_boxes.duplicate_boxes(context_of(train)))
    assert (found.name, found.evidence["boxes"]) == ("box-with-two-classes", 1)


@pytest.mark.parametrize(
    ("box", "full"), [((0, 0, 200, 100), 1), ((0, 0, 199.7, 99.9), 1), ((0, 0, 199, 100), 0)]
)
def test_a_box_of_the_whole_image_is_noted(box, full):
    found = audit_boxes.full_image_boxes(context_of(table([(0, *box), (0, 0, 0, 200, 50)])))
    assert len(found) == full


def test_without_sizes_no_box_is_that_of_the_whole_image():
    assert audit_boxes.full_image_boxes(context_of(table([(0, 0, 0, 9, 9)], size_hw=(0, 0)))) == []


def test_boxes_under_two_pixels_are_tiny():
    train = table([(0, 0, 0, 1.9, 50), (0, 0, 0, 50, 1.9), (0, 0, 0, 2, 2)])
    assert only(audit_boxes.tiny_boxes(context_of(train))).evidence["boxes"] == 2


def test_crowd_is_counted():
    train = table([(0, 0, 0, 9, 9, True), (0, 0, 0, 9, 9)])
    found = only(audit_boxes.crowd_boxes(context_of(train)))
    assert found.title == "1 box is marked as crowd or difficult"


def test_many_small_boxes_are_a_warning_that_says_which_size_would_do():
    few = table([(0, 0, 0, 6, 6)] + [(0, 0, 0, 50, 50)] * 30, size_hw=(1000, 1000))
    assert audit_boxes.small_boxes(context_of(few)) == []
    many = table([(0, 0, 0, 6, 6)] * 3 + [(0, 0, 0, 50, 50)] * 30, size_hw=(1000, 1000))
    found = only(audit_boxes.small_boxes(context_of(many, size_hw=(1000, 1000))))
    assert found.evidence["boxes"] == 3
    assert "about 1.3 times as large" in found.remedy
    assert audit_boxes.small_boxes(context_of(many, size_hw=(2000, 2000))) == []


def test_boxes_the_anchors_miss_are_a_warning():
    square = table([(0, x, x, x + 32, x + 32) for x in range(0, 400, 8)], size_hw=(512, 512))
    assert audit_boxes.missed_by_anchors(context_of(square)) == []
    long = table([(0, 0, y, 500, y + 10) for y in range(0, 400, 8)], size_hw=(512, 512))
    found = only(audit_boxes.missed_by_anchors(context_of(long)))
    assert found.evidence["share"] < 0.1


@pytest.mark.parametrize(
    "check",
    [
        audit_boxes.duplicate_boxes,
        audit_boxes.full_image_boxes,
        audit_boxes.tiny_boxes,
        audit_boxes.crowd_boxes,
        audit_boxes.small_boxes,
        audit_boxes.missed_by_anchors,
    ],
)
def test_nothing_is_found_where_there_is_no_box(check):
    assert check(context_of(table([], []))) == []
