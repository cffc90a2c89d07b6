"""Write the predictions for videos to a folder: the drawn video, and the results of each frame with its time."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import singledispatch
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sightline.data.frames import pace_of
from sightline.data.video_writer import VideoWriter
from sightline.deploy.folder import PREDICTIONS, PredictedFolder, relative_paths
from sightline.deploy.predictions import are_objects
from sightline.deploy.sources import Item
from sightline.deploy.thresholds import score_threshold, threshold_origin
from sightline.deploy.video import PredictedFrame, predict_video
from sightline.deploy.writers.base import file_paths, require_formats
from sightline.deploy.writers.detection import entries_of
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.progress import progress_bar
from sightline.runtime.values import require_whole
from sightline.structures import ClassScores, Instances
from sightline.structures.tabular import Tabular
from sightline.training.run import new_folder, numbered_folder, removed_if_empty
from sightline.words import counted

FORMATS = ("json", "csv")
"""The formats of the results of a video: JSON lines and CSV."""
BEST = 5
"""Number of classes of a frame that are written by a classifier."""
_CONTAINERS = (".mp4", ".mkv", ".mov", ".m4v")
"""Suffixes of containers that the drawn video can keep; other videos become .mp4."""


def predict_videos_to_folder(
    model: nn.Module,
    items: Sequence[Item],
    out: str | os.PathLike[str] | None = None,
    *,
    draw: Callable[[Tensor, Any], Image.Image] | None = None,
    every: int = 1,
    track: bool = False,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    save: str | Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> PredictedFolder:
    """Predict the frames of video files and write the results of each video.

    The results of video.mp4 are video.jsonl, one line per frame: {"frame": number, "time": seconds, "results": […]},
    with objects in the form of COCO annotations (and "track", if they are tracked), the best classes of a classifier,
    or the pixels of each class of a class map; and, for the format "csv", video.csv with one row per object or class.
    With `draw`, video.mp4 is the drawn video, H.264 if PyAV has an encoder for it, without sound. Lines are written as
    soon as frames are predicted.

    Args:
        model: a model of images.
        items: the video files.
        out: the folder, created if needed; it must be empty. By default the first free one of predictions/predict1, …
        draw: draws a frame [3, H, W] and its result, such as `sightline.draw`; None for no video.
        every, track, threshold, classes, batch_size, device: see `sightline.deploy.video.predict_video`.
        save: "json", "csv" or both; by default "json".
        progress: show a progress bar if stderr is a terminal.

    Returns:
        A summary; `images` counts frames. A video that is damaged or truncated is predicted as far as it can be read
        and listed in `errors`.

    Raises:
        InputError: no frame of any video can be read, `out` is not empty or cannot be written to, or an argument is not
            valid.
    """
    model = as_model(model)
    formats = require_formats(save, FORMATS)
    every = require_whole("every", every, 1, "count", "give 1 for every frame, 5 for one of five")
    options: dict[str, Any] = {"every": every, "track": track, "threshold": threshold, "classes": classes}
    options |= {"batch_size": batch_size, "device": device}
    predict_video(model, "", **options)  # refuses arguments before anything is written
    paths = relative_paths(list(items))
    folder = numbered_folder(PREDICTIONS, "predict") if out is None else new_folder(out, "give another --out")
    done = PredictedFolder(folder, threshold=score_threshold(model, threshold))
    tracks = 0
    first: InputError | None = None
    with removed_if_empty(folder):
        for item, path, drawn in zip(items, paths, file_paths(paths, _CONTAINERS, ".mp4"), strict=True):
            files = _Files(folder, path, drawn if draw is not None else None, formats)
            try:
                _predict(model, item, files, draw, options, progress)
            except InputError as error:
                first = first or error
                done.errors[str(item.name)] = str(error) + (
                    f" ({counted(files.frames, 'frame')} predicted)" if files.frames else ""
                )
            done.images += files.frames
            done.objects += files.objects
            tracks += len(files.tracks)
            done.files += files.written
        if not done.images and first is not None:
            raise first
    if files.what == "object":
        kept = f"objects with a score of at least {done.threshold:.3g} are kept; change it with --threshold"
        none = f"no object has a score of at least {done.threshold:.3g}; lower it with --threshold"
        done.hint = none if not done.objects else kept if threshold is None else ""
        if done.hint and threshold is None:
            done.hint += f" ({threshold_origin(model)})"
    followed = f", {counted(tracks, 'track')}" if track else ""
    done.summary = f"{counted(done.objects, files.what)} in {counted(done.images, 'frame')}{followed}"
    return done


def _predict(
    model: nn.Module,
    item: Item,
    files: _Files,
    draw: Callable[[Tensor, Any], Image.Image] | None,
    options: Mapping[str, Any],
    progress: bool,
) -> None:
    """Predict one video. The files are complete also if an error ends it."""
    path = item.image
    assert isinstance(path, Path), "videos are files"
    fps, count = pace_of(path)
    every = options["every"]
    predicted = predict_video(model, path, **options)
    total = None if count is None else -(-count // every)
    with progress_bar(total, "predicting", progress, "frames") as advance, closing(files), closing(predicted):
        for one in predicted:
            files.add(one, None if draw is None else draw(one.frame, one.result), fps / every)
            advance(1)


class _Files:
    """The files of one video, begun with its first frame.

    Attributes:
        frames, objects: how many were written.
        tracks: the numbers of all tracks.
        written: names of the files.
        what: the noun of the objects.
    """

    def __init__(self, folder: Path, path: Path, drawn: Path | None, formats: Sequence[str]):
        self._lines = folder / path.with_suffix(".jsonl") if "json" in formats else None
        self._table = folder / path.with_suffix(".csv") if "csv" in formats else None
        self._video = None if drawn is None else folder / drawn
        self._folder = folder
        self._open: dict[Path, TextIO] = {}
        self._writer: VideoWriter | None = None
        self._names: list[str] | None = None
        self.frames = self.objects = 0
        self.tracks: set[int] = set()
        self.written: list[str] = []
        self.what = "result"

    def add(self, one: PredictedFrame, picture: Image.Image | None, fps: float) -> None:
        """Write the results of a frame, and its drawing."""
        if self._lines is not None:
            values = {"frame": one.number, "time": round(one.time, 6), "results": frame_entries(one.result)}
            self._text(self._lines).write(json.dumps(values, ensure_ascii=False) + "\n")
        if self._table is not None:
            self._rows(one)
        if picture is not None and self._video is not None:
            if self._writer is None:
                self._video.parent.mkdir(parents=True, exist_ok=True)
                self._writer = VideoWriter(self._video, fps)
                self.written.append(self._video.relative_to(self._folder).as_posix())
            self._writer.add(np.asarray(picture.convert("RGB")), one.time)
        self.frames += 1
        if are_objects(one.result):
            self.what = "object"
            self.objects += len(one.result)
            self.tracks |= set(one.result.tracks.tolist()) if "tracks" in one.result else set()
        else:
            self.objects += 1

    def close(self) -> None:
        """Finish all files."""
        for file in self._open.values():
            file.close()
        if self._writer is not None:
            self._writer.close()

    def _text(self, path: Path) -> TextIO:
        if path not in self._open:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open[path] = path.open("x", encoding="utf-8", newline="")
            self.written.append(path.relative_to(self._folder).as_posix())
        return self._open[path]

    def _rows(self, one: PredictedFrame) -> None:
        """Write the columns of a result; those of the first frame decide which."""
        assert self._table is not None, "only called for a table"
        if not isinstance(one.result, Tabular):
            raise InputError(f"a {type(one.result).__name__} has no table; save the results as json")
        columns = {name: values for name, values in one.result.to_columns().items() if name != "image"}
        writer = csv.writer(self._text(self._table))
        if self._names is None:
            self._names = list(columns)
            writer.writerow(["frame", "time", *self._names])
        rows = len(next(iter(columns.values()), ()))
        kept = [columns.get(name, [""] * rows) for name in self._names]
        plain = ([round(v, 4) if isinstance(v, float) else v for v in row] for row in zip(*kept, strict=True))
        writer.writerows([one.number, round(one.time, 6), *row] for row in plain)


@singledispatch
def frame_entries(result: Any) -> list[dict[str, Any]]:
    """The results of a frame as JSON values; by default the rows of its table.

    Raises:
        InputError: the result has no table.
    """
    if not isinstance(result, Tabular):
        raise InputError(f"a {type(result).__name__} cannot be written; use the results of sightline.predict_video")
    columns = {name: values for name, values in result.to_columns().items() if name != "image"}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@frame_entries.register
def _objects(result: Instances) -> list[dict[str, Any]]:
    return list(entries_of(result)) if "labels" in result else frame_entries.dispatch(object)(result)


@frame_entries.register
def _classes(result: ClassScores) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame_entries.dispatch(object)(result)[:BEST]
    return rows
