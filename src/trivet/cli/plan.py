"""`trivet plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from trivet.memory.plan import Device
    from trivet.recipe.recipe import Recipe

FAMILIES = {
    "efficientdet": tuple(
        f"tf_efficientdet_{name}" for name in ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"]
    )
}
"""Models that answer the question which of them can be trained."""


def plan(
    target: Annotated[
        str | None, typer.Argument(metavar="MODEL|RUN|RECIPE", help="A model, a run folder or a recipe file.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="What there is: 8GB, 11.5GiB, 900MB.")] = None,
    family: Annotated[str | None, typer.Option(help="efficientdet: D0 to D7x in one table.")] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    size: Annotated[str | None, typer.Option(help="Input size: 512, or height x width.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images in one forward pass.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Forward passes per optimizer step.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="32, bf16 or 16 (fp32 and fp16 are understood).")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or sgd.")] = None,
    recompute: Annotated[
        str | None, typer.Option(help="Parts computed again in the backward pass: backbone,neck,head.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Classes of the data set.", min=1)] = None,
    boxes: Annotated[int, typer.Option(help="The most boxes an image has.", min=0)] = 100,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key, such as train.ema=0."),
    ] = None,
    remedies: Annotated[
        bool, typer.Option("--remedies", help="Say what each remedy saves and costs: a plan for each.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw memory along the step: a .svg, .png or .pdf file.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Say what training takes in memory, whether it fits, and what would make it fit, without the device."""
    known = _device(device)
    limit = parse_memory(memory)
    values: dict[str, Any] = {
        "train.batch": batch,
        "train.accumulate": accumulate,
        "train.precision": _precision(precision),
        "train.optimizer": optimizer,
        "train.recompute": parse_parts(recompute),
        "model.size_hw": parse_size(size),
    } | parse_settings(setting)
    if (target is None) == (family is None):
        raise UsageError(
            "plan needs a model, run or recipe, or a --family", "trivet plan efficientdet_d0 --memory 8GB"
        )
    if family is not None:
        _plan_family(family, values, limit, known, classes or 80, boxes, picture, json)
        return
    assert target is not None, "it is given where no family is"
    _plan_one(target, values, limit, known, classes, boxes, remedies, picture, json)


def _plan_one(
    target: str,
    values: dict[str, Any],
    limit: int | None,
    device: "Device",
    classes: int | None,
    boxes: int,
    remedies: bool,
    picture: Path | None,
    json: str | None,
) -> None:
    from trivet.recipe.plan import advise, remedies_of
    from trivet.recipe.planned_step import plan_recipe
    from trivet.report.memory_text import plan_text, remedies_table, remedy_lines, size_text

    recipe, known_classes = _recipe_of(target, values)
    count = classes or known_classes
    planned = plan_recipe(recipe, classes=count, device=device, boxes=boxes)
    batch = recipe.train.batch
    height, width = recipe.model.size_hw
    headline = (
        f"{recipe.model.name or recipe.model.backbone} at {height} x {width}, batch {batch}, precision "
        f"{recipe.train.precision}, {recipe.train.optimizer}, {count} classes, on {device}"
    )
    content: dict[str, Any] = {"plan": {"what": headline, "batch": batch, **_numbers(planned, batch)}}
    loud = json != "-"
    if loud:
        show(plan_text(planned, batch, headline=headline))
    fits = limit is None or planned.fits(batch, limit)
    if limit is not None:
        largest = planned.largest_batch(limit)
        content |= {"memory": limit, "fits": fits, "largest_batch": largest}
        if loud:
            typer.echo(
                f"{'fits' if fits else 'does not fit'} into {size_text(limit)}; largest batch {largest}"
            )
    if remedies:
        found = remedies_of(recipe, planned, classes=count, device=device, boxes=boxes)
        rows = [
            (
                one.change.name,
                one.saves,
                one.plan.largest_batch(limit) if limit else 0,
                one.change.cost,
                one.change.arguments,
            )
            for one in found
        ]
        content["remedies"] = [
            dict(zip(("name", "saves", "largest_batch", "cost", "arguments"), row, strict=True))
            for row in rows
        ]
        if loud:
            show(remedies_table(rows))
            typer.echo("\n".join(remedy_lines(rows)))
    if limit is not None and not fits:
        advice = advise(recipe, planned, limit, classes=count, device=device, boxes=boxes)
        content["advice"] = None if advice is None else {"arguments": advice.arguments, "why": advice.why}
        if loud and advice is None:
            typer.echo("nothing here makes it fit: take a smaller model")
        elif loud and advice is not None:
            file = _recipe_file(target)
            start = f"--model {target}" if file is None else f"--recipe {file}"
            typer.echo(f"to fit: trivet fit DATA {start} {advice.arguments}")
            typer.echo(f"        {advice.why}; takes {size_text(advice.plan.total(advice.batch))}")
    if picture is not None:
        from trivet.report.memory_chart import draw_memory

        draw_memory(planned, batch, picture, title=headline, memory=limit)
    write_json_option(json, content)


