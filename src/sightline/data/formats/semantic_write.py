"""Writing class maps as palette images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from sightline.data.colours import class_colour, css
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.structures import ClassMap

IGNORE_VALUE = 255
_WIDE_IGNORE = 65535


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as images/, masks/ (each with one folder per split) and classes.json.

    Args:
        dataset: a dataset of class maps; objects are drawn as class maps first (`Dataset.as_class_map`).
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    lost = files.splits_lost(dataset)
    if dataset.label_kind.has_objects:
        lost["borders between objects"] = dataset.columns.objects
        dataset = dataset.as_class_map()
    names = files.image_names(dataset)
    keys = [(dataset.split_of(i), files.without_suffix(name)) for i, name in enumerate(names)]
    files.require_distinct(names, keys, "a mask, which goes by the name without its ending")
    whole = dataset.splits == ("all",)
    # Without splits, an image folder named like a split must not become one.
    home = "all" if any(map(files.sets_apart, names)) else ""
    for i, (split, stem) in enumerate(keys):
        below = home if whole else split
        target = cast(ClassMap, dataset.target(i))  # targets of this kind are class maps
        files.write_image(dataset, i, out / "images" / below / names[i], symlink)
        save_class_map(target, out / "masks" / below / f"{stem}.png", len(dataset.classes))
    write_class_file(list(dataset.classes), out)
    return +lost


def write_class_file(names: Sequence[str], out: Path) -> None:
    """Write classes.json into a folder: names and colours of the classes, and the value of ignored pixels."""
    colours = [css(class_colour(k)) for k in range(len(names))]
    table = {"names": list(names), "colors": colours, "ignore_index": _ignore_value(len(names))}
    (out / "classes.json").write_text(json.dumps(table, ensure_ascii=False, indent=1), encoding="utf-8")


def save_class_map(target: ClassMap, path: Path, classes: int | None = None) -> None:
    """Write a class map as a palette PNG whose values are class ids, with 255 for ignored pixels.

    With more than 255 classes, a 16-bit grey PNG is written, with 65535 for ignored pixels.

    Args:
        target: the class map.
        path: path of the file; its folder is created.
        classes: number of classes; by default that of the class map.
    """
    labels = target.labels.cpu().numpy()
    if classes is None:
        classes = len(target.classes) if target.classes is not None else int(labels.max(initial=0)) + 1
    save_ids(labels, path, classes)


def save_ids(labels: np.ndarray, path: Path, classes: int) -> None:
    """Like `save_class_map`, for ids [H, W] of any integer type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # IGNORE, −1, wraps to the largest value of either type, which marks ignored pixels. The map may be very large, so
    # no other copy is made.
    if classes > IGNORE_VALUE:
        Image.fromarray(labels.astype(np.uint16, copy=False)).save(path)
    else:
        palette_image(labels.astype(np.uint8, copy=False), classes).save(path)


def palette_image(values: np.ndarray, classes: int) -> Image.Image:
    """A palette image of uint8 ids [H, W] in the colours of the classes; 255 is black."""
    image = Image.fromarray(values)  # grey; setting a palette converts it
    colours = [class_colour(k) for k in range(classes)]
    colours += [(0, 0, 0)] * (256 - classes)
    image.putpalette([part for colour in colours for part in colour])
    return image


def _ignore_value(classes: int) -> int:
    return _WIDE_IGNORE if classes > IGNORE_VALUE else IGNORE_VALUE
