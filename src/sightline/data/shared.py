"""Files that are in several splits of a dataset, or several times in one split with different objects."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.words import are, counted


def shared_images(dataset: Dataset) -> list[str]:
    """A sentence for each pair of splits that contain the same image files, compared by path."""
    columns = dataset.columns
    if dataset.root is None or len(dataset.splits) < 2:
        return []
    names = np.array(columns.names.texts(), object)
    places = {split: dataset.source.split_names.index(split) for split in dataset.splits}
    of = {split: set(names[columns.splits == place]) for split, place in places.items()}
    words = []
    for one, other in combinations(of, 2):
        both = of[one] & of[other]
        if both and len(both) == len(of[one]) == len(of[other]):
            words.append(f"{one} and {other} are the same {len(both)} image{'s' if len(both) > 1 else ''}")
        elif both:
            words.append(
                f"{one} and {other} share {len(both)} image{'s' if len(both) > 1 else ''}, such as {min(both)}"
            )
    return words


def repeated_images(dataset: Dataset) -> list[str]:
    """A sentence for each split that lists an image file more than once, with different objects.

    An image that is listed again with the same objects is only seen more often, which may be intended.
    """
    columns, names = dataset.columns, dataset.columns.names.texts()
    if dataset.root is None or not dataset.label_kind.has_objects or len(set(names)) == len(names):
        return []
    first: dict[tuple[int, str], int] = {}
    differing: dict[int, set[str]] = {}
    for i, (split, name) in enumerate(zip(columns.splits.tolist(), names, strict=True)):
        other = first.setdefault((split, name), i)
        if other != i and not _same_objects(columns, other, i):
            differing.setdefault(split, set()).add(name)
    return [
        f"{counted(len(found))} of {dataset.source.split_names[split]} {are(len(found))} listed more than once with "
        f"different objects, such as {min(found)}: an object that one entry lacks is background to the model there; "
        "join the entries"
        for split, found in sorted(differing.items())
    ]


def _same_objects(columns: Columns, one: int, other: int) -> bool:
    rows = [slice(*columns.offsets[i : i + 2].tolist()) for i in (one, other)]
    return all(
        np.array_equal(values[rows[0]], values[rows[1]], equal_nan=values.dtype.kind == "f")
        for values in (columns.labels, columns.boxes)
    )
