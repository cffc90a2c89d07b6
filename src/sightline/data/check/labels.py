"""Rules about labels: boxes, classes, duplicates, sizes. They work on columns, without a loop over valid boxes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from sightline.data.check.problems import Problem
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.structures import Size

OUTSIDE = 0.5  # pixels by which a box may extend beyond its image due to rounding


def bad_boxes(columns: Columns, sizes: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """bool [A] per rule: the objects that break it. An object breaks at most one rule about its box.

    Args:
        columns: raw annotations.
        sizes: [N, 2] (height, width) of the images; 0 if unknown.
        classes: number of classes.
    """
    boxes = columns.boxes
    finite = np.isfinite(boxes).all(1)
    with np.errstate(invalid="ignore"):
        extent = boxes[:, 2:] - boxes[:, :2]
        inverted = finite & (extent < 0).any(1)
        empty = finite & ~inverted & (extent == 0).any(1)
        frame = sizes[columns.image_of][:, ::-1]
        over = np.maximum((-boxes[:, :2]).max(1), (boxes[:, 2:] - frame).max(1))
        known = (frame > 0).all(1)
        outside = finite & ~inverted & ~empty & known & (over > OUTSIDE)
    return {
        "box-not-finite": ~finite,
        "box-inverted": inverted,
        "box-zero-area": empty,
        "box-outside": outside,
        "unknown-class": (columns.labels < 0) | (columns.labels >= classes),
        "box-duplicate": duplicate_boxes(columns),
    }


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of class names that differ only in case, spaces, hyphens or underscores.

    Names of a single letter are left out: in data of characters, a and A are classes of their own.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"[\s_-]", "", name.casefold()), []).append(name)
    return [group for key, group in groups.items() if len(group) > 1 and len(key) > 1]


def duplicate_boxes(columns: Columns) -> np.ndarray:
    """bool [A]: objects with an earlier object of the same class and box (to 0.01 pixels) in the same image."""
    if not columns.objects:
        return np.zeros(0, dtype=bool)
    rounded = np.round(columns.boxes, 2)
    keys = np.column_stack([columns.image_of, columns.labels, columns.crowd, rounded])
    order = np.lexsort(keys.T[::-1])  # stable: among equal objects the earlier one comes first
    same = (keys[order][1:] == keys[order][:-1]).all(1)  # NaN is never equal, so broken boxes are not duplicates
    result = np.zeros(columns.objects, dtype=bool)
    result[order[1:]] = same
    return result


def box_problems(
    dataset: Dataset, columns: Columns, sizes: np.ndarray, bad: dict[str, np.ndarray]
) -> Iterator[Problem]:
    """One problem for each object that breaks a rule, as found by `bad_boxes`."""
    images = columns.image_of
    for rule, rows in bad.items():
        for row in np.flatnonzero(rows).tolist():
            i = int(images[row])
            box = ", ".join(f"{value:g}" for value in columns.boxes[row].round(2).tolist())
            label = int(columns.labels[row])
            height, width = sizes[i].tolist()
            with np.errstate(invalid="ignore"):  # infinite boxes are reported as such
                extent = columns.boxes[row, 2:] - columns.boxes[row, :2]
            name = dataset.classes[label] if 0 <= label < len(dataset.classes) else f"class id {label}"
            beyond = bool((columns.boxes[row, :2] >= [width, height]).any() or (columns.boxes[row, 2:] <= 0).any())
            where = "wholly outside" if beyond else "in"
            value = {
                "box-not-finite": f"has the box [{box}]",
                "box-inverted": f"has the box [{box}], where x1 > x2 or y1 > y2",
                "box-zero-area": f"has the box [{box}], {extent[0]:g} × {extent[1]:g} pixels",
                "box-outside": f"has the box [{box}] {where} an image {width} wide and {height} high",
                "unknown-class": f"has {name}, but valid ids are 0 to {len(dataset.classes) - 1}",
                "box-duplicate": f"repeats the box [{box}] of another object",
            }[rule]
            file, number, thing = place(dataset, columns, row, i)
            thing = f"{thing} {number}" if rule == "unknown-class" else f"{thing} {number} ({name})"
            yield Problem.of(rule, f"{thing} {value}", file, number)


def place(dataset: Dataset, columns: Columns, row: int, i: int) -> tuple[str, int, str]:
    """The file to name for an object, its number in that file, and the word for it."""
    if dataset.format == "coco":  # one file holds all labels: the image and the annotation id are more useful
        return dataset.name(i), int(columns.ids[row]), "annotation"
    number = row - int(columns.offsets[i]) + 1
    label = columns.label_names.text(i) if columns.label_names is not None else ""
    return label or dataset.name(i), number, "object"


def anchor_fit(
    columns: Columns,
    rows: np.ndarray,
    sizes: np.ndarray,
    anchors: Callable[[Size], np.ndarray],
) -> np.ndarray:
    """float64 [R]: for each object in `rows` (ids), the best IoU of its shape with an anchor shape, both centred.

    Args:
        sizes: [N, 2] (height, width) of the images.
        anchors: maps an image size to the (width, height) of every anchor shape, [K, 2] in pixels of the image.
    """
    images = columns.image_of[rows]
    shapes = columns.boxes[rows, 2:] - columns.boxes[rows, :2]
    best = np.zeros(len(rows))
    kinds, which = np.unique(sizes[images], axis=0, return_inverse=True)
    which = which.reshape(-1)
    for kind, size in enumerate(kinds.tolist()):
        at = np.flatnonzero(which == kind)
        reference = np.unique(anchors((size[0], size[1])), axis=0)
        for start in range(0, len(at), 4096):
            part = at[start : start + 4096]
            common = np.minimum(shapes[part, None], reference).prod(2)
            union = shapes[part].prod(1)[:, None] + reference.prod(1) - common
            best[part] = (common / union).max(1, initial=0)
    return best
