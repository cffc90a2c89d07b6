"""The verb export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sightline.cli.app import app


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder, or a saved model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, ending in .onnx.")],
    pixels: Annotated[
        str, typer.Option(help="What the file takes: uint8, or float32 from 0 to 1, which keeps 16-bit images precise.")
    ] = "uint8",
    scores: Annotated[
        bool, typer.Option("--scores", help="For segmentation models: also give the probabilities of all classes.")
    ] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not compare the file's results with the model's.")
    ] = False,
) -> None:
    """Export a model to an ONNX file.

    The file contains everything: images of any size in, boxes, scores and classes in pixels of the image out. It runs
    in ONNX Runtime and OpenVINO without Sightline; predict and evaluate take it like any model.
    """
    from sightline import api

    typer.echo(str(api.export(model, out, pixels=cast(Any, pixels), scores=scores, check=not no_check)))
