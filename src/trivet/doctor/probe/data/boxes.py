"""Watches boxes: those given to detectors and to the box functions of torchvision, and encoded ones in losses."""

import math
import weakref
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.data.imports import after_import
from trivet.doctor.probe.modules import ModuleWatch, unwrapped
from trivet.doctor.probe.session import Patches, Session, Sparse
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import BoxTrace, DetectionTrace

BOX_FUNCTIONS = (
    "box_iou",
    "generalized_box_iou",
    "complete_box_iou",
    "distance_box_iou",
    "generalized_box_iou_loss",
    "complete_box_iou_loss",
    "distance_box_iou_loss",
)
REGRESSIONS = ("l1_loss", "smooth_l1_loss", "mse_loss", "huber_loss")
RECENT, MOST_BOXES = 4, 4096
FEWEST_ROWS = 16
"""Rows of a batch none of which may end before it begins, to be taken for two corners."""
BACKGROUND_IS_ZERO = ("RoIHeads", "SSD", "SSDHead")
"""Parts of torchvision's detectors whose class 0 is the background, by its documentation."""


class BoxWatch:
    """Records what the numbers of boxes say as two corners and in other formats."""

    def __init__(self, session: Session, modules: ModuleWatch) -> None:
        self.session = session
        self.modules = modules
        self.boxes: dict[tuple[str, Place | None], BoxTrace] = {}
        self._detections: dict[int, tuple[weakref.ref[nn.Module], DetectionTrace]] = {}
        self._zero_is_background: dict[int, bool] = {}
        self._sparse = Sparse()
        self._side = 0.0
        self._measured: deque[tuple[weakref.ref[torch.Tensor], torch.Tensor, BoxTrace]] = deque(maxlen=RECENT)
        self._regressed: deque[tuple[weakref.ref[torch.Tensor], torch.Tensor, str]] = deque(maxlen=RECENT)

    def install(self, patches: Patches) -> None:
        """Wrap the box functions of torchvision once it is imported."""
        after_import(patches, "torchvision.ops", partial(self._wrap_functions, patches))

    def on_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the targets of a detector: dictionaries with boxes and labels."""
        if not self._sparse.due(self.session.steps) or not torch.is_grad_enabled():
            return
        values = [*args, *kwargs.values()]
        pictures = [v for v in values if isinstance(v, torch.Tensor) and v.ndim == 4]
        for value in values:
            if (
                isinstance(value, (list, tuple))
                and value
                and isinstance(value[0], torch.Tensor)
                and value[0].ndim == 3
            ):
                pictures.append(value[0][None])
        if pictures:
            self._side = float(max(pictures[0].shape[-2:]))
        for value in values:
            if not isinstance(value, (list, tuple)) or not value or not isinstance(value[0], dict):
                continue
            with self.session.measured(), torch.no_grad():
                for target in value:
                    self._note_target(module, target)

    def on_batch(self, batch: Any) -> None:
        """Take the boxes of a batch whose samples have lists of their own: rows that can only be two corners."""
        if not self._sparse.due(self.session.steps):
            return
        parts = list(_parts_of(batch))
        pictures = next((p for p in parts if isinstance(p, torch.Tensor) and p.ndim == 4), None)
        for part in parts if pictures is not None else ():
            if not isinstance(part, (list, tuple)) or not all(isinstance(p, torch.Tensor) for p in part):
                continue
            rows = [
                p for p in part if p.ndim == 2 and 4 <= p.shape[1] <= 6 and p.is_floating_point() and len(p)
            ]
            if not rows or len({p.shape[1] for p in rows}) > 1 or pictures is None:
                continue
            with self.session.measured(), torch.no_grad():
                self._note_rows(torch.cat(rows)[:MOST_BOXES, :4].float(), float(max(pictures.shape[-2:])))

    def _note_rows(self, boxes: torch.Tensor, side: float) -> None:
        first, second = boxes[:, :2], boxes[:, 2:]
        limit = 1.0 if float(boxes.max()) <= 1 else 1.02 * side
        corners = bool((second >= first).all()) and bool((boxes >= 0).all()) and float(boxes.max()) <= limit
        if corners and len(boxes) >= FEWEST_ROWS:
            record = self._record("batch", None)
            record.boxes += len(boxes)
            record.flat += int((second == first).any(1).sum())

    def on_loss(self, function: str, output: torch.Tensor, target: torch.Tensor) -> None:
        """Encoded boxes whose logarithm of the size is minus infinity."""
        if (
            target.ndim < 2
            or target.shape[-1] != 4
            or not target.is_floating_point()
            or not output.requires_grad
        ):
            return
        self._note_regressed(function, output, target)
        sizes, centres = target[..., 2:], target[..., :2]
        flat = torch.isneginf(sizes).any(-1)
        if bool(flat.any()) and bool(torch.isfinite(centres).all()):
            record = self._record(function, user_place())
            record.boxes += target[..., 0].numel()
            record.flat += int(flat.sum())

    def detections(self, names: dict[int, str]) -> list[DetectionTrace]:
        """Return the labels given to detectors whose class 0 is the background."""
        for key, (_, trace) in self._detections.items():
            trace.model = names.get(key, trace.model)
        return [trace for _, trace in self._detections.values()]

    def _note_target(self, module: nn.Module, target: Any) -> None:
        boxes, labels = target.get("boxes"), target.get("labels")
        if not isinstance(boxes, torch.Tensor) or boxes.ndim != 2 or boxes.shape[-1] != 4:
            return
        module = unwrapped(module)
        self._note_boxes(f"{type(module).__name__}", boxes, user_place())
        if (
            isinstance(labels, torch.Tensor)
            and not labels.is_floating_point()
            and self._counts_from_one(module)
        ):
            key = id(module)
            if key not in self._detections:
                trace = DetectionTrace(type(module).__name__, user_place())
                self._detections[key] = (weakref.ref(module), trace)
            trace = self._detections[key][1]
            trace.labels += labels.numel()
            trace.zeros += int((labels == 0).sum())

    def _counts_from_one(self, module: nn.Module) -> bool:
        if id(module) not in self._zero_is_background:
            self._zero_is_background[id(module)] = any(
                type(part).__name__ in BACKGROUND_IS_ZERO
                and type(part).__module__.startswith("torchvision.models.detection")
                for part in module.modules()
            )
        return self._zero_is_background[id(module)]

    def _wrap_functions(self, patches: Patches, module: Any) -> None:
        for name in BOX_FUNCTIONS:
            if hasattr(module, name):
                patches.wrap(module, name, partial(self._wrap, name))

    def _wrap(self, name: str, original: Any) -> Any:
        def measure(*args: Any, **kwargs: Any) -> Any:
            if self.session.active and self._sparse.due(self.session.steps):
                place = user_place()
                with self.session.measured(), torch.no_grad():
                    for value in [*args[:2], *kwargs.values()]:
                        constant = isinstance(value, torch.Tensor) and not value.requires_grad
                        if constant and value.ndim >= 2 and value.shape[-1] == 4:
                            self._note_boxes(name, value.flatten(0, -2), place)
                    if len(args) >= 2:
                        self._note_measured(name, args[0], args[1], place)
            return original(*args, **kwargs)

        return measure

    def _note_regressed(self, function: str, output: torch.Tensor, target: torch.Tensor) -> None:
        """Two losses of the same predicted boxes: do they take them for boxes of one format?"""
        if function not in REGRESSIONS or output.shape != target.shape or len(target) > MOST_BOXES:
            return
        with self.session.measured(), torch.no_grad():
            for ref, corners, record in self._measured:
                if ref() is output:
                    _compare(record, corners, target, function)
            self._regressed.append((weakref.ref(output), target.clone(), function))

    def _note_measured(self, name: str, output: Any, target: Any, place: Place | None) -> None:
        both = isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor)
        if not both or not output.requires_grad or target.requires_grad or output.shape != target.shape:
            return
        if len(target) > MOST_BOXES:
            return
        record = self._record(name, place)
        for ref, numbers, function in self._regressed:
            if ref() is output:
                _compare(record, target, numbers, function)
        self._measured.append((weakref.ref(output), target.clone(), record))

    def _note_boxes(self, source: str, boxes: torch.Tensor, place: Place | None) -> None:
        if not len(boxes) or not boxes.is_floating_point():
            return
        record = self._record(source, place)
        boxes = boxes.detach().float()[:4096]
        if not bool(torch.isfinite(boxes).all()):
            return
        first, second = boxes[:, :2], boxes[:, 2:]
        inverted = (second < first).any(1)
        flat = (second == first).any(1) & ~inverted
        limit = self._limit(boxes)
        record.known_size = math.isfinite(limit)
        record.boxes += len(boxes)
        record.inverted += int(inverted.sum())
        record.flat += int(flat.sum())
        slack = limit * 1.02
        least = -0.02 * limit if math.isfinite(limit) else -0.5
        positive = (second > 0).all(1) & (first >= 0).all(1)
        record.inside += int(((second <= slack) & (first >= least)).all(1).sum())
        record.as_size += int((positive & (first + second <= slack).all(1)).sum())
        half = second / 2
        within = (first - half >= least).all(1) & (first + half <= slack).all(1)
        record.as_centre += int((positive & within).sum())
        if bool(inverted.any()) and not record.example:
            record.example = [round(v, 3) for v in boxes[inverted][0].tolist()]

    def _limit(self, boxes: torch.Tensor) -> float:
        largest = float(boxes.max())
        if largest <= 1.0:
            return 1.0
        # In no format does a number exceed the side of the picture: else they are pixels of another one.
        return self._side if largest <= 1.02 * self._side else math.inf

    def _record(self, source: str, place: Place | None) -> BoxTrace:
        return self.boxes.setdefault((source, place), BoxTrace(source, place))


def _parts_of(batch: Any, depth: int = 2) -> Iterator[Any]:
    """The parts of a batch, and those of dictionaries and tuples in it; lists of tensors stay whole."""
    for part in (
        batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (list, tuple)) else ()
    ):
        yield part
        if depth and isinstance(part, (dict, tuple)):
            yield from _parts_of(part, depth - 1)


def _compare(record: BoxTrace, corners: torch.Tensor, numbers: torch.Tensor, function: str) -> None:
    """Are the targets of another loss the same boxes in another format?"""
    if corners.shape != numbers.shape or not len(corners):
        return
    first, second = corners[..., :2], corners[..., 2:]
    if bool((second <= first).any()):
        return  # not two corners themselves
    size = torch.cat([first, second - first], -1)
    centre = torch.cat([(first + second) / 2, second - first], -1)
    for others, meant in ((centre, "(centre x, centre y, width, height)"), (size, "(x, y, width, height)")):
        if not torch.allclose(corners, others) and torch.allclose(numbers, others, rtol=1e-4, atol=1e-5):
            record.compared, record.taken_for = function, meant
