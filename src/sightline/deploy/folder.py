"""Write a model's predictions for many images to a folder: the files of its task, and drawings."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sightline.deploy.cameras import GivenCamera, with_given_cameras
from sightline.deploy.predict import Prediction, predict_each, require_some
from sightline.deploy.sources import Item, Source, find_images
from sightline.deploy.thresholds import class_ids, score_threshold, threshold_origin
from sightline.deploy.writers.base import PredictedImage, Writer, Writing, file_paths, require_formats
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.runtime.values import require_whole
from sightline.training.interrupt import Interrupts
from sightline.training.run import new_folder, numbered_folder, removed_if_empty
from sightline.words import counted, shown

log = logging.getLogger("sightline")

PREDICTIONS = "predictions"
"""The folder that contains the output folders if none is given."""
Draw = Callable[[Tensor, Any], Image.Image]
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass
class PredictedFolder:
    """A summary of what `predict_to_folder` wrote.

    Attributes:
        folder: the folder.
        images: number of images predicted.
        objects: number of objects, or classes in class maps; 0 for predictions of other kinds.
        pictures: number of drawings.
        errors: for each file that could not be read, the reason in one sentence.
        files: names of the files with the predictions.
        threshold: the minimum score of the objects.
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
    whole_image: bool = True,
    full_scale: int | None = None,
    camera: GivenCamera | None = None,
) -> PredictedFolder:
    """Write a model's predictions to a folder, as the files of its task and, if `draw` is given, one drawing per image.

    Objects are written to `predictions.json` in the form of COCO annotations: images {id, file_name, width, height},
    annotations {id, image_id, category_id, category, bbox [x, y, w, h], score, …}, categories {id, name} with ids from
    1. For a segmentation model, each class map is also written as a palette PNG in masks/ (with names and colours in
    classes.json), and the JSON has one annotation per class and image, whose segmentation is an RLE. For a classifier
    the JSON has the best classes of each image with their scores. File names, and the paths of the drawings, are
    relative to the common folder of all images. The drawing of a JPEG or PNG image has the same format; others are PNG.

    Args:
        model: a model of the writer's task.
        source: the images; see `predict`.
        out: the folder, created if needed; it must be empty, because nothing is overwritten. By default the first free
            one of predictions/predict1, predict2, …
        writer: writes the predictions of the model's task; `sightline.predict_to_folder` chooses it.
        draw: draws an image [C, H, W] and its result, such as `sightline.draw`; None for no drawings.
        save: formats of the predictions: for objects and class maps "json", "csv" (predictions.csv) and "yolo" (label
            files in labels/); for image classes "json" and "csv". They replace the default, which is the first.
        threshold, classes, batch_size, device, progress, tile, overlap, whole_image, full_scale, camera: see `predict`.

    Returns:
        A summary of the files written and the images that could not be read.

    Raises:
        InputError: no image was found, none can be read, or `out` is not empty or cannot be written to.
    """
    model = as_model(model)
    formats = require_formats(save, writer.formats)
    lowest = score_threshold(model, threshold)  # invalid arguments are refused before anything is written
    require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images per batch if in doubt")
    if classes is not None:
        class_ids(model, classes)
    items = with_given_cameras(find_images(source)[0], camera, model)
    paths = relative_paths(items)
    folder = numbered_folder(PREDICTIONS, "predict") if out is None else new_folder(out, "give another --out")
    done = PredictedFolder(folder, threshold=lowest)
    writing = writer.begin(folder, paths, model.classes, formats)
    pictures = file_paths(paths, _PICTURE_SUFFIXES, ".png", writing.taken)
    first: InputError | None = None
    ids_only = draw is None  # without drawings the ids are enough; probabilities of a huge map are not kept
    predictions = predict_each(
        model,
        items,
        threshold,
        batch_size,
        device,
        progress,
        tile,
        overlap,
        ids_only,
        full_scale=full_scale,
        classes=classes,
        whole_image=whole_image,
    )
    interrupts = Interrupts()
    stopped = _written_if_stopped(writing, done, lowest, threshold is not None, len(items))
    with removed_if_empty(folder), interrupts, stopped:
        for position, prediction in enumerate(_between_images(predictions, interrupts)):
            image, result, ids = prediction.image, prediction.result, prediction.ids
            if image is None or (result is None and ids is None):
                done.errors[str(prediction.item.name)] = str(prediction.error)
                first = first or prediction.error
                continue
            done.images += 1
            size = (int(image.shape[-2]), int(image.shape[-1]))
            writing.add(PredictedImage(done.images, position, paths[position], size), result, ids)
            if draw is not None and result is not None:
                path = done.folder / pictures[position]
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(image, result).save(path, quality=92)
                done.pictures += 1
    if len(done.errors) == len(items):
        done.folder.rmdir()  # it was created, or found empty, above
    require_some(done.errors, len(items), first)
    written = writing.finish(lowest, threshold is not None)
    done.files, done.objects = written.files, written.objects
    done.summary, done.hint = written.summary, written.hint
    if written.hint and threshold is None:
        done.hint += f" ({threshold_origin(model)})"
    return done


def _between_images(predictions: Iterator[Prediction], interrupts: Interrupts) -> Iterator[Prediction]:
    """The predictions; Ctrl-C takes effect while the next one is made, not while one is written."""
    while True:
        with interrupts.allowed():
            found = next(predictions, None)
        if found is None:
            return
        yield found


@contextmanager
def _written_if_stopped(
    writing: Writing, done: PredictedFolder, threshold: float, given: bool, total: int
) -> Iterator[None]:
    """Context that writes the files of the images predicted so far if Ctrl-C ends it, and says so."""
    try:
        yield
    except KeyboardInterrupt:
        if done.images:
            files = writing.finish(threshold, given).files
            log.warning(
                "%s holds the predictions of %d of %s: %s; an output folder that ends in .parquet is continued by the "
                "same command",
                shown(str(done.folder)),
                done.images,
                counted(total),
                ", ".join(files),
            )
        raise


def relative_paths(items: list[Item]) -> list[Path]:
    """A distinct relative path per item: relative to the common folder of all files; images in memory by number."""
    files = [Path(os.path.abspath(item.image)) if isinstance(item.image, Path) else None for item in items]
    parents = [str(file.parent) for file in files if file is not None]
    try:
        common = os.path.commonpath(parents) if parents else ""
    except ValueError:  # on different drives
        common = ""
    paths: list[Path] = []
    seen: set[Path] = set()
    for number, file in enumerate(files):
        path = Path(f"image{number}.png") if file is None else file.relative_to(common) if common else Path(file.name)
        while path in seen:  # the same file given twice, or files of one name on different drives
            path = path.with_stem(f"{path.stem}-{number}")
        seen.add(path)
        paths.append(path)
    return paths
