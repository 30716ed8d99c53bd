"""`trivet compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trivet.cli.options import JsonPath, write_json_option


def compare(
    models: Annotated[
        list[str], typer.Argument(help="Published models (see trivet models) and run folders.")
    ],
    on: Annotated[Path | None, typer.Option(help="A data set to score the run folders on.")] = None,
    batch: Annotated[int, typer.Option(help="Images of the step that is planned and measured.")] = 2,
    precision: Annotated[str, typer.Option(help="Of the planned step: 32, bf16 or 16.")] = "32",
    seconds: Annotated[
        float, typer.Option(help="Measure no model that would take longer than this; 0 measures none.")
    ] = 60.0,
    plan: Annotated[bool, typer.Option(help="Plan the memory of training on a GPU.")] = True,
    picture: Annotated[
        Path | None, typer.Option(help="Draw accuracy against time and memory: a .png or .svg file.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Put models side by side: size, planned memory, time on this machine, published and own accuracy."""
    from trivet.recipe.compare import compare_models
    from trivet.report.comparison import check_picture, comparison_table, draw_comparison

    if picture is not None:
        check_picture(picture)
    told = Console(stderr=True, highlight=False)
    found = compare_models(
        models,
        on=on,
        batch=batch,
        precision=precision,
        seconds=seconds,
        plan=plan,
        progress=lambda name: told.print(f"{name} ...", style="dim"),
    )
    if json != "-":
        Console(highlight=False, width=None if Console().is_terminal else 130).print(comparison_table(found))
        for model in found.models:
            if model.why_not:
                typer.echo(f"{model.name}: not measured whole: {model.why_not}")
    if picture is not None:
        draw_comparison(found, picture)
    write_json_option(json, found.to_json())
