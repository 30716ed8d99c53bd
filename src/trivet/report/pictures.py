"""Images drawn upon -> data URIs small enough for a page, in panels side by side."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from trivet.report.contents import Mask, Picture
from trivet.report.draw import draw_detections, drawn_codes, found_truth
from trivet.report.overlays import MISTAKE, draw_mask, draw_mistakes, is_background, mistaken
from trivet.report.palette import class_colour
from trivet.structures import IGNORE_LABEL, BoxTarget, ClassScores, Detections

LONGEST_PX = 640
SMALL_PX = 96
"""Images without a side over this are shown enlarged, each pixel as a square."""
CARD_PX = 160
MARKED_BYTES = 60_000
QUALITIES = (84, 70, 55, 40)


class LegendEntry(NamedTuple):
    """What a class looks like in a picture."""

    colour: str
    code: str
    name: str


@dataclass(frozen=True)
class Panel:
    """One view of an image.

    Args:
        uri: A `data:` address.
        which: What it shows, in a few words.
        told: The same for those who cannot see it.
    """

    uri: str
    which: str
    told: str


@dataclass(frozen=True)
class DrawnPicture:
    """A picture of the gallery as a page shows it.

    Args:
        caption: What there is to see.
        kind: The part of the gallery it belongs to.
        layout: How its panels stand: two or four side by side, or one as a small card among others.
        panels: Its views, all of one size.
        width: Pixels on the page.
        height: Pixels on the page.
        crisp: Whether its pixels are so few that each is shown as a square.
        legend: The classes in it.
    """

    caption: str
    kind: str
    layout: Literal["pair", "four", "card"]
    panels: tuple[Panel, ...]
    width: int
    height: int
    crisp: bool = False
    legend: tuple[LegendEntry, ...] = ()


def drawn(picture: Picture, names: Sequence[str], *, most_bytes: int) -> DrawnPicture:
    """Draw one picture with its truth and its prediction, in `most_bytes` of page."""
    match picture.truth, picture.prediction:
        case BoxTarget() as truth, Detections() as found:
            return _boxes(picture, truth, found, names, most_bytes // 2)
        case np.ndarray() as truth, np.ndarray() as found:
            return _masks(picture, truth, found, names, most_bytes // 4)
        case int() as truth, ClassScores() as found:
            return _class(picture, truth, found, names, most_bytes)
    raise AssertionError("a picture checks what it holds when it is made")


def marked(image: UInt8[np.ndarray, "h w 3"], caption: str) -> DrawnPicture:
    """Return an image that is already marked, as a card."""
    shown, _ = _shrunk(image, longest=2 * CARD_PX)
    scale = CARD_PX / max(shown.shape[:2])
    panel = Panel(data_uri(shown, most_bytes=MARKED_BYTES), "", "Pixels with several labels, marked red")
    sides = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
    return DrawnPicture(caption, "marked", "card", (panel,), *sides)


def _boxes(
    picture: Picture, truth: BoxTarget, found: Detections, names: Sequence[str], most_bytes: int
) -> DrawnPicture:
    """Draw an image twice: with truth, and with predictions and what they miss."""
    image, scale = _shrunk(picture.image)
    seen = found_truth(truth, BoxTarget(found.boxes_xyxy, found.labels))
    missed = BoxTarget(truth.boxes_xyxy[~seen] * scale, truth.labels[~seen])
    left = draw_detections(image, truth.boxes_xyxy * scale, truth.labels, names)
    right = draw_detections(
        image, found.boxes_xyxy * scale, found.labels, names, scores=found.scores, truth=missed
    )
    dashed = f"; dashed: {len(missed.labels)} missed" if len(missed.labels) else ""
    return DrawnPicture(
        picture.caption,
        picture.kind,
        "pair",
        (
            Panel(
                data_uri(left, most_bytes=most_bytes),
                f"Truth, {len(truth.labels)}",
                f"Truth: {len(truth.labels)} objects",
            ),
            Panel(
                data_uri(right, most_bytes=most_bytes),
                f"Prediction, {len(found)}{dashed}",
                f"Prediction: {len(found)} objects",
            ),
        ),
        image.shape[1],
        image.shape[0],
        legend=_legend(torch.cat([truth.labels, found.labels]).unique().tolist(), names),
    )


def _masks(picture: Picture, truth: Mask, found: Mask, names: Sequence[str], most_bytes: int) -> DrawnPicture:
    """Draw an image four times: as it is, with truth, with the prediction, and with its mistakes."""
    image, (truth, found) = _sized(picture.image, (truth, found))
    wrong = mistaken(truth, found)
    views = {
        "Image": image,
        "Truth": draw_mask(image, truth, names),
        "Prediction": draw_mask(image, found, names),
        f"Mistakes, {wrong:.1%}": draw_mistakes(image, truth, found),
    }
    counts = np.bincount(np.concatenate([truth.ravel(), found.ravel()]), minlength=256)[: len(names)]
    there = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]]
    legend = _legend([label for label in there if not is_background(names[label])], names)
    legend += (LegendEntry(MISTAKE, "", "wrong"),) if wrong else ()
    legend += (LegendEntry("#5a5a5a", "", "void, not scored"),) if (truth == IGNORE_LABEL).any() else ()
    return DrawnPicture(
        picture.caption,
        picture.kind,
        "four",
        tuple(Panel(data_uri(view, most_bytes=most_bytes), which, which) for which, view in views.items()),
        image.shape[1],
        image.shape[0],
        legend=legend,
    )


def _class(
    picture: Picture, truth: int, found: ClassScores, names: Sequence[str], most_bytes: int
) -> DrawnPicture:
    """Show an image with the class it has and the one it was given."""
    score, truth_score = float(found.scores[found.label]), float(found.scores[truth])
    which = f"{names[found.label]} {score:.2f}"
    if found.label != truth:
        which += f"; is {names[truth]} {truth_score:.2f}"
    crisp = max(picture.image.shape[:2]) <= SMALL_PX
    image = picture.image if crisp else _shrunk(picture.image, longest=2 * CARD_PX)[0]
    scale = CARD_PX / max(image.shape[:2])
    return DrawnPicture(
        picture.caption,
        picture.kind,
        "card",
        (Panel(_png_uri(image) if crisp else data_uri(image, most_bytes=most_bytes), which, which),),
        max(1, round(image.shape[1] * scale)),
        max(1, round(image.shape[0] * scale)),
        crisp=crisp,
    )


def data_uri(image: UInt8[np.ndarray, "h w 3"], *, most_bytes: int) -> str:
    """Return the image as a JPEG `data:` address, of the best quality and size that stay within `most_bytes`."""
    picture = Image.fromarray(image)
    while True:
        for quality in QUALITIES:
            written = io.BytesIO()
            # Full colour resolution: halved, it would smear coloured lines and letters.
            picture.save(written, "JPEG", quality=quality, subsampling=0)
            uri = "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")
            if len(uri) <= most_bytes or max(picture.size) < 64:
                return uri
        picture = picture.resize(
            (max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)), Image.Resampling.LANCZOS
        )


def _png_uri(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """Return a small image as a PNG `data:` address, every pixel as it is."""
    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _legend(labels: Sequence[int], names: Sequence[str]) -> tuple[LegendEntry, ...]:
    codes = drawn_codes(names)
    return tuple(LegendEntry(class_colour(label), codes[label], names[label]) for label in labels)


def _shrunk(
    image: UInt8[np.ndarray, "h w 3"], *, longest: int = LONGEST_PX
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], float]:
    """Return the image with no side over `longest`, and its scale: lines are drawn at the size they are seen."""
    scale = min(1.0, longest / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)), scale


def _sized(image: UInt8[np.ndarray, "h w 3"], masks: Sequence[Mask]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return image and masks with no side over `LONGEST_PX`; small ones enlarged, each pixel to a square."""
    if max(image.shape[:2]) <= SMALL_PX:
        times = LONGEST_PX // 2 // max(image.shape[:2])
        return _enlarged(image, times), [_enlarged(mask, times) for mask in masks]
    shown, _ = _shrunk(image)
    size = (shown.shape[1], shown.shape[0])
    return shown, [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]


def _enlarged(image: np.ndarray, times: int) -> np.ndarray:
    return image.repeat(times, axis=0).repeat(times, axis=1)
