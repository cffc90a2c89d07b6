"""The verb `compare`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import NamingHelp, app
from sightline.cli.inputs import checked_recipe, group_arguments, parse_classes, parse_pairs
from sightline.cli.options import (
    ClassNames,
    ComparedMetric,
    ComparedSplit,
    ComparisonFolder,
    Data,
    Device,
    Format,
    FullScale,
    Quiet,
    RunEpochs,
    RunMinutes,
    Settings,
    TestSplit,
    TrainSplit,
    ValSplit,
)
from sightline.errors import InputError


@app.command(cls=NamingHelp)
def compare(
    data: Data,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="A name from `sightline models`; give two or more."),
    ] = None,
    minutes: RunMinutes = None,
    epochs: RunEpochs = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="[MODEL=]WEIGHTS",
            help="Initial weights of all models, as for train, or of one of them, such as MODEL=imagenet; can be "
            "repeated.",
        ),
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="MODEL:NAME=VALUE", help="An argument of one of the models; can be repeated."),
    ] = None,
    set_: Settings = None,
    metric: ComparedMetric = None,
    split: ComparedSplit = None,
    out: ComparisonFolder = Path("comparison"),
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    full_scale: FullScale = None,
    classes: ClassNames = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Compare models on your data under one budget.

    Each model is trained once. A table and a plot show the accuracy and the speed of each one, and which differences
    are significant. Finished runs are not repeated, and an interrupted run is resumed.
    """
    settings = parse_pairs(set_, "--set")
    given = {name: value for name, value in {"minutes": minutes, "epochs": epochs}.items() if value is not None}
    checked_recipe(None, settings | given)
    from sightline import api

    result = api.compare(
        data,
        model or [],
        minutes=minutes,
        epochs=epochs,
        weights=_weights(weights or []),
        arguments=_arguments(parse_pairs(arg, "--arg")),
        classes=parse_classes(classes),
        open_args={"train": train, "val": val, "test": test, "format": format, "full_scale": full_scale},
        metric=metric,
        split=split,
        out=out,
        device=device,
        progress=not quiet,
        **settings,
    )
    if result.interrupted:
        typer.echo(f"interrupted; continue with {shlex.join(['sightline', *sys.argv[1:]])}")
        raise typer.Exit(130)
    typer.echo(str(result))
    typer.echo(f"report:   {result.folder / 'report.html'}")


def _weights(texts: Sequence[str]) -> str | dict[str, str | Path] | None:
    """One start for all models, or MODEL=START for some."""
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    found: dict[str, str | Path] = {}
    for text in texts:
        name, equals, start = text.partition("=")
        if not equals or not name or not start:
            raise InputError(f"--weights {text!r} must have the form MODEL=weights, since there are several")
        found[name] = start
    return found or None


def _arguments(pairs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """MODEL:name=value by model, with settings.name=value grouped."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in pairs.items():
        model, colon, name = key.partition(":")
        if not colon or not model or not name:
            raise InputError(f"--arg '{key}=…' must say which model it is for; write MODEL:{key}=…")
        found.setdefault(model, {})[name] = value
    return {model: group_arguments(own) for model, own in found.items()}
