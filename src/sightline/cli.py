"""The command line: `sightline VERB …`. Each verb reads its arguments, calls the library, and prints what came out.

A mistake ends in one sentence on the error output and exit code 2. `check` exits with 1 where training cannot start.
"""

from __future__ import annotations

import errno
import inspect
import json
import logging
import shlex
import shutil
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import yaml

from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset

_OF_THE_SYSTEM = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""Refusals of the operating system that a user can do something about; others are faults of the program."""


_USUAL = {"instances": "sightline_n", "class_map": "unet_mobilenet_v2"}
"""What `train` takes for each kind of label where no model is named."""
_NUMBERS = {"int": (int,), "float": (int, float), "bool": (bool,)}


class _Verbs(typer.core.TyperGroup):
    """Runs a verb; what goes wrong by a mistake or by Ctrl-C becomes a sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno not in _OF_THE_SYSTEM:
                raise
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"error: {where}{error.strerror}; choose another place, or make room there", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    name="sightline",
    cls=_Verbs,
    help="What is in an image, where, and why the model thinks so.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="A folder with images and labels (COCO, VOC or YOLO), or its label file.")
]
Split = Annotated[
    str | None, typer.Option(help="Where this split is, if not found by itself: a folder, a label file, a list.")
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder, or a saved model.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; by default the best there is.")]


def _version(asked: bool) -> None:
    if asked:
        from sightline import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say the version and exit.")
    ] = False,
) -> None:
    """What is in an image, where, and why the model thinks so."""


@app.command()
def check(
    data: Data,
    model: Annotated[str | None, typer.Option(help="Compare the objects' sizes with this model's anchors.")] = None,
    fix: Annotated[str | None, typer.Option(help="Write a repaired copy: clip or drop what cannot stay.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the copy goes; by default DATA-fixed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Labels and headers only; pixels are not read.")] = False,
    train: Split = None,
    val: Split = None,
    test: Split = None,
    quiet: Quiet = False,
) -> None:
    """Find what would break or bias a training.

    Exit code 0: training can start; 1: it cannot.
    """
    from sightline import api
    from sightline.data.check import fix as repair
    from sightline.models.catalog import create_model

    if fix not in (None, "clip", "drop"):
        raise InputError(f"--fix is {fix!r}, but broken boxes can be repaired by clip or drop")
    copy = out or _beside(data)
    if fix is not None and copy.exists() and (not copy.is_dir() or any(copy.iterdir())):
        raise InputError(f"{copy} exists, and nothing is overwritten; name a new folder with --out")
    dataset = _open(data, train, val, test)
    detector = create_model(model, dataset.classes) if model else None
    if model and not hasattr(detector, "anchor_shapes"):
        raise InputError(f"{model} has no anchors to compare the objects with; give a detector, or leave --model out")
    report = api.check(dataset, detector, full=not fast, progress=not quiet)
    typer.echo(json.dumps(report.to_dict(), indent=1) if as_json else str(report))
    if fix is not None:
        typer.echo(f"\n{repair(dataset, copy, fix, progress=not quiet)}", err=as_json)  # type: ignore[arg-type]
        return
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    to: Annotated[str, typer.Option(help="coco, voc, yolo, yolo-seg, via, labelme, cvat, masks or semantic.")],
    symlink: Annotated[bool, typer.Option("--symlink", help="Link to the images instead of copying them.")] = False,
    train: Split = None,
    val: Split = None,
    test: Split = None,
) -> None:
    """Write a dataset in another format, with its images."""
    from sightline.data.formats import convert as run

    typer.echo(run(_open(data, train, val, test), out, to, symlink=symlink))


@app.command()
def look(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write.")] = Path("contact_sheet.png"),
    augmentation: Annotated[str, typer.Option(help="none, light, default, strong, ssd, mosaic.")] = "none",
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 16,
    split: Annotated[str | None, typer.Option(help="Of this split only.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice, and of the augmentation.")] = 0,
) -> None:
    """Draw images with their labels, as training sees them."""
    from PIL import Image

    from sightline import api

    _refuse_existing(out)
    if out.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"{out}: a picture cannot be written as {out.suffix or 'a file without ending'}; give .png")
    dataset = _open(data)
    for field in ("masks", "keypoints"):
        with suppress(InputError):  # not every data set has them
            dataset = dataset.with_fields(field)
    part = dataset[split] if split else dataset
    api.contact_sheet(part, augmentation, n=n, seed=seed).save(out)
    of = f"{len(part)} images of {split}" if split else f"{len(part)} images"
    typer.echo(f"{out}: {min(n, len(part))} of {of}, augmentation {augmentation}")


