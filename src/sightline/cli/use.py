"""The verbs for a trained model: evaluate, predict, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import Data, Device, Model, Quiet, Split, app
from sightline.cli.inputs import open_data, part_of, refuse_existing, say
from sightline.errors import InputError


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
        refuse_existing(out)
    if report is not None:
        new_folder(report)
    loaded: Any = load(model)
    dataset = api.as_learned(open_data(data, train, val, test).with_channels(loaded.in_channels), loaded)
    chosen, part = part_of(dataset, split, ("test", "val"), loaded)
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
    overlap: Annotated[
        int | None,
        typer.Option(help="Pixels that neighbouring squares share; by default 64, or a quarter of small ones."),
    ] = None,
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
        say(f"nothing reached a score of {threshold:g}; a lower --threshold shows what came nearest", quiet)


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
        if (run / "report.html").is_file() and (run / "evaluation.json").is_file():
            raise InputError(
                f"{run}/report.html shows predictions, which without the images would be lost; give them: --data DATA"
            )
        typer.echo(str(api.write_report(run)))
        return
    model: Any = load(run)
    _, part = part_of(
        api.as_learned(open_data(data).with_channels(model.in_channels), model), split, ("val", "test"), model
    )
    typer.echo(str(api.write_report(run, api.evaluate(model, part), data=part, model=model)))
