"""From names, or objects, to a model."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from trivet.errors import UsageError, unknown_name
from trivet.models.backbone import Backbone, packaged_weights
from trivet.models.blocks import Style
from trivet.models.heads import HEADS
from trivet.models.model import Model
from trivet.models.necks import NECKS
from trivet.models.spec import ModelSpec
from trivet.models.weights import load_weights
from trivet.models.zoo import zoo_entry

Part = str | nn.Module | Callable[..., nn.Module]

_STYLE = tuple(item.name for item in fields(Style))
_PICTURE = ("size_hw", "mean", "std", "fill_rgb")
_SET_BY_BUILD = {"classes", "timm_weights", "style"}
_COCO_CLASSES = 90


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
        backbone: A timm name, a module with `features`, `mean` and `std`, or a function that makes one. Here and
            below, `None` keeps what `name` says.
        neck: A name of `NECKS`, a module with `features`, or a function of the backbone's features.
        head: A name of `HEADS`, a module, or a function of the neck's features and `classes`.
        classes: How many classes; `None` keeps what `name` says (published models: COCO's 90).
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
    order = _published(name)
    given = {"backbone": backbone, "neck": neck, "head": head, "classes": classes}
    order = replace(order, **{key: value for key, value in given.items() if value is not None})
    order = replace(order, options={**order.options, **options})
    if order.backbone is None or order.classes is None:
        raise UsageError(
            "a model needs a published name, or a backbone and the number of classes; "
            f"got backbone={order.backbone!r}, classes={order.classes!r}",
            'for example build_model("efficientdet_d0", classes=3)',
        )
    file = _weights_file(order.backbone, pretrained)
    model = _assemble(order, timm_weights=pretrained is True and file is None)
    if file is not None:
        load_weights(model, file)
    return model


@dataclass(frozen=True)
class _Order:
    """What was asked for: a spec that may still hold objects and gaps."""

    backbone: Part | None = None
    neck: Part = "bifpn"
    head: Part = "anchor"
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None


def _published(name: str | ModelSpec | None) -> _Order:
    if name is None:
        return _Order()
    if isinstance(name, ModelSpec):
        picture = {key: getattr(name, key) for key in _PICTURE}
        return _Order(
            name.backbone, name.neck, name.head, name.classes, {**name.options, **picture}, name.name
        )
    entry = zoo_entry(name)
    options = {"size_hw": (entry.size, entry.size), **entry.options}
    return _Order(entry.backbone, entry.neck, entry.head, _COCO_CLASSES, options, name)


def _weights_file(backbone: Part, pretrained: bool | str | Path) -> Path | None:
    if pretrained is False:
        return None
    if pretrained is not True:
        return Path(pretrained)
    if not isinstance(backbone, str):
        raise UsageError(
            f"pretrained=True needs a backbone given by its timm name, got {backbone!r}",
            "load the weights into the object, or give pretrained=FILE",
        )
    return packaged_weights(backbone)


def _assemble(order: _Order, *, timm_weights: bool) -> Model:
    picture = {key: value for key, value in order.options.items() if key in _PICTURE}
    options = {key: value for key, value in order.options.items() if key not in _PICTURE}
    makers = {
        "backbone": _maker("backbone", order.backbone, timm_weights=timm_weights),
        "neck": _maker("neck", order.neck),
        "head": _maker("head", order.head),
    }
    arguments = _share_out(options, makers)
    backbone = _make(makers["backbone"], (), arguments["backbone"])
    neck = _make(makers["neck"], (backbone.features,), arguments["neck"])
    head = _make(makers["head"], (neck.features,), {"classes": order.classes, **arguments["head"]})
    mean, std = picture.get("mean", backbone.mean), picture.get("std", backbone.std)
    spec = ModelSpec(
        backbone=_described(order.backbone),
        neck=_described(order.neck),
        head=_described(order.head),
        classes=order.classes,
        size_hw=picture.get("size_hw", (512, 512)),
        mean=mean,
        std=std,
        fill_rgb=picture.get("fill_rgb", tuple(round(255 * value) for value in mean)),
        options={key: _described(value) for key, value in options.items()},
        name=order.name,
    )
    return Model(backbone, neck, head, spec=spec)


def _maker(kind: str, part: Part, **fixed: Any) -> nn.Module | Callable[..., nn.Module]:
    """Return the module given, or the function that makes it."""
    if not isinstance(part, str):
        return part
    if kind == "backbone":
        return partial(Backbone, part, **fixed)
    table = {"neck": NECKS, "head": HEADS}[kind]
    if part not in table:
        raise unknown_name(kind, part, table)
    return table[part]


def _make(
    maker: nn.Module | Callable[..., nn.Module], inputs: tuple[Any, ...], arguments: Mapping[str, Any]
) -> Any:
    return maker if isinstance(maker, nn.Module) else maker(*inputs, **arguments)


def _share_out(options: Mapping[str, Any], makers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each part's own keyword arguments; `neck_x` and the like win over `x`."""
    known = {kind: _keywords(maker) for kind, maker in makers.items()}
    shares: dict[str, dict[str, Any]] = {kind: {} for kind in makers}
    for key, value in options.items():
        takers = [kind for kind in known if key in known[kind]]
        kind, _, rest = key.partition("_")
        if not takers and rest not in known.get(kind, ()):
            raise unknown_name("model option", key, {*_PICTURE, *(k for ks in known.values() for k in ks)})
        for taker in takers:
            shares[taker].setdefault(key, value)
        if not takers:
            shares[kind][rest] = value
    return {kind: _with_style(share) for kind, share in shares.items()}


def _keywords(maker: nn.Module | Callable[..., nn.Module]) -> set[str]:
    """Return the keyword arguments a part can be given, with those of its `style` among them."""
    if isinstance(maker, nn.Module):
        return set()
    fixed = set(maker.keywords) if isinstance(maker, partial) else set()
    parameters = inspect.signature(maker).parameters.values()
    names = {item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}
    styled = set(_STYLE) if "style" in names else set()
    return (names - _SET_BY_BUILD - fixed) | styled


def _with_style(share: dict[str, Any]) -> dict[str, Any]:
    style = {key: share.pop(key) for key in _STYLE if key in share}
    return {**share, "style": Style(**style)} if style else share


def _described(value: Any) -> Any:
    """Return a value as a spec can hold it: objects by the name of their class or function."""
    if isinstance(value, nn.Module):
        value = type(value)
    if isinstance(value, partial):
        value = value.func
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else value