@app.command()
def anchors(
    data: Data,
    k: Annotated[int, typer.Option("-k", help="How many anchors.")] = 5,
    image_size: Annotated[int, typer.Option(help="Side of the square that the model sees, in pixels.")] = 416,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write.")] = Path("anchors.png"),
    split: Annotated[str | None, typer.Option(help="By default train, else everything.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same anchors.")] = 0,
) -> None:
    """Cluster the boxes' sizes into anchors.

    By their IoU, as for YOLO v2; a picture shows sizes and anchors.
    """
    from sightline.data.anchors import anchors as run
    from sightline.report.anchor_plot import anchor_figure

    _refuse_existing(out)
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"{out}: a plot cannot be written as {out.suffix or 'a file without ending'}; give .png")
    dataset = _open(data)
    split = split or ("train" if "train" in dataset.splits else None)
    found = run(dataset[split] if split else dataset, k, image_size, seed)
    anchor_figure(found).savefig(out, dpi=120)
    cells = json.dumps(found.cells(), separators=(",", ":"))
    typer.echo(f"{found}\n\npicture: {out}\nfor YOLO v2: --arg image_size={image_size} --arg 'anchors={cells}'")


@app.command()
def train(
    data: Data,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of `sightline models`; by default sightline_n, for class maps unet_mobilenet_v2, and with "
            "--resume the run's own.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet, coco, or a file; without, from scratch.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget; the schedule is fitted to it.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    augmentation: Annotated[str | None, typer.Option(help="none, light, default, strong, ssd, mosaic.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe.yaml to start from.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Another number of the recipe: name=value.")] = None,
    arg: Annotated[
        list[str] | None, typer.Option("--arg", help="An argument of the model: name=value, or settings.name=value.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's folder below --runs.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run --name.")] = False,
    alternating: Annotated[bool, typer.Option("--alternating", help="Faster R-CNN in its paper's four steps.")] = False,
    tracker: Annotated[list[str] | None, typer.Option(help="An experiment tracker accelerate knows.")] = None,
    train: Split = None,
    val: Split = None,
    test: Split = None,
    device: Device = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on your images. Everything of the run goes to runs/NAME/."""
    import torch

    from sightline import api
    from sightline.models.catalog import create_model, find
    from sightline.models.saving import model_and_arguments
    from sightline.training.recipe import Recipe
    from sightline.training.run import existing_run_folder

    given = {"epochs": epochs, "minutes": minutes, "batch_size": batch_size, "lr": lr, "seed": seed}
    numbers = {k: v for k, v in (given | {"augmentation": augmentation}).items() if v is not None}
    numbers |= _pairs(set_, "--set")
    if resume and name is None:
        raise InputError("--resume needs the run's --name")
    if resume and name:
        recipe = recipe or existing_run_folder(runs / name) / "recipe.yaml"
    given_recipe = Recipe.from_yaml(recipe).changed(**numbers) if recipe else None
    seed = (given_recipe or Recipe.from_dict(numbers, "the command line")).seed

    dataset, begun = _open(data, train, val, test), (runs / name / "last.safetensors" if resume and name else None)
    if model is None and begun is not None and begun.is_file():
        model, own = model_and_arguments(begun)
        arguments = own | _arguments(model, arg)
    else:
        model = model or _USUAL.get(dataset.kind, _USUAL["instances"])
        arguments = _arguments(model, arg)
    dataset = dataset.with_channels(arguments.get("in_channels", 3))
    if find(model).task == "segmentation":
        dataset = dataset.as_class_map()
    parts = _parts(dataset, seed)
    api.require_usable(parts["train"], "training")
    api.require_usable(parts["val"], "validation")
    torch.manual_seed(seed)
    if not quiet:
        logging.getLogger("sightline").setLevel(logging.INFO)  # what of the weights was loaded
    detector = create_model(model, dataset.classes, weights, **arguments)
    _say(f"{len(parts['train'])} images to train on, {len(parts['val'])} to validate on; {dataset.classes!r}", quiet)
    run = api.train(
        detector,
        parts["train"],
        parts["val"],
        recipe=given_recipe or api.recipe_for(detector, numbers, "the command line"),
        name=name,
        runs=runs,
        resume=resume,
        checked=True,
        report=not no_report,
        progress=not quiet,
        trackers=tracker or (),
        device=device,
        alternating=alternating,
    )
    if quiet:  # with progress shown, the run has said it itself
        typer.echo(str(run))
    if run.interrupted and alternating:
        typer.echo("steps that alternate cannot be resumed: train anew")
        raise typer.Exit(130)
    if run.interrupted:
        known = [*(() if name else ("--name", run.folder.name)), *(() if resume else ("--resume",))]
        typer.echo(f"resume:   {shlex.join(['sightline', *sys.argv[1:], *known])}")
        raise typer.Exit(130)
    if (run.folder / "report.html").is_file():
        typer.echo(f"report:   {run.folder / 'report.html'}")
    named = {"--train": train, "--val": val, "--test": test}
    command = ["sightline", "evaluate", str(run.folder), str(data)]
    command += [text for option, place in named.items() if place for text in (option, place)]
    if not {"val", "test"} & {*dataset.splits}:
        command += ["--split", "test" if "test" in parts else "val"]
    typer.echo(f"evaluate: {shlex.join(command)}")
    typer.echo(f"predict:  sightline predict {shlex.quote(str(run.folder))} IMAGES --out pictures")


@app.command()
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[str | None, typer.Option(help="By default test, else val, else everything.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file; - prints them.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report into this folder.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 8,
    train: Split = None,
    val: Split = None,
    test: Split = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model on labelled images.

    COCO's twelve numbers, VOC AP50 by both protocols, and each class; IoU, Dice and boundaries of class maps.
    """
    from sightline import api
    from sightline.models.saving import load
    from sightline.training.run import new_folder

    if out is not None and str(out) != "-":
        _refuse_existing(out)
    if report is not None:
        new_folder(report)
    loaded: Any = load(model)
    dataset = _as_learned(_open(data, train, val, test).with_channels(loaded.in_channels), loaded)
    chosen, part = _part(dataset, split, ("test", "val"), loaded)
    result = api.evaluate(loaded, part, batch_size=batch_size, device=device, progress=not quiet)
    values = {"model": loaded.name, "data": str(data), "split": chosen, **result.to_dict()}
    if str(out) == "-":
        typer.echo(json.dumps(values, indent=1))
        return
    typer.echo(f"{loaded.name} on {data} ({chosen}, {len(part)} images)\n{result}")
    if out is not None:
        out.write_text(json.dumps(values, indent=1), encoding="utf-8")
        typer.echo(f"numbers: {out}")
    if report is not None:
        typer.echo(f"report: {api.write_report(report, result, data=part, model=loaded)}")


@app.command()
def predict(
    model: Model,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES…", help="Images, folders, or patterns such as 'photos/*.jpg'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for pictures and predictions.json.")],
    threshold: Annotated[float, typer.Option(help="Objects of a lower score are left out.")] = 0.5,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 8,
    tile: Annotated[int | None, typer.Option(help="Of a segmenter: look at squares of so many pixels.")] = None,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring squares share.")] = 64,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Draw nothing.")] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Find objects in images, drawn and as JSON.

    Writes pictures with what was found, and a COCO-style predictions.json; of class maps palette PNGs, too.
    """
    from sightline import api
    from sightline.deploy.folder import predict_to_folder
    from sightline.models.saving import load

    draw = None if no_pictures else api.draw
    source: Any = images if len(images) > 1 else images[0]
    found = predict_to_folder(
        load(model),
        source,
        out,
        draw=draw,
        threshold=threshold,
        batch_size=batch_size,
        device=device,
        progress=not quiet,
        tile=tile,
        overlap=overlap,
    )
    typer.echo(str(found))
    if not found.objects:
        _say(f"nothing reached a score of {threshold:g}; a lower --threshold shows what came nearest", quiet)


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
def scenes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    train: Annotated[int, typer.Option(help="Scenes to train on.")] = 400,
    val: Annotated[int, typer.Option(help="Scenes to validate on.")] = 100,
    test: Annotated[int, typer.Option(help="Scenes to test on.")] = 100,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Render scenes with exact labels, to try everything on.

    A folder in COCO format: spheres, boxes, cylinders, cones and rings in a room.
    """
    from sightline.data.scenes import write_scenes

    folder = write_scenes(out, train, val, test, size, seed, progress=not quiet)
    typer.echo(f"{folder}: {train} + {val} + {test} scenes of {size}×{size}; next: sightline check {folder}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    data: Annotated[Path | None, typer.Option(help="Evaluate on these images for it.")] = None,
    split: Annotated[str | None, typer.Option(help="By default val, else test, else everything.")] = None,
) -> None:
    """Write a run's report.html anew.

    After an interruption, or for other images.
    """
    from sightline import api
    from sightline.models.saving import load

    if not (run / "metrics.jsonl").is_file():
        raise InputError(f"there is no run {run} (a folder with metrics.jsonl); give the folder of one")
    if data is None:
        typer.echo(str(api.write_report(run)))
        return
    model: Any = load(run)
    _, part = _part(_as_learned(_open(data).with_channels(model.in_channels), model), split, ("val", "test"), model)
    typer.echo(str(api.write_report(run, api.evaluate(model, part), data=part, model=model)))


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


