"""The verb `train`."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import NamingHelp, app, start_processes
from sightline.cli.inputs import (
    COMMAND_LINE,
    checked_recipe,
    group_arguments,
    parse_classes,
    parse_pairs,
    run_to_resume,
    say,
)
from sightline.cli.options import (
    ClassNames,
    Device,
    Format,
    FullScale,
    ModelArguments,
    ModelName,
    OptionalData,
    Processes,
    Quiet,
    RecipeFile,
    Settings,
    StartWeights,
    TestSplit,
    TrainSplit,
    ValSplit,
)
from sightline.errors import InputError


@app.command(cls=NamingHelp)
def train(
    data: OptionalData = None,
    model: ModelName = None,
    weights: StartWeights = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Number of epochs; by default chosen from the dataset, unless --minutes is given."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Time budget in minutes, from the first step to the last validation; the learning rate schedule is "
            "fitted to it. Reading the data before, and the report after it, are not included."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step; by default chosen from the dataset and the time budget.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            help="{augmentations}; any of {policies} can be added with +, as in light+erasing. "
            "By default chosen from the dataset and the time budget, or the model's own default."
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="How much of the pretrained backbone is frozen: all, none, or the number of its parts (such as "
            "stages), counted from the input. By default chosen from the dataset and the time budget, or the model's "
            "own default."
        ),
    ] = None,
    unfreeze_every: Annotated[
        int | None,
        typer.Option(
            help="Gradual unfreezing: first train only the head, then one more part of the backbone every N epochs.",
            metavar="N",
        ),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            help="Layer-wise decay: the learning rate of each part of the backbone, as a fraction of that of the next "
            "part."
        ),
    ] = None,
    cache_features: Annotated[
        int | None,
        typer.Option(
            help="Compute the features of the frozen parts only once, for this many fixed augmented views of each "
            "image."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    recipe: RecipeFile = None,
    set_: Settings = None,
    arg: ModelArguments = None,
    name: Annotated[
        str | None, typer.Option(help="The name of the run and its folder; by default run1, run2, …")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder that contains all runs.")] = Path("runs"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run --name, or the run whose folder is given as DATA, from its last checkpoint, "
            "with its model.",
        ),
    ] = False,
    alternating: Annotated[
        bool,
        typer.Option("--alternating", help="Train Faster R-CNN with the four-step alternating training of its paper."),
    ] = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An experiment tracker of accelerate, such as tensorboard; can be repeated."),
    ] = None,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    full_scale: FullScale = None,
    classes: ClassNames = None,
    device: Device = None,
    processes: Processes = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write report.html.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on your images.

    The model, its metrics and a report are written to runs/NAME.
    """
    given: dict[str, object] = {"epochs": epochs, "minutes": minutes, "batch_size": batch_size, "lr": lr, "seed": seed}
    given |= {"augmentation": augmentation, "freeze": freeze, "unfreeze_every": unfreeze_every}
    given |= {"layer_decay": layer_decay, "cache_features": cache_features}
    settings = {name: value for name, value in given.items() if value is not None}
    others = parse_pairs(set_, "--set")
    twice = sorted(settings.keys() & others.keys())
    if twice:
        raise InputError(f"{twice[0]} is given twice, as --{twice[0].replace('_', '-')} and by --set; give it once")
    if resume and name is None:
        runs, name, data = run_to_resume(data)
    own_recipe = checked_recipe(recipe, settings | others)
    arguments, renamed = group_arguments(parse_pairs(arg, "--arg")), parse_classes(classes)
    start_processes(processes)
    # imported only now, because this takes seconds, and what is wrong with the options has been said
    from sightline import api
    from sightline.runtime.processes import is_main

    # shows which weights were loaded
    logging.getLogger("sightline").setLevel(logging.WARNING if quiet else logging.INFO)
    prepared = api.prepare(
        model,
        data,
        weights=weights,
        arguments=arguments,
        classes=renamed,
        open_args={"train": train, "val": val, "test": test, "format": format, "full_scale": full_scale},
        recipe=own_recipe,
        settings=settings | others,
        name=name,
        runs=runs,
        resume=resume,
        device=device,
        trackers=tracker or (),
        source=COMMAND_LINE,
    )
    for sentence in prepared.division if quiet else prepared.messages:
        typer.echo(sentence, err=True)
    say(str(prepared), quiet)
    run = api.train_prepared(
        prepared,
        name=name,
        runs=runs,
        report=not no_report,
        progress=not quiet,
        trackers=tracker or (),
        device=device,
        alternating=alternating,
    )
    if not is_main():
        return
    if quiet:  # otherwise the progress display has already printed it
        typer.echo(str(run))
    if run.interrupted and alternating:
        typer.echo("a training run in alternating steps cannot be resumed: start it again")
        raise typer.Exit(130)
    if run.interrupted:
        added = [*(() if name else ("--name", run.folder.name)), *(() if resume else ("--resume",))]
        typer.echo(f"resume:   {shlex.join(['sightline', *sys.argv[1:], *added])}")
        raise typer.Exit(130)
    if (run.folder / "report.html").is_file():
        typer.echo(f"report:   {run.folder / 'report.html'}")
    typer.echo(f"evaluate: {shlex.join(['sightline', 'evaluate', str(run.folder)])}")
    typer.echo(f"predict:  sightline predict {shlex.quote(str(run.folder))} IMAGES")
