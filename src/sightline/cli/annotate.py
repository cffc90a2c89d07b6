"""The verb annotate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import app
from sightline.cli.inputs import say


@app.command()
def annotate(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="A folder of images, or image files.")],
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes, separated by commas; more can be added on the page.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file of labels; by default annotations.json in the folder. It is continued."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A detector whose predictions can be taken over: a run, or a saved model.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Minimum score of its predictions; by default the one saved with the model."),
    ] = None,
    port: Annotated[int, typer.Option(help="The port of the page; 0 for any free one.")] = 8010,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
) -> None:
    """Label images with boxes and outlines on a page in the browser.

    Each change is written at once, as COCO: `sightline train IMAGES` trains on the images labelled so far. The page is
    served to this machine only.
    """
    from sightline import api

    api.annotate(
        images[0] if len(images) == 1 else images,
        classes=[name.strip() for name in (classes or "").split(",") if name.strip()],
        out=out,
        model=model,
        threshold=threshold,
        port=port,
        open_browser=not no_browser,
        say=lambda line: say(line, False),
    )
