"""The verb serve."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from sightline.cli.app import app
from sightline.cli.inputs import say
from sightline.cli.options import Device, Runtime

KEY = "SIGHTLINE_API_KEY"
"""The environment variable of the API key, which the list of processes does not show."""


@app.command()
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS", help="Folders of runs, saved or exported models; NAME=FILE sets a model's name."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 for all addresses of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(help=f"The key that clients must send in the header X-API-Key; better given by {KEY}."),
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Maximum number of images per batch.")] = 8,
    max_wait_ms: Annotated[
        float, typer.Option(help="Maximum time in milliseconds that a batch waits for images being decoded.")
    ] = 5.0,
    max_queue: Annotated[
        int, typer.Option(help="Maximum number of waiting images per model; more get status 503.")
    ] = 64,
    max_pixels: Annotated[int, typer.Option(help="Maximum number of pixels of an image.")] = 50_000_000,
    max_body_mb: Annotated[float, typer.Option(help="Maximum size of a request's body in megabytes.")] = 32.0,
    timeout: Annotated[
        float, typer.Option(help="Maximum time in seconds for a request to arrive, and then for its answer.")
    ] = 30.0,
    device: Device = None,
    runtime: Runtime = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when the server is ready.")] = False,
) -> None:
    """Serve models over HTTP, with a page to try them on.

    /predict and /explain take an image as the body of a request or as a file in a form; /models, /health, /metrics and
    /openapi.json describe the server. Images of concurrent requests are predicted in one batch. SIGHUP, or POST
    /models/NAME/reload, reloads a model without losing requests. Ctrl-C or SIGTERM stops the server after the requests
    that have arrived are answered.
    """
    import os

    from sightline import api
    from sightline.verbs.serve import parse_models

    api.serve(
        parse_models(models),
        host=host,
        port=port,
        api_key=os.environ.get(KEY) if api_key is None else api_key,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        max_pixels=max_pixels,
        max_body_mb=max_body_mb,
        timeout=timeout,
        device=device,
        runtime=cast(Any, runtime),
        say=lambda line: say(line, quiet),
    )
