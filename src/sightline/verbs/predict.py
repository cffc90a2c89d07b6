"""The verbs `predict` and `predict_to_folder`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.opening import loaded

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
    full_scale: int | None = None,
) -> Any:
    """What a model sees in an image, or in each of many; see `sightline.deploy.predict.predict`.

    Args:
        model: a model, a saved file, or a run's folder.
        source: a path, a folder, a glob pattern, a PIL image, an array, a tensor, a file's bytes, an open file, a
            dataset, or a list of such.
        threshold, classes, batch_size, device, progress, tile, overlap, full_scale: as there.
    """
    from sightline.deploy.predict import predict as run

    return run(
        loaded(model),
        source,
        threshold=threshold,
        classes=classes,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
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
    full_scale: int | None = None,
) -> PredictedFolder:
    """Write what a model sees in images to a new folder; see `sightline.deploy.folder.predict_to_folder`.

    Args:
        model: a model, a saved file, or a run's folder. Its task says which files there are.
        source: see `predict`.
        out, draw, save, threshold, classes, batch_size, device, progress, tile, overlap, full_scale: as there.

    Raises:
        InputError: nothing of the model's task is written to files, or as there.
    """
    from sightline.deploy.folder import predict_to_folder as run
    from sightline.tasks import TASKS

    known = loaded(model)
    name = known.task
    task = TASKS.get(name) if name else next(iter(TASKS.values()))
    if task is None or task.writer is None:
        raise InputError(
            f"nothing is known of how answers of task {name!r} are written to files; take them from "
            "sightline.predict(model, images)"
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
        full_scale=full_scale,
    )
