"""Predict images, folders or patterns: read ahead in threads, predict in batches, return results in order."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.data.dataset import Dataset
from sightline.data.facts import full_scale_of
from sightline.data.full_scale import Scale
from sightline.data.images import part_name, unread_pages
from sightline.data.room import unlimited_size
from sightline.deploy.cameras import GivenCamera, with_given_cameras
from sightline.deploy.predictions import NO_CLASSES, are_objects, filter_prediction, with_source
from sightline.deploy.sources import Item, Source, common_scale, find_images
from sightline.deploy.thresholds import class_ids, score_threshold
from sightline.errors import InputError
from sightline.interop.data_frames import to_pandas
from sightline.models.model import Model, as_model
from sightline.progress import progress_bar
from sightline.runtime.devices import running
from sightline.runtime.reading_ahead import read_ahead
from sightline.runtime.values import require_whole
from sightline.structures import ClassMap
from sightline.structures.tabular import html_of
from sightline.words import counted, shown

log = logging.getLogger("sightline")


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        item: where the image came from.
        image: [C, H, W]; None if it could not be read.
        result: the result, on the CPU; None if the image could not be read.
        error: why the image could not be read.
        ids: [H, W] uint8 or int32: the ids of a class map, in place of the result if only these were requested.
    """

    item: Item
    image: Tensor | None = None
    result: Any = None
    error: InputError | None = None
    ids: Tensor | None = None


class Predictions(list[Any]):
    """A list of results, one per image that could be read.

    Attributes:
        errors: for each file that could not be read, the reason in one sentence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, str] = {}

    def to_pandas(self) -> Any:
        """One data frame of all results; see `sightline.interop.to_pandas`."""
        return to_pandas(self)

    _repr_html_ = html_of


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
    whole_image: bool = True,
    full_scale: int | None = None,
    camera: GivenCamera | None = None,
) -> Any:
    """Predict one image or several.

    Args:
        model: a model that takes images of different sizes. It runs in eval mode; its mode and device are restored.
        source: path of an image, folder (including subfolders), pattern such as "photos/*.jpg", Pillow image, array
            [H, W] or [H, W, C], tensor [H, W] or [C, H, W] (uint8, 16 bits, or float in [0, 1]), bytes of an image
            file, a file opened for reading bytes, a dataset, or a list of these.
        threshold: minimum score of objects. By default the score of the highest F1 on the validation images, which
            training saves with the model (`model.metadata["threshold"]`), else 0.5.
        classes: names of the classes to keep; None for all.
        batch_size: images per batch.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.
        tile: for class maps and objects: predict in square tiles of this many pixels instead of whole images; see
            `sightline.deploy.tiled.predict_tiled`, which can also write maps larger than memory, and
            `sightline.deploy.tiled_objects.predict_tiled_objects`.
        overlap: pixels shared by neighbouring tiles; by default 64, or a quarter of a small tile.
        whole_image: with tiles, also predict the whole image, to find objects larger than a tile.
        full_scale: for integer samples other than uint8, the value of white, such as 4095 for a 12-bit camera; by
            default that of the model's training images, else the smallest of 255, 1023, 4095, 16383 and 65535 that is
            not exceeded by these images (it is logged).
        camera: for models that use cameras, that of the images; see `sightline.deploy.cameras.with_given_cameras`. By
            default that of the dataset, if it has one, else an assumed one.

    Returns:
        The result for a single image; otherwise a list of results (`Predictions`). Their `.source` is the path of the
        image ("image 3" for one in memory). Boxes are in pixels of the image, oriented upright according to its EXIF
        data. Files of a folder, pattern or list that cannot be read are skipped with a warning and listed in
        `.errors`.

    Raises:
        InputError: no image was found, the single one (or every one) cannot be read, or the device does not exist.
    """
    items, single = find_images(source)
    items = with_given_cameras(items, camera, as_model(model))
    if full_scale is None and isinstance(source, Dataset):
        full_scale = source.source.full_scale.stated
    found = Predictions()
    first: InputError | None = None
    for prediction in predict_each(
        model, items, threshold, batch_size, device, progress, tile, overlap, False, full_scale, classes, whole_image
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
    ids_only: bool = False,
    full_scale: int | None = None,
    classes: Sequence[str] | None = None,
    whole_image: bool = True,
) -> Iterator[Prediction]:
    """Yield one `Prediction` per item, in the order of `items`; at most three batches are in memory.

    Images are decoded in threads while the model runs. The arguments are those of `predict`; with `ids_only`, tiled
    images give only their ids, an eighth of the size of a `ClassMap`.
    """
    model = as_model(model)
    lowest = score_threshold(model, threshold)
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images per batch if in doubt")
    tile = None if tile is None else require_whole("tile", tile, 1, "image_side", "give a side such as 512")
    overlap = None if overlap is None else require_whole("overlap", overlap, 0, "image_side", "give 64 if in doubt")
    require_tile(tile, overlap, whole_image)
    chosen = None if classes is None else class_ids(model, classes)
    channels = model.in_channels
    scale = common_scale(items, full_scale if full_scale is not None else full_scale_of(model))
    if tile is not None:
        tiler = _Tiler(model, tile, overlap, batch_size, ids_only, whole_image, lowest, chosen)
        with running(model, device), progress_bar(len(items), "predicting", progress) as advance:
            for read in _read_ahead(items, channels, 1, scale, huge=True):
                yield read if read.image is None else tiler(read)
                advance(1)
        return
    waiting = _read_ahead(items, channels, 2 * batch_size, scale, with_cameras=model.takes_cameras)
    with running(model, device) as place, progress_bar(len(items), "predicting", progress) as advance:
        for batch in _in_batches(waiting, batch_size):
            images = [p.image.to(place) for p in batch if p.image is not None]
            with torch.no_grad():  # not around the yield: it must not affect the caller's code
                results = iter(_results_of(model, images) if images else ())
            for read in batch:
                yield (
                    read if read.image is None else replace(read, result=_finished(next(results), read, lowest, chosen))
                )
            advance(len(batch))


def require_tile(tile: int | None, overlap: int | None, whole_image: bool) -> None:
    """Refuse arguments that only tiles have.

    Raises:
        InputError: there are no tiles, but an overlap, or images that are not to be predicted as a whole.
    """
    if tile is None and overlap is not None:
        raise InputError(f"overlap is {overlap}, but only tiles overlap; give the side of the tiles, such as tile=512")
    if tile is None and not whole_image:
        raise InputError("without tiles, only whole images are predicted; give the side of the tiles, such as tile=512")


@dataclass
class _Tiler:
    """Predicts images in tiles. The first tile shows whether the model predicts objects or class maps."""

    model: Model
    tile: int
    overlap: int | None
    batch_size: int
    ids_only: bool
    whole_image: bool
    threshold: float
    classes: Tensor | None
    objects: bool | None = None

    def __call__(self, read: Prediction) -> Prediction:
        from sightline.deploy.tiled import predict_tiled
        from sightline.deploy.tiled_objects import predict_tiled_objects

        assert read.image is not None, "images that cannot be read are not predicted"
        if self.objects is None:
            self.objects = are_objects(self._first(read.image))
        if self.objects:
            found = predict_tiled_objects(
                self.model,
                read.image,
                self.tile,
                self.overlap,
                whole_image=self.whole_image,
                threshold=self.threshold,
                classes=self.classes,
                batch_size=self.batch_size,
            )
            return replace(read, result=with_source(found, read.item.name))
        if self.classes is not None:
            raise InputError(NO_CLASSES)
        ids = predict_tiled(self.model, read.image, self.tile, self.overlap, batch_size=self.batch_size)
        if self.ids_only:
            return replace(read, ids=torch.from_numpy(ids if ids.dtype.itemsize == 1 else ids.astype("int32")))
        known = ClassMap(torch.from_numpy(ids.astype("int64")), self.model.classes, source=read.item.name)
        return replace(read, result=known)

    @torch.no_grad()
    def _first(self, image: Tensor) -> Any:
        device = next((parameter.device for parameter in self.model.parameters()), image.device)
        return self.model([image[..., : self.tile, : self.tile].to(device)])[0]


def _results_of(model: Model, images: list[Tensor]) -> Any:
    """The model's results; an error of a plain module that takes or returns batches says what is expected."""
    if isinstance(model, Model):
        return model(images)
    expected = (
        f"{type(model).__name__} must take a list of images [C, H, W] and return a list of results, one per image, "
        "such as ClassScores; wrap its forward, or subclass a model of sightline.models"
    )
    try:
        results = model(images)
    except (TypeError, AttributeError) as error:
        if "list" not in str(error):  # an error of its own
            raise
        raise InputError(f"{expected} ({' '.join(str(error).split())[:100]})") from error
    if isinstance(results, Tensor) or not isinstance(results, Iterable):
        raise InputError(f"{expected}; it returned a {type(results).__name__}")
    return results