def main() -> None:
    """Entry point."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    app(prog_name="sightline")


def _open(data: Path, train: str | None = None, val: str | None = None, test: str | None = None) -> Dataset:
    from sightline.data.formats import open_dataset

    return open_dataset(data, train=train, val=val, test=test)


def _as_learned(dataset: Dataset, model: Any) -> Dataset:
    """Objects as class maps, where the model answers with those."""
    return dataset.as_class_map() if getattr(model, "task", "") == "segmentation" else dataset


def _parts(dataset: Dataset, seed: int) -> dict[str, Dataset]:
    """The splits of a dataset with those it lacks: a tenth of the images is kept to validate on, and one to test on."""
    if "train" not in dataset.splits:
        if len(dataset.splits) > 1:
            found = ", ".join(dataset.splits)
            raise InputError(f"there is no split 'train' among {found}; name one with --train")
        dataset = dataset.split(0.8, 0.1, 0.1, seed)
        typer.echo(f"no splits found: 80 % to train, 10 % to validate, 10 % to test, by seed {seed}", err=True)
    parts = {name: dataset[name] for name in dataset.splits}
    if "val" not in parts:
        divided = dataset["train"].split(0.9, 0.1, 0, seed)
        parts |= {"train": divided["train"], "val": divided["val"]}
        typer.echo(f"no split 'val' found: a tenth of the training images is kept for it, by seed {seed}", err=True)
    return parts


def _part(dataset: Dataset, split: str | None, usual: tuple[str, ...], model: Any) -> tuple[str, Dataset]:
    """The images to measure a model on: a split, also one that its training has made; the first usual one; or all."""
    chosen = split or next((name for name in usual if name in dataset.splits), None)
    if chosen is None:
        return "all", dataset
    if chosen not in dataset.splits and chosen in ("train", "val", "test") and len(dataset.splits) == 1:
        parts = _parts(dataset, model.metadata.get("recipe", {}).get("seed", 0))
        if chosen in parts:
            return chosen, parts[chosen]
    return chosen, dataset[chosen]


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


def _pairs(values: list[str] | None, option: str) -> dict[str, Any]:
    """name=value texts → values as YAML reads them: numbers, true, null, [lists]."""
    pairs = {}
    for text in values or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {text!r} must have the form name=value")
        try:
            pairs[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"{option} {text!r}: {value!r} is no value ({str(error).splitlines()[0]})") from error
    return pairs


def _beside(data: Path) -> Path:
    """DATA-fixed in the folder that DATA is in, also where DATA is `.` or a label file."""
    place = data if data.name not in ("", "..") else data.resolve()
    return place.with_name(f"{place.stem if place.is_file() else place.name}-fixed")


def _arguments(model: str, values: list[str] | None) -> dict[str, Any]:
    """The model's arguments, of the kind its builder takes: a word where a number belongs is refused here."""
    from sightline.models.catalog import find

    arguments: dict[str, Any] = {}
    for name, value in _pairs(values, "--arg").items():
        group, dot, inner = name.partition(".")
        if dot:  # a number of the model's settings
            arguments.setdefault(group, {})[inner] = value
        else:
            arguments[name] = value
    known = inspect.signature(find(model).builder).parameters
    if "classes" in arguments:
        raise InputError("--arg classes=…: the classes are those of the data; leave it out")
    for name, value in arguments.items():
        kind = str(known[name].annotation) if name in known else ""
        if kind in _NUMBERS and type(value) not in _NUMBERS[kind]:
            what = {"int": "a whole number", "float": "a number", "bool": "true or false"}[kind]
            raise InputError(f"--arg {name}={value}: {model} takes {what} there")
    channels = arguments.get("in_channels", 3)
    if not isinstance(channels, int) or channels < 1:
        raise InputError(f"--arg in_channels={channels}: it must be a whole number of at least 1")
    return arguments


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise InputError(f"{file} exists, and nothing is overwritten; give another name or remove it")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}; make it first")


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text, err=True)


if __name__ == "__main__":
    main()
