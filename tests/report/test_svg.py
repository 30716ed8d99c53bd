import re
import warnings
from xml.etree import ElementTree

import matplotlib
import pytest

from trivet.report.palette import ACCENT, HUES, INK
from trivet.report.svg import draw_svg

SVG = "{http://www.w3.org/2000/svg}"


def line(axes):
    axes.plot([0, 1], [1, 2], marker="o", color=HUES[0], label="one")
    axes.set_title("a")


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]+)"', svg)


def test_it_is_one_element_with_a_text_alternative():
    svg = draw_svg(line, key="k", title="Losses & co", description="Last 0.3.")
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg")
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == ["k-title", "k-desc"]
    assert [(e.attrib["id"], e.text) for e in root[:2]] == [
        ("k-title", "Losses & co"),
        ("k-desc", "Last 0.3."),
    ]


def test_colours_and_font_are_the_pages():
    svg = draw_svg(line, key="k", title="t", description="d")
    assert "currentColor" in svg
    assert f"var(--series-0, {HUES[0]})" in svg
    assert "font-family" not in svg
    assert re.search(rf"(?<!, ){HUES[0]}|{INK}|{ACCENT}", svg) is None


def test_no_two_charts_share_an_id_and_every_reference_is_kept():
    charts = [draw_svg(line, key=key, title="t", description="d") for key in ("a", "b")]
    every = ids("".join(charts))
    assert len(every) == len(set(every))
    for svg in charts:
        wanted = re.findall(r'(?:href="#|url\(#)([\w-]+)', svg)
        assert wanted
        assert set(wanted) <= set(ids(svg))


def test_the_same_chart_gives_the_same_text():
    first, second = (draw_svg(line, key="k", title="t", description="d") for _ in range(2))
    assert first == second


def test_global_settings_stay():
    before = dict(matplotlib.rcParams)
    draw_svg(line, key="k", title="t", description="d")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "$x^2$", "漢字", "a]]>b", "&amp;"])
def test_hostile_text_stays_text(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = draw_svg(lambda axes: axes.set_title(text), key="k", title=text, description=text)
    found = [e.text for e in ElementTree.fromstring(svg).iter() if e.tag in (f"{SVG}text", f"{SVG}title")]
    assert found.count(text) == 2
    assert "<script" not in svg


def test_control_characters_do_not_break_the_document():
    ElementTree.fromstring(draw_svg(line, key="k", title="a\x00b", description="\x1b"))
