"""Watches maps of class ids that are resized by averaging, which invents classes at their borders."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import get_worker_info

from trivet.doctor.probe.data.board import Board
from trivet.doctor.probe.data.digest import Allowance, sample_digests
from trivet.doctor.probe.data.imports import after_import
from trivet.doctor.probe.losses import CLASS_LOSSES
from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import ResizeTrace

AVERAGING = ("linear", "bilinear", "bicubic", "trilinear", "area")
MOST_IDS = 64
MOST_DIGESTS = 20_000
PREFIX = "resize|"
WARPS = {"warpAffine": 4, "warpPerspective": 4, "remap": 3}
"""Functions of OpenCV that move pixels -> where among their arguments the interpolation stands."""
WHOLE_MAPS = ("interpolate", "cv2.resize", *(f"cv2.{name}" for name in WARPS))
"""Functions of which is known where in what they are given each value of what they return comes from."""


class ResizeWatch:
    """Remembers digests of resized maps, and looks for them among the targets of the loss: that is the proof."""

    def __init__(self, session: Session, board: Board) -> None:
        self.session = session
        self.board = board
        self.resizes: dict[tuple[str, Place | None], ResizeTrace] = {}
        self.allowance = Allowance(session)
        self._made: dict[int, tuple[str, Place | None]] = {}
        self._targets: set[int] = set()

    def install(self, patches: Patches) -> None:
        """Wrap `interpolate`, `grid_sample`, the `resize` of Pillow, and that and the warps of OpenCV once imported."""
        patches.wrap(F, "interpolate", partial(self._wrap, "interpolate", _of_torch))
        patches.wrap(F, "grid_sample", partial(self._wrap, "grid_sample", _of_grid))
        after_import(
            patches,
            "PIL.Image",
            lambda module: patches.wrap(
                module.Image, "resize", partial(self._wrap, "Image.resize", _of_pillow)
            ),
        )
        after_import(patches, "cv2", partial(self._wrap_opencv, patches))

    def _wrap_opencv(self, patches: Patches, module: Any) -> None:
        patches.wrap(module, "resize", partial(self._wrap, "cv2.resize", _of_numpy))
        for name, position in WARPS.items():
            read = partial(_of_warp, getattr(module, name), position)
            patches.wrap(module, name, partial(self._wrap, f"cv2.{name}", read))

    def on_loss(self, function: str, target: torch.Tensor) -> None:
        """Take the maps that a classifying loss is given."""
        if function not in CLASS_LOSSES or target.ndim < 3 or target.is_floating_point():
            return
        digests = sample_digests(target)
        if digests is not None and len(self._targets) < MOST_DIGESTS and not target.is_cuda:
            self._targets.update(digests.tolist())

    def traces(self) -> list[ResizeTrace]:
        """Return the lines whose maps became targets."""
        for _, _, _, name, value, line in self.board.read():
            if name.startswith(PREFIX) and value in self._targets:
                place = Place("", line, "", name.removeprefix(PREFIX))
                record = self.resizes.setdefault(("resize", place), ResizeTrace("resize", None))
                record.maps, record.used = record.maps + 1, record.used + 1
        for digest, key in self._made.items():
            if digest in self._targets:
                self.resizes[key].used += 1
        return [trace for trace in self.resizes.values() if trace.used]

    def _wrap(self, name: str, read: Any, original: Any) -> Any:
        watch = self

        def resize(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            worker = None if watch.session.active else get_worker_info()
            if (watch.session.active or worker is not None) and not compiling() and watch.allowance.left:
                with watch.allowance.measured(), torch.no_grad():
                    pair = read(args, kwargs, value)
                    if pair is not None:
                        watch._note(name, *pair, worker=worker)
            return value

        return resize

    def _note(self, name: str, given: torch.Tensor, made: torch.Tensor, *, worker: Any) -> None:
        ids = given.unique()
        if len(ids) > MOST_IDS or float(ids[-1] - ids[0]) < 2 or bool((ids != ids.round()).any()):
            return
        known = torch.isin(made, ids)
        whole = made == made.round()
        if bool(whole.all()):
            if name in WHOLE_MAPS:
                known &= _near(given, made, ids)
            if bool(known.all()):
                return
        digests = set()
        for plane in (made.long(), made.round().long()):
            found = sample_digests(plane)
            if found is not None:
                digests.update(found.tolist())
        if worker is not None:
            place = user_place()
            for digest in list(digests)[:2]:
                self.board.write(
                    worker.id, PREFIX + (place.function if place else ""), digest, place.line if place else 0
                )
            return
        key = (name, user_place())
        record = self.resizes.setdefault(key, ResizeTrace(*key))
        record.maps += 1
        record.given = record.given or ids.float().tolist()
        record.invented = max(record.invented, float((~known).float().mean()))
        if len(self._made) < MOST_DIGESTS:
            self._made.update(dict.fromkeys(digests, key))


def _of_torch(
    args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
) -> tuple[torch.Tensor, torch.Tensor] | None:
    given = args[0] if args else kwargs.get("input")
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    if mode not in AVERAGING or not isinstance(given, torch.Tensor) or given.requires_grad or given.ndim != 4:
        return None
    if given.is_cuda or given.shape[1] > 4 or given.numel() > 1 << 23 or _many_values(given):
        return None
    return given.detach().flatten(0, 1).float(), value.detach().flatten(0, 1).float()


def _of_grid(
    args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
) -> tuple[torch.Tensor, torch.Tensor] | None:
    given = args[0] if args else kwargs.get("input")
    if kwargs.get("mode", args[2] if len(args) > 2 else "bilinear") == "nearest":
        return None
    if not isinstance(given, torch.Tensor) or given.requires_grad or given.ndim != 4:
        return None
    if given.is_cuda or given.shape[1] > 4 or given.numel() > 1 << 23 or _many_values(given):
        return None
    return given.detach().flatten(0, 1).float(), value.detach().flatten(0, 1).float()


def _near(given: torch.Tensor, made: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Whether each value of a resized map [n, h, w] stands near the same place of the map that was given, too.

    Integer maps come out of averaging as integers, which may be ids of other classes.
    """
    planes = (given[:, None] == ids[:, None, None]).float()
    here = F.adaptive_max_pool2d(planes, made.shape[-2:])
    grown = max(made.shape[-1] / given.shape[-1], made.shape[-2] / given.shape[-2])
    reach = (
        1 + 2 * math.ceil(grown) if grown > 1 else 1
    )  # a cubic kernel reaches over two pixels of what was given
    here = F.max_pool2d(here, 2 * reach + 1, 1, reach)
    return ((made[:, None] == ids[:, None, None]) & (here > 0)).any(1)


