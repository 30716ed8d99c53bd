"""`trivet demo`."""

from pathlib import Path
from typing import Annotated

import typer

from trivet.cli.options import show


def demo(
    out: Annotated[Path, typer.Option(help="Where data and run folder are made.")] = Path("runs"),
    minutes: Annotated[float, typer.Option(help="Budget in minutes.")] = 4.0,
    images: Annotated[int, typer.Option(help="Images to draw.")] = 600,
    seed: Annotated[int, typer.Option(help="Seeds the drawing and the training.")] = 0,
) -> None:
    """Train a detector on images drawn from real handwritten digits, and score it on unseen ones."""
    from trivet.recipe.demo import demo as run_demo
    from trivet.report.text import score_text

    result = run_demo(out, minutes=minutes, images=images, seed=seed)
    show(score_text(result.test, [row.name for row in result.test.per_class]))
    typer.echo(f"mAP50 on {result.test.images} unseen images: {result.test.map50:.3f}")
    typer.echo(f"report  {result.folder.report}")
