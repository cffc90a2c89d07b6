"""A model's answers for images, folders of them, or patterns: read ahead, looked at in batches, given back in order."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.data.dataset import Dataset
from sightline.data.facts import full_scale_of
from sightline.data.full_scale import Scale
from sightline.data.room import of_any_size
from sightline.deploy.answers import NO_CLASSES, kept, with_source
from sightline.deploy.sources import Item, Source, common_scale, find_images
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.progress import progress_bar
from sightline.runtime.devices import running
from sightline.runtime.values import require_number, require_whole
from sightline.structures import ClassMap

USUAL_THRESHOLD = 0.5
"""Of a model that has none of its own: objects of a lower score are left out."""


@dataclass(frozen=True)
class Prediction:
    """What became of one image.

    Attributes:
        item: where the image came from.
        image: [C, H, W], None if it could not be read.
        result: the answer, on the CPU; None if the image could not be read.
        error: why it could not be read.
        ids: [H, W] uint8 or int32, a class map's ids alone, in the place of the result where that was asked for.
    """

    item: Item
    image: Tensor | None = None
    result: Any = None
    error: InputError | None = None
    ids: Tensor | None = None


class Predictions(list[Any]):
    """A list of results, one for each image that could be read.

    Attributes:
        errors: for each file that could not be read, the sentence why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, str] = {}


