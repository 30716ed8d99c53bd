"""From names, or objects, to a model."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from trivet.errors import UsageError, unknown_name
from trivet.models.backbone import Backbone, packaged_weights, timm_state
from trivet.models.backbones import BACKBONES
from trivet.models.blocks import Style
from trivet.models.files import read_weights
from trivet.models.heads import HEADS
from trivet.models.model import Model
from trivet.models.necks import NECKS
from trivet.models.outside import OUTSIDE
from trivet.models.spec import ModelSpec
from trivet.models.weights import load_weights
from trivet.models.zoo import zoo_entry
from trivet.structures import LabelMap

Part = str | nn.Module | Callable[..., nn.Module]
Maker = nn.Module | Callable[..., nn.Module]

_TABLES: dict[str, Mapping[str, Callable[..., nn.Module]]] = {"neck": NECKS, "head": HEADS}
_STYLE = tuple(item.name for item in fields(Style))
_PICTURE = ("size_hw", "mean", "std", "fill_rgb")
_SET_HERE = {"classes", "timm_weights", "style"}

# What a model of parts has where nothing else is said, by the name of its head.
_NECKS = {
    "anchor": "bifpn",
    "semantic": "fpn",
    "large_fov": "none",
    "pooled": "none",
    "flat": "none",
    "yolo": "spp_pan",
}
_OPTIONS: dict[str, dict[str, Any]] = {"semantic": {"levels": (2, 5)}, "large_fov": {"levels": (3, 3)}}


def build_model(
    name: str | ModelSpec | None = None,
    *,
    backbone: Part | None = None,
    neck: Part | None = None,
    head: Part | None = None,
    classes: int | None = None,
    pretrained: bool | str | Path = False,
    **options: Any,
) -> Model:
    """Build a model from a published name, a spec, or parts.

    Args:
        name: A name of `ZOO`, or the `spec` of a model built before.
        backbone: A name of `BACKBONES` or timm, a module with `features`, `mean` and `std`, or a function that makes one.
            Here and below, `None` keeps what `name` says.
        neck: A name of `NECKS`, a module with `features`, or a function of the backbone's features that makes one.
            Without a name, `None` is `bifpn` for boxes (`spp_pan` before a YOLO head), `fpn` for masks and `none` for
            classes.
        head: A name of `HEADS`, a module, or a function of the neck's features and `classes` that makes one.
        classes: How many classes; `None` keeps what `name` says (COCO's 90 for published models).
        pretrained: `True` starts the backbone from ImageNet weights; a file starts whatever it holds.
        **options: Keyword arguments of the parts. One that several parts know goes to all of them unless it says
            which: `activation`, but `head_activation`. `norm`, `activation`, `separable` and the other fields of
            `Style` belong to neck and head; `size_hw`, `mean`, `std` and `fill_rgb` to the model itself.

    Raises:
        UsageError: If a name or option is unknown, the parts do not fit, or the weights cannot be had.

    Example:
        >>> model = build_model("efficientdet_d0", classes=3)
        >>> model.spec.backbone, model.spec.neck
        ('efficientnet_b0', 'bifpn')
    """
    start = _published(name) if name is not None else _start_from(head)
    chosen = {"backbone": backbone, "neck": neck, "head": head}
    parts = start.parts | {kind: part for kind, part in chosen.items() if part is not None}
    classes = start.classes if classes is None else classes
    if "backbone" not in parts or classes is None:
        raise UsageError(
            "a model needs a published name, or a backbone and the number of classes; "
            f"got name={name!r}, backbone={backbone!r}, classes={classes!r}",
            'for example build_model("efficientdet_d0", classes=3)',
        )
    file = _weights_file(parts["backbone"], pretrained)
    makers = {kind: _maker(kind, part) for kind, part in parts.items()}
    fetched = None
    if pretrained is True and file is None:
        if parts["backbone"] in BACKBONES or start.whole:
            fetched = timm_state(str(parts["backbone"]))
        else:
            makers["backbone"] = partial(makers["backbone"], timm_weights=True)
    options = (
        _inherited(start.options, makers, backbone_replaced=start.name is not None and backbone is not None)
        | options
    )
    model = _assemble(parts, makers, options, classes=classes, name=start.name)
    weights = fetched if file is None else file
    if weights is not None:
        load_weights(model, weights)
    return model


def load_model(path: str | Path) -> tuple[Model, LabelMap | None]:
    """Return the model that `save_weights` wrote, and its classes if they were written with it.

    Raises:
        UsageError: If the file cannot be read, is not one of ours, or its model was built from objects.
    """
    file = read_weights(path)
    if file.spec is None:
        raise UsageError(
            f"{path}: the file does not say which model its weights are for",
            "build that model, then load_weights(model, FILE)",
        )
    model = build_model(file.spec)
    load_weights(model, file.tensors)
    return model, file.labels


@dataclass(frozen=True)
class _Start:
    """What a name says of a model."""

    parts: dict[str, Part]
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    whole: bool = False  # whether timm's weights fill the classifier too


def _start_from(head: Part | None) -> _Start:
    head = "anchor" if head is None else head
    key = head if isinstance(head, str) else ""
    return _Start({"neck": _NECKS.get(key, "bifpn"), "head": head}, options=_OPTIONS.get(key, {}))


def _published(name: str | ModelSpec) -> _Start:
    if isinstance(name, ModelSpec):
        if name.head == OUTSIDE:
            raise UsageError(
                f"this model was wrapped from an outside module, {name.backbone}, which only its author can make",
                "make it again, then wrap_model(module, ...) and load_weights(model, FILE)",
            )
        options = {**name.options, **{key: getattr(name, key) for key in _PICTURE}}
        parts: dict[str, Part] = {"backbone": name.backbone, "neck": name.neck, "head": name.head}
        return _Start(parts, name.classes, options, name.name)
    entry = zoo_entry(name)
    options = {"size_hw": (entry.size, entry.size), **entry.options}
    parts = {"backbone": entry.backbone, "neck": entry.neck, "head": entry.head}
    return _Start(parts, entry.classes, options, name, whole=entry.top1 is not None)


def _weights_file(backbone: Part, pretrained: bool | str | Path) -> Path | None:
    if not isinstance(pretrained, bool):
        return Path(pretrained)
    if pretrained and not isinstance(backbone, str):
        raise UsageError(
            f"pretrained=True needs a backbone given by its timm name, got {_described(backbone)}",
            "load the weights into the object, or give pretrained=FILE",
        )
    return packaged_weights(backbone) if pretrained and isinstance(backbone, str) else None


def _maker(kind: str, part: Part) -> Maker:
    """Return the module given, or the function that makes it."""
    if not isinstance(part, str):
        return part
    if kind == "backbone":
        return BACKBONES[part] if part in BACKBONES else partial(Backbone, part)
    if part not in _TABLES[kind]:
        raise unknown_name(kind, part, _TABLES[kind])
    return _TABLES[kind][part]


def _inherited(
    options: Mapping[str, Any], makers: Mapping[str, Maker], *, backbone_replaced: bool
) -> dict[str, Any]:
    """Return a published model's options without those of parts that were replaced."""
    takers = {kind: maker for kind, maker in makers.items() if kind != "backbone" or not backbone_replaced}
    picture = ("size_hw",) if backbone_replaced else _PICTURE
    return {key: value for key, value in options.items() if key in picture or _takers(key, takers)}


def _assemble(
    parts: Mapping[str, Part],
    makers: Mapping[str, Maker],
    options: Mapping[str, Any],
    *,
    classes: int,
    name: str | None,
) -> Model:
    arguments = _share_out(options, makers)
    backbone = _make(makers["backbone"], **arguments["backbone"])
    neck = _make(makers["neck"], backbone.features, **arguments["neck"])
    head = _make(makers["head"], neck.features, classes=classes, **arguments["head"])
    mean = options.get("mean", backbone.mean)
    spec = ModelSpec(
        **{kind: _described(part) for kind, part in parts.items()},
        classes=classes,
        size_hw=options.get("size_hw", (512, 512)),
        mean=mean,
        std=options.get("std", backbone.std),
        fill_rgb=options.get("fill_rgb", tuple(round(255 * value) for value in mean)),
        options={key: _described(value) for key, value in options.items() if key not in _PICTURE},
        name=name,
    )
    return Model(backbone, neck, head, spec=spec)


def _make(maker: Maker, *inputs: Any, **arguments: Any) -> Any:
    return maker if isinstance(maker, nn.Module) else maker(*inputs, **arguments)


def _share_out(options: Mapping[str, Any], makers: Mapping[str, Maker]) -> dict[str, dict[str, Any]]:
    """Return each part's own keyword arguments; `neck_x` and the like win over `x`."""
    shares: dict[str, dict[str, Any]] = {kind: {} for kind in makers}
    taken = {key: _takers(key, makers) for key in options if key not in _PICTURE}
    for key in sorted(taken, key=lambda key: key not in taken[key].values()):
        if not taken[key]:
            known = {word for maker in makers.values() for word in _keywords(maker)}
            raise unknown_name("model option", key, {*_PICTURE, *known})
        for kind, keyword in taken[key].items():
            shares[kind][keyword] = options[key]
    return {
        kind: _with_style(share) if "style" in _keyword_only(makers[kind]) else share
        for kind, share in shares.items()
    }


def _takers(key: str, makers: Mapping[str, Maker]) -> dict[str, str]:
    """Return the kinds of part that an option goes to, each with the keyword it has there."""
    plain = {kind: key for kind, maker in makers.items() if key in _keywords(maker)}
    kind, _, keyword = key.partition("_")
    named = {kind: keyword} if kind in makers and keyword in _keywords(makers[kind]) else {}
    return plain or named


def _keywords(maker: Maker) -> set[str]:
    """Return the keyword arguments a part can be given, with those of its `style` among them."""
    if isinstance(maker, nn.Module):
        return set()
    fixed = set(maker.keywords) if isinstance(maker, partial) else set()
    names = _keyword_only(maker)
    styled = set(_STYLE) if "style" in names else set()
    return (names - _SET_HERE - fixed) | styled


def _keyword_only(maker: Maker) -> set[str]:
    if isinstance(maker, nn.Module):
        return set()
    parameters = inspect.signature(maker).parameters.values()
    return {item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}


def _with_style(share: dict[str, Any]) -> dict[str, Any]:
    style = {key: share.pop(key) for key in _STYLE if key in share}
    return {**share, "style": Style(**style)} if style else share


def _described(value: Any) -> Any:
    """Return a value as a spec can hold it: objects by the name of their class or function."""
    if isinstance(value, nn.Module):
        value = type(value)
    while isinstance(value, partial):
        value = value.func
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else value
