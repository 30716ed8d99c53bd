"""Images drawn upon -> data URIs small enough for a page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from trivet.report.contents import Picture
from trivet.report.draw import draw_detections, drawn_codes, found_truth
from trivet.report.palette import class_colour
from trivet.structures import BoxTarget

LONGEST_PX = 640
QUALITIES = (84, 70, 55, 40)


class LegendEntry(NamedTuple):
    """What a class looks like in a picture."""

    colour: str
    code: str
    name: str


@dataclass(frozen=True)
class DrawnPicture:
    """A picture of the gallery as a page shows it: truth and prediction apart, as `data:` addresses."""

    caption: str
    kind: str
    truth_uri: str
    prediction_uri: str
    width: int
    height: int
    truths: int
    predictions: int
    missed: int
    legend: tuple[LegendEntry, ...]


def drawn(picture: Picture, names: Sequence[str], *, most_bytes: int) -> DrawnPicture:
    """Draw one picture twice, with truth and with predictions and what they miss, in `most_bytes` of page."""
    image, scale = _shrunk(picture.image)
    truth, found = picture.truth, picture.prediction
    seen = found_truth(truth, BoxTarget(found.boxes_xyxy, found.labels))
    missed = BoxTarget(truth.boxes_xyxy[~seen] * scale, truth.labels[~seen])
    left = draw_detections(image, truth.boxes_xyxy * scale, truth.labels, names)
    right = draw_detections(
        image, found.boxes_xyxy * scale, found.labels, names, scores=found.scores, truth=missed
    )
    return DrawnPicture(
        caption=picture.caption,
        kind=picture.kind,
        truth_uri=data_uri(left, most_bytes=most_bytes // 2),
        prediction_uri=data_uri(right, most_bytes=most_bytes // 2),
        width=image.shape[1],
        height=image.shape[0],
        truths=len(truth.labels),
        predictions=len(found),
        missed=len(missed.labels),
        legend=_legend(torch.cat([truth.labels, found.labels]), names),
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


def _legend(labels: Int64[Tensor, " n"], names: Sequence[str]) -> tuple[LegendEntry, ...]:
    codes = drawn_codes(names)
    return tuple(
        LegendEntry(class_colour(label), codes[label], names[label]) for label in labels.unique().tolist()
    )


def _shrunk(image: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h2 w2 3"], float]:
    """Return the image with no side over `LONGEST_PX`, and its scale: lines are drawn at the size they are seen."""
    scale = min(1.0, LONGEST_PX / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)), scale
