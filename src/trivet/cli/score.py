"""`trivet score`."""

import math
from pathlib import Path
from typing import Annotated

import typer

from trivet.cli.options import JsonPath, show, write_json_option
from trivet.errors import UsageError


def score(
    what: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or predictions: COCO results, a folder of masks, a competition file."
        ),
    ],
    data: Annotated[Path | None, typer.Argument(help="The data set; a run's own when not given.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; test where there is one.")] = None,
    last: Annotated[
        bool, typer.Option("--last", help="The weights the run ended with, not its best ones.")
    ] = False,
    crf: Annotated[
        str | None, typer.Option(help="Refine masks with a dense CRF, such as deeplab-v1; slow.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average masks or classes over each image and its mirror image.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals; 0 leaves them out.")] = 1000,
    json: JsonPath = None,
) -> None:
    """Score a run, or any model's predictions, against the truth."""
    from trivet.recipe.score import score as score_data
    from trivet.recipe.submission import is_submission
    from trivet.report.text import score_text

    if is_submission(what):
        _score_submission(what, data, split, json)
        return
    scores = score_data(what, data, split=split, last=last, crf=crf, flip=flip, bootstrap=bootstrap)
    if json != "-":
        show(score_text(scores, [row.name for row in scores.per_class]))
    write_json_option(json, scores.to_json())


def _score_submission(path: Path, data: Path | None, split: str | None, json: str | None) -> None:
    from dataclasses import asdict

    from trivet.recipe.submission import score_submission
    from trivet.report.text import board_text

    if data is None:
        raise UsageError(f"{path} holds predictions, and no data set was given", f"trivet score {path} DATA")
    result = score_submission(path, data, split=split)
    if json != "-":
        show(board_text(result))
    score = None if math.isnan(result.score) else result.score
    write_json_option(json, asdict(result) | {"score": score})
    if result.faults:
        raise typer.Exit(1)
