"""The verbs for data: check, convert, look, anchors, scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import NamingHelp, app
from sightline.cli.inputs import fixed_copy_path, parse_classes, parse_shares
from sightline.cli.options import ClassNames, Data, Format, FullScale, Quiet, TestSplit, TrainSplit, ValSplit
from sightline.errors import InputError


@app.command()
def check(
    data: Data,
    model: Annotated[
        str | None, typer.Option(help="Compare the sizes of the objects with this model's anchors.")
    ] = None,
    fix: Annotated[
        str | None,
        typer.Option(help="Write a repaired copy: clip (clip boxes to the image) or drop (remove broken objects)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the repaired copy; by default DATA-fixed.")] = None,
    turned: Annotated[
        str | None,
        typer.Option(
            help="With --fix: how images with an EXIF rotation were displayed when they were labelled, upright or as "
            "stored."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Read only labels and image headers, not pixels.")] = False,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    full_scale: FullScale = None,
    classes: ClassNames = None,
    quiet: Quiet = False,
) -> None:
    """Find what would break or bias a training run.

    The exit code is 0 if training can start, and 1 if it cannot.
    """
    from sightline import api
    from sightline.data.check import fix as repair
    from sightline.data.check import require_fixable
    from sightline.verbs.opening import open_data

    if fix not in (None, "clip", "drop"):
        raise InputError(f"--fix is {fix!r}, but it must be clip or drop")
    if turned not in (None, "upright", "stored"):
        raise InputError(f"--turned is {turned!r}, but it must be upright or stored")
    copy = out or fixed_copy_path(data)
    if fix is not None and copy.exists() and (not copy.is_dir() or any(copy.iterdir())):
        raise InputError(f"{copy} exists, and nothing is overwritten; name a new folder with --out")
    open_args = {"train": train, "val": val, "test": test, "format": format, "full_scale": full_scale}
    dataset = open_data(data, classes=parse_classes(classes), open_args=open_args, lenient=True)
    if fix is not None:
        require_fixable(dataset, str(data))
    report = api.check(dataset, model, full=not fast, progress=not quiet)
    typer.echo(json.dumps(report.to_dict(), indent=1) if as_json else str(report))
    if fix is not None:
        summary = repair(dataset, copy, fix, not quiet, turned)  # type: ignore[arg-type]
        typer.echo(f"\n{summary}", err=as_json)
        return
    if not report.ok:
        raise typer.Exit(1)


@app.command(cls=NamingHelp)
def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    to: Annotated[str, typer.Option(help="The format to write: {formats}.", metavar="FORMAT")],
    symlink: Annotated[bool, typer.Option("--symlink", help="Link to the images instead of copying them.")] = False,
    split: Annotated[
        str | None,
        typer.Option(help="Split data without splits into training, validation and test images, such as 80/10/10."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of --split; the same seed gives the same split.")] = 0,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    classes: ClassNames = None,
) -> None:
    """Write a dataset with its images in another format."""
    from sightline.verbs.convert import convert_dataset

    conversion = convert_dataset(
        data,
        out,
        to,
        symlink=symlink,
        shares=None if split is None else parse_shares(split),
        seed=seed,
        classes=parse_classes(classes),
        open_args={"train": train, "val": val, "test": test, "format": format},
    )
    typer.echo(conversion)


@app.command(cls=NamingHelp)
def look(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write.")] = Path("contact_sheet.png"),
    augmentation: Annotated[
        str, typer.Option(help="The augmentation to draw: {augmentations}; any of {policies} can be added with +.")
    ] = "none",
    n: Annotated[int, typer.Option("-n", help="Number of images.")] = 16,
    split: Annotated[
        str | None,
        typer.Option(help="Draw only this split; by default train if --augmentation is given, otherwise all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of images and for the augmentation.")] = 0,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    classes: ClassNames = None,
) -> None:
    """Draw images with their labels, as training sees them."""
    from sightline import api

    open_args = {"train": train, "val": val, "test": test, "format": format}
    words = parse_classes(classes)
    sheet = api.look(data, out, augmentation, n=n, split=split, seed=seed, classes=words, open_args=open_args)
    of = f"{sheet.images} images of {sheet.split}" if sheet.split else f"{sheet.images} images"
    typer.echo(f"{out}: {sheet.drawn} of {of}, augmentation {augmentation}")


@app.command()
def anchors(
    data: Data,
    k: Annotated[int, typer.Option("-k", help="Number of anchors.")] = 5,
    image_size: Annotated[int, typer.Option(help="Side of the model's square input, in pixels.")] = 416,
    out: Annotated[Path, typer.Option("--out", "-o", help="The plot to write.")] = Path("anchors.png"),
    split: Annotated[str | None, typer.Option(help="Use only this split; by default train, otherwise all.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    classes: ClassNames = None,
) -> None:
    """Cluster the sizes of the boxes into anchors.

    Uses k-means with the distance of YOLO v2, 1 - IoU. A plot shows the sizes and the anchors.
    """
    from sightline import api

    open_args = {"train": train, "val": val, "test": test, "format": format}
    words = parse_classes(classes)
    found = api.anchors(data, k, image_size, out, split=split, seed=seed, classes=words, open_args=open_args)
    cells = json.dumps(found.cells(), separators=(",", ":"))
    typer.echo(f"{found}\n\npicture: {out}\nfor YOLO v2: --arg image_size={image_size} --arg 'anchors={cells}'")


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    train: Annotated[int, typer.Option(help="Number of training scenes.")] = 400,
    val: Annotated[int, typer.Option(help="Number of validation scenes.")] = 100,
    test: Annotated[int, typer.Option(help="Number of test scenes.")] = 100,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same pixels.")] = 0,
    kind: Annotated[
        str,
        typer.Option(help="The kind of labels: instances, captions, relations, cuboids, meshes or events (in videos)."),
    ] = "instances",
    objects: Annotated[tuple[int, int], typer.Option(metavar="LEAST MOST", help="Number of objects per scene.")] = (
        2,
        7,
    ),
    quiet: Quiet = False,
) -> None:
    """Render synthetic scenes with exact labels, to try things out.

    The scenes show spheres, boxes, cylinders, cones and rings in a room. The folder has COCO format.
    """
    from sightline.data.scenes import write_scenes

    folder = write_scenes(out, train, val, test, size, seed, kind=kind, objects=objects, progress=not quiet)
    typer.echo(f"{folder}: {train} + {val} + {test} scenes of {size}×{size}; next: sightline check {folder}")
