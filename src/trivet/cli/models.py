"""`trivet models`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from trivet.cli.options import JsonPath, write_json_option


def models(
    name: Annotated[str | None, typer.Argument(help="One model, in detail.")] = None,
    json: JsonPath = None,
) -> None:
    """List the published models, or show one."""
    from dataclasses import asdict

    from trivet.models.zoo import ZOO, zoo_entry

    shown = {name: zoo_entry(name)} if name else dict(ZOO)
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
