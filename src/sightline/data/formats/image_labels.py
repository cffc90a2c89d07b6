"""Helpers for formats with image labels: class order, and a dataset with one class per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.kinds import GONE
from sightline.structures import Classes
from sightline.words import counted

KIND = "class_scores"
"""The kind of label of these formats, a key of `sightline.data.kinds.KINDS`."""


def in_class_order(names: Iterable[str]) -> list[str]:
    """Distinct class names in the order of their ids: sorted as numbers if all are whole numbers, else as text.

    >>> in_class_order(["10", "9"]), in_class_order(["b", "a"])
    (['9', '10'], ['a', 'b'])
    """
    distinct = set(names)
    if all(name.isascii() and name.isdecimal() for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def labelled(dataset: Dataset, labels: Sequence[int] | np.ndarray, classes: Classes) -> Dataset:
    """Turn a dataset of images without objects into one with a class per image.

    Images whose label is `GONE` are left out; a note gives their number and the first of them.

    Args:
        dataset: the dataset made by a reader of objects.
        labels: class id of each image, or `GONE`.
        classes: the class names.
    """
    source, notes = dataset.source, list(dataset.source.notes)
    ids = np.array(labels, np.int32)
    without = np.flatnonzero(ids == GONE)
    columns: Columns = source.columns.replace(image_labels=ids)
    if len(without):
        images = counted(len(without))
        notes.append(f"{images} without a class, left out; the first is {columns.names.text(int(without[0]))}")
        columns = columns.take_images(np.flatnonzero(ids != GONE))
    return Dataset(replace(source, columns=columns, classes=classes, kind=KIND, notes=tuple(notes)))
