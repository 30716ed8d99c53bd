"""Whether training stood still for its data, and what to do about it."""

import os
from collections.abc import Sequence

from trivet.doctor.finding import Finding
from trivet.recipe.recipe import Recipe
from trivet.train.history import Row

MUCH = 0.10
"""A share of the training time below this is not worth a word."""


def waiting_findings(history: Sequence[Row], recipe: Recipe, *, cores: int | None = None) -> list[Finding]:
    """Say so if training waited for data for more than `MUCH` of its time, and name the remedy.

    Args:
        history: Rows of a run; validations are not in their `seconds`.
        recipe: What was run.
        cores: Processor cores of the machine; counted when not given.
    """
    seconds, waited = (sum(float(row.get(name, 0)) for row in history) for name in ("seconds", "waited"))
    if seconds <= 0 or waited <= MUCH * seconds:
        return []
    share, data = waited / seconds, recipe.data
    found = Finding(
        "waiting-for-data",
        "warning" if share > 0.3 else "note",
        f"Training waited {share:.0%} of its time for data ({waited:.0f} of {seconds:.0f} s)",
        evidence={"share": share, "waited": waited, "seconds": seconds, "workers": data.workers},
        cause="Reading, decoding and augmenting images takes longer than the network leaves time for.",
        remedy=_remedy(recipe, os.cpu_count() or 1 if cores is None else cores),
        verdict="confirmed",
    )
    return [found]


def _remedy(recipe: Recipe, cores: int) -> str:
    data, spare = recipe.data, cores - recipe.machine.devices
    ways = []
    if data.cache == "no":
        ways.append("decode every image once: --set data.cache=yes")
    if data.workers < spare:
        ways.append(f"prepare batches in {spare} processes of their own: --workers {spare}")
    if recipe.augment.mosaic > 0:
        ways.append("a mosaic decodes four images for one: --set augment.mosaic=0")
    ways.append("store the images no larger than the network sees them")
    return "; or ".join(ways).capitalize() + "."