def _of_pillow(
    args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
) -> tuple[torch.Tensor, torch.Tensor] | None:
    image = args[0]
    method = kwargs.get("resample", args[2] if len(args) > 2 else None)
    if image.mode not in ("L", "I", "F") or method == 0 or image.width * image.height > 1 << 22:
        return None
    return _pixels(image)[None], _pixels(value)[None]


def _pixels(image: Any) -> torch.Tensor:
    kind = {"L": torch.uint8, "I": torch.int32, "F": torch.float32}[image.mode]
    return torch.frombuffer(bytearray(image.tobytes()), dtype=kind).float()


def _of_numpy(
    args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
) -> tuple[torch.Tensor, torch.Tensor] | None:
    given = args[0] if args else kwargs.get("src")
    method = kwargs.get("interpolation", args[5] if len(args) > 5 else 1)
    if (
        given is None
        or method == 0
        or getattr(given, "ndim", 0) != 2
        or given.size > 1 << 22
        or given.dtype.kind not in "iuf"
    ):
        return None
    return torch.tensor(given.astype("float32"))[None], torch.tensor(value.astype("float32"))[None]


def _of_warp(
    warp: Any, position: int, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The map as it would be without averaging, and as it was made; OpenCV's flags hold the interpolation in 3 bits."""
    key = "interpolation" if position == 3 else "flags"
    flags = int(kwargs.get(key, args[position] if len(args) > position else 1))
    given = args[0] if args else kwargs.get("src")
    if given is None or flags & 7 == 0 or getattr(given, "ndim", 0) != 2 or given.dtype.kind not in "iuf":
        return None
    if given.size > 1 << 22 or _many_values(torch.tensor(given.astype("float32"))):
        return None
    nearest = (
        warp(*args[:position], flags & ~7, *args[position + 1 :], **kwargs)
        if len(args) > position
        else (warp(*args, **{**kwargs, key: flags & ~7}))
    )
    return torch.tensor(nearest.astype("float32"))[None], torch.tensor(value.astype("float32"))[None]


def _many_values(values: torch.Tensor) -> bool:
    """Whether a few values already show that this is no map of class ids."""
    few = values.detach().flatten()[:: max(1, values.numel() // 512)]
    return bool((few != few.round()).any()) or len(few.unique()) > MOST_IDS
