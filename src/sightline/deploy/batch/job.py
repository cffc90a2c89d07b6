"""A prediction of many images by several workers: what is left to do, and its summary."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.data.facts import full_scale_of
from sightline.data.videos import is_video
from sightline.deploy.batch.chunk import FOLDERS, Chunk, Done, Settings, load_model, predict_chunk
from sightline.deploy.batch.files import Folder, find_names, is_uri, item_of, require_pyarrow, short
from sightline.deploy.predict import require_tile
from sightline.deploy.runtimes import ExportedModel
from sightline.deploy.sources import common_scale
from sightline.deploy.thresholds import class_ids, score_threshold
from sightline.deploy.tiled import require_tiles
from sightline.deploy.video import takes_videos
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.progress import progress_bar
from sightline.runtime.devices import require_device
from sightline.runtime.locking import held_lock
from sightline.runtime.optional import require
from sightline.runtime.values import require_whole
from sightline.words import counted

ENGINES = ("process", "ray")
LARGEST_PART = 1000
"""Number of images of a part, by default at most."""
_PART = re.compile(r"part-[0-9]{6}\.parquet")
"""The names that `file_of` gives."""
JOB = "_job.json"
"""What the predictions were made with; readers of Parquet datasets skip files that begin with _."""


@dataclass
class PredictedParquet:
    """A summary of what `predict_to_parquet` wrote.

    Attributes:
        path: path or URI of the folder.
        images: number of images in it.
        objects: number of rows in objects/ that this call has written.
        predicted: number of images that this call has predicted.
        before: number of images that were there already, with those that could not be predicted.
        parts: number of parts that this call has written.
        errors: for each image that this call could not predict, the reason in one sentence.
    """

    path: str
    images: int = 0
    objects: int = 0
    predicted: int = 0
    before: int = 0
    parts: int = 0
    errors: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The summary in words; of the images left out, the first few."""
        earlier = f" ({counted(self.before)} were there already)" if self.before else ""
        objects = f", {counted(self.objects, 'row')} in objects/" if self.objects else ""
        lines = [
            f"{self.path}: {counted(self.predicted)} predicted{earlier}{objects}, {counted(self.parts, 'new part')}"
        ]
        lines += [f"left out: {sentence}" for sentence in itertools.islice(self.errors.values(), 5)]
        if len(self.errors) > 5:
            lines.append(f"left out: {len(self.errors) - 5} more, listed in errors/")
        return "\n".join(lines)


