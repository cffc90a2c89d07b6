"""Predict class maps of images larger than memory: tile by tile, with overlap, blended.

The network sees nothing outside a tile, so its predictions near the border are less reliable. Where tiles overlap,
their probabilities are blended: the quarter of the shared pixels next to a tile's border has weight zero, then the
weight rises like a cosine. The result equals that of the whole image if no prediction depends on pixels further away
than a quarter of the overlap, the positions of the tiles are multiples of the network's stride, and the model takes
images at their own size. (A model that resizes to a `min_size` resizes each tile: choose tiles of about that size.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from sightline.data.arrays import image_tensor
from sightline.data.facts import full_scale_of
from sightline.data.full_scale import Scale
from sightline.data.images import channels_last, from_pil, read_image
from sightline.data.room import unlimited_size
from sightline.deploy.predictions import class_probabilities
from sightline.deploy.seams import Tile
from sightline.deploy.sources import Item, common_scale
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.runtime import reading
from sightline.runtime.devices import running
from sightline.runtime.values import require_whole
from sightline.structures import Size, View

NOT_TILED = (
    "tiles are blended by the probability of each class at each pixel, which this model does not predict; predict "
    "whole images with it"
)


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Start positions of tiles: each overlaps the next by `overlap`; the last ends with the image."""
    return [*range(0, max(length - tile, 0), tile - overlap), max(length - tile, 0)]


def require_tiles(tile: Any, overlap: Any, least: int = 0) -> tuple[int, int]:
    """The side and the overlap of tiles, by default 64 or a quarter of a small tile.

    Args:
        tile, overlap: as given by the user.
        least: the smallest overlap.

    Raises:
        InputError: they are not whole numbers of pixels, or do not fit together.
    """
    tile = require_whole("tile", tile, 1, "image_side", "a tile is at least 1 pixel wide; give a side such as 512")
    if overlap is None:
        overlap = max(least, min(64, tile // 4))
    overlap = require_whole("overlap", overlap, least, "image_side", "give 64 if in doubt")
    if not 0 <= 2 * overlap <= tile:
        raise InputError(f"tiles of {tile} pixels cannot overlap by {overlap}; use at most half, such as 64 of 512")
    return tile, overlap


def window(length: int, overlap_before: int, overlap_after: int) -> Tensor:
    """Weights [length]: rising over the pixels shared with the previous tile, 1, falling over those with the next.

    The weights of two tiles add up to 1 if both have the same overlap.
    """
    weights = torch.ones(length)
    for shared, at_end in ((overlap_before, False), (overlap_after, True)):
        margin = shared // 4
        rising = shared - 2 * margin
        ramp = torch.ones(shared)
        ramp[:margin] = 0
        ramp[margin : margin + rising] = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(rising) + 0.5) / max(rising, 1))
        if at_end:
            weights[length - shared :] *= ramp.flip(0)
        else:
            weights[:shared] *= ramp
    return weights


class TiledSource:
    """An image that is read in parts.

    Args:
        image: a path (a .npy file [H, W], [H, W, C] or [C, H, W] is memory-mapped; other files are decoded as a whole,
            with 1 byte per sample), a Pillow image, an array (or memory map) [H, W] or [H, W, C] of uint8, or a tensor
            [C, H, W].
        channels: number of channels of the parts.
        full_scale: value of white for integers other than uint8; by default estimated from the whole image.
    """

    def __init__(self, image: Any, channels: int = 3, full_scale: int | None = None):
        self.channels = channels
        self.full_scale: Scale = full_scale
        self.name: str | None = None
        self._image: Any = image
        if isinstance(image, str | os.PathLike):
            self.name = os.fspath(image)
            if self.name.lower().endswith(".npy"):
                self._image = channels_last(reading.read_array(self.name, mapped=True), self.name)
            else:
                scale = common_scale([Item(self.name, Path(self.name))], full_scale)
                with unlimited_size():
                    self._image = read_image(self.name, channels, full_scale=scale)
        if isinstance(self._image, Image.Image):
            self._image = ImageOps.exif_transpose(self._image)  # upright, like whole images
            self.size: Size = (self._image.height, self._image.width)
        elif isinstance(self._image, Tensor):
            self.size = (int(self._image.shape[-2]), int(self._image.shape[-1]))
        elif isinstance(self._image, np.ndarray) and self._image.ndim in (2, 3):
            self.size = (int(self._image.shape[0]), int(self._image.shape[1]))
        else:
            raise InputError(
                f"an image cannot be a {type(image).__name__}; give a path, a Pillow image, an array or a tensor"
            )

        self.full_scale = common_scale([Item(self.name, self._image)], full_scale)

    def read(self, tile: Tile) -> Tensor:
        """Read a tile: [channels, h, w], uint8 or float in [0, 1]."""
        rows, columns = slice(tile.top, tile.bottom), slice(tile.left, tile.right)
        part: Any
        if isinstance(self._image, Image.Image):
            crop = self._image.crop((tile.left, tile.top, tile.right, tile.bottom))
            return from_pil(crop, self.channels, self.full_scale)
        if isinstance(self._image, View):
            part = self._image.cropped(tile.left, tile.top, tile.right, tile.bottom)
        elif isinstance(self._image, Tensor):
            part = self._image[..., rows, columns]
        else:
            part = np.array(self._image[rows, columns])
        return image_tensor(part, self.channels, self.name or "the image", self.full_scale)


