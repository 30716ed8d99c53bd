"""`trivet models`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trivet.cli.options import JsonPath, write_json_option
from trivet.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from trivet.structures import TaskName


def models(
    name: Annotated[str | None, typer.Argument(help="One model, in detail.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Only those for detection, segmentation or classification.")
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="An EfficientNet's published scaling beside the formula's.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """List the published models, or show one."""
    from dataclasses import asdict

    from trivet.models.zoo import zoo_entry, zoo_names

    if scaling:
        _show_scaling(name, json)
        return
    shown = {key: zoo_entry(key) for key in ([name] if name else zoo_names(checked_task(task)))}
    if json != "-":
        table = Table("name", "task", "size", "parameters", "GMACs", "COCO AP", "backbone", "neck", "source")
        for key, entry in shown.items():
            ap = "-" if entry.ap is None else f"{entry.ap:.1f} ({entry.split})"
            table.add_row(
                key,
                entry.task,
                str(entry.size),
                f"{entry.parameters:,}",
                f"{entry.gmacs:.2f}",
                ap,
                entry.backbone,
                entry.neck,
                entry.source,
            )
        console = Console(width=None if Console().is_terminal else 160)
        console.print(table)
        if name:
            for option, value in shown[name].options.items():
                console.print(f"  {option} = {value}")
    write_json_option(json, {"models": [{"name": key, **asdict(entry)} for key, entry in shown.items()]})


def checked_task(task: str | None) -> "TaskName | None":
    """Return a task given by name.

    Raises:
        UsageError: If it is none.
    """
    from trivet.structures import TASKS

    known = next((name for name in TASKS if name == task), None)
    if task is not None and known is None:
        raise unknown_name("task", task, TASKS)
    return known


def _show_scaling(name: str | None, json: str | None) -> None:
    from dataclasses import asdict

    from trivet.models.scaling import scale_efficientnet

    if name is None:
        raise UsageError("--scaling needs a network", "trivet models efficientnet_b4 --scaling")
    found = scale_efficientnet(name)
    if json != "-":
        table = Table("", "published", "formula", title=f"{name}: phi = {found.phi:g}")
        published = found.published.scaling if found.published else None
        for word in ("width", "depth", "resolution", "channels", "repeats"):
            told = "-" if published is None else _words(getattr(published, word))
            table.add_row(word, told, _words(getattr(found.formula, word)))
        Console(width=None if Console().is_terminal else 160).print(table)
        for difference in found.differences:
            typer.echo(
                f"{difference.what}: published {difference.published:g}, formula {difference.formula:g}"
            )
    write_json_option(json, asdict(found))


def _words(value: float | tuple[int, ...]) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
