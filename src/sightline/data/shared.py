"""Files that are in several splits of a dataset."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sightline.data.dataset import Dataset


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