def _read_ahead(
    items: list[Item],
    channels: int,
    ahead: int,
    full_scale: Scale,
    huge: bool = False,
    with_cameras: bool = False,
) -> Iterator[Prediction]:
    def read(item: Item) -> Prediction:
        try:
            with unlimited_size() if huge else nullcontext():
                return Prediction(item, item.read(channels, full_scale, with_cameras))
        except InputError as error:
            return Prediction(item, error=error)

    told = False
    for one in read_ahead(read, items, min(4, os.cpu_count() or 1), ahead):
        path = one.item.image
        if not told and one.image is not None and isinstance(path, Path) and (further := _further_pages(path)):
            told = True
            log.warning(
                "%s has %s, of which only the first is predicted (as in all such files); save the others as files of "
                "their own",
                shown(str(path)),
                counted(further + 1, part_name(path)),
            )
        yield one


def _further_pages(path: Path) -> int:
    """The pages or frames of a file whose first one has been read, whatever its size; 0 if the others are damaged."""
    try:
        with unlimited_size():
            return unread_pages(path)
    except InputError:
        return 0


def _in_batches(predictions: Iterator[Prediction], size: int) -> Iterator[list[Prediction]]:
    batch: list[Prediction] = []
    for prediction in predictions:
        batch.append(prediction)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _finished(result: Any, read: Prediction, threshold: float, classes: Tensor | None) -> Any:
    if hasattr(result, "to"):
        result = result.to("cpu")
    return with_source(filter_prediction(result, threshold, classes), read.item.name)


def require_some(errors: dict[str, str], total: int, first: InputError | None) -> None:
    """Raise an error if no image could be read; `first` is the first of the errors."""
    if first is not None and len(errors) == total:
        raise first if total == 1 else InputError(f"none of the {total} images can be read; the first: {first}")
