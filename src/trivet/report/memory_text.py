"""A memory plan as tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trivet.memory.plan import MIB, MemoryPlan

MOST_MODULES = 8


def size_text(size: int | float) -> str:
    """Return bytes in MiB, or GiB from 10 GiB on."""
    return f"{size / MIB / 1024:,.2f} GiB" if size >= 10 * 1024 * MIB else f"{size / MIB:,.0f} MiB"


def parts_table(plan: MemoryPlan, batch: int) -> Table:
    """Return what takes how much at the moment of the peak."""
    table = Table("at the peak", "memory", "share", title_justify="left")
    table.columns[1].justify = table.columns[2].justify = "right"
    total = plan.total(batch)
    for kind, size in plan.parts(batch).items():
        table.add_row(kind, size_text(size), f"{size / total:.0%}")
    table.add_section()
    table.add_row("process", size_text(total), f"+ {plan.margin:.0%} margin")
    return table


def modules_table(plan: MemoryPlan, batch: int) -> Table:
    """Return which modules keep how much for the backward pass."""
    table = Table("saved for backward by", "memory")
    table.columns[1].justify = "right"
    saved = list(plan.curve.saved_by_module(batch).items())
    for name, size in saved[:MOST_MODULES]:
        table.add_row(name, size_text(size))
    rest = sum(size for _, size in saved[MOST_MODULES:])
    if rest:
        table.add_row(f"{len(saved) - MOST_MODULES} others", size_text(rest))
    return table


def remedies_table(rows: Sequence[tuple[str, int, int, str, str]]) -> Table:
    """Return what each remedy saves and costs; its arguments are in `remedy_lines`.

    Args:
        rows: Name, bytes saved, largest batch with it, what it costs, its arguments.
    """
    table = Table("remedy", "saves", "largest batch", "costs")
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, saves, largest, cost, _ in rows:
        table.add_row(name, size_text(saves), str(largest), cost)
    return table


def remedy_lines(rows: Sequence[tuple[str, int, int, str, str]]) -> list[str]:
    """Return each remedy's arguments on a line of its own, for pasting: a table would break them."""
    width = max((len(name) for name, *_ in rows), default=0)
    return [f"{name:<{width}}  {arguments}" for name, *_, arguments in rows]


def family_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return one line a model; the arguments are in `family_lines`."""
    table = Table("model", "size", "batch 1", "MiB an image", "largest batch", "fits", "then takes")
    for column in table.columns[1:5]:
        column.justify = "right"
    for row in rows:
        advice = "with arguments" if _is_arguments(row) else str(row["advice"])
        table.add_row(
            *(str(row[key]) for key in ("model", "size", "one", "each", "largest")), advice, str(row["then"])
        )
    return table


def family_lines(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the command of each model that fits with arguments, for pasting."""
    return [f"trivet fit DATA --model {row['model']} {row['advice']}" for row in rows if _is_arguments(row)]


def _is_arguments(row: Mapping[str, object]) -> bool:
    return str(row["advice"]).startswith("--")


def plan_text(plan: MemoryPlan, batch: int, *, headline: str) -> RenderableType:
    """Return the account of a plan."""
    notes = [Text(f"assumed: {note}", style="dim") for note in plan.curve.ledger.notes]
    peak = Text(f"the peak is in the {plan.curve.phase_at_peak(batch)} phase", style="dim")
    return Group(Text(headline), parts_table(plan, batch), peak, modules_table(plan, batch), *notes)
