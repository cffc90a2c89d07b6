"""COCO files whose annotations say what whole images show: a category each, and neither box nor outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.columns import Columns
from sightline.data.formats.coco_gather import Objects
from sightline.data.formats.files import unknown_class
from sightline.data.kinds import GONE
from sightline.data.malformed import leave_out
from sightline.errors import InputError
from sightline.structures import Classes


def with_image_labels(
    columns: Columns,
    objects: Objects,
    image_ids: np.ndarray,
    categories: Mapping[int, Mapping[str, Any]],
    classes: Classes,
    path: Path,
) -> tuple[Columns, list[str]]:
    """Columns with the class of each image, and annotations of images that are not listed.

    Args:
        columns: of the file's images; they have no objects.
        objects: what was gathered of the file's annotations.
        image_ids: int64 [N], the numbers that stand for the images' ids.
        categories: by the numbers that stand for their ids.
        classes: known ones; a label of another is refused.
        path: the file.
    """
    row_of = {id: row for row, id in enumerate(image_ids.tolist())}
    labels = np.full(len(row_of), GONE, np.int32)
    orphans = []
    for entry in objects.labels:
        what = f"annotation {entry['id']}"
        try:
            (image,) = objects.image_texts.ids([entry["image_id"]], path, f"{what}'s image_id").tolist()
            (category,) = objects.category_texts.ids([entry["category_id"]], path, f"{what}'s category_id").tolist()
            if category not in categories:
                listed = [f"{one['id']} {one['name']}" for one in categories.values()]
                raise unknown_class(f"{path}: {what}", f"category_id {entry['category_id']!r}", listed)
            name = categories[category]["name"]
            if name not in classes:
                raise unknown_class(f"{path}: {what}", f"category {name!r}", classes)
            row = row_of.get(image)
            if row is None:
                orphans.append(f"{path.name}: {what} of image {entry['image_id']}")
            elif labels[row] not in (GONE, classes.id(name)):
                raise InputError(
                    f"{path}: {what} says that image {columns.names.text(row)} is of {name!r}, but another says "
                    f"{classes[labels[row]]!r}, and an image has one class; remove one of the two"
                )
            else:
                labels[row] = classes.id(name)
        except InputError as error:
            leave_out(error, path)
    return columns.replace(image_labels=labels), orphans


def labels_of_all(columns: Sequence[Columns], paths: Sequence[Path]) -> list[Columns]:
    """The columns of several files, all with the class of each image if any has them.

    Raises:
        InputError: one file has such, and another one objects.
    """
    whole = next((path for one, path in zip(columns, paths, strict=True) if one.image_labels is not None), None)
    if whole is None:
        return list(columns)
    for one, path in zip(columns, paths, strict=True):
        if one.objects:
            raise InputError(
                f"{whole} says what whole images show, but {path} has boxes or outlines; give the path of one of them"
            )
    return [
        one if one.image_labels is not None else one.replace(image_labels=np.full(one.images, GONE, np.int32))
        for one in columns
    ]
