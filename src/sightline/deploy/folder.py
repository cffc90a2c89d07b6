"""A model's answers for many images written to a folder: the files of its task, and pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sightline.deploy.predict import class_ids, predict_each, require_some, score_threshold
from sightline.deploy.sources import Item, Source, find_images
from sightline.deploy.writers.base import PredictedImage, Writer, file_places, require_formats
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.runtime.values import require_whole
from sightline.training.run import new_folder, numbered_folder
from sightline.words import counted

PREDICTIONS = "predictions"
"""The folder of folders, where none is given."""
Draw = Callable[[Tensor, Any], Image.Image]
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass
class PredictedFolder:
    """What `predict_to_folder` wrote.

    Attributes:
        folder: where.
        images: how many were looked at.
        objects: how many objects, or classes in class maps, were found in them; 0 for answers of other kinds.
        pictures: how many pictures were drawn.
        errors: for each file that could not be read, the sentence why.
        files: names of what holds the predictions.
        threshold: the score that objects have at least.
        summary: what was found, in words.
        hint: a sentence on how to get more or fewer objects; empty for none.
    """

    folder: Path
    images: int = 0
    objects: int = 0
    pictures: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    threshold: float = 0.5
    summary: str = ""
    hint: str = ""

    def __str__(self) -> str:
        drawn = f", {counted(self.pictures, 'picture')}" if self.pictures else ""
        lines = [f"{self.folder}: {self.summary}; written: {', '.join(self.files)}{drawn}"]
        lines += [f"left out: {sentence}" for sentence in self.errors.values()]
        return "\n".join(lines)


def predict_to_folder(
    model: nn.Module,
    source: Source,
    out: str | os.PathLike[str] | None = None,
    *,
    writer: Writer,
    draw: Draw | None = None,
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
    """Write what a model finds to a folder, as the files of its task and, given `draw`, as one picture per image.

    Objects are written as `predictions.json`, laid out as COCO annotations: images {id, file_name, width, height},
    annotations {id, image_id, category_id, category, bbox [x, y, w, h], score, …}, categories {id, name} with ids from
    1. Of a segmenter each image's class map is written, too, as a palette PNG in masks/ (with classes.json: names and
    colours); in the JSON it has an annotation for each class, whose segmentation is an RLE. Of a classifier the JSON
    holds for each image its best classes with their scores. File names, and the pictures' places, are relative to the
    folder that all the images have in common. A picture is a JPEG or PNG as its image, and a PNG for other kinds.

    Args:
        model: answers with one result per image, of the writer's task.
        source: see `predict`.
        out: folder, made if need be; must be empty, for nothing is overwritten. By default predictions/predict1,
            predict2, …: the first that is free.
        writer: writes the answers of the model's task. (`sightline.predict_to_folder` chooses it.)
        draw: makes a picture of an image [C, H, W] and its result: `sightline.draw`.
        save: what the predictions are written as, beside the pictures: for objects and class maps "json", "csv"
            (predictions.csv), "yolo" (label files in labels/); for image classes "json", "csv". By default the first.
        threshold, classes, batch_size, device, progress, tile, overlap, full_scale: see `predict`.

    Raises:
        InputError: nothing to predict, every file unreadable, or `out` is not empty or cannot be written to.
    """
    model = as_model(model)
    formats = require_formats(save, writer.formats)
    lowest = score_threshold(model, threshold)  # what cannot be is refused before anything is made
    require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images at a time if in doubt")
    if classes is not None:
        class_ids(model, classes)
    items, _ = find_images(source)
    places = _relative_places(items)
    folder = numbered_folder(PREDICTIONS, "predict") if out is None else new_folder(out, "give another --out")
    done = PredictedFolder(folder, threshold=lowest)
    writing = writer.begin(folder, places, model.classes, formats)
    pictures = file_places(places, _PICTURE_SUFFIXES, ".png", writing.taken)
    first: InputError | None = None
    lean = draw is None  # nothing else needs more of a huge map than its ids
    predictions = predict_each(
        model,
        items,
        threshold,
        batch_size,
        device,
        progress,
        tile,
        overlap,
        lean,
        full_scale=full_scale,
        classes=classes,
    )
    with _or_nothing(folder):
        for position, prediction in enumerate(predictions):
            image, result, ids = prediction.image, prediction.result, prediction.ids
            if image is None or (result is None and ids is None):
                done.errors[str(prediction.item.name)] = str(prediction.error)
                first = first or prediction.error
                continue
            done.images += 1
            size = (int(image.shape[-2]), int(image.shape[-1]))
            writing.add(PredictedImage(done.images, position, places[position], size), result, ids)
            if draw is not None and result is not None:
                path = done.folder / pictures[position]
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(image, result).save(path, quality=92)
                done.pictures += 1
    if len(done.errors) == len(items):
        done.folder.rmdir()  # made or found empty above, and left so
    require_some(done.errors, len(items), first)
    written = writing.finish(lowest, threshold is not None)
    done.files, done.objects = written.files, written.objects
    done.summary, done.hint = written.summary, written.hint
    return done


@contextmanager
def _or_nothing(folder: Path) -> Iterator[None]:
    """Where something is refused before the first file is written, the folder made for the files is taken away."""
    try:
        yield
    except InputError:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise


def _relative_places(items: list[Item]) -> list[Path]:
    """A distinct relative path for each item: from the folder common to all files on; images in memory by number."""
    paths = [Path(os.path.abspath(item.image)) if isinstance(item.image, Path) else None for item in items]
    parents = [str(path.parent) for path in paths if path is not None]
    try:
        common = os.path.commonpath(parents) if parents else ""
    except ValueError:  # on different drives
        common = ""
    places: list[Path] = []
    seen: set[Path] = set()
    for number, path in enumerate(paths):
        place = Path(f"image{number}.png") if path is None else path.relative_to(common) if common else Path(path.name)
        while place in seen:  # one file given twice, or files of one name on different drives
            place = place.with_stem(f"{place.stem}-{number}")
        seen.add(place)
        places.append(place)
    return places
