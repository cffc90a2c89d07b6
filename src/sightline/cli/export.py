"""The verb export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sightline.cli.app import ClassNames, Format, Quiet, app
from sightline.cli.inputs import parse_classes, say


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder, or a saved model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, ending in .onnx.")],
    precision: Annotated[
        str, typer.Option(help="fp32; fp16 (half the size); or int8 (a quarter, usually faster on a CPU).")
    ] = "fp32",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images: the file is scored on their val split, else test, and keeps the figures as its "
            "certificate. For fp16 and int8 by default the data that the model was trained on."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Another split to score on.")] = None,
    calibration: Annotated[
        int, typer.Option(help="Images, of the train split if there is one, that int8 is calibrated on.")
    ] = 100,
    max_drop: Annotated[
        float,
        typer.Option(
            help="The largest drop of the task's metric, such as AP, that is allowed. Layers of an int8 file return "
            "to float, the most sensitive first, until it is kept."
        ),
    ] = 0.01,
    or_float: Annotated[
        bool, typer.Option("--or-float", help="Write the fp32 file if the drop cannot be kept, instead of none.")
    ] = False,
    pixels: Annotated[
        str, typer.Option(help="What the file takes: uint8, or float32 from 0 to 1, which keeps 16-bit images precise.")
    ] = "uint8",
    scores: Annotated[
        bool, typer.Option("--scores", help="For segmentation models: also give the probabilities of all classes.")
    ] = False,
    masks: Annotated[
        str, typer.Option(help="For models with masks: small masks on grids over the boxes, or pasted into the image.")
    ] = "small",
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not compare the file's results with the model's.")
    ] = False,
    classes: ClassNames = None,
    format: Format = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch while scoring.")] = 8,
    quiet: Quiet = False,
) -> None:
    """Export a model to an ONNX file.

    The file contains everything: images of any size in, boxes, scores and classes in pixels of the image out. It runs
    in ONNX Runtime and OpenVINO without Sightline; predict and evaluate take it like any model. With labelled images
    the file gets a certificate of what it scored on them, which `sightline doctor FILE` prints.
    """
    from sightline import api

    written = api.export(
        model,
        out,
        precision=cast(Any, precision),
        data=data,
        split=split,
        calibration=calibration,
        max_drop=max_drop,
        or_float=or_float,
        pixels=cast(Any, pixels),
        scores=scores,
        masks=cast(Any, masks),
        check=not no_check,
        classes=parse_classes(classes),
        open_args={"format": format},
        batch_size=batch_size,
        progress=not quiet,
        tell=partial(say, quiet=quiet),
    )
    typer.echo(str(written))
