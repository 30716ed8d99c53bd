"""A matplotlib drawing -> one inline SVG that takes its colours and font from the page around it."""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from trivet.report.naming import plain_label
from trivet.report.palette import GRID, INK, THEME

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "trivet",  # the same chart gives the same bytes
    "text.parse_math": False,  # a class named "$x$" is not a formula
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
}


def draw_svg(
    paint: Callable[[Axes], None],
    *,
    key: str,
    title: str,
    description: str,
    size_hw: tuple[int, int] = (270, 400),
) -> str:
    """Draw one chart and return it as an `<svg>` element for a page.

    Args:
        paint: Draws on the axes it is given, in the colours of `palette`.
        key: Unlike every other chart's of the page, letters and dashes: the prefix of the element's ids.
        title: What the chart shows, for screen readers.
        description: What is to be seen in it, with its main numbers, for screen readers.
        size_hw: Height and width in CSS pixels at which its text is 11 pixels high.
    """
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # The browser finds a font for what DejaVu lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(size_hw[1] / 72, size_hw[0] / 72), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return _inline(ElementTree.fromstring(written.getvalue()), key, title, description)


def put_legend(axes: Axes) -> None:
    """Put the legend above the axes, where it covers no data, in as many columns as its names leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if handles and figure is not None:
        letters = figure.get_figwidth() * 72 / 6.5
        columns = max(1, int(letters / (max(len(label) for label in labels) + 6)))
        figure.legend(
            handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.2, handlelength=1.3
        )


def _inline(root: ElementTree.Element, key: str, title: str, description: str) -> str:
    """Rewrite matplotlib's document: theme colours, no fonts, ids that no other chart has, a text alternative."""
    wanted = set(re.findall(r"#([\w-]+)", " ".join(_references(root))))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _rewritten(value, key) for name, value in element.attrib.items()
        }
        name = element.attrib.pop("id", None)
        if name in wanted:
            element.set("id", f"{key}-{name}")
    for child in list(root):
        if child.tag == "metadata" or child.find("style") is not None:
            root.remove(child)
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "class": "chart",
        "style": f"min-width: {0.8 * float(width):.0f}px",  # below, its letters would be too small to read
        "role": "img",
        "aria-labelledby": f"{key}-title {key}-desc",
        "stroke-linejoin": "round",
    }
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, id=f"{key}-{tag}")
        element.text = plain_label(text, most=2000)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> list[str]:
    return [
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name.endswith(("href", "clip-path"))
    ]


def _rewritten(value: str, key: str) -> str:
    """Return an attribute's value with theme colours for drawn ones, ids under `key`, numbers to 2 digits."""
    value = re.sub(r"font-family: [^;]*;? ?", "", value).strip()
    value = re.sub(r"^#([mp][0-9a-f]{10})$|^url\(#([mp][0-9a-f]{10})\)$", lambda m: _moved(m, key), value)
    value = re.sub(r"(\.\d\d)\d+", r"\1", value)
    return re.sub(r"#[0-9a-f]{6}\b", lambda m: THEME.get(m[0], m[0]), value)


def _moved(match: re.Match[str], key: str) -> str:
    return f"#{key}-{match[1]}" if match[1] else f"url(#{key}-{match[2]})"
