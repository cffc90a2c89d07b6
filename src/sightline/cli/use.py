"""The verbs for a trained model: evaluate, predict, report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sightline.cli.app import app, start_processes
from sightline.cli.inputs import parse_classes, say
from sightline.cli.options import (
    BatchSize,
    Camera,
    ClassNames,
    Device,
    Format,
    FullScale,
    Model,
    OptionalData,
    Processes,
    Quiet,
    Runtime,
    TestSplit,
    TrainSplit,
    ValSplit,
)
from sightline.errors import InputError
from sightline.words import counted

LEGIBLE = 320
"""Smaller images are enlarged when predictions are drawn on them, so that labels do not hide them."""


@app.command()
def evaluate(
    model: Model,
    data: OptionalData = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The split to evaluate, or all. By default test, otherwise val, without images the model was trained "
            "on."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", help="Write the metrics to this JSON file; - prints them.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report with pictures to this new folder.")] = None,
    batch_size: BatchSize = 8,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    full_scale: FullScale = None,
    classes: ClassNames = None,
    device: Device = None,
    processes: Processes = None,
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Evaluate a model on labelled images.

    Detection: the twelve COCO metrics, VOC AP50 by both protocols, and the AP of each class. Segmentation: IoU, Dice
    and boundary F. Classification: top-1 and top-5 accuracy, the F1 of each class, and calibration, with 95 %
    confidence intervals. Proposals: recall at several numbers of proposals.
    """
    start_processes(processes)
    from sightline import api
    from sightline.runtime.files import require_new_file, written_whole
    from sightline.runtime.processes import is_main
    from sightline.training.run import new_folder, removed_if_empty

    if out is not None and str(out) != "-" and is_main():
        require_new_file(out)
    with nullcontext() if report is None or not is_main() else removed_if_empty(new_folder(report)):
        measured = api.measure(
            opened(model, runtime, device, quiet),
            data,
            split,
            classes=parse_classes(classes),
            open_args={"train": train, "val": val, "test": test, "format": format, "full_scale": full_scale},
            batch_size=batch_size,
            device=device,
            progress=not quiet,
            shared=True,
        )
    if not is_main():
        return
    result, name = measured.result, measured.model.name
    place, chosen = data or result.measured["data"], result.measured["split"]
    values = {"model": name, "data": str(place), "split": chosen, **result.to_dict()}
    if str(out) == "-":
        typer.echo(json.dumps(values, indent=1))
        return
    typer.echo(f"{name} on {place} ({chosen}, {counted(result.images)})\n{result}")
    if out is not None:
        with written_whole(out, "the metrics") as partial_file:
            partial_file.write_text(json.dumps(values, indent=1), encoding="utf-8")
        typer.echo(f"metrics: {out}")
    if report is not None:
        typer.echo(f"report: {api.write_report(report, result, data=measured.part, model=measured.model)}")


