"""Draw a latent space: thumbnails at their points, as a picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sightline.explain.latent import LatentSpace
from sightline.report.colours import Colour, class_colour, text_on
from sightline.report.fonts import drawable, font_for
from sightline.report.inside import cut_out
from sightline.report.style import INK, PAPER
from sightline.runtime.values import require_whole

UNLABELLED: Colour = (150, 150, 150)
"""Colour of points without a class."""
_MARGIN = 0.1
"""Pixels around an object in its thumbnail, as a fraction of the box."""


def latent_picture(
    found: LatentSpace, data: Any, *, size: int = 1400, thumbnail: int = 48, small: list[Image.Image] | None = None
) -> Image.Image:
    """Draw the points as thumbnails with frames in the colours of their classes, and a legend below.

    Where thumbnails would overlap, only the first is drawn, and a dot in the colour of the class for each other one.

    Args:
        found: the latent space.
        data: the data set that it was made from.
        size: width of the picture in pixels, and its maximum height without the legend.
        thumbnail: length of a thumbnail's sides, in pixels.
        small: thumbnails that `thumbnails` returned, to avoid reading the images twice.
    """
    size, thumbnail = require_whole("size", size, 64, "image_side"), require_whole("thumbnail", thumbnail, 4, 512)
    tiles = thumbnails(found, data, thumbnail) if small is None else small
    half, frame, dot = thumbnail // 2 + 2, 2, 4
    places, height = _spread(found.points, size, half + frame)
    picture = Image.new("RGB", (size, height), PAPER)
    pen = ImageDraw.Draw(picture)
    drawn: list[int] = []
    for i, (x, y) in enumerate(places.tolist()):
        if any(max(abs(x - places[j, 0]), abs(y - places[j, 1])) < 2 * half for j in drawn):
            pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour_of(found, i), outline=PAPER)
            continue
        drawn.append(i)
    for i in drawn:
        x, y = (round(v) for v in places[i].tolist())
        pen.rectangle((x - half, y - half, x + half - 1, y + half - 1), fill=colour_of(found, i))
        picture.paste(tiles[i].resize((2 * half - 4, 2 * half - 4)), (x - half + frame, y - half + frame))
    return _with_legend(picture, found)


def thumbnails(found: LatentSpace, data: Any, size: int) -> list[Image.Image]:
    """A square picture of each point: the image, or the object with a margin."""
    tiles: list[Image.Image] = []
    last, image = -1, None
    for i, row in enumerate(found.images.tolist()):
        if row != last or image is None:
            last, image = row, data.image(row)
        if found.boxes is None:
            tiles.append(cut_out(image, (0, 0, image.shape[-1], image.shape[-2]), size))
            continue
        x1, y1, x2, y2 = found.boxes[i].tolist()
        more_x, more_y = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
        tiles.append(cut_out(image, (x1 - more_x, y1 - more_y, x2 + more_x, y2 + more_y), size))
    return tiles


def colour_of(found: LatentSpace, i: int) -> Colour:
    """The colour of a point's class."""
    label = int(found.labels[i])
    return class_colour(label) if label >= 0 else UNLABELLED


def classes_in(found: LatentSpace) -> list[tuple[str, Colour, int]]:
    """The classes that points have: name ("" for none), colour and number of points, in the order of their ids."""
    ids, counts = np.unique(found.labels, return_counts=True)
    return [
        (found.classes[i] if i >= 0 else "", class_colour(i) if i >= 0 else UNLABELLED, count)
        for i, count in zip(ids.tolist(), counts.tolist(), strict=True)
    ]


def axes_in_words(found: LatentSpace) -> str:
    """What the axes are."""
    if found.explained is None:
        return f"t-SNE of {found.layer}: neighbours are alike; distances between groups mean little"
    first, second = (f"{100 * share:.0f} %" for share in found.explained)
    return f"principal components of {found.layer}: {first} and {second} of the variance"


def _spread(points: NDArray[np.float64], size: int, margin: int) -> tuple[NDArray[np.float64], int]:
    """Points [N, 2] scaled alike on both axes into a picture of this width, with y upwards; and its height."""
    low, high = points.min(0), points.max(0)
    across, up = np.maximum(high - low, 1e-12).tolist()
    room = size - 2 * margin
    scale = room / max(across, up)
    height = math.ceil(scale * up) + 2 * margin
    centred = (points - (low + high) / 2) * scale
    return np.stack([size / 2 + centred[:, 0], height / 2 - centred[:, 1]], 1), height


def _with_legend(picture: Image.Image, found: LatentSpace) -> Image.Image:
    size = max(12, picture.width // 70)
    line = round(1.6 * size)
    entries = [(f"{name or 'without a class'} ({count})", colour) for name, colour, count in classes_in(found)]
    rows: list[list[tuple[str, Colour, float]]] = [[]]
    x = 0.0
    pen = ImageDraw.Draw(picture)
    for text, colour in entries:
        text = drawable(text)
        width = pen.textlength(text, font=font_for(text, size)) + 1.5 * size
        if x + width > picture.width and rows[-1]:
            rows.append([])
            x = 0.0
        rows[-1].append((text, colour, x))
        x += width
    out = Image.new("RGB", (picture.width, picture.height + math.ceil(line * (len(rows) + 1.3))), PAPER)
    out.paste(picture)
    pen = ImageDraw.Draw(out)
    top = picture.height + line * 0.4
    title = drawable(axes_in_words(found))
    pen.text((size * 0.5, top), title, fill=INK, font=font_for(title, size))
    for number, row in enumerate(rows):
        y = top + line * (number + 1)
        for text, colour, x in row:
            font = font_for(text, size)
            left = x + size * 0.5
            pen.rectangle((left - 2, y - 2, left + pen.textlength(text, font=font) + 2, y + size * 1.2), fill=colour)
            pen.text((left, y), text, fill=text_on(colour), font=font)
    return out
