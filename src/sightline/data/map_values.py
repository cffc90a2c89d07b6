"""The meaning of the values in a class map file: ids, other numbers, or colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sightline.data.images import read_image, read_map
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import IGNORE, Classes, ClassMap
from sightline.words import listed

Colour = tuple[int, int, int]
_LISTED = 5
_COUNTED = 65535


@dataclass(frozen=True)
class MapValues:
    """Maps a file's values to class ids.

    Attributes:
        ignore: the value of ignored pixels; None if every value is a class.
        numbers: ids by value, if they differ; all other values are then invalid.
        colours: ids (or `IGNORE`) by colour. Colour images are read with it; so are palette images if it contains all
            their colours, because tools order palettes differently.
    """

    ignore: int | None = 255
    numbers: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[Colour, int] = field(default_factory=dict)

    def read(self, path: Path, classes: Classes, image: str, size: tuple[int, int]) -> Tensor:
        """Read the class map in a file: [H, W] int64, ids of `classes` or `IGNORE`.

        Args:
            path: path of an index, palette or colour image with 8 or 16 bits.
            classes: the classes of the ids.
            image: the image's name, for messages.
            size: (height, width) of the image; (0, 0) if unknown.

        Raises:
            InputError: the file cannot be read, its size differs from the image, or it contains values or colours that
                are not a class.
        """
        labels = self._ids(path, len(classes))
        if all(size) and labels.shape != size:
            raise InputError(
                f"the mask {path} has {labels.shape[1]} × {labels.shape[0]} pixels, but its image {image} has "
                f"{size[1]} × {size[0]}; use a mask of the size of the image, or leave the pair out"
            )
        return torch.from_numpy(labels)

    def _ids(self, path: Path, classes: int) -> np.ndarray:
        palette = _palette(path) if self.colours else None
        if self.colours and (palette is None and _is_colour(path)):
            return self._by_colour(path, read_image(path, 3).numpy())
        values = read_map(path).numpy()
        found, pixels, places = _distinct(values)
        counts = dict(zip(found.tolist(), pixels.tolist(), strict=True))
        ids = np.array([self.numbers.get(v, -2) for v in found.tolist()] if self.numbers else found, np.int64)
        if palette is not None:
            meant = [self.colours.get(palette.get(v, (-1, -1, -1))) for v in found.tolist()]
            unknown = [v for m, v in zip(meant, found.tolist(), strict=True) if m is None and v != self.ignore]
            if not unknown:
                ids = np.array([IGNORE if m is None else m for m in meant], np.int64)
            elif any(m is not None and m != k for m, k in zip(meant, ids.tolist(), strict=True)):
                shown = [f"{palette.get(v, 'none')} ({counts[v]} pixels)" for v in unknown]
                raise _unknown_colours(path, shown)  # the known colours show that its indices are not ids
        if self.ignore is not None:
            ids[found == self.ignore] = IGNORE
        ids[found == IGNORE] = IGNORE
        bad = (ids >= classes) | (ids < IGNORE)
        if bad.any():
            shown = [f"{v} ({counts[v]} pixels)" for v in found[bad].tolist()]
            ignored = "" if self.ignore is None else f", and {self.ignore} marks ignored pixels"
            raise InputError(
                f"the mask {path} contains values without a class: {listed(shown, _LISTED)}; {self._known(classes)}"
                f"{ignored}: correct the mask, or the list of classes"
            )
        return ids[places]

    def _known(self, classes: int) -> str:
        if not self.numbers:
            return f"there are {classes} classes, ids 0 to {classes - 1}"
        return f"the values of the {classes} classes are {listed([str(v) for v in sorted(self.numbers)], _LISTED)}"

    def _by_colour(self, path: Path, rgb: np.ndarray) -> np.ndarray:
        if rgb.dtype != np.uint8:
            raise InputError(f"the mask {path} has colours of more than 8 bits; save it as 8-bit RGB or as a palette")
        codes = _code(rgb.astype(np.int64))
        table = sorted((int(_code(np.array(colour))), id) for colour, id in self.colours.items())
        known, ids = (np.array(column, np.int64) for column in zip(*table, strict=True))
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        strange = known[place] != codes
        if strange.any():
            found, counts = np.unique(codes[strange], return_counts=True)
            shown = [f"{_as_text(int(found[k]))} ({counts[k]} pixels)" for k in np.argsort(-counts, kind="stable")]
            raise _unknown_colours(path, shown)
        return ids[place]


@dataclass(frozen=True)
class MapClasses:
    """Maps the ids in class maps to new classes.

    Attributes:
        classes: the classes of the ids in the maps.
        ids: int64 [K], the new id of each class; `IGNORE` if its pixels are ignored.
    """

    classes: Classes
    ids: np.ndarray

    def renewed(self, labels: Tensor, name: str) -> Tensor:
        """Convert old ids [H, W] to new ones; `name` is that of the image, for messages."""
        old = ClassMap(labels, self.classes, source=name).labels  # raises an error for invalid ids
        table = torch.from_numpy(np.append(self.ids, IGNORE))
        return table[torch.where(old == IGNORE, len(self.ids), old)]


def _unknown_colours(path: Path, shown: list[str]) -> InputError:
    return InputError(
        f"the mask {path} contains colours without a class: {listed(shown, _LISTED)}; correct the mask, or add them to "
        "the colour table (under the name ignore, for ignored pixels)"
    )


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct values of a map [H, W], their pixel counts, and for each pixel the index of its value."""
    if values.min(initial=0) < 0 or values.max(initial=0) > _COUNTED:
        found, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        return found, counts, places.reshape(values.shape)
    counts = np.bincount(values.ravel())  # avoids sorting the pixels
    found = counts.nonzero()[0]
    place = np.zeros(len(counts), np.int64)
    place[found] = np.arange(len(found))
    return found, counts[found], place[values]


def _code(rgb: np.ndarray) -> np.ndarray:
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]


def _as_text(code: int) -> str:
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"


def _is_colour(path: Path) -> bool:
    from PIL import Image

    try:
        with reading.open_binary(path) as file, Image.open(file) as image:
            return image.mode in ("RGB", "RGBA", "CMYK", "YCbCr")
    except Exception:  # not an image that Pillow knows: reading it reports the error
        return False


def _palette(path: Path) -> dict[int, Colour] | None:
    """The colours of a palette image by index; None for other images."""
    from PIL import Image

    try:
        with reading.open_binary(path) as file, Image.open(file) as image:
            raw = image.getpalette() if image.mode == "P" else None
    except Exception:  # as above
        return None
    return None if raw is None else {k: (raw[3 * k], raw[3 * k + 1], raw[3 * k + 2]) for k in range(len(raw) // 3)}
