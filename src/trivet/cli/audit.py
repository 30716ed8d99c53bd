"""`trivet audit`."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    with _bar("looking at every image") as progress:
        found = audit_dataset(
            data,
            size_hw=size_hw,
            format=format,
            labels=labels,
            images=images,
            task=checked_task(task),
            overlap=overlap,
            progress=progress,
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


@contextmanager
def _bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how far the work is, until it is done; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