def predict_to_parquet(
    model: nn.Module | str | os.PathLike[str],
    source: Any,
    out: str | os.PathLike[str],
    *,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    whole_image: bool = True,
    full_scale: int | None = None,
    runtime: str | None = None,
    engine: str = "process",
    workers: int = 1,
    part_size: int | None = None,
    progress: bool = False,
) -> PredictedParquet:
    """Predict many images and write the results as Parquet, part by part.

    The folder gets images/ (a row per image), objects/ (a row per object, region or event), and errors/ (a row per
    image that could not be predicted); see `sightline.deploy.batch.tables` for their columns. A part is written when
    its images are predicted, and is complete or not there. If the call is repeated with the same folder, the images
    that are in it are left out: an interrupted prediction continues, and additional images are added.

    Args:
        model: a saved or exported file, or a run's folder; with one worker also a model.
        source: paths, folders or patterns, on this machine or as URIs of other file systems (s3://bucket/folder), or a
            list of these.
        out: path or URI of the folder. It is created if needed.
        threshold, classes, batch_size, tile, overlap, whole_image, full_scale: as for `sightline.predict`.
        device: where each model runs; of several GPUs, each worker takes another one ("cuda").
        runtime: "onnxruntime" or "openvino", for an exported file.
        engine: "process", processes on this machine; or "ray", Ray Data, on the machines of a Ray cluster.
        workers: number of processes, each with its own model; 1 predicts in this process (unless `engine` is "ray").
        part_size: images per part; by default up to 1000, such that each worker has several parts.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        A summary.

    Raises:
        InputError: no image was found, an argument or the model does not fit, or the folder holds predictions by
            another model or with other settings, or none at all but other files.
    """
    require_pyarrow()
    if engine not in ENGINES:
        raise InputError(f"engine is {engine!r}, but must be one of {', '.join(ENGINES)}")
    if engine == "ray":
        require("ray", "ray[data]", "batch", "the engine ray")
    workers = require_whole("workers", workers, 1, "workers", "give the number of cores or GPUs if in doubt")
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images per batch if in doubt")
    if part_size is not None:
        part_size = require_whole("part_size", part_size, 1, "count", "give 1000 if in doubt")
    if tile is not None:
        require_tiles(tile, overlap)  # before the folder records them
    require_tile(tile, overlap, whole_image)
    own = isinstance(model, nn.Module)
    if own and (workers > 1 or engine == "ray"):
        raise InputError("each worker loads its own model: give the file of a saved or exported model, not a model")
    require_device(device)
    settings = Settings(
        "" if isinstance(model, nn.Module) else os.path.abspath(model),
        os.fspath(out) if is_uri(os.fspath(out)) else os.path.abspath(out),
        0.0,
        None if classes is None else tuple([classes] if isinstance(classes, str) else classes),
        batch_size,
        None if device is None else str(device),
        full_scale,
        runtime,
        tile,
        overlap,
        whole_image,
    )
    known = as_model(model) if isinstance(model, nn.Module) else load_model(settings)
    if classes is not None:
        class_ids(known, settings.classes or ())
    settings = replace(settings, threshold=score_threshold(known, threshold))
    names = find_names(source)
    videos = [] if takes_videos(known) else [name for name in names if is_video(name)]
    if videos:
        raise InputError(
            f"{videos[0]} is a video, but Parquet files hold predictions of images; predict videos on their own, with "
            "another --out"
        )
    folder = Folder(settings.out)
    folder.create()
    with _locked(folder):
        settings = _same_job(folder, known, settings, names)
        state = _State.of(folder)
        left = [name for name in names if name not in state.done]
        size = part_size or max(batch_size, min(LARGEST_PART, -(-len(left) // (4 * workers))))
        chunks = [Chunk(state.new_part(), tuple(left[i : i + size])) for i in range(0, len(left), size)]
        summary = PredictedParquet(os.fspath(out), images=state.images, before=len(names) - len(left))
        with progress_bar(len(left), "predicting", progress) as advance:
            for done in _predicted(known, settings, chunks, engine, workers, state.new_part):
                summary.images += done.images
                summary.predicted += done.images
                summary.objects += done.objects
                summary.parts += 1
                summary.errors |= done.errors
                advance(done.images + len(done.errors))
    return summary


def _predicted(
    model: Model,
    settings: Settings,
    chunks: Sequence[Chunk],
    engine: str,
    workers: int,
    new_part: Callable[[], int],
) -> Iterator[Done]:
    """What became of each chunk, in the order of completion."""
    if not chunks:
        return
    if engine == "ray":
        from sightline.deploy.batch.ray_engine import predict_by_ray

        yield from predict_by_ray(settings, chunks, workers)
    elif workers == 1:
        for chunk in chunks:
            yield predict_chunk(model, settings, chunk)
    else:
        from sightline.deploy.batch.pool import predict_in_pool

        yield from predict_in_pool(settings, chunks, workers, new_part)


def _locked(folder: Folder) -> AbstractContextManager[None]:
    """Hold the lock of a local folder, so that two commands do not write the same parts."""
    if not folder.local:
        return nullcontext()
    message = f"another command writes to {folder.uri}; wait until it has ended, or give another --out"
    return held_lock(Path(folder.path) / "_lock", message)


def _same_job(folder: Folder, model: Model, settings: Settings, names: Sequence[str]) -> Settings:
    """The settings of the predictions in a folder, which must be those asked for; of a new folder, write them.

    Raises:
        InputError: they differ, or the folder has other files.
    """
    asked = {
        "model": _digest(model),
        "threshold": round(settings.threshold, 6),
        "classes": None if settings.classes is None else list(settings.classes),
        "full_scale": settings.full_scale,
        "tile": None if settings.tile is None else [settings.tile, settings.overlap, settings.whole_image],
    }
    if JOB not in folder.files():
        others = [name for name in folder.names() if name != "_lock"]
        if others:  # also folders, since files in images/ or objects/ would be taken for parts
            raise InputError(
                f"the folder {folder.uri} has files that are not predictions ({others[0]}); give another --out"
            )
        stated = settings.full_scale if settings.full_scale is not None else full_scale_of(model)
        scale = common_scale([item_of(name) for name in names], stated)
        used = scale() if callable(scale) else scale
        values = {**asked, "used_full_scale": used, "task": model.task, "name": model.title}
        text = json.dumps({**values, "all_classes": list(model.classes)}, indent=1)
        folder.write(JOB, lambda file: file.write(text.encode()))
        return replace(settings, full_scale=used)
    try:
        before = json.loads(folder.read(JOB))
        different = [name for name in asked if before[name] != asked[name]]
        used = before["used_full_scale"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{folder.uri}/{JOB} cannot be read ({short(error)}); give another --out") from None
    if different:
        name = different[0]
        what = "another model" if name == "model" else f"{name} {before[name]}, not {asked[name]}"
        raise InputError(
            f"the folder {folder.uri} has predictions by {what}; continue with the same model and settings, or give "
            "another --out"
            if name == "model"
            else f"the folder {folder.uri} has predictions with {what}; continue with the same settings, or give "
            "another --out"
        )
    return replace(settings, full_scale=used)


def _digest(model: Model) -> str:
    """A fingerprint of a model's weights, or of an exported file."""
    digest = hashlib.sha256()
    if isinstance(model, ExportedModel):
        digest.update(model.path.read_bytes())
        return digest.hexdigest()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass
class _State:
    """What is in a folder.

    Attributes:
        done: paths or URIs of the images that are predicted, or listed in errors/.
        images: number of images that are predicted.
        numbers: gives the numbers of new parts.
    """

    done: set[str]
    images: int
    numbers: Iterator[int]

    def new_part(self) -> int:
        """The number of a new part."""
        return next(self.numbers)

    @classmethod
    def of(cls, folder: Folder) -> _State:
        """Read a folder, and delete what interrupted attempts have left: files of parts that are not complete."""
        import pyarrow as arrow
        from pyarrow import parquet

        complete = set(_parts(folder, "images"))
        for name in FOLDERS:
            for file in _parts(folder, name):
                if file not in complete:
                    folder.remove(f"{name}/{file}")
        done: set[str] = set()
        images = 0
        for name in ("images", "errors"):
            for file in _parts(folder, name):
                try:
                    with folder.system.open_input_file(f"{folder.path}/{name}/{file}") as opened:
                        found = parquet.read_table(opened, columns=["source"]).column("source").to_pylist()
                except (OSError, KeyError, arrow.ArrowException) as error:
                    raise InputError(
                        f"{folder.uri}/{name}/{file} cannot be read ({short(error)}); delete it, and its images are "
                        "predicted again"
                    ) from None
                done.update(found)
                images += len(found) if name == "images" else 0
        numbers = [int(file[5:11]) for file in complete]
        return cls(done, images, itertools.count(max(numbers, default=-1) + 1))


def _parts(folder: Folder, name: str) -> list[str]:
    """The names of the parts in one of the folders of a dataset; files of other names are left alone."""
    return [file for file in folder.files(name) if _PART.fullmatch(file)]
