"""Predict images: `predict` and `predict_to_folder`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.opening import load_model

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from sightline.deploy.folder import PredictedFolder


@checked_keywords
def predict(
    model: nn.Module | str | Path,
    source: Any,
    *,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    whole_image: bool = True,
    full_scale: int | None = None,
) -> Any:
    """Predict one image or several; see `sightline.deploy.predict.predict`.

    Args:
        model: a model, a saved file, or a run's folder.
        source: a path, a folder, a glob pattern, a PIL image, an array, a tensor, the bytes of an image file, an open
            file, a dataset, or a list of these.
        threshold: minimum score of objects; by default the score of the highest F1 on the validation images, which
            training saves with the model, else 0.5.
        classes: names of the classes to keep; None for all.
        batch_size: images per batch.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.
        tile: for class maps and objects: predict in square tiles of this many pixels, for images too large, or with
            objects too small, to be predicted at once.
        overlap: pixels shared by neighbouring tiles; by default 64, or a quarter of a small tile.
        whole_image: with tiles, also predict the whole image, to find objects larger than a tile.
        full_scale: pixel value of white in images of more than 8 bits; by default that of the training images, else
            estimated from the images.

    Returns:
        The result for a single image; otherwise a list of results.
    """
    from sightline.deploy.predict import predict as run

    return run(
        load_model(model),
        source,
        threshold=threshold,
        classes=classes,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
        whole_image=whole_image,
        full_scale=full_scale,
    )


@checked_keywords
def predict_to_folder(
    model: nn.Module | str | Path,
    source: Any,
    out: str | Path | None = None,
    *,
    draw: Callable[..., Image.Image] | None = None,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    save: str | Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    whole_image: bool = True,
    full_scale: int | None = None,
) -> PredictedFolder:
    """Write the predictions for images to a new folder; see `sightline.deploy.folder.predict_to_folder`.

    Args:
        model: a model, a saved file, or a run's folder. Its task decides which files are written.
        source: the images, as for `predict`.
        out: the folder, which must not exist or must be empty; by default predictions/predict1, predict2, …
        draw: draws an image and its result, such as `sightline.draw`; None for no drawings.
        save: formats of the predictions: "json", "csv" or, for objects and class maps, "yolo"; by default "json".
        threshold, classes, batch_size, device, progress, tile, overlap, whole_image, full_scale: as for `predict`.

    Returns:
        A summary of the files written and the images that could not be read.

    Raises:
        InputError: predictions of the model's task cannot be written to files, no image was found or can be read, or
            `out` is not empty.
    """
    from sightline.deploy.folder import predict_to_folder as run
    from sightline.tasks import TASKS

    known = load_model(model)
    name = known.task
    task = TASKS.get(name) if name else next(iter(TASKS.values()))
    if task is None or task.writer is None:
        raise InputError(
            f"predictions of task {name!r} cannot be written to files; use the results of sightline.predict(model, "
            "images) instead"
        )
    return run(
        known,
        source,
        out,
        writer=task.writer,
        draw=draw,
        threshold=threshold,
        classes=classes,
        save=save,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
        whole_image=whole_image,
        full_scale=full_scale,
    )
