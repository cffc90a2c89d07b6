"""The verb that looks inside a model: inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import app
from sightline.cli.inputs import parse_classes
from sightline.cli.options import ClassNames, Device, Format, FullScale, Model, Quiet
from sightline.errors import InputError


@app.command()
def inside(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="For activations: an image. Otherwise images and labels; by default the data that the model was "
            "trained on.",
        ),
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            help="activations, filters (of the first layer), patches (that activate a channel most) or latent (space)."
        ),
    ] = "activations",
    layer: Annotated[
        str | None,
        typer.Option(help="The name of a layer, such as backbone.body.layer2; by default the one that explain uses."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels to draw: numbers separated by commas; by default the most active ones.")
    ] = None,
    which: Annotated[int, typer.Option("--map", help="Index of the map, from 0, if the layer returns several.")] = 0,
    method: Annotated[str, typer.Option(help="For latent: pca or tsne.")] = "pca",
    split: Annotated[str | None, typer.Option(help="For patches and latent: the split; by default all images.")] = None,
    limit: Annotated[
        int, typer.Option(help="For patches and latent: maximum number of images, and of objects.")
    ] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="A new folder for the pictures; by default inside/activations1, inside/activations2, …"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of images and for t-SNE.")] = 0,
    format: Format = None,
    full_scale: FullScale = None,
    classes: ClassNames = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Look inside a model: activations, filters, latent space.

    Activations of a layer are drawn as a grid of maps. Patches are the image regions that activate a channel most. The
    latent space is drawn as a picture and as an interactive page (hover, zoom, filter by class).
    """
    from sightline import api

    shown = api.look_inside(
        model,
        data,
        what,
        out,
        layer=layer,
        channels=None if channels is None else parse_channels(channels),
        which=which,
        method=method,  # type: ignore[arg-type]
        split=split,
        limit=limit,
        full_scale=full_scale,
        classes=parse_classes(classes),
        open_args={"format": format},
        seed=seed,
        device=device,
        progress=not quiet,
    )
    for file in shown.files:
        typer.echo(str(file))


def parse_channels(text: str) -> list[int]:
    """Parse "0,5,17" into numbers."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--channels {text!r} must be numbers separated by commas, such as 0,5,17") from None
