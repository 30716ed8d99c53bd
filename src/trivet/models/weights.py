"""Weights from elsewhere into a model: other names, other classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trivet.errors import UsageError
from trivet.models.darknet import is_darknet_file, read_darknet
from trivet.models.files import WeightsFile, plain_state, read_weights, save_weights
from trivet.models.layouts import from_classifier, from_effdet, from_lite_package, from_timm
from trivet.models.model import Model
from trivet.structures import LabelMap

__all__ = ["WeightsReport", "load_weights", "save_weights"]

Labels = LabelMap | Sequence[str]

_OURS = ("backbone.", "head.module.")  # where every network of ours, or a wrapped one, has its first layers
_COUNTED = ".num_batches_tracked"  # of a batch norm: no weight, and not every layout has it
_SHOWN = 3


@dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` did.

    Args:
        layout: Whose names the source had: `trivet`, `effdet`, `timm`, `darknet` or `lite
            package`.
        kept: Our names of the tensors taken over as they were.
        mapped: Classes whose rows were copied because both sides know the name.
        initialised: Our names of the tensors left, wholly or for the new classes, as the model started them.
        new_classes: Classes that start anew; their numbers where names are not known.
        dropped: Classes and tensors of the source that have no place in this model.
    """

    layout: str
    kept: tuple[str, ...]
    mapped: tuple[str, ...] = ()
    initialised: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the report in words, one line a fact."""
        lines = [f"kept {len(self.kept)} tensors ({self.layout} layout)"]
        if self.mapped:
            lines.append(f"copied by name: {_listed(self.mapped)}")
        if self.new_classes:
            lines.append(f"newly initialised classes: {_listed(self.new_classes)}")
        elif self.initialised:
            parts = sorted({name.split(".")[0] for name in self.initialised})
            lines.append(f"newly initialised: {' and '.join(parts)} ({len(self.initialised)} tensors)")
        if self.dropped:
            lines.append(f"not used: {_listed(self.dropped)}")
        return "\n".join(lines)


def load_weights(
    model: Model,
    source: Mapping[str, Tensor] | str | Path,
    *,
    labels: Labels | None = None,
    new_labels: Labels | None = None,
) -> WeightsReport:
    """Fill a model from a file or state dict laid out as ours, effdet's, timm's, darknet's or the lite packages'.

    A classification network fills the backbone, and what is made of the layers after it: a pooled head's, where
    they have the same inputs, DeconvNet's; everything else stays as it is. A detector of other classes fills
    everything but the rows of its class prediction: the classes that both sides know by name are copied,
    the others stay as the model started them.

    Args:
        model: The model; it changes only if everything fits.
        source: A state dict, or a file as `read_weights` takes it, or darknet's (`read_darknet`).
        labels: The source's classes in order; `None` = those written in the file, if it is one of ours.
        new_labels: The model's classes in order.

    Raises:
        UsageError: If the file cannot be read safely, a tensor is missing, left over or of another shape, or
            labels are not as many as classes.
    """
    if isinstance(source, (str, Path)):
        darknet = is_darknet_file(source)
        file, origin = read_darknet(source, model) if darknet else read_weights(source), str(source)
    else:
        darknet = False
        file, origin = WeightsFile(plain_state(source, source="the state dict")), "the state dict"
    layout, names = _names(model, file.tensors)
    layout = "darknet" if darknet else layout
    own = model.state_dict()
    if layout in ("timm", "lite package"):
        names = _without_other_inputs(names, file.tensors, own)
    given = {names[key]: tensor for key, tensor in file.tensors.items() if key in names}
    old = _class_names(labels if labels is not None else file.labels)
    rows = _map_class_rows(model, given, old=old, new=_class_names(new_labels))
    given |= rows.tensors
    if layout in ("timm", "lite package"):
        given = {name: _as_convolution(tensor, own[name]) for name, tensor in given.items()}
        wanted = {name: own[name] for name in own if name.startswith("backbone.") or name in given}
    elif file.partial:
        wanted = {name: own[name] for name in own if name in given}
    else:
        wanted = own
    _check(origin, given, wanted)
    model.load_state_dict(given, strict=False)
    return WeightsReport(
        layout,
        kept=tuple(name for name in given if name not in rows.tensors),
        mapped=rows.mapped,
        initialised=tuple(
            name
            for name in own
            if (name not in given and not name.endswith(_COUNTED)) or (name in rows.tensors and rows.started)
        ),
        new_classes=rows.started,
        dropped=(*rows.dropped, *(key for key in file.tensors if key not in names)),
    )


def _names(model: Model, tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """Return whose layout the tensors have, and their names -> ours."""
    if any(key.startswith(("fpn.", "class_net.", "box_net.")) for key in tensors):
        return "effdet", from_effdet(tensors, min_level=model.anchor_spec.min_level)
    if any(key.startswith(_OURS) for key in tensors):
        return "trivet", {key: key for key in tensors}
    prefix = "backbone.body."
    wanted = [key.removeprefix(prefix) for key in model.state_dict() if key.startswith(prefix)]
    parts = {"neck": model.neck, "head": model.head}
    if "_conv_stem.weight" not in tensors:
        return "timm", from_timm(tensors, wanted=wanted) | from_classifier(tensors, parts=parts)
    blocks = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in wanted if key.startswith("blocks.")))
    timm_names = from_lite_package(tensors, blocks=blocks)
    ours = from_timm(timm_names.values(), wanted=wanted)
    ours |= from_classifier(timm_names.values(), parts=parts)
    return "lite package", {key: ours[name] for key, name in timm_names.items() if name in ours}


@dataclass(frozen=True)
class _ClassRows:
    """The tensors whose rows belong to classes, made for the model's own classes."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    mapped: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def _map_class_rows(
    model: Model, given: Mapping[str, Tensor], *, old: tuple[str, ...], new: tuple[str, ...]
) -> _ClassRows:
    """Copy rows from class to class by name; nothing to do where the classes are the same."""
    classes = model.spec.classes
    repeats = {f"head.{name}": count for name, count in getattr(model.head, "class_rows", {}).items()}
    repeats = {name: count for name, count in repeats.items() if name in given}
    had = {given[name].shape[0] // count for name, count in repeats.items()}
    if new and len(new) != classes:
        raise UsageError(f"new_labels are the model's {classes} classes, got {len(new)} names")
    if not had:
        return _ClassRows()
    old_classes = had.pop()
    if old and len(old) != old_classes:
        raise UsageError(f"labels are the {old_classes} classes of the weights, got {len(old)} names")
    if (old == new) if old and new else old_classes == classes:
        return _ClassRows()
    pairs = [(old.index(name), position) for position, name in enumerate(new) if name in old] if old else []
    own = model.state_dict()
    copied = {new[position] for _, position in pairs}
    return _ClassRows(
        {
            name: _copy_rows(own[name], given[name], repeats=count, pairs=pairs)
            for name, count in repeats.items()
        },
        mapped=tuple(name for name in new if name in copied),
        started=tuple(name for name in new or map(str, range(classes)) if name not in copied),
        dropped=tuple(name for name in old if name not in copied),
    )


def _copy_rows(own: Tensor, given: Tensor, *, repeats: int, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return our tensor with some classes' rows from theirs; rows are anchor-major, `[repeats * classes, ...]`."""
    if own.shape[1:] != given.shape[1:] or given.shape[0] % repeats:
        return given  # the shape check names it
    result = own.clone().unflatten(0, (repeats, -1))
    if pairs:
        there, here = (torch.tensor(side) for side in zip(*pairs, strict=True))
        result[:, here] = given.unflatten(0, (repeats, -1))[:, there].to(result)
    return result.flatten(0, 1)


def _without_other_inputs(
    names: Mapping[str, str], given: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, str]:
    """Leave a classifier's linear layer out where ours takes other inputs: from a neck, say, or other maps."""
    layer = "head.linear."
    weight = next((key for key, name in names.items() if name == f"{layer}weight"), None)
    if weight is None or given[weight].shape[1:] == own[f"{layer}weight"].shape[1:]:
        return dict(names)
    return {key: name for key, name in names.items() if not name.startswith(layer)}


def _as_convolution(given: Tensor, own: Tensor) -> Tensor:
    """Return a linear layer's weights as those of the convolution that does the same."""
    same = given.ndim == 2 and own.ndim == 4 and given.numel() == own.numel()
    return given.reshape(own.shape) if same else given


def _check(origin: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise unless the tensors are those wanted; a batch norm's count of batches may be absent."""
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNTED)]
    left_over = [key for key in given if key not in wanted]
    misshaped = [
        f"{key} is {tuple(given[key].shape)}, wanted {tuple(wanted[key].shape)}"
        for key in given
        if key in wanted and given[key].shape != wanted[key].shape
    ]
    faults = [
        f"{kind} {len(items)}: {_listed(items)}"
        for kind, items in (("missing", missing), ("left over", left_over), ("of another shape", misshaped))
        if items
    ]
    if faults:
        raise UsageError(
            f"{origin} does not fit this model; tensors {'; '.join(faults)}",
            "build the model the weights were made for: the same backbone, neck, channels and anchors",
        )


def _class_names(labels: Labels | None) -> tuple[str, ...]:
    return labels.names if isinstance(labels, LabelMap) else tuple(labels or ())


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
