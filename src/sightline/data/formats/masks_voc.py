"""Pascal VOC's images of objects and of their classes, as palette indices or as colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sightline.data.formats.voc_lists import colour, is_comment, read_list
from sightline.data.images import read_image, read_map
from sightline.data.map_values import Colour, MapValues
from sightline.errors import InputError
from sightline.structures import BACKGROUND, IGNORE

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
"""Names of the folders."""
NAMES: tuple[str, ...] = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow")
NAMES += ("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
_UNDECIDED = 255
_BY_COLOUR = {colour(k): k for k in range(256)}
_BORDER = (224, 224, 192)  # the colour of 255


def labelmap(root: Path) -> dict[str, Colour]:
    """Colours by class name, from labelmap.txt ("name:r,g,b:parts:actions" per line); empty without this file."""
    file = root / "labelmap.txt"
    colours: dict[str, Colour] = {}
    for line in read_list(file) if file.is_file() else []:
        name, *rest = line.rsplit(":", 3)
        if is_comment(line):
            continue
        try:
            red, green, blue = (int(value) for value in "".join(rest[:1]).split(","))
            colours[name] = (red, green, blue)
        except ValueError:
            raise InputError(f"{file}: {line!r} must be name:red,green,blue:parts:actions; correct it") from None
    for name, own in colours.items():
        others = [other for other, its in colours.items() if its == own and other != name]
        if others:
            raise InputError(f"{file} gives {name!r} and {others[0]!r} the same colour {own}; change one")
    return colours


def class_values(root: Path) -> tuple[list[str], MapValues]:
    """The classes without the background, and the meaning of values in class maps: 0 background, 1 the first class."""
    colours = labelmap(root)
    background = colours.pop(BACKGROUND, (0, 0, 0))
    colours = colours or {name: colour(k) for k, name in enumerate(NAMES, 1)}
    ids = {own: k for k, own in enumerate(colours.values(), 1)}
    # indices without a palette are VOC's if the colours are VOC's; otherwise they count the classes
    numbers = {_BY_COLOUR[own]: k for own, k in ids.items()} if ids.keys() <= _BY_COLOUR.keys() else {}
    values = MapValues(_UNDECIDED, {0: 0, **numbers} if numbers else {}, {_BORDER: IGNORE, background: 0, **ids})
    return list(colours), values


def object_ids(path: Path) -> np.ndarray:
    """Object ids [H, W], 0 for none: palette indices, or numbers assigned to colours, VOC's first."""
    try:
        ids = read_map(path).numpy()
    except InputError:
        rgb = read_image(path).numpy().astype(np.int64)
        codes, places = np.unique(rgb[0] << 16 | rgb[1] << 8 | rgb[2], return_inverse=True)
        colours = [(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()]
        numbers = [_BY_COLOUR.get(own, 256 + rank) for rank, own in enumerate(colours)]
        ids = np.array(numbers, np.int64)[places].reshape(rgb.shape[1:])
    return np.where(ids == _UNDECIDED, 0, ids)
