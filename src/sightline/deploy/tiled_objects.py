"""Predict the objects of large images tile by tile, and join them across the seams (`sightline.deploy.seams`)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.deploy.predictions import are_objects, filter_prediction
from sightline.deploy.seams import Part, Tile, join_parts
from sightline.deploy.tiled import TiledSource, require_tiles, tile_starts
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.ops.geometry import following, resize_target
from sightline.runtime.devices import running
from sightline.runtime.values import require_number, require_whole
from sightline.structures import Instances

LEAST_OVERLAP = 4
"""Minimum overlap in pixels: objects are recognised as one by their parts inside the overlap."""


@torch.no_grad()
def predict_tiled_objects(
    model: nn.Module,
    image: Any,
    tile: int = 512,
    overlap: int | None = None,
    *,
    whole_image: bool = True,
    threshold: float = 0.5,
    classes: Tensor | None = None,
    batch_size: int = 4,
    device: torch.device | str | None = None,
    full_scale: int | None = None,
) -> Instances:
    """Predict the objects of an image of any size.

    Args:
        model: a model whose results are objects in the image: boxes, masks, keypoints.
        image: see `sightline.deploy.tiled.TiledSource`; a .npy file or a memory map is read part by part.
        tile: side of the square tiles, in pixels.
        overlap: minimum number of pixels shared by neighbouring tiles, best the size of usual objects; by default 64,
            or a quarter of a small tile.
        whole_image: also predict the whole image, resized to a tile, to find objects larger than a tile. Of its objects
            those are kept that no tile shows better and that are larger than the overlap.
        threshold: minimum score of objects, in each tile.
        classes: [n] int64, the ids of the classes to keep; None for all.
        batch_size: tiles per batch.
        device: where the model runs; None for the device it is on.
        full_scale: as for `sightline.predict`.

    Returns:
        The objects in pixels of the image, on the CPU, by descending score. Masks are [N, H, W] of the whole image.

    Raises:
        InputError: the arguments do not fit together, the image cannot be read, or the model predicts something else.
    """
    model = as_model(model)
    tile, overlap = require_tiles(tile, overlap, LEAST_OVERLAP)
    threshold = require_number("threshold", threshold, 0, 1, "give 0.5 if in doubt", "a score")
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give at least 1 tile per batch")
    source = TiledSource(image, model.in_channels, full_scale)
    height, width = source.size
    tiles = [
        Tile(top, left, min(top + tile, height), min(left + tile, width))
        for top in tile_starts(height, tile, overlap)
        for left in tile_starts(width, tile, overlap)
    ]
    parts: list[Part] = []
    with running(model, device) as place:
        for start in range(0, len(tiles), batch_size):
            chosen = tiles[start : start + batch_size]
            results = model([source.read(one).to(place) for one in chosen])
            for one, result in zip(chosen, results, strict=True):
                require_joinable(result, model)
                parts.append(Part(one, filter_prediction(result.to("cpu"), threshold, classes)))
        if whole_image and len(tiles) > 1:
            parts.append(_whole(model, source, tile, threshold, classes, place))
    joined = join_parts(parts, source.size, overlap)
    joined.source = source.name
    return joined


def require_joinable(result: Any, model: Model) -> None:
    """Check that the results of tiles can be joined.

    Raises:
        InputError: they cannot.
    """
    if not are_objects(result) or "boxes" not in result:
        raise InputError(
            f"{model.title} predicts {type(result).__name__}, but tiles can be joined only for objects with boxes and "
            "for class maps with probabilities; predict whole images with it"
        )
    whole = [row.name for row, geometry, _ in following(result) if geometry.in_scene or row.name == "relations"]
    if whole:
        raise InputError(
            f"{model.title} predicts {whole[0]}, which depend on the whole image; predict whole images with it"
        )


def _whole(
    model: Model, source: TiledSource, tile: int, threshold: float, classes: Tensor | None, place: torch.device
) -> Part:
    """The objects of the whole image, predicted at the size of a tile."""
    height, width = source.size
    everything = Tile(0, 0, height, width)
    image = source.read(everything)
    factor = min(1.0, tile / max(height, width))
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    pixels = F.interpolate(image[None].float(), small, mode="bilinear", antialias=True, align_corners=False)[0]
    pixels = pixels.round().clamp(0, 255).to(torch.uint8) if image.dtype == torch.uint8 else pixels.clamp(0, 1)
    (result,) = model([pixels.to(place)])
    result = filter_prediction(result.to("cpu"), threshold, classes)
    scale = (width / small[1], height / small[0])
    return Part(everything, resize_target(result, scale, source.size), coarse=True)