def _plan_family(
    family: str,
    values: dict[str, Any],
    limit: int | None,
    device: "Device",
    classes: int,
    boxes: int,
    picture: Path | None,
    json: str | None,
) -> None:
    from rich.console import Console

    from trivet.errors import look_up
    from trivet.recipe.plan import advise
    from trivet.recipe.planned_step import plan_recipe
    from trivet.report.memory_text import family_lines, family_table, size_text

    if limit is None or picture is not None:
        raise UsageError("a family is planned for the memory there is, and has no picture", "--memory 8GB")
    told = Console(stderr=True, highlight=False)
    rows = []
    for name in look_up("family", family, FAMILIES):
        told.print(f"planning {name.removeprefix('tf_')} ...", style="dim")
        recipe, _ = _recipe_of(name, values)
        planned = plan_recipe(recipe, classes=classes, device=device, boxes=boxes)
        largest = planned.largest_batch(limit)
        row: dict[str, Any] = {
            "model": name.removeprefix("tf_"),
            "size": recipe.model.size_hw[0],
            "one": size_text(planned.total(1)),
            "each": f"{(planned.alive(2) - planned.alive(1)) / 2**20:,.0f}",
            "largest": largest,
            "advice": "as it is",
            "then": size_text(planned.total(max(1, min(largest, recipe.train.batch)))),
        }
        if largest < recipe.train.batch:
            advice = advise(
                recipe, planned, limit, classes=classes, device=device, boxes=boxes, fixed=("model.size_hw",)
            )
            row["advice"] = "does not fit at its own size" if advice is None else advice.arguments
            row["then"] = "-" if advice is None else size_text(advice.plan.total(advice.batch))
        rows.append(row)
    if json != "-":
        show(family_table(rows))
        typer.echo("\n".join(family_lines(rows)))
    write_json_option(json, {"memory": limit, "models": rows})


def _recipe_of(target: str, values: dict[str, Any]) -> tuple["Recipe", int]:
    """Return the recipe of a model, run or file, with what was given, and how many classes it is for."""
    from trivet.recipe.plan import recipe_for, with_values
    from trivet.recipe.recipe import make_recipe, read_recipe
    from trivet.recipe.run_folder import read_labels

    given = {key: value for key, value in values.items() if value is not None}
    file = _recipe_file(target)
    if file is not None:
        read, chosen = read_recipe(file)
        recipe = with_values(make_recipe(read, chosen), given)
        labels = file.with_name("labels.json")
        return recipe, len(read_labels(labels)) if labels.is_file() else 80
    return recipe_for(target, **{key.replace(".", "__"): value for key, value in given.items()}), 80


def _recipe_file(target: str) -> Path | None:
    """Return the recipe of a run folder or the file itself; `None` where a model is named."""
    path = Path(target)
    if path.is_dir():
        return path / "recipe.toml"
    return path if path.suffix == ".toml" else None


def _numbers(planned: Any, batch: int) -> dict[str, Any]:
    return {
        "total": planned.total(batch),
        "with_margin": planned.with_margin(batch),
        "alive": planned.alive(batch),
        "parts": planned.parts(batch),
        "saved_by_module": {name: int(size) for name, size in planned.curve.saved_by_module(batch).items()},
        "peak_phase": planned.curve.phase_at_peak(batch),
        "assumed": planned.curve.ledger.notes,
    }


def _device(name: str) -> "Device":
    if name == "cuda":
        return "cuda"
    if name == "cpu":
        return "cpu"
    raise UsageError(f"--device is cuda or cpu, got {name!r}")


def _precision(text: str | None) -> str | None:
    return None if text is None else {"fp32": "32", "fp16": "16"}.get(text, text)
