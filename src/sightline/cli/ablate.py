"""The verb `ablate`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import NamingHelp, app
from sightline.cli.inputs import checked_recipe, group_arguments, parse_classes, parse_pairs, say
from sightline.cli.options import (
    ClassNames,
    ComparedMetric,
    ComparedSplit,
    ComparisonFolder,
    Data,
    Device,
    Format,
    FullScale,
    ModelArguments,
    ModelName,
    Quiet,
    RecipeFile,
    RunEpochs,
    RunMinutes,
    Settings,
    StartWeights,
    TestSplit,
    TrainSplit,
    ValSplit,
)


@app.command(cls=NamingHelp)
def ablate(
    data: Data,
    switch: Annotated[
        list[str] | None,
        typer.Option(
            "--switch",
            metavar="CHANGE",
            help="What to change; can be repeated. A setting of the recipe with values (lr=1e-3,3e-3), an argument of "
            "the model (arg:image_size=320,480), an augmentation ({augmentations}), or a setting that is turned off if "
            "the base uses it and on otherwise, such as ema, mirror, warmup or clip.",
        ),
    ] = None,
    minutes: RunMinutes = None,
    epochs: RunEpochs = None,
    seeds: Annotated[int, typer.Option(help="Number of runs per variant, each with another seed.")] = 3,
    model: ModelName = None,
    weights: StartWeights = None,
    recipe: RecipeFile = None,
    set_: Settings = None,
    arg: ModelArguments = None,
    metric: ComparedMetric = None,
    split: ComparedSplit = None,
    out: ComparisonFolder = Path("ablation"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and how long they will take, without training.")
    ] = False,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    full_scale: FullScale = None,
    classes: ClassNames = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Compare settings alone and in pairs, over several seeds.

    The other options define the base, from which each variant differs. Every run has the same data and budget. A table
    and a plot compare each variant with the base and show which differences are significant. Finished runs are not
    repeated, and an interrupted run is resumed.
    """
    settings = parse_pairs(set_, "--set")
    given = {name: value for name, value in {"minutes": minutes, "epochs": epochs}.items() if value is not None}
    own_recipe = checked_recipe(recipe, settings | given)
    arguments, renamed = group_arguments(parse_pairs(arg, "--arg")), parse_classes(classes)
    from sightline import api

    planned = api.plan_ablation(
        data,
        switch or [],
        minutes=minutes,
        epochs=epochs,
        seeds=seeds,
        model=model,
        weights=weights,
        arguments=arguments,
        classes=renamed,
        open_args={"train": train, "val": val, "test": test, "format": format, "full_scale": full_scale},
        recipe=own_recipe,
        settings=settings,
        metric=metric,
        split=split,
        out=out,
        device=device,
    )
    for sentence in planned.messages:
        say(sentence, quiet)
    typer.echo(str(planned), err=not dry_run)
    if dry_run:
        typer.echo(planned.listing())
        return
    result = api.run_ablation(planned, device=device, progress=not quiet)
    if result.interrupted:
        typer.echo(f"interrupted; continue with {shlex.join(['sightline', *sys.argv[1:]])}")
        raise typer.Exit(130)
    typer.echo(str(result))
    typer.echo(f"report:   {result.folder / 'report.html'}")