@app.command()
def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help="Images, videos, folders, or patterns such as 'photos/*.jpg'. With --out DIR.parquet only images, "
            "which "
            "may also be remote (s3://…).",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="A new folder for the results; by default predictions/predict1, predict2, … With DIR.parquet, Parquet "
            "files are written, and repeating the command continues where it stopped.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Minimum score of an object; by default the score with the highest F1 on the run's validation split, "
            "otherwise 0.5."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Keep only objects of these classes: names separated by commas (a comma in a name as \\,)."),
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(
            "--save",
            metavar="FORMAT,…",
            help="Formats of the predictions: json (the default), csv or yolo (objects only), kitti (cuboids), obj, "
            "ply or glb (meshes); several separated by commas.",
        ),
    ] = None,
    batch_size: BatchSize = 8,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Predict in square tiles of this many pixels, for very large images or very small objects. For "
            "detection and segmentation."
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Overlap of tiles in pixels; by default 64, or a quarter of the tile if it is small."),
    ] = None,
    whole_image: Annotated[
        bool,
        typer.Option(
            "--whole-image/--no-whole-image",
            help="With --tile: also predict the whole image, to find objects larger than a tile.",
        ),
    ] = True,
    every: Annotated[int, typer.Option(metavar="N", help="For videos: predict one frame in N.")] = 1,
    track: Annotated[
        bool, typer.Option("--track", help="For videos: track the objects, so that each keeps its number.")
    ] = False,
    full_scale: FullScale = None,
    camera: Camera = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Do not draw the predictions on the images; Parquet never does.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="With --out DIR.parquet: number of worker processes, each with its own model.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="With --out DIR.parquet: process (this machine, the default) or ray (a Ray cluster)."),
    ] = None,
    part_size: Annotated[
        int | None, typer.Option(help="With --out DIR.parquet: images per file; by default up to 1000.")
    ] = None,
    device: Device = None,
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Predict images; write and draw the results.

    Detections are written as JSON (in the layout of COCO annotations), CSV or YOLO text files. Segmentation models
    write class maps as palette PNGs. Classification models write the best classes of each image as JSON or CSV. For a
    video, each frame is predicted: video.mp4 gives video.jsonl (or .csv) with times, and a video.mp4 with the
    predictions drawn. For many images, --out DIR.parquet writes Parquet files with several workers and draws nothing.
    """
    from sightline import api

    given: dict[str, Any] = {"workers": workers, "engine": engine, "part_size": part_size}
    given = {name: value for name, value in given.items() if value is not None}
    if out is not None and out.rstrip("/").endswith(".parquet"):
        unused = {"save": save, "camera": camera, "track": track, "every": None if every == 1 else every}
        require_absent(unused, "images are predicted and written as Parquet")
        written = api.predict_to_parquet(
            model,
            images,
            out,
            threshold=threshold,
            classes=None if classes is None else parse_names(classes),
            batch_size=batch_size,
            device=device,
            tile=tile,
            overlap=overlap,
            whole_image=whole_image,
            full_scale=full_scale,
            runtime=cast(Any, runtime),
            progress=not quiet,
            **given,
        )
        typer.echo(str(written))
        return
    require_absent(given, "only Parquet files are written by several workers (--out DIR.parquet)")
    draw = None if no_pictures else partial(api.draw, min_size=LEGIBLE)
    source: Any = images if len(images) > 1 else images[0]
    found = api.predict_to_folder(
        opened(model, runtime, device, quiet),
        source,
        out,
        draw=draw,
        threshold=threshold,
        classes=None if classes is None else parse_names(classes),
        save=save or None,
        batch_size=batch_size,
        device=device,
        progress=not quiet,
        tile=tile,
        overlap=overlap,
        whole_image=whole_image,
        every=every,
        track=track,
        full_scale=full_scale,
        camera=camera,
    )
    typer.echo(str(found))
    if found.hint:
        say(found.hint, quiet)


def require_absent(given: Mapping[str, Any], reason: str) -> None:
    """Refuse options that have no effect here; `given` has their values by name, None or False for those not given."""
    for name, value in given.items():
        if value is None or value is False:
            continue
        shown = "given" if value is True else ",".join(value) if isinstance(value, list) else value
        raise InputError(f"--{name.replace('_', '-')} is {shown}, but {reason}; leave it out")


def opened(model: Path, runtime: str | None, device: str | None, quiet: bool) -> Any:
    """The path of a model, or an exported model opened with its runtime, which is said."""
    from sightline.verbs.opening import with_runtime

    found = with_runtime(model, runtime, device)
    if found is not model:
        say(f"run by {getattr(found, 'provider', 'PyTorch')}", quiet)
    return found


def parse_names(classes: str) -> list[str]:
    """Parse "cat,dog" into names. A comma in a name is written as \\,"""
    names = [name.replace("\\,", ",").strip() for name in re.split(r"(?<!\\),", classes) if name.strip()]
    if not names:
        raise InputError(f"--classes {classes!r} has no names; give names such as cat,dog")
    return names


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    data: Annotated[
        Path | None, typer.Option(help="Other images and labels; by default the data that the model was trained on.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The split to show, or all. By default val, otherwise test, without images the model was trained on."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw beside the worst predictions which pixels they depend on.")
    ] = False,
    format: Format = None,
) -> None:
    """Write a run's report.html again.

    Use it after an interruption, or to show other images. The report names the split that it shows.
    """
    from sightline import api

    updated = api.update_report(run, data, split, open_args={"format": format}, explain=explain)
    if updated.before is not None and updated.now is not None and updated.before != updated.now:
        typer.echo(f"the report showed {in_words(updated.before)}; it now shows {in_words(updated.now)}")
    for note in updated.notes:
        typer.echo(f"note: {note}")
    typer.echo(str(updated.file))


def in_words(shown: Mapping[str, Any]) -> str:
    """What a report shows, in words: the number of images, their split and their data."""
    number = shown.get("images")
    images = counted(number) if isinstance(number, int) else "? images"
    split, place = shown.get("split"), shown.get("data")
    return images + (f" ({split})" if split else "") + (f" of {place}" if place else "")
