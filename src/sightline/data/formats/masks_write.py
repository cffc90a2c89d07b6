"""Writing masks as images of object ids and class ids."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.segmentation import spans_of
from sightline.ops.masks import span_pixels

IDS, CLASS_IDS = "instance_ids", "class_ids"
"""Names of the folders."""


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as images/, instance_ids/, class_ids/ (each with one folder per split) and classes.txt.

    A pixel has one object: if two overlap, the later one is used. An object without an outline fills its box.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    from PIL import Image

    names = files.image_names(dataset)
    keys = [(dataset.split_of(i), files.without_suffix(name)) for i, name in enumerate(names)]
    files.require_distinct(names, keys, "a map, which goes by the name without its ending")
    whole = dataset.splits == ("all",)
    # Without splits, an image folder named like a split must not become one.
    home = "all" if any(map(files.sets_apart, names)) else ""
    columns = dataset.columns
    lost = shapes.lost_by(dataset, columns, held=()) + files.splits_lost(dataset)
    for name in ("captions", "occluded", "truncated", "pose", "other", "shape"):
        column = columns.captions if name == "captions" else columns.extra.get(name)
        lost[name] = 0 if column is None else int(sum(map(bool, column)))
    lost["crowd marks"], lost["difficult marks"] = int(columns.crowd.sum()), int(columns.difficult.sum())
    for i, (split, stem) in enumerate(keys):
        below = home if whole else split
        files.write_image(dataset, i, out / "images" / below / names[i], symlink)
        height, width = dataset.image_size(i)
        ids, classes = np.zeros((2, width * height), np.uint16)  # column-major, like outlines
        rows = columns.objects_of(i)
        for number, a in enumerate(rows, 1):
            pixels = span_pixels(*spans_of(columns, a, (height, width), names[i]))
            lost["pixels that two objects share"] += int((ids[pixels] > 0).sum())
            ids[pixels] = number
            classes[pixels] = columns.labels[a] + 1
        shown = np.bincount(ids, minlength=len(rows) + 1)[1:] > 0
        lost["objects without a pixel of their own"] += len(rows) - int(shown.sum())
        for folder, values in ((IDS, ids), (CLASS_IDS, classes)):
            at = out / folder / below / f"{stem}.png"
            at.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(values.reshape(width, height).T)).save(at)
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")
    return +lost
