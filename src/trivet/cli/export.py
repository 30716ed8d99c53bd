"""`trivet export`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trivet.cli.options import JsonPath, write_json_option


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[str, typer.Option(help="The form of the file: onnx.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file; model.onnx in the run folder when not given.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set to prove it on; the run's own when not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which of its splits: train, val or test.")] = "val",
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise the network, with ranges of training images.")
    ] = False,
    most_loss: Annotated[
        float | None,
        typer.Option(help="What the score may lose, 0-1; 0.0001, or 0.01 with --int8."),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Under which the weights may be used; written into the file.")
    ] = "not stated",
    json: JsonPath = None,
) -> None:
    """Write a run as one file from raw pixels to predictions, and prove it equal on real images."""
    from trivet.recipe.export import export_model

    told = Console(stderr=True, highlight=False)
    done = export_model(
        run,
        out,
        to=to,
        data=data,
        split=split,
        int8=int8,
        most_loss=most_loss,
        licence=licence,
        progress=lambda words: told.print(f"{words} ...", style="dim"),
    )
    if json != "-":
        typer.echo(f"{done.path} ({done.path.stat().st_size / 2**20:.1f} MiB)")
        typer.echo(done.proof.text())
    write_json_option(json, {"file": str(done.path), "proof": done.proof.to_json()})
