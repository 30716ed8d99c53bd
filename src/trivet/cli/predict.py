"""`trivet predict`."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from trivet.cli.options import JsonPath, write_json_option


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders or globs.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for drawn pictures, and masks as index PNGs.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least score of a detection, 0-1.")] = 0.3,
    batch: Annotated[int, typer.Option(help="Images that go through the network together.")] = 8,
    last: Annotated[
        bool, typer.Option("--last", help="The weights the run ended with, not its best ones.")
    ] = False,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write what was found as CSV.")] = None,
    json: JsonPath = None,
) -> None:
    """Find objects, masks or classes in images: pictures, JSON and CSV."""
    from trivet.recipe.predict_files import predict_files
    from trivet.recipe.run_folder import load_run

    found = predict_files(load_run(run, last=last), images, out=out, threshold=threshold, batch=batch)
    if json != "-":
        for line in found.lines():
            typer.echo(line)
    if csv_path is not None:
        with csv_path.open("w", newline="") as file:
            csv.writer(file).writerows(found.csv_rows())
    write_json_option(json, found.to_json())
    if any(image.fault for image in found.images):
        raise typer.Exit(1)
