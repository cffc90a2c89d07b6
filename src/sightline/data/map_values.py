"""What the values of a class map's file stand for: ids, other numbers, or colours."""

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
    """How a file's values become class ids.

    Attributes:
        ignore: the value of pixels that do not count; None where every value is a class.
        numbers: id by value, where they differ; other values are then no class.
        colours: id (or `IGNORE`) by colour. A colour picture is read by it; so is a palette picture all of whose
            colours are in it, for tools number their palettes as they like.
    """

    ignore: int | None = 255
    numbers: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[Colour, int] = field(default_factory=dict)

    def read(self, path: Path, classes: Classes, image: str, size: tuple[int, int]) -> Tensor:
        """The map in a file: [H, W] int64, ids of `classes` or `IGNORE`.

        Args:
            path: of an index, palette or colour picture, 8 or 16 bits.
            classes: that the ids are of.
            image: the image's name, for messages.
            size: (height, width) of the image; (0, 0) where it is not known.

        Raises:
            InputError: the file cannot be read, is of another size than the image, or holds values or colours that
                stand for no class.
        """
        labels = self._ids(path, len(classes))
        if all(size) and labels.shape != size:
            raise InputError(
                f"the mask {path} has {labels.shape[1]} × {labels.shape[0]} pixels, but its image {image} has "
                f"{size[1]} × {size[0]}; give a mask of the image's size, or leave the pair out"
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
                raise _unknown_colours(path, shown)  # the others say that its indices are no ids
        if self.ignore is not None:
            ids[found == self.ignore] = IGNORE
        ids[found == IGNORE] = IGNORE
        bad = (ids >= classes) | (ids < IGNORE)
        if bad.any():
            shown = [f"{v} ({counts[v]} pixels)" for v in found[bad].tolist()]
            ignored = "" if self.ignore is None else f", and {self.ignore} is for pixels that do not count"
            raise InputError(
                f"the mask {path} holds values that are no class: {listed(shown, _LISTED)}; there are {classes} "
                f"classes, ids 0 to {classes - 1}{ignored}: correct the mask, or the list of classes"
            )
        return ids[places]

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
    """What became of the classes in class maps, which hold the ids of old ones.

    Attributes:
        classes: that the maps were made with.
        ids: int64 [K], the id each of them has now; `IGNORE` where its pixels do not count.
    """

    classes: Classes
    ids: np.ndarray

    def renewed(self, labels: Tensor, name: str) -> Tensor:
        """Old ids [H, W] as new ones; `name` is the image's, for messages."""
        old = ClassMap(labels, self.classes, source=name).labels  # refuses ids that are no class
        table = torch.from_numpy(np.append(self.ids, IGNORE))
        return table[torch.where(old == IGNORE, len(self.ids), old)]


def _unknown_colours(path: Path, shown: list[str]) -> InputError:
    return InputError(
        f"the mask {path} holds colours that are no class: {listed(shown, _LISTED)}; correct the mask, or add them to "
        "the colour table (under the name ignore, if they do not count)"
    )


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of a map [H, W], how many pixels have each, and for each pixel which of them it has."""
    if values.min(initial=0) < 0 or values.max(initial=0) > _COUNTED:
        found, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        return found, counts, places.reshape(values.shape)
    counts = np.bincount(values.ravel())  # no pixel need be sorted
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
        with reading.open_binary(path) as file, Image.open(file) as picture:
            return picture.mode in ("RGB", "RGBA", "CMYK", "YCbCr")
    except Exception:  # not a picture Pillow knows: reading it says why
        return False


def _palette(path: Path) -> dict[int, Colour] | None:
    """The colours of a palette picture by index; None for others."""
    from PIL import Image

    try:
        with reading.open_binary(path) as file, Image.open(file) as picture:
            raw = picture.getpalette() if picture.mode == "P" else None
    except Exception:  # as above
        return None
    return None if raw is None else {k: (raw[3 * k], raw[3 * k + 1], raw[3 * k + 2]) for k in range(len(raw) // 3)}
