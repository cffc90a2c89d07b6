"""The contract of what writes a task's predictions to a folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size
from sightline.training.metrics_log import replacing

JSON_FILE = "predictions.json"
CSV_FILE = "predictions.csv"


@dataclass(frozen=True)
class PredictedImage:
    """An image whose answer is written.

    Attributes:
        number: counts the images that could be read, from 1.
        position: of the image among all that were found.
        place: its file, relative to the folder that all images have in common.
        size: (height, width) in pixels.
    """

    number: int
    position: int
    place: Path
    size: Size

    def entry(self) -> dict[str, Any]:
        """For JSON: its file's name, width and height."""
        return {"file_name": self.place.as_posix(), "width": self.size[1], "height": self.size[0]}


@dataclass(frozen=True)
class Written:
    """What a folder of predictions holds at the end.

    Attributes:
        summary: what was found, in words: "10 objects in 5 images".
        files: names of what holds the predictions.
        objects: how many objects, or classes in class maps, were found; 0 for answers of other kinds.
        hint: a sentence on how to get more or fewer of them; empty for none.
    """

    summary: str
    files: list[str] = field(default_factory=list)
    objects: int = 0
    hint: str = ""


class Writing(Protocol):
    """The files of one folder, while images are predicted."""

    @property
    def taken(self) -> Collection[Path]:
        """Places of own files, relative to the folder, which pictures must not take."""

    def add(self, image: PredictedImage, answer: Any, ids: Tensor | None) -> None:
        """Take the answer for an image.

        Args:
            image: the image.
            answer: what the model answered, on the CPU; None where there are `ids` in its place.
            ids: [H, W] uint8 or int32, a class map's ids alone: of an image predicted by tiles without pictures.

        Raises:
            InputError: the answer is not of the task.
        """

    def finish(self, threshold: float, given: bool) -> Written:
        """Write what is not written yet.

        Args:
            threshold: the score that objects have at least.
            given: the caller has chosen it.
        """


class Writer(Protocol):
    """What `predict` leaves in a folder, for models of a task."""

    @property
    def formats(self) -> tuple[str, ...]:
        """What predictions can be saved as; the first is the default."""

    def begin(self, folder: Path, places: Sequence[Path], classes: Sequence[str], formats: Sequence[str]) -> Writing:
        """Make ready to write.

        Args:
            folder: exists and is empty.
            places: of each image's file, relative to the folder that all images have in common.
            classes: the model's, in the order of their ids.
            formats: some of the writer's, each once.
        """


def require_formats(names: str | Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """The formats asked for, each once; "csv,yolo" is two. None for the first known.

    Raises:
        InputError: one is not known.
    """
    if names is None:
        return tuple(known[:1])
    chosen = [part.strip() for name in ([names] if isinstance(names, str) else names) for part in name.split(",")]
    for name in chosen:
        if name not in known:
            raise InputError(f"predictions cannot be saved as {name!r}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(chosen))


def require_answer(answer: Any, wanted: type, what: str) -> None:
    """Refuse an answer of another type than the task's files hold; `what` names those in words."""
    if not isinstance(answer, wanted):
        raise InputError(
            f"the model answers with {type(answer).__name__}, but for its task {what} are written to files; set "
            "model.task to the task of its answers, or take them from sightline.predict(model, images)"
        )


def write_json(values: Mapping[str, Any], folder: Path) -> None:
    """Write predictions.json."""
    with replacing(folder / JSON_FILE) as path:
        path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def file_places(
    places: Sequence[Path], suffixes: Sequence[str], ending: str, taken: Collection[Path] = ()
) -> list[Path]:
    """A file for each image: its own place, with another ending where needed; no two at one place.

    Args:
        places: of the images.
        suffixes: endings that an image's own place may have, in small letters.
        ending: in place of another.
        taken: places that are taken already.
    """
    used = {place for place in places if place.suffix.lower() in suffixes} | set(taken)
    files: list[Path] = []
    for place in places:
        file = place
        if place.suffix.lower() not in suffixes or place in taken:
            file = place.with_suffix(ending)
            while file in used:
                file = file.with_name(f"{place.name if file.stem == place.stem else file.name}{ending}")
            used.add(file)
        files.append(file)
    return files
