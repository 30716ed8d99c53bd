"""`trivet score`."""

from pathlib import Path
from typing import Annotated

import typer

from trivet.cli.options import JsonPath, show, write_json_option


def score(
    what: Annotated[Path, typer.Argument(help="A run folder, or predictions as COCO results JSON.")],
    data: Annotated[Path | None, typer.Argument(help="The data set; a run's own when not given.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; test where there is one.")] = None,
    last: Annotated[
        bool, typer.Option("--last", help="The weights the run ended with, not its best ones.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals; 0 leaves them out.")] = 1000,
    json: JsonPath = None,
) -> None:
    """Score a run, or any model's predictions, against the truth."""
    from trivet.recipe.score import score as score_data
    from trivet.report.text import score_text

    scores = score_data(what, data, split=split, last=last, bootstrap=bootstrap)
    if json != "-":
        show(score_text(scores, [row.name for row in scores.per_class]))
    write_json_option(json, scores.to_json())
