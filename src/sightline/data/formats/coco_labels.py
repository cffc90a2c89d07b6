"""COCO files with image labels: each annotation has a category, but neither a box nor an outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.columns import Columns
from sightline.data.formats.coco_gather import Objects
from sightline.data.formats.files import unknown_class
from sightline.data.kinds import GONE
from sightline.data.malformed import skip_label
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
    """Columns with the class of each image, and the annotations of unlisted images.

    Args:
        columns: columns of the file's images, without objects.
        objects: the collected annotations of the file.
        image_ids: int64 [N], the numbers that represent the images' ids.
        categories: categories by the number that represents their id.
        classes: the known classes; any other label raises an error.
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
                    f"{path}: {what} gives image {columns.names.text(row)} the class {name!r}, but another one gives "
                    f"it {classes[labels[row]]!r}, and an image has one class; remove one of the two"
                )
            else:
                labels[row] = classes.id(name)
        except InputError as error:
            skip_label(error, path)
    return columns.replace(image_labels=labels), orphans


def labels_of_all(columns: Sequence[Columns], paths: Sequence[Path]) -> list[Columns]:
    """The columns of several files; if any file has image labels, all get a class per image.

    Raises:
        InputError: one file has image labels and another one has objects.
    """
    whole = next((path for one, path in zip(columns, paths, strict=True) if one.image_labels is not None), None)
    if whole is None:
        return list(columns)
    for one, path in zip(columns, paths, strict=True):
        if one.objects:
            raise InputError(
                f"{whole} contains image labels, but {path} contains boxes or outlines; give the path of one of them"
            )
    return [
        one if one.image_labels is not None else one.replace(image_labels=np.full(one.images, GONE, np.int32))
        for one in columns
    ]
