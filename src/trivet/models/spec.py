"""What a model is made of, as plain data."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from trivet.errors import UsageError, unknown_name

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class ModelSpec:
    """What `build_model` needs to make a model again, without its weights.

    Args:
        backbone: A timm name; `module:Class` where an object was given instead of a name.
        neck: A name of `NECKS`, or as above.
        head: A name of `HEADS`, or as above.
        classes: How many classes.
        size_hw: The input size the model is meant for; any other works.
        mean: Mean of the images the backbone was trained on, by channel, in 0-1.
        std: Their standard deviation, in 0-1.
        fill_rgb: The colour, 0-255, that letterboxing pads with.
        options: The keyword arguments of the parts, as `build_model` takes them.
        name: The published model it started from, or `None`.
    """

    backbone: str
    neck: str
    head: str
    classes: int
    size_hw: tuple[int, int]
    mean: Colour
    std: Colour
    fill_rgb: tuple[int, int, int]
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None

    def to_json(self) -> str:
        """Return the spec as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If the text is not the JSON object of a spec, or a key is unknown or missing.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as fault:
            raise UsageError(f"a model's spec is a JSON object, got {text[:60]!r}: {fault}") from fault
        if not isinstance(values, dict):
            raise UsageError(f"a model's spec is a JSON object, got {text[:60]!r}")
        known = {item.name for item in fields(cls)}
        for key in values:
            if key not in known:
                raise unknown_name("key of a model's spec", key, known)
        try:
            return cls(**{key: _tuples(value) for key, value in values.items()})
        except TypeError as fault:
            raise UsageError(f"a model's spec lacks a key: {fault}") from fault


def _tuples(value: Any) -> Any:
    """Return JSON's lists as tuples, at any depth."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
