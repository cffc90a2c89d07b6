"""Writing class maps as palette pictures."""

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
    """Write a dataset as images/, masks/ (each with a folder a split) and classes.json.

    Args:
        dataset: of class maps; objects are first drawn as a class map (`Dataset.as_class_map`).
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with how often.
    """
    lost = files.splits_lost(dataset)
    if dataset.label_kind.has_objects:
        lost["borders between objects"] = dataset.columns.objects
        dataset = dataset.as_class_map()
    names = files.image_names(dataset)
    keys = [(dataset.split_of(i), files.without_suffix(name)) for i, name in enumerate(names)]
    files.require_distinct(names, keys, "a mask, which goes by the name without its ending")
    whole = dataset.splits == ("all",)
    # Without splits, a folder of images that is named as a split is still none.
    home = "all" if any(map(files.sets_apart, names)) else ""
    for i, (split, stem) in enumerate(keys):
        below = home if whole else split
        target = cast(ClassMap, dataset.target(i))  # a dataset of class maps gives them
        files.write_image(dataset, i, out / "images" / below / names[i], symlink)
        save_class_map(target, out / "masks" / below / f"{stem}.png", len(dataset.classes))
    write_class_file(list(dataset.classes), out)
    return +lost


def write_class_file(names: Sequence[str], out: Path) -> None:
    """Write classes.json into a folder: names and colours of the classes, and the value that does not count."""
    colours = [css(class_colour(k)) for k in range(len(names))]
    table = {"names": list(names), "colors": colours, "ignore_index": _ignore_value(len(names))}
    (out / "classes.json").write_text(json.dumps(table, ensure_ascii=False, indent=1), encoding="utf-8")


def save_class_map(target: ClassMap, path: Path, classes: int | None = None) -> None:
    """Write a map as a palette PNG whose values are class ids, 255 where nothing counts.

    With more than 255 classes it is a grey PNG of 16 bits, and 65535 stands for what does not count.

    Args:
        target: the map.
        path: of the file, whose folder is made.
        classes: how many there are; by default as many as the map names.
    """
    labels = target.labels.cpu().numpy()
    if classes is None:
        classes = len(target.classes) if target.classes is not None else int(labels.max(initial=0)) + 1
    save_ids(labels, path, classes)


def save_ids(labels: np.ndarray, path: Path, classes: int) -> None:
    """As `save_class_map`, of ids [H, W] of any integer type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # IGNORE, −1, becomes the largest number of either type: what stands for it. A map may be as large as memory, so
    # nothing else is made of it.
    if classes > IGNORE_VALUE:
        Image.fromarray(labels.astype(np.uint16, copy=False)).save(path)
    else:
        palette_picture(labels.astype(np.uint8, copy=False), classes).save(path)


def palette_picture(values: np.ndarray, classes: int) -> Image.Image:
    """A palette picture of uint8 ids [H, W] in the colours of the classes; 255 is black."""
    picture = Image.fromarray(values)  # grey: a palette makes it one of colours
    colours = [class_colour(k) for k in range(classes)]
    colours += [(0, 0, 0)] * (256 - classes)
    picture.putpalette([part for colour in colours for part in colour])
    return picture


def _ignore_value(classes: int) -> int:
    return _WIDE_IGNORE if classes > IGNORE_VALUE else IGNORE_VALUE
