"""Writing CSV with boxes: one file per split, beside its images."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.voc_write import not_held

CLASSES = "classes.csv"
"""Class names and ids, one pair per line, as in keras-retinanet."""
_HEADER = ("filename", "width", "height", "class")
_BOX = ("xmin", "ymin", "xmax", "ymax")
_MARKS = ("crowd", "difficult", "truncated", "occluded", "pose", "caption")


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as CSV: SPLIT/_annotations.csv beside the images, with TensorFlow's columns, and classes.csv.

    An image without objects has a row without a box. Flags and captions get a column if any object has them.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    columns = dataset.columns
    names = files.image_names(dataset)
    whole = dataset.splits == ("all",)
    known = [shapes.attributes_of(columns, a) for a in range(columns.objects)]
    marks = [name for name in _MARKS if any(name in attributes for attributes in known)]
    rows: dict[Path, list[list[Any]]] = {}
    for i, name in enumerate(names):
        folder = out if whole else out / dataset.split_of(i)
        files.write_image(dataset, i, folder / name, symlink)
        height, width = dataset.image_size(i)
        mine = rows.setdefault(folder, [])
        objects = columns.objects_of(i)
        for a in objects:
            box = [repr(float(value)) for value in columns.boxes[a]]
            label = dataset.classes[int(columns.labels[a])]
            mine.append([name, width, height, label, *box, *(known[a].get(mark, "") for mark in marks)])
        if not objects:
            mine.append([name, width, height, *[""] * (5 + len(marks))])
    # Readers treat coordinates as fractions if none is greater than 1, unless the column names say otherwise.
    small = columns.objects and float(np.abs(columns.boxes).max()) <= 2
    header = [*_HEADER, *(f"{name}_pixels" if small else name for name in _BOX), *marks]
    for folder, own in rows.items():
        with open(folder / "_annotations.csv", "w", encoding="utf-8", newline="") as opened:
            csv.writer(opened).writerows([header, *own])
    write_classes(dataset.classes, out)
    return not_held(dataset, columns, frozenset([*shapes.FLAGS, *shapes.TEXTS, "captions"]))


def write_classes(classes: Iterable[str], out: Path) -> None:
    """Write classes.csv into a folder: the name and id of each class, in order."""
    with open(out / CLASSES, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([[name, k] for k, name in enumerate(classes)])
