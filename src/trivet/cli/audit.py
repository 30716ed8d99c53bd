"""`trivet audit`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from trivet.cli.options import JsonPath, parse_size, write_json_option


def audit(
    data: Annotated[Path, typer.Argument(help="Folder or file of the data set.")],
    size: Annotated[str | None, typer.Option(help="Size of the training input, as in fit.")] = None,
    format: Annotated[str | None, typer.Option(help="Name of the format; found when not given.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Folder of label files, where there are several.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Where the image files are, when elsewhere.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="detection, segmentation or classification; what the data set holds when not given."
        ),
    ] = None,
    overlap: Annotated[
        str, typer.Option(help="Which outline has a pixel: small-on-top, highest-id or longest-first.")
    ] = "small-on-top",
    html: Annotated[Path | None, typer.Option(help="Write a page as well.")] = None,
    json: JsonPath = None,
) -> None:
    """Look for faults of a data set before training on it."""
    from trivet.cli.models import checked_task
    from trivet.data.audit import audit_dataset
    from trivet.recipe.audit import write_audit

    size_hw = parse_size(size) or (512, 512)
    found = audit_dataset(
        data,
        size_hw=size_hw,
        format=format,
        labels=labels,
        images=images,
        task=checked_task(task),
        overlap=overlap,
    )
    if json != "-":
        typer.echo(found.text())
    write_json_option(json, found.to_json())
    if html is not None:
        typer.echo(
            f"page    {write_audit(html, found, size_hw=size_hw, command=shlex.join(sys.argv))}",
            err=json == "-",
        )
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(1)
