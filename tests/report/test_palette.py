import re
from itertools import combinations
from pathlib import Path

import pytest

import trivet.report
from trivet.report.palette import ACCENT, HUES, THEME, class_colour, contrast, mix, text_colour

CSS = (Path(trivet.report.__file__).parent / "page.css").read_text()


def themes() -> list[dict[str, str]]:
    """Return the custom colours of the light theme and of the dark one."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def test_contrast_of_black_on_white_is_21_and_of_one_colour_1():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#123456", "#123456") == 1


def test_contrast_of_a_known_pair():
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WebAIM's checker


def test_text_on_every_class_colour_is_legible():
    for label in range(21):
        colour = class_colour(label)
        assert contrast(text_colour(colour), colour) >= 4.5


def test_the_first_21_classes_have_colours_of_their_own():
    colours = [class_colour(label) for label in range(21)]
    assert len(set(colours)) == 21
    assert class_colour(21) == colours[0]


def test_mix():
    assert mix("#000000", "#ffffff", 0.5) == "#808080"
    assert mix("#102030", "#ffffff", 0.0) == "#102030"


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_words_and_curves_stand_out_from_the_page(theme):
    for name, least in (
        ("ink", 7),
        ("soft", 4.5),
        ("link", 4.5),
        ("error", 4.5),
        ("warning", 4.5),
        ("note", 4.5),
    ):
        for ground in ("paper", "card"):
            assert contrast(theme[name], theme[ground]) >= least, (name, ground)
    for name in (*(f"series-{i}" for i in range(len(HUES))), "accent-fill"):
        assert contrast(theme[name], theme["paper"]) >= 3, name
    assert contrast("#ffffff", theme["accent-fill"]) >= 4.5  # figures on the darkest cells


def test_both_themes_define_every_colour_that_charts_use():
    light, dark = themes()
    used = {name for value in THEME.values() for name in re.findall(r"var\(--([\w-]+)", value)}
    assert used <= set(light)
    assert set(light) == set(dark)


def test_drawn_colours_are_told_apart_by_the_theme():
    assert len(THEME) == len(HUES) + 3
    assert ACCENT in THEME
    assert all(one != other for one, other in combinations(THEME.values(), 2))
