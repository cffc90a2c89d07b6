"""The interface of writers, which write the predictions of a task to a folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size
from sightline.training.metrics_log import atomic_write

JSON_FILE = "predictions.json"
CSV_FILE = "predictions.csv"


@dataclass(frozen=True)
class PredictedImage:
    """An image whose prediction is written.

    Attributes:
        number: number of the image among those that could be read, from 1.
        position: index of the image among all that were found.
        path: its file, relative to the common folder of all images.
        size: (height, width) in pixels.
    """

    number: int
    position: int
    path: Path
    size: Size

    def entry(self) -> dict[str, Any]:
        """The image's file name, width and height for JSON."""
        return {"file_name": self.path.as_posix(), "width": self.size[1], "height": self.size[0]}


@dataclass(frozen=True)
class Written:
    """A summary of the predictions in a folder.

    Attributes:
        summary: what was found, in words: "10 objects in 5 images".
        files: names of the files with the predictions.
        objects: number of objects, or classes in class maps; 0 for predictions of other kinds.
        hint: a sentence on how to get more or fewer objects; empty for none.
    """

    summary: str
    files: list[str] = field(default_factory=list)
    objects: int = 0
    hint: str = ""


NO_THRESHOLD = "the threshold has no effect: it leaves out objects, and this model predicts none"
"""Hint for a caller that has chosen a threshold for a model whose answers are not objects."""


class Writing(Protocol):
    """The files of one folder while images are predicted."""

    @property
    def taken(self) -> Collection[Path]:
        """Paths of its files, relative to the folder, that drawings must not use."""

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        """Add the prediction for an image.

        Args:
            image: the image.
            prediction: the model's result, on the CPU; None if `ids` are given in its place.
            ids: [H, W] uint8 or int32: only the ids of a class map, for an image predicted in tiles without drawings.

        Raises:
            InputError: the prediction has another type than those of the task.
        """

    def finish(self, threshold: float, given: bool) -> Written:
        """Write everything that has not been written yet.

        Args:
            threshold: the minimum score of the objects.
            given: True if the caller chose the threshold.
        """


class Writer(Protocol):
    """Writes the predictions of a task's models to a folder."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that predictions can be saved in; the first is the default."""

    def begin(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]) -> Writing:
        """Start writing to a folder.

        Args:
            folder: an existing empty folder.
            paths: the file of each image, relative to the common folder of all images.
            classes: names of the model's classes, in the order of their ids.
            formats: some of the writer's formats, each once.
        """


def require_formats(names: str | Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return the requested formats, each once; "csv,yolo" means two. None means the first known one.

    Raises:
        InputError: a format is unknown.
    """
    if names is None:
        return tuple(known[:1])
    chosen = [part.strip() for name in ([names] if isinstance(names, str) else names) for part in name.split(",")]
    for name in chosen:
        if name not in known:
            raise InputError(f"predictions cannot be saved as {name!r}; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(chosen))


def require_prediction(prediction: Any, wanted: type, what: str) -> None:
    """Check that a prediction has the type that the task's files hold; `what` names this type in words."""
    if not isinstance(prediction, wanted):
        raise InputError(
            f"the model predicts {type(prediction).__name__}, but for its task {what} are written to files; set "
            "model.task to the task of its predictions, or use the results of sightline.predict(model, images)"
        )


def write_json(values: Mapping[str, Any], folder: Path) -> None:
    """Write predictions.json."""
    with atomic_write(folder / JSON_FILE) as path:
        path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def file_paths(paths: Sequence[Path], suffixes: Sequence[str], ending: str, taken: Collection[Path] = ()) -> list[Path]:
    """Return a distinct file path for each image: its own path, with another suffix if needed.

    Args:
        paths: paths of the images.
        suffixes: suffixes that an image's own path may have, in lower case.
        ending: the suffix to use instead of others.
        taken: paths that must not be used.
    """
    used = {path for path in paths if path.suffix.lower() in suffixes} | set(taken)
    files: list[Path] = []
    for path in paths:
        file = path
        if path.suffix.lower() not in suffixes or path in taken:
            file = path.with_suffix(ending)
            while file in used:
                file = file.with_name(f"{path.name if file.stem == path.stem else file.name}{ending}")
            used.add(file)
        files.append(file)
    return files
