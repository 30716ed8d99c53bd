"""The recipe: what to run, as data, and how it is written to a file and read back."""

import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from tomlkit.exceptions import TOMLKitError

from trivet.errors import UsageError, unknown_name
from trivet.storage import whole_file
from trivet.structures import TaskName
from trivet.train.settings import TrainSettings


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _as_tuple(value: Any) -> Any:
    """Return TOML's lists as tuples, at any depth, as the parts of a model take them."""
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


class DataRecipe(_Section):
    """Which data, and how it is read.

    Args:
        path: The data set's folder or file.
        format: Name in `data.sources.SOURCES`; `None` looks at the folder.
        on_bad: What to do with a box or image that cannot be used.
        val_share: Share of the training images held back where the data set has no validation split, 0-1; one in
            five, at most 5,000, when not given.
        groups: A regular expression that finds the group in an image's name; a group is never divided.
        labels: The folder of label files, where a YOLO data set has several.
        images: Where the image files are, when outside the data set's folder.
        overlap: Which label a pixel of several polygons has; a name of `data.sources.OVERLAPS`.
        cache: Whether images are decoded once into a file of pixels (`yes`, `no`), or where that is faster (`auto`).
        workers: Processes that read images; 0 reads in the training process.
    """

    path: str
    format: str | None = None
    on_bad: Literal["error", "skip"] = "skip"
    val_share: float | None = Field(None, gt=0, lt=1)
    groups: str | None = None
    labels: str | None = None
    images: str | None = None
    overlap: str = "small-on-top"
    cache: Literal["yes", "no", "auto"] = "auto"
    workers: int = Field(0, ge=0)


class ModelRecipe(_Section):
    """Which model.

    Args:
        name: A published model, or `None` for one made of parts.
        backbone: A timm name, for a model made of parts.
        neck: Name of a neck, for a model made of parts.
        head: Name of a head, for a model made of parts.
        options: Further keyword arguments of `build_model`.
        pretrained: ImageNet weights of the backbone (`True`), none (`False`), or a weights file.
        size_hw: Height and width of the network's input, pixels.
    """

    name: str | None = None
    backbone: str | None = None
    neck: str | None = None
    head: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    pretrained: bool | str = True
    size_hw: tuple[int, int]

    @field_validator("options")
    @classmethod
    def _lists_are_tuples(cls, options: dict[str, Any]) -> dict[str, Any]:
        return {key: _as_tuple(value) for key, value in options.items()}


class AugmentRecipe(_Section):
    """How training images are varied.

    Args:
        strength: `none`, `light`, `medium`, `strong` or a number in 0-1.
        orientation: `fixed` (nothing is mirrored), `upright` (left and right may change places) or `free` (any
            quarter turn as well).
        mosaic: Share of training images made of four, 0-1.
        mixup: Share of training images blended with another, 0-1.
        cutmix: Share of training images with a part of another, 0-1; for classification.
    """

    strength: str | float = "medium"
    orientation: str = "upright"
    mosaic: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0, le=1)
    cutmix: float = Field(0.0, ge=0, le=1)


class TaskRecipe(_Section):
    """What is learnt.

    Args:
        kind: `detection`, `segmentation` or `classification`; what the data set holds unless given.
        options: Keyword arguments of the task, such as `label_smoothing`, `loss` or `box_loss`.
    """

    kind: TaskName = "detection"
    options: dict[str, Any] = Field(default_factory=dict)


class MachineRecipe(_Section):
    """Where it runs.

    Args:
        accelerator: `cpu`, `cuda` or `mps`.
        devices: Processes that train together.
        threads: Threads of one process on CPU; 0 takes PyTorch's number.
    """

    accelerator: str = "cpu"
    devices: int = Field(1, ge=1)
    threads: int = Field(0, ge=0)


class Chosen(_Section):
    """By whom a value was chosen, and why."""

    by: Literal["given", "automatic", "recipe"]
    why: str = ""


