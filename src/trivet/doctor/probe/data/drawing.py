"""Watches shapes that are drawn over each other on one canvas of labels (Pillow, OpenCV)."""

from functools import partial
from typing import Any

import torch

from trivet.doctor.probe.data.digest import Allowance
from trivet.doctor.probe.data.imports import after_import
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import DrawTrace

PILLOW = ("polygon", "rectangle", "ellipse", "rounded_rectangle", "chord", "pieslice")
OPENCV = ("fillPoly", "fillConvexPoly", "drawContours", "rectangle", "circle", "ellipse")
MOST_LABEL = 255


class DrawWatch:
    """Counts, by line, which label covers which."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.drawings: dict[Place | None, DrawTrace] = {}
        self.allowance = Allowance(session, free=0.3)
        self._last: dict[Place, int] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the drawing functions once their library is imported."""
        after_import(
            patches,
            "PIL.ImageDraw",
            lambda module: self._wrap_all(patches, module.ImageDraw, PILLOW, _pillow),
        )
        after_import(patches, "cv2", lambda module: self._wrap_all(patches, module, OPENCV, _opencv))

    def traces(self) -> list[DrawTrace]:
        """Return the lines at which a shape covered one of another class."""
        return [trace for trace in self.drawings.values() if trace.covering]

    def _wrap_all(self, patches: Patches, owner: Any, names: tuple[str, ...], canvas_of: Any) -> None:
        for name in names:
            if hasattr(owner, name):
                patches.wrap(owner, name, partial(self._wrap, canvas_of))

    def _wrap(self, canvas_of: Any, original: Any) -> Any:
        watch = self

        def draw(*args: Any, **kwargs: Any) -> Any:
            if not watch.session.active or not watch.allowance.left:
                return original(*args, **kwargs)
            before = None
            with watch.allowance.measured():
                before = canvas_of(args, kwargs)
            value = original(*args, **kwargs)
            if before is not None:
                with watch.allowance.measured():
                    watch._note(before, canvas_of(args, kwargs))
            return value

        return draw

    def _note(self, before: torch.Tensor, after: torch.Tensor | None) -> None:
        place = user_place()
        if after is None or after.shape != before.shape or place is None:
            return
        changed = before != after
        if not bool(changed.any()):
            return
        record = self.drawings.setdefault(place, DrawTrace(place))
        area = int(changed.sum())
        last = self._last.get(place, 0) if bool(before.any()) else 0
        record.shrinking += 0 < area <= 1.1 * last + 8
        record.growing += 0 < 1.1 * last + 8 < area and last > 0
        self._last[place] = area
        record.shapes += 1
        record.pixels += area
        covered = changed & (before != 0)
        over = after[changed].unique()
        if not bool(covered.any()) or len(over) != 1 or not bool((after[covered] != 0).all()):
            return
        record.covering += 1
        record.overlapped += int(covered.sum())
        for under in before[covered].unique().tolist()[:16]:
            key = f"{under}>{int(over)}"
            if key in record.pairs or len(record.pairs) < 256:
                record.pairs[key] = record.pairs.get(key, 0) + 1


def _pillow(args: tuple[Any, ...], _: dict[str, Any]) -> torch.Tensor | None:
    """Return a copy of the canvas of a call on `ImageDraw`, when it can hold labels."""
    image = getattr(args[0], "_image", None) if args else None
    if image is None or getattr(image, "mode", "") not in ("L", "P") or image.width * image.height > 1 << 22:
        return None
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)


def _opencv(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    canvas = args[0] if args else kwargs.get("img", kwargs.get("image"))
    if (
        canvas is None
        or getattr(canvas, "ndim", 0) != 2
        or canvas.dtype.kind not in "iu"
        or canvas.size > 1 << 22
    ):
        return None
    return torch.tensor(canvas.astype("int64"))
