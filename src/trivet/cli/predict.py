"""`trivet predict`."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trivet.cli.options import JsonPath, write_json_option
from trivet.errors import UsageError

if TYPE_CHECKING:
    from trivet.recipe.backends import Backend


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or an exported .onnx file.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders or globs.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for drawn pictures, and masks as index PNGs.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least score of a detection, 0-1.")] = 0.3,
    batch: Annotated[int, typer.Option(help="Images that go through the network together.")] = 8,
    last: Annotated[
        bool, typer.Option("--last", help="The weights the run ended with, not its best ones.")
    ] = False,
    crf: Annotated[
        str | None, typer.Option(help="Refine masks with a dense CRF, such as deeplab-v1; slow.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average masks or classes over each image and its mirror image.")
    ] = False,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write what was found as CSV.")] = None,
    submission: Annotated[
        str | None,
        typer.Option(
            help="Write a competition file instead: boostcamp-seg or boostcamp-det; --csv says where."
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="torch or onnx; without a GPU, onnx where the run was exported, else torch."),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Find objects, masks or classes in images: pictures, JSON and CSV."""
    from trivet.recipe.predict_files import FilePrediction, image_line, predict_files

    if submission is not None:
        _submit(
            run,
            images,
            submission,
            csv_path,
            batch=batch,
            last=last,
            crf=crf,
            flip=flip,
            others={"--out": out, "--json": json, "--backend": backend},
        )
        return
    chosen = _backend(run, backend, last=last, crf=crf, flip=flip)

    def tell(image: FilePrediction) -> None:
        if json != "-":
            typer.echo(image_line(image, chosen.labels))

    found = predict_files(chosen, images, out=out, threshold=threshold, batch=batch, watch=tell)
    if csv_path is not None:
        with csv_path.open("w", newline="") as file:
            csv.writer(file).writerows(found.csv_rows())
    write_json_option(json, found.to_json())
    if any(image.fault for image in found.images):
        raise typer.Exit(1)


def _backend(run: Path, backend: str | None, *, last: bool, crf: str | None, flip: bool) -> "Backend":
    from trivet.recipe.backends import choose_backend
    from trivet.recipe.predict import open_backend
    from trivet.recipe.run_folder import load_run

    if run.suffix.lower() != ".onnx":
        return choose_backend(load_run(run, last=last, crf=crf, flip=flip), backend)
    if last or flip or crf is not None:
        raise UsageError(
            f"--last, --flip and --crf are for run folders, and {run} is an exported file", "leave them out"
        )
    return open_backend(run, backend)


def _submit(
    run: Path,
    images: list[str],
    format: str,
    path: Path | None,
    *,
    batch: int,
    last: bool,
    crf: str | None,
    flip: bool,
    others: dict[str, object],
) -> None:
    from trivet.recipe.run_folder import load_run
    from trivet.recipe.submission import write_submission

    idle = [name for name, value in others.items() if value is not None]
    if idle:
        raise UsageError(f"--submission writes one file, and {idle[0]} was given too", "leave it out")
    target = path or Path("submission.csv")
    loaded = load_run(run, last=last, crf=crf, flip=flip)
    rows = write_submission(loaded, images, target, format=format, batch=batch)
    typer.echo(f"{target}: {rows} rows")
