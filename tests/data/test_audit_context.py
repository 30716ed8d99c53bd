import pytest

from tests.data.tables import table
from trivet.data.audit_context import counted, examples_of


@pytest.mark.parametrize(("count", "words"), [(1, "1 box"), (0, "0 boxes"), (1234, "1,234 boxes")])
def test_counts_agree_with_their_noun(count, words):
    assert counted(count, "box", "boxes") == words


def test_examples_name_the_image_the_class_and_the_corners():
    split = table([], [(1, 0, 0, 9, 9.5)], [(2, 1, 2, 3, 4), (0, 5, 6, 7, 8)])
    assert examples_of(split, [0, 2]) == [
        "train1.jpg: class1 (0, 0, 9, 9.5)",
        "train2.jpg: class0 (5, 6, 7, 8)",
    ]
    assert len(examples_of(table([(0, 0, 0, 1, 1)] * 30), range(30))) == 10
