"""Colours: one per class, told apart by colour-blind readers too, and the theme colours charts are drawn in.

The seven hues are Okabe and Ito's; further classes take a light, then a dark shade of the same hues. Charts are
drawn in fixed colours that `svg` turns into CSS variables, so that a page's light or dark theme decides.
"""

HUES = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2")
SHADES = ((None, 0.0), ("#ffffff", 0.5), ("#000000", 0.4))

INK = "#0b0c0d"  # text and axes
GRID = "#c1c2c3"  # lines behind the data
ACCENT = "#1d4f91"  # single-series bars and heat maps; white on it has a contrast of 8

# What stands in a drawn chart -> what the page sees. The second part of each `var` serves an SVG used alone.
THEME = {
    INK: "currentColor",
    GRID: "var(--grid, #c9ced6)",
    ACCENT: "var(--accent-fill, #1d4f91)",
    **{hue: f"var(--series-{i}, {hue})" for i, hue in enumerate(HUES)},
}


def class_colour(label: int) -> str:
    """Return the `#rrggbb` colour of a class in pictures; labels 21 apart share one."""
    towards, share = SHADES[label // len(HUES) % len(SHADES)]
    hue = HUES[label % len(HUES)]
    return hue if towards is None else mix(hue, towards, share)


def series_colour(label: int) -> str:
    """Return the chart colour of a class: its hue in pictures, in the shade the page's theme gives it."""
    return HUES[label % len(HUES)]


def text_colour(background: str) -> str:
    """Return black or white, whichever is easier to read on `background`; the contrast is at least 4.58."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, background))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two `#rrggbb` colours, from 1 to 21 (WCAG 2.1, section 1.4.3)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def mix(colour: str, other: str, share: float) -> str:
    """Return `colour` with `share` (0-1) of `other` mixed in."""
    parts = zip(rgb(colour), rgb(other), strict=True)
    return "#" + "".join(f"{round(a * (1 - share) + b * share):02x}" for a, b in parts)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of `#rrggbb`, each 0-255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    def linear(channel: int) -> float:
        c = channel / 255
        return c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(channel) for channel in rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
