"""Walls of pictures that show the inside of a model: activations, filters, and the patches that activate a channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.explain.activations import Activations
from sightline.explain.filters import Filters
from sightline.explain.patches import ChannelPatches, require_channels
from sightline.report.canvas import heading, side_by_side, titled
from sightline.report.pictures import as_picture, scaled_to
from sightline.runtime.values import require_whole
from sightline.words import counted

_OUTSIDE = (128, 128, 128)
"""Colour of the part of a patch outside of the image."""
_CAPTION = 12
"""Font size of the captions of a wall's rows, in pixels."""


def activation_wall(
    found: Activations,
    image: Any = None,
    *,
    channels: Sequence[int] | None = None,
    count: int = 47,
    columns: int = 8,
    size: int = 128,
) -> Image.Image:
    """Draw the maps of a layer, the strongest channels first, each with its channel, minimum and maximum.

    The title says the layer, how many of its channels are drawn, and the rows and columns of a map.

    Each map has its own colour scale (viridis) from its minimum to its maximum.

    Args:
        found: the activations.
        image: the image, drawn first; None to leave it out.
        channels: the channels to draw; by default the `count` strongest.
        count: maximum number of channels if `channels` is None.
        columns: number of maps per row.
        size: longer side of each map, in pixels.
    """
    count, columns, size = _checked(count, columns, size)
    chosen = found.strongest(count) if channels is None else require_channels(channels, len(found.maps))
    x1, y1, x2, y2 = found.covered
    scale = size / max(x2 - x1, y2 - y1)
    shape = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    pictures = []
    if image is not None:
        part = cut(as_picture(image), found.covered)
        pictures.append(heading(part.resize(shape, Image.Resampling.LANCZOS), "image", 2))
    for channel in chosen:
        values = found.maps[channel].numpy()
        low, high = float(values.min()), float(values.max())
        shown = Image.fromarray(_coloured((values - low) / (high - low) if high > low else np.zeros_like(values)))
        pictures.append(heading(shown.resize(shape, Image.Resampling.NEAREST), f"{channel}: {low:.3g} … {high:.3g}", 2))
    total, rows, cells = found.maps.shape
    title = f"{found.layer}: {_of(len(chosen), total)} channels, {rows}×{cells} cells"
    return titled(side_by_side(pictures, columns), title)


def filter_wall(
    found: Filters, *, count: int | None = None, columns: int | None = None, size: int | None = None
) -> Image.Image:
    """Draw the filters of a convolution, enlarged without blurring. The title says the layer and what is drawn.

    Filters of three channels that see the pixels are drawn in colour: grey is 0, and each filter is scaled by its
    largest weight. Of other filters each channel is a grey picture, one row per filter.

    Args:
        found: the filters.
        count: maximum number of filters; by default 256 in colour, and 32 others.
        columns: pictures per row; by default twice as many as rows, or the channels of a filter (at most 16).
        size: longer side of each picture, in pixels; by default 64 in colour, and 32 otherwise.
    """
    coloured = found.of_pixels and found.weights.shape[1] == 3
    most, side = (256, 64) if coloured else (32, 32)
    count, _, size = _checked(most if count is None else count, columns or 1, side if size is None else size)
    weights = found.weights[:count].numpy()
    peak = np.abs(weights).max((1, 2, 3), keepdims=True)
    pixels = np.rint((weights / np.where(peak > 0, peak, 1) * 0.5 + 0.5) * 255).astype(np.uint8)
    if coloured:
        columns, what = columns or math.ceil(math.sqrt(2 * len(pixels))), "in colour"
        tiles = [Image.fromarray(np.ascontiguousarray(tile.transpose(1, 2, 0))) for tile in pixels]
    else:
        columns = columns or min(16, pixels.shape[1])
        what = f"a row each: {_of(min(columns, pixels.shape[1]), pixels.shape[1])} channels"
        tiles = [Image.fromarray(channel).convert("RGB") for tile in pixels for channel in tile[:columns]]
    height, width = pixels.shape[-2:]
    title = f"{found.layer}: {_of(len(pixels), len(found.weights))} filters of {height}×{width}, {what}; grey is 0"
    return titled(side_by_side([_enlarged(tile, size) for tile in tiles], columns, gap=2), title)


def patch_wall(found: ChannelPatches, data: Any, *, size: int = 96) -> Image.Image:
    """Draw the patches of each channel in a row, the strongest first; parts outside of the image are grey.

    Args:
        found: the patches.
        data: the data set that they were found in.
        size: length of each patch's sides, in pixels.
    """
    size = require_whole("size", size, 1, "image_side")
    rows = []
    for channel, patches in found.patches.items():
        tiles = [cut_out(data.image(patch.image), patch.box, size) for patch in patches]
        strongest = patches[0].value
        caption = f"channel {channel}: at most {strongest:.3g}"
        rows.append(titled(side_by_side(tiles, len(tiles), gap=4), caption, _CAPTION))
    title = f"{found.layer}: where channels are most active in {counted(found.images)}"
    return titled(side_by_side(rows, 1), title)


def cut_out(image: Any, box: Sequence[float], size: int) -> Image.Image:
    """Cut a box (x1, y1, x2, y2) in pixels out of an image, and fit it into a square; the rest is grey."""
    shown = scaled_to(cut(as_picture(image), box), size)
    out = Image.new("RGB", (size, size), _OUTSIDE)
    out.paste(shown, ((size - shown.width) // 2, (size - shown.height) // 2))
    return out


def cut(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """The pixels that a box (x1, y1, x2, y2) touches, as a new image; grey outside of the picture."""
    x1, y1, x2, y2 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    out = Image.new("RGB", (max(1, x2 - x1), max(1, y2 - y1)), _OUTSIDE)
    left, top, right, bottom = max(0, x1), max(0, y1), min(picture.width, x2), min(picture.height, y2)
    if left < right and top < bottom:
        out.paste(picture.crop((left, top, right, bottom)), (left - x1, top - y1))
    return out


def _of(shown: int, every: int) -> str:
    return str(every) if shown == every else f"{shown} of {every}"


def _coloured(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values [h, w] in [0, 1] as colours [h, w, 3]."""
    from matplotlib import colormaps

    return (colormaps["viridis"](values)[..., :3] * 255).round().astype(np.uint8)


def _enlarged(tile: Image.Image, size: int) -> Image.Image:
    scale = max(1, size // max(tile.size))
    return tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)


def _checked(count: int, columns: int, size: int) -> tuple[int, int, int]:
    return (
        require_whole("count", count, 1, "count"),
        require_whole("columns", columns, 1, "count"),
        require_whole("size", size, 1, "image_side"),
    )
