"""The verbs models, doctor and demo."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import NamingHelp, app
from sightline.errors import InputError


@app.command(cls=NamingHelp)
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The model to describe; by default all models are listed.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="List only models of this task: {tasks}."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="List only models with published weights for this data, such as coco, voc or imagenet."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Depth of the table of layers, at least 1; by default the depth that gives at most 40 rows."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the input image for the table of layers, in pixels; by default the model's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models, or describe one.

    The description lists the paper, arguments, settings, published weights, and the layers with their output shapes,
    parameters and FLOPs.
    """
    from sightline.models.catalog import models as catalog
    from sightline.models.describe import describe
    from sightline.models.summary import summary

    if name is not None:
        if task is not None or weights is not None:
            raise InputError("--task and --weights choose from the list; leave them out to describe one model")
        described = describe(name)
        layers = summary(name, image_size, depth=depth)
        if as_json:
            typer.echo(json.dumps(described | {"summary": layers.to_dict()}, indent=1))
        else:
            typer.echo(f"{_description_text(described)}\n\n{layers.table(_columns())}")
        return
    if depth is not None or image_size is not None:
        raise InputError("--depth and --image-size belong to the layers of one model; give its NAME")
    rows = catalog(task, weights)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        typer.echo(_catalog_text(rows) if rows else "No model has both that task and such published weights.")


@app.command()
def doctor(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An exported model (.onnx) to examine instead.")
    ] = None,
) -> None:
    """Print what this machine has and what is missing.

    Prints versions, devices, threads, write access, and the packages that are missing for each extra. For an exported
    model, prints its inputs and outputs, classes, threshold and certificate, and whether the file has changed since it
    was written.
    """
    from sightline.doctor import doctor as run

    if file is not None and file.suffix != ".onnx":
        raise InputError(
            f"{file}: doctor examines exported models, whose files end in .onnx; leave it out for this machine"
        )
    found = run() if file is None else run(file)
    typer.echo(str(found))
    if file is not None and not found.ok:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for all results.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Training time in minutes.")] = 4.0,
) -> None:
    """Run the whole workflow on rendered scenes, in five minutes.

    The steps are: data, check, training, evaluation, pictures and report.
    """
    from sightline.demo import demo as run

    run(out, minutes)


def _columns() -> int:
    return min(shutil.get_terminal_size((120, 24)).columns, 120)


def _catalog_text(rows: list[dict[str, Any]]) -> str:
    """The catalog by task and paper: name, parameters and published weights of each model, in wrapped lines."""
    width = _columns()
    longest = max(len(row["name"]) for row in rows)
    lines: list[str] = []
    task = paper = ""
    tasks, papers = ([row[key] for row in rows] for key in ("task", "paper"))
    for row in sorted(rows, key=lambda row: (tasks.index(row["task"]), papers.index(row["paper"]))):
        if row["task"] != task:
            task, paper = row["task"], ""
            lines += ["", task]
        if row["paper"] != paper:
            paper = row["paper"]
            lines += textwrap.wrap(paper, width, initial_indent="  ", subsequent_indent="    ")
        start = f"    {row['name']:<{longest}}  {row['parameters'] / 1e6:>6.1f} M  "
        weights = "; ".join(f"{data}: {metric}" for data, metric in row["weights"].items()) or "no published weights"
        lines += textwrap.wrap(weights, width, initial_indent=start, subsequent_indent=" " * len(start))
    note = (
        "Millions of parameters with 80 classes (1000 for classification), and the metrics of published weights; "
        "imagenet means the detector's backbone only. torchvision's names also work."
    )
    return "\n".join([*lines[1:], "", *textwrap.wrap(note, width)])


def _description_text(row: dict[str, Any]) -> str:
    """One model: its summary, each argument and setting on a line, and the published weights."""
    width = _columns()

    def wrapped(start: str, text: str, indent: int) -> list[str]:
        return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * indent) or [start.rstrip()]

    heading = f"{row['name']}: {row['task']}, {row['parameters'] / 1e6:.1f} M parameters"
    lines = [heading, *textwrap.wrap(row["summary"], width), ""]
    facts = {"paper": row["paper"], "file": row["file"], "also": ", ".join(row["aliases"])}
    facts |= {"backbone": row["backbone"], "images": row["preprocess"]}
    for key, value in facts.items():
        if value:
            lines += wrapped(f"{key:<10}", str(value), 10)
    lines += ["", "arguments (--arg NAME=VALUE, create_model(…, NAME=VALUE))"]
    for argument in row["arguments"]:
        prefix = f"{argument['name']}."
        if "fields" not in argument:
            lines += _argument_lines(argument, "", width)
            continue
        lines += wrapped(f"  {prefix}…", f": {argument['meaning']}", 6)
        for field in argument["fields"]:
            lines += _argument_lines(field, prefix, width)
    lines += ["", "published weights (--weights DATA)" if row["weights"] else "no published weights"]
    for found in row["weights"]:
        of = "" if found["of"] == row["name"] else f" (backbone only, {found['of']})"
        seen = found["preprocess"]
        how = ""
        if seen is not None:
            crop = f", middle {seen['crop']}" if seen["crop"] else ""
            how = f"; shorter side {seen['resize']} ({seen['interpolation']}, antialiased){crop}"
        lines += wrapped("  ", f"{found['data']}{of}: {found['metric']}; {found['licence']}{how}; {found['url']}", 6)
    return "\n".join(lines)


def _argument_lines(argument: dict[str, Any], prefix: str, width: int) -> list[str]:
    value = argument["default"]
    default = "" if value is None else f" = {json.dumps(value)}"
    text = f"{prefix}{argument['name']}{default} ({argument['type']}): {argument['meaning']}"
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="      ")