@torch.no_grad()
def predict_tiled(
    model: nn.Module,
    image: Any,
    tile: int = 512,
    overlap: int | None = None,
    *,
    out: str | os.PathLike[str] | np.ndarray | None = None,
    batch_size: int = 4,
    device: torch.device | str | None = None,
    full_scale: int | None = None,
) -> np.ndarray:
    """Predict the class of every pixel of an image of any size.

    Memory holds the probabilities of one row of tiles, [K, tile, W] float32, and the ids, unless `out` is a memory map.

    Args:
        model: a segmentation model; its class maps must have probabilities.
        image: see `TiledSource`; a .npy file or a memory map is read part by part.
        tile: side of the square tiles, in pixels.
        overlap: minimum number of pixels shared by neighbouring tiles; by default 64, or a quarter of a small tile.
        out: where the ids are written: a file ending in .npy (written as a memory map) or .png (a palette image), or an
            array [H, W] of uint8 (uint16 for more than 256 classes) to fill.
        batch_size: tiles per batch.
        device: where the model runs; None for the device it is on.
        full_scale: value of white for integers other than uint8; by default that of the model's training images, else
            estimated.

    Returns:
        The ids [H, W], uint8, or uint16 for more than 256 classes; the memory map, or the given array.

    Raises:
        InputError: the arguments do not fit together, the image cannot be read, or the model predicts no class maps.
    """
    model = as_model(model)
    tile, overlap = require_tiles(tile, overlap)
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give at least 1 tile per batch")
    scale = full_scale if full_scale is not None else full_scale_of(model)
    source = TiledSource(image, model.in_channels, scale)
    classes = len(model.classes)
    if not classes:
        raise InputError(NOT_TILED)
    _require_target(out, source.size, classes)
    ids: np.ndarray | None = None
    with running(model, device) as place:
        for top, bottom, labels in _rows(model, source, tile, overlap, batch_size, classes, place):
            if ids is None:  # created late, so that a model that cannot be tiled leaves no file
                ids = _target(out, source.size, classes)
            ids[top:bottom] = labels.numpy().astype(ids.dtype)
    assert ids is not None
    if isinstance(ids, np.memmap):
        ids.flush()
    if isinstance(out, str | os.PathLike) and os.fspath(out).lower().endswith(".png"):
        from sightline.data.formats.semantic_write import palette_image

        (palette_image(ids, classes) if ids.dtype == np.uint8 else Image.fromarray(ids)).save(out)
    return ids


def _require_target(out: Any, size: Size, classes: int) -> None:
    """Check that an array can hold the ids, or that a file can be written."""
    if out is None:
        return
    if isinstance(out, np.ndarray):
        if out.shape != size or out.dtype.kind not in "iu" or np.iinfo(out.dtype).max < classes - 1:
            needed = _dtype(classes).__name__
            raise InputError(f"out is {list(out.shape)} of {out.dtype}, but {list(size)} of {needed} is needed")
        return
    path = Path(out)
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first")
    if path.suffix.lower() not in (".npy", ".png"):
        raise InputError(f"{path}: class maps are written as .npy or .png; use one of these suffixes")


def _target(out: Any, size: Size, classes: int) -> np.ndarray:
    if isinstance(out, np.ndarray):
        return out
    if out is not None and Path(out).suffix.lower() == ".npy":
        return np.lib.format.open_memmap(Path(out), mode="w+", dtype=_dtype(classes), shape=size)
    return np.empty(size, _dtype(classes))


def _dtype(classes: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if classes <= 256 else np.uint16


def _rows(
    model: Model, source: TiledSource, tile: int, overlap: int, batch_size: int, classes: int, place: torch.device
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield finished rows of the image with their ids: those that no further row of tiles changes."""
    height, width = source.size
    tops, lefts = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    carried = torch.zeros(classes, 0, width)  # probabilities of the rows shared with the next tiles
    for k, top in enumerate(tops):
        bottom = min(top + tile, height)
        shared = _shared(tops, k, tile)
        down = window(bottom - top, *shared)
        strip = torch.zeros(classes, bottom - top, width)
        for start in range(0, len(lefts), batch_size):
            chosen = range(start, min(start + batch_size, len(lefts)))
            tiles = [Tile(top, lefts[n], bottom, min(lefts[n] + tile, width)) for n in chosen]
            predictions = model([source.read(one).to(place) for one in tiles])
            for n, one, prediction in zip(chosen, tiles, predictions, strict=True):
                scores = class_probabilities(prediction)
                if scores is None:
                    raise InputError(NOT_TILED)
                across = window(one.right - one.left, *_shared(lefts, n, tile))
                strip[:, :, one.left : one.right] += scores.cpu().float() * across
        strip *= down[:, None]
        strip[:, : carried.shape[1]] += carried
        end = tops[k + 1] if k + 1 < len(tops) else bottom
        yield top, end, strip[:, : end - top].argmax(0)
        carried = strip[:, end - top :].clone()


def _shared(starts: list[int], k: int, tile: int) -> tuple[int, int]:
    """The number of pixels that tile k shares with the previous and the next one."""
    before = starts[k - 1] + tile - starts[k] if k else 0
    return before, starts[k] + tile - starts[k + 1] if k + 1 < len(starts) else 0
