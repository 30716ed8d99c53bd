import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.report.naming import plain_label, short_codes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("cat", "cat"),
        ("a\nb\x00c", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("traffic light, red, left", "traffic l…, left"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_plain_label(text, shown):
    assert plain_label(text, most=16) == shown


@given(st.text(), st.integers(3, 30))
def test_plain_label_fits_and_prints(text, most):
    label = plain_label(text, most)
    assert len(label) <= most
    assert label.isprintable()


def test_short_codes():
    assert short_codes(["RBC", "WBC", "plate", "platelet"]) == ("R", "W", "2", "3")
    assert short_codes(["", "7up", "$"]) == ("0", "1", "2")
    assert short_codes([]) == ()


@given(st.lists(st.text(), unique=True, max_size=20))
def test_short_codes_tell_classes_apart(names):
    codes = short_codes(names)
    assert len(set(codes)) == len(names)
