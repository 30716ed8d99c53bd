"""A recipe in the making: what was given, what was chosen, and why."""

from collections.abc import Mapping
from typing import Any

from trivet.recipe.recipe import Chosen, Recipe, checked_value, make_recipe


class Draft:
    """Values given so far, and who chose each.

    Args:
        given: Dotted keys, as in a recipe; `None` values count as not given.
        chosen: Who chose those of `given` that come from a recipe file.

    Raises:
        UsageError: If a key is unknown or a value does not fit its type.
    """

    def __init__(self, given: Mapping[str, Any], chosen: Mapping[str, Chosen] | None = None) -> None:
        self.values = {key: checked_value(key, value) for key, value in given.items() if value is not None}
        self.chosen = {key: Chosen(by="given") for key in self.values} | dict(chosen or {})

    def has(self, key: str) -> bool:
        """Return whether a value is there."""
        return key in self.values

    def offer(self, key: str, value: Any, why: str) -> None:
        """Choose a value unless there is one."""
        if key not in self.values and value is not None:
            self.values[key] = value
            self.chosen[key] = Chosen(by="automatic", why=why)

    def recipe(self) -> Recipe:
        """Return the finished recipe."""
        return make_recipe(self.values, self.chosen)
