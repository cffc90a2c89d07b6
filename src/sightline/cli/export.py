"""The verb export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sightline.cli.app import app
from sightline.cli.inputs import parse_classes, say
from sightline.cli.options import ClassNames, Format, Quiet


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a run, or a saved model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, ending in .onnx.")],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 (half the size) or int8 (a quarter of the size, usually faster on CPUs).")
    ] = "fp32",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images: the file is evaluated on their val split, otherwise test, and the metrics are "
            "stored "
            "in it as its certificate. For fp16 and int8 by default the data that the model was trained on."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="The split to evaluate on; by default val, otherwise test.")] = None,
    calibration: Annotated[
        int, typer.Option(help="Number of images for the calibration of int8, from the train split if there is one.")
    ] = 100,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Maximum drop of the task's metric, such as AP. Layers of an int8 file are set back to float, the "
            "most "
            "sensitive first, until the drop is within it."
        ),
    ] = 0.01,
    or_float: Annotated[
        bool,
        typer.Option(
            "--or-float", help="Write the fp32 file if the drop is larger than --max-drop, instead of no file."
        ),
    ] = False,
    pixels: Annotated[
        str, typer.Option(help="The input: uint8, or float32 in [0, 1], which keeps the precision of 16-bit images.")
    ] = "uint8",
    scores: Annotated[
        bool, typer.Option("--scores", help="For segmentation: also output the probabilities of all classes.")
    ] = False,
    masks: Annotated[
        str,
        typer.Option(help="For models with masks: small (a grid over each box) or pasted (of the size of the image)."),
    ] = "small",
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not compare the results of the file with those of the model.")
    ] = False,
    classes: ClassNames = None,
    format: Format = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch in the evaluation.")] = 8,
    quiet: Quiet = False,
) -> None:
    """Export a model to an ONNX file.

    The file contains preprocessing and decoding: it takes images of any size, and returns boxes in pixels of the image,
    scores and classes. It runs in ONNX Runtime and OpenVINO without Sightline; predict and evaluate accept it like any
    model. With labelled images, the file gets a certificate with its metrics, which `sightline doctor FILE` prints.
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
