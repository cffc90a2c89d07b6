"""The verbs that tell: models, doctor, demo."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import app


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the models: task, parameters, paper, published weights."""
    from sightline.models.catalog import models as catalog

    rows = catalog()
    typer.echo(json.dumps(rows, indent=1) if as_json else _catalog_text(rows))


@app.command()
def doctor() -> None:
    """Say what this machine has, and what it lacks.

    Versions, devices, threads, write access, and what is missing for which extra.
    """
    from sightline.doctor import doctor as run

    typer.echo(str(run()))


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for everything.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Of training.")] = 4.2,
) -> None:
    """The whole path on rendered scenes, in five minutes.

    Data, check, training, evaluation, pictures, report.
    """
    from sightline.demo import demo as run

    run(out, minutes)


def _catalog_text(rows: list[dict[str, Any]]) -> str:
    """The catalog by task and paper: name, parameters and published weights of each model, on lines that fit."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
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
        "Millions of parameters with 80 classes (1000 for classification), and what published weights reach; "
        "imagenet is a detector's backbone alone. torchvision's names work too."
    )
    return "\n".join([*lines[1:], "", *textwrap.wrap(note, width)])
