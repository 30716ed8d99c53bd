"""Watches reshapes that give a tensor the shape of a permutation of itself, and so mix what lies in it."""

import weakref
from functools import partial
from typing import Any

import torch

from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, calling_frame, is_user_file, place_of_frame
from trivet.doctor.trace_data import ViewTrace

NOTED_STEPS = 3
LEAST_SIDE = 4
MAPS = ("Convolution", "MkldnnConvolution", "NativeBatchNorm", "CudnnBatchNorm", "Relu", "Silu", "Sigmoid")
"""Operations that return maps with the channels behind the samples."""


class ViewWatch:
    """Records such calls of `view` and `reshape` from the user's own lines in the first steps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.views: dict[tuple[str, Place], ViewTrace] = {}
        self._flat: dict[int, tuple[weakref.ref[torch.Tensor], ViewTrace]] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the methods of `torch.Tensor`, and `torch.reshape`."""
        for name in ("view", "reshape"):
            patches.wrap(torch.Tensor, name, partial(self._wrap, name), rests=True)
        patches.wrap(torch, "reshape", partial(self._wrap, "reshape"), rests=True)

    def on_loss(self, output: torch.Tensor) -> None:
        """Logits flattened to one row a pixel count when a loss is given them."""
        held = self._flat.get(id(output))
        if held is not None and held[0]() is output:
            self.views.setdefault((held[1].operation, held[1].place or Place("", 0)), held[1]).calls += 1

    def traces(self) -> list[ViewTrace]:
        """Return the reshapes."""
        return [trace for trace in self.views.values() if trace.calls]

    def _wrap(self, name: str, original: Any) -> Any:
        session = self.session

        def change(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            made = original(self, *args, **kwargs)
            if (
                session.steps < NOTED_STEPS
                and session.active
                and not compiling()
                and isinstance(made, torch.Tensor)
            ):
                given, got = self.shape, made.shape
                if len(given) >= 3 and given != got and 2 <= len(got) <= len(given):
                    frame = calling_frame()
                    if frame is not None and is_user_file(frame.f_code.co_filename):
                        if _cuts_channels(self, made) or _turns_maps(self, made):
                            watch._note_cut(name, self, made, place_of_frame(frame))
                        with session.measured(), torch.no_grad():
                            watch._note(name, self.detach(), made, lambda: place_of_frame(frame))
            return made

        watch = self
        return change

    def _note_cut(self, name: str, given: torch.Tensor, made: torch.Tensor, place: Place) -> None:
        shapes = list(given.shape), list(made.shape)
        if len(self.views) < 32:
            self.views.setdefault((name, place), ViewTrace(name, place, *shapes)).calls += 1

    def _note(self, name: str, given: torch.Tensor, made: torch.Tensor, place_of: Any) -> None:
        if _is_flattened(given.shape, made.shape):
            trace = ViewTrace(name, place_of(), list(given.shape), list(made.shape))
            if len(self._flat) < 64:
                self._flat[id(made)] = (weakref.ref(made), trace)
            return
        if _swaps_samples(given.shape, made.shape) and len(self.views) < 32:
            place = place_of()
            trace = ViewTrace(name, place, list(given.shape), list(made.shape))
            trace = self.views.setdefault((name, place), trace)
            trace.calls += 1
            trace.rough = float(made.detach().float().diff(dim=0).abs().mean())
            trace.smooth = float(given.float().diff(dim=1).abs().mean())
            return
        order = _mistaken_order(given.shape, made.shape)
        if order is None or made.requires_grad or len(self.views) >= 32 or not given.is_floating_point():
            return
        place = place_of()
        trace = self.views.setdefault(
            (name, place), ViewTrace(name, place, list(given.shape), list(made.shape))
        )
        trace.calls += 1
        trace.rough = _roughness(made.detach()[:16].float(), order)
        trace.smooth = _roughness(given[:16].permute(order).float(), order)


def _cuts_channels(given: torch.Tensor, made: torch.Tensor) -> bool:
    """Whether a layer's maps (b, k * c, h, w) were made rows (b, ..., c) of neighbours along the width, not of channels."""
    if given.ndim != 4 or made.ndim != 3 or len(made) != len(given) or not given.is_contiguous():
        return False
    node = given.grad_fn.name() if given.grad_fn is not None else ""
    row, (channels, _, width) = made.shape[2], given.shape[1:]
    fits = 1 < row < channels or row == channels
    return (
        node.startswith(MAPS)
        and fits
        and channels % row == 0
        and row % width != 0
        and made.shape[1] != channels
    )


def _turns_maps(given: torch.Tensor, made: torch.Tensor) -> bool:
    """Whether a layer's maps (b, c, w) were made (w, b, c), as a recurrent layer wants them, without moving the axes."""
    if given.ndim != 3 or made.ndim != 3 or not given.requires_grad:
        return False
    batch, channels, width = given.shape
    return len({batch, channels, width, 1}) == 4 and tuple(made.shape) == (width, batch, channels)


def _mistaken_order(given: torch.Size, made: torch.Size) -> tuple[int, ...] | None:
    """The permutation whose shape was made: channels brought to the front or to the back, behind the batch."""
    if len(given) != len(made) or len(given) not in (3, 4) or given[0] != made[0] or 1 in given[1:]:
        return None
    last = len(given) - 1
    to_front, to_back = (0, last, *range(1, last)), (0, *range(2, last + 1), 1)
    for order in (to_front, to_back):
        if tuple(given[i] for i in order) == tuple(made):
            channels = made[1] if order == to_front else made[last]
            sides = [side for i, side in enumerate(made[1:], 1) if i != (1 if order == to_front else last)]
            if min(sides) >= LEAST_SIDE and channels != sides[0]:
                return order
    return None


def _swaps_samples(given: torch.Size, made: torch.Size) -> bool:
    """Whether (samples, positions, ...) was made (positions, samples, ...) without exchanging the axes."""
    return (
        len(given) == len(made) and len(given) in (3, 4) and 1 not in given and given[0] != given[1]
        and (made[0], made[1]) == (given[1], given[0]) and made[2:] == given[2:]
    )  # fmt: skip


def _is_flattened(given: torch.Size, made: torch.Size) -> bool:
    """Whether (b, classes, ...) was made (n, classes) without bringing the classes to the end."""
    return (
        len(made) == 2 and given[1] == made[1] != given[-1] and given[1] > 1 and given.numel() == made.numel()
    )


def _roughness(pictures: torch.Tensor, order: tuple[int, ...]) -> float:
    """Mean absolute difference of neighbours along the spatial axes."""
    front = order[1] == len(order) - 1
    axes = range(2, pictures.ndim) if front else range(1, pictures.ndim - 1)
    return float(sum(pictures.diff(dim=axis).abs().mean() for axis in axes)) / max(1, len(list(axes)))