class Recipe(_Section):
    """Everything a run is made of."""

    data: DataRecipe
    model: ModelRecipe
    augment: AugmentRecipe
    task: TaskRecipe
    train: TrainSettings
    machine: MachineRecipe
    chosen: dict[str, Chosen] = Field(default_factory=dict)


def known_keys() -> dict[str, Any]:
    """Return every key of a recipe, dotted (`train.lr`), with its type."""
    keys: dict[str, Any] = {}
    for section, field in Recipe.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys |= {f"{section}.{name}": item.annotation for name, item in kind.model_fields.items()}
        elif is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            keys |= {f"{section}.{item.name}": hints[item.name] for item in fields(kind)}
    return keys


def checked_value(key: str, value: Any) -> Any:
    """Return the value of a recipe key as its type: a list from a file becomes a pair, a whole number a float.

    Raises:
        UsageError: If the key is unknown or the value does not fit its type.
    """
    keys = known_keys()
    if key not in keys:
        raise unknown_name("recipe key", key, keys)
    try:
        return TypeAdapter(keys[key]).validate_python(value)
    except ValidationError as fault:
        raise UsageError(f"recipe key {key}: {fault.errors()[0]['msg']}; got {value!r}") from None


def make_recipe(values: Mapping[str, Any], chosen: Mapping[str, Chosen] | None = None) -> Recipe:
    """Make a recipe from dotted keys.

    Raises:
        UsageError: If a key is unknown (with the nearest one), missing, or has a value that does not fit.
    """
    keys = known_keys()
    sections: dict[str, dict[str, Any]] = {name: {} for name in Recipe.model_fields if name != "chosen"}
    for key, value in values.items():
        if key not in keys:
            raise unknown_name("recipe key", key, keys)
        section, name = key.split(".", 1)
        sections[section][name] = value
    try:
        return Recipe.model_validate(sections | {"chosen": dict(chosen or {})})
    except ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"recipe key {place}: {message}; got {first['input']!r}") from None


def read_recipe(path: Path) -> tuple[dict[str, Any], dict[str, Chosen]]:
    """Read a recipe file as dotted keys, and who chose them.

    Raises:
        UsageError: If the file is missing, is not TOML, or has an unknown section or key.
    """
    try:
        document = tomlkit.parse(path.read_text()).unwrap()
    except OSError as fault:
        raise UsageError(f"cannot read the recipe {path}: {fault.strerror}") from fault
    except TOMLKitError as fault:
        raise UsageError(f"{path} is not TOML: {fault}") from fault
    values: dict[str, Any] = {}
    keys = known_keys()
    for section, content in document.items():
        if section == "chosen":
            continue
        if section not in Recipe.model_fields or not isinstance(content, dict):
            raise unknown_name("recipe section", section, Recipe.model_fields)
        for name, value in content.items():
            if f"{section}.{name}" not in keys:
                raise unknown_name("recipe key", f"{section}.{name}", keys)
            values[f"{section}.{name}"] = value
    try:
        chosen = {key: Chosen.model_validate(value) for key, value in document.get("chosen", {}).items()}
    except ValidationError as fault:
        raise UsageError(
            f"{path}: [chosen] holds tables of 'by' and 'why': {fault.errors()[0]['msg']}"
        ) from fault
    return values, chosen


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as TOML; a value that is not set is left out."""
    plain = recipe.model_dump(mode="json", exclude_none=True)
    document = tomlkit.document()
    document.add(
        tomlkit.comment("Everything this run was made of. `trivet fit --recipe THIS` runs it again.")
    )
    for section, content in plain.items():
        table = tomlkit.table()
        for name, value in content.items():
            item: Any = value
            if section == "chosen":
                item = tomlkit.inline_table()
                item.update(value)
            table.add(tomlkit.key(name), item)
        document.add(section, table)
    with whole_file(path) as unfinished:
        unfinished.write_text(tomlkit.dumps(document))