def predict(
    model: nn.Module,
    source: Source,
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
    """What a model finds in one image, or in many.

    Args:
        model: called with images of their own sizes; it is run in eval mode, and its mode and device are restored.
        source: path of an image, folder (with its subfolders), pattern such as "photos/*.jpg", Pillow image, array
            [H, W] or [H, W, C], tensor [H, W] or [C, H, W] (uint8, 16 bits, or float in [0, 1]), bytes of an image
            file, a file open for reading bytes, a dataset, or a list of these.
        threshold: objects of lower score are left out. By default the score of the highest F1 on the validation
            images, which training saves with the model (`model.metadata["threshold"]`); 0.5 where there is none.
        classes: names of the classes to keep; None for all.
        batch_size: images looked at together.
        device: where to run; None for where the model is.
        progress: show a bar, where the error output is a terminal.
        tile: for segmenters: look at squares of so many pixels, which share `overlap`, instead of whole images; see
            `sightline.deploy.tiled.predict_tiled`, which also writes maps larger than memory.
        overlap: pixels that neighbouring tiles share; by default 64, or a quarter of a small tile.
        full_scale: of whole-number samples other than uint8, the value that stands for white, such as 4095 for a camera
            of 12 bits; by default that of the model's training images, else the smallest of 255, 1023, 4095, 16383 and
            65535 that holds the samples of these images (the log says which).

    Returns:
        For a single image its result, otherwise a list of results (`Predictions`) whose `.source` is the path as found
        ("image 3" for one in memory). Boxes are pixels of the image, upright as its EXIF orientation says. Files of a
        folder, pattern or list that cannot be read are left out with a warning, and listed in `.errors`.

    Raises:
        InputError: no image was found, the single one (or every one) cannot be read, or there is no such device.
    """
    items, single = find_images(source)
    if full_scale is None and isinstance(source, Dataset):
        full_scale = source.source.full_scale.stated
    found = Predictions()
    first: InputError | None = None
    for prediction in predict_each(
        model, items, threshold, batch_size, device, progress, tile, overlap, False, full_scale, classes
    ):
        if prediction.error is not None:
            found.errors[str(prediction.item.name)] = str(prediction.error)
            first = first or prediction.error
        else:
            found.append(prediction.result)
    require_some(found.errors, len(items), first)
    if found.errors:
        sentences = list(found.errors.values())
        more = f" (and {len(sentences) - 3} more)" if len(sentences) > 3 else ""
        warnings.warn(
            f"{len(sentences)} of {len(items)} images could not be read and are left out: "
            f"{'; '.join(sentences[:3])}{more}",
            stacklevel=2,
        )
    return found[0] if single else found


def predict_each(
    model: nn.Module,
    items: list[Item],
    threshold: float | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    lean: bool = False,
    full_scale: int | None = None,
    classes: Sequence[str] | None = None,
) -> Iterator[Prediction]:
    """One `Prediction` after the other, in the order of `items`; no more than three batches are in memory.

    Images are decoded by threads while the model works. See `predict` for the arguments; `lean` gives of tiled images
    the ids alone, an eighth of a `ClassMap`.
    """
    model = as_model(model)
    lowest = score_threshold(model, threshold)
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images at a time if in doubt")
    tile = None if tile is None else require_whole("tile", tile, 1, "image_side", "give a side such as 512")
    overlap = None if overlap is None else require_whole("overlap", overlap, 0, "image_side", "give 64 if in doubt")
    if tile is None and overlap is not None:
        raise InputError(f"overlap is {overlap}, but only tiles overlap; give the side of the tiles, such as tile=512")
    chosen = None if classes is None else class_ids(model, classes)
    if tile is not None and chosen is not None:
        raise InputError(NO_CLASSES)  # tiles are put together to class maps
    channels = model.in_channels
    scale = common_scale(items, full_scale if full_scale is not None else full_scale_of(model))
    if tile is not None:
        with running(model, device), progress_bar(len(items), "predicting", progress) as advance:
            for read in _read_ahead(items, channels, 1, scale, huge=True):
                yield read if read.image is None else _tiled(model, read, tile, overlap, batch_size, lean)
                advance(1)
        return
    with running(model, device) as place, progress_bar(len(items), "predicting", progress) as advance:
        for batch in _in_batches(_read_ahead(items, channels, 2 * batch_size, scale), batch_size):
            images = [p.image.to(place) for p in batch if p.image is not None]
            with torch.no_grad():  # not around the yield: the caller's code is none of its business
                answers = iter(model(images) if images else ())
            for read in batch:
                yield (
                    read if read.image is None else replace(read, result=_finished(next(answers), read, lowest, chosen))
                )
            advance(len(batch))


def _tiled(
    model: Model,
    read: Prediction,
    tile: int,
    overlap: int | None,
    batch_size: int,
    lean: bool,
) -> Prediction:
    from sightline.deploy.tiled import predict_tiled

    ids = predict_tiled(model, read.image, tile, overlap, batch_size=batch_size)
    if lean:
        return replace(read, ids=torch.from_numpy(ids if ids.dtype.itemsize == 1 else ids.astype("int32")))
    return replace(read, result=ClassMap(torch.from_numpy(ids.astype("int64")), model.classes, source=read.item.name))


def _read_ahead(
    items: list[Item], channels: int, ahead: int, full_scale: Scale, huge: bool = False
) -> Iterator[Prediction]:
    def read(item: Item) -> Prediction:
        try:
            with of_any_size() if huge else nullcontext():
                return Prediction(item, item.read(channels, full_scale))
        except InputError as error:
            return Prediction(item, error=error)

    waiting: deque[Future[Prediction]] = deque()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as readers:
        for item in items:
            waiting.append(readers.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _in_batches(predictions: Iterator[Prediction], size: int) -> Iterator[list[Prediction]]:
    batch: list[Prediction] = []
    for prediction in predictions:
        batch.append(prediction)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _finished(answer: Any, read: Prediction, threshold: float, classes: Tensor | None) -> Any:
    if hasattr(answer, "to"):
        answer = answer.to("cpu")
    return with_source(kept(answer, threshold, classes), read.item.name)


def score_threshold(model: Model, threshold: Any = None) -> float:
    """The score below which objects are left out: the one given, else the model's own, else 0.5.

    Raises:
        InputError: it is no number from 0 to 1.
    """
    if threshold is not None:
        return require_number("threshold", threshold, 0, 1, "give 0.5 if in doubt", "a score")
    stored = model.metadata.get("threshold")
    if stored is None:
        return USUAL_THRESHOLD
    return require_number(
        "the threshold saved with the model", stored, 0, 1, "give a threshold, such as 0.5", "a score"
    )


def class_ids(model: Model, names: Sequence[str]) -> Tensor:
    """[n] int64: the ids of classes by name.

    Raises:
        InputError: a name is none of the model's classes, or the model does not name its classes.
    """
    if not model.classes:
        raise InputError("the model does not name its classes, so none can be chosen; leave classes out")
    if not isinstance(names, Iterable):
        raise InputError(f"classes is {names!r}, but it must be names of classes, such as ['cat', 'dog']")
    chosen = [names] if isinstance(names, str) else list(names)
    return torch.tensor([model.classes.id(str(name)) for name in chosen], dtype=torch.int64)


def require_some(errors: dict[str, str], total: int, first: InputError | None) -> None:
    """Refuse where no image at all could be read; `first` is the first of the errors."""
    if first is not None and len(errors) == total:
        raise first if total == 1 else InputError(f"none of the {total} images can be read; the first: {first}")
