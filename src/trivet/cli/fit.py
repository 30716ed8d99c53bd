"""`trivet fit`."""

from pathlib import Path
from typing import Annotated

import typer

from trivet.cli.options import (
    JsonPath,
    parse_memory,
    parse_parts,
    parse_settings,
    parse_size,
    show,
    write_json_option,
)
from trivet.errors import UsageError


def fit(
    data: Annotated[Path | None, typer.Argument(help="Folder or file of the data set.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Budget in passes over the data.")] = None,
    model: Annotated[str | None, typer.Option(help="A name that `trivet models` lists.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm name, for a model made of parts.")] = None,
    neck: Annotated[str | None, typer.Option(help="bifpn, fpn, pan, quad, spp_pan or none.")] = None,
    head: Annotated[
        str | None, typer.Option(help="anchor or yolo (boxes), semantic (masks), pooled or flat (classes).")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="detection, segmentation or classification; what the data holds if not given."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Input size: 512, or height x width as in 384x512.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images in one forward pass.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Forward passes per optimizer step.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Choose what fits into this much, such as 8GB; see trivet plan.")
    ] = None,
    recompute: Annotated[
        str | None, typer.Option(help="Parts computed again in the backward pass: backbone,neck,head.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of neck and head.")] = None,
    pretrained: Annotated[bool | None, typer.Option(help="Start from ImageNet weights.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="none, light, medium, strong or a number in 0-1.")
    ] = None,
    orientation: Annotated[
        str | None, typer.Option(help="fixed (no mirroring), upright, or free where up has no meaning.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="32, bf16 or 16.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes that train together.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds weights, order and augmentation.")] = None,
    format: Annotated[
        str | None, typer.Option(help="A format of `docs/data.md`; found when not given.")
    ] = None,
    on_bad: Annotated[str | None, typer.Option(help="error, or skip what is faulty and say so.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key, such as train.ema=0.99."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe file to run again.")] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", help="Fine-tune the weights of a run folder or file.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with an interrupted run folder.")] = None,
    out: Annotated[Path, typer.Option(help="Where the run folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="What the run folder is called.")] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Test what the doctor finds by paired re-training.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """Train a model on a data set, score it and write its report."""
    from trivet.recipe.fit import fit as fit_data
    from trivet.recipe.fit import resume as resume_run
    from trivet.report.text import score_text

    given = {
        "train.minutes": minutes,
        "train.epochs": epochs,
        "train.batch": batch,
        "train.accumulate": accumulate,
        "train.recompute": parse_parts(recompute),
        "train.lr": lr,
        "train.precision": precision,
        "train.seed": seed,
        "model.name": model,
        "model.backbone": backbone,
        "model.neck": neck,
        "model.head": head,
        "model.size_hw": parse_size(size),
        "model.pretrained": pretrained,
        "augment.strength": augment,
        "augment.orientation": orientation,
        "machine.devices": devices,
        "data.workers": workers,
        "data.format": format,
        "task.kind": task,
        "data.on_bad": on_bad,
    } | parse_settings(setting)
    if resume is not None:
        others = {key for key, value in given.items() if value is not None}
        if others or data or recipe or start_from or prove or memory:
            raise UsageError(
                f"--resume goes on with the run's own recipe, and {', '.join(sorted(others)) or 'DATA, --recipe, --from, --memory or --prove'} was given too",
                "give --resume alone, or --from to start anew from its weights",
            )
        result = resume_run(resume)
    else:
        result = fit_data(
            data,
            given,
            recipe=recipe,
            start_from=start_from,
            out=out,
            name=name,
            memory=parse_memory(memory),
            prove=prove,
        )
    show(score_text(result.scores, [row.name for row in result.scores.per_class]))
    typer.echo(f"run     {result.folder.path}")
    typer.echo(f"report  {result.folder.report}")
    write_json_option(json, result.scores.to_json() | {"run": str(result.folder.path)})
