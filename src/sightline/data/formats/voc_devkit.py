"""VOCdevkit: a folder with the years of Pascal VOC, VOC2007/ and VOC2012/, each of which is a dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.listing import folders_in
from sightline.data.kinds import kind_of
from sightline.errors import InputError
from sightline.structures import Classes

_YEAR = re.compile(r"VOC\d{4}", re.IGNORECASE)


def years(root: Path) -> list[Path]:
    """The folders of years in a VOCdevkit, in order; empty for another folder."""
    if not root.is_dir() or (root / "JPEGImages").is_dir():
        return []
    return [f for f in folders_in(root) if _YEAR.fullmatch(f.name) and (f / "JPEGImages").is_dir()]


def read_years(root: Path, found: Sequence[Path], given: object, read: Callable[[Path], Dataset]) -> Dataset:
    """All years as one dataset: a split contains the images of that split from every year.

    Args:
        root: the VOCdevkit folder.
        found: its years.
        given: splits or an image folder given by the user, which only a single year can have.
        read: reads one year.

    Raises:
        InputError: a split or image folder is given; or the class maps of the years have different classes.
    """
    if given:
        raise InputError(
            f"{root} contains {', '.join(f.name for f in found)}, and a split or an image folder belongs to one of "
            f"them; give the path of one, such as {found[0]}"
        )
    return joined(root.absolute(), {folder.name: read(folder) for folder in found})


def joined(root: Path, parts: dict[str, Dataset]) -> Dataset:
    """Concatenate datasets in folders of `root`, by folder name; splits and classes are merged by name."""
    sources = {name: data.source for name, data in parts.items()}
    first = next(iter(sources.values()))
    objects = kind_of(first).has_objects
    if objects:
        names = sorted({name for source in sources.values() for name in source.classes})
        if all(source.classes == first.classes for source in sources.values()):
            names = list(first.classes)
        classes = Classes(names)
    else:
        classes = first.classes
        for folder, source in sources.items():
            if source.classes != classes or source.map_values != first.map_values:
                raise InputError(f"{root / folder} has other classes than the folders before it; open one at a time")
    splits = files.in_order(dict.fromkeys(split for source in sources.values() for split in source.split_names))
    columns: list[Columns] = []
    for folder, source in sources.items():
        own = source.columns
        to_joint = np.array([splits.index(split) for split in source.split_names], np.int8)
        moved: dict[str, Any] = {
            name: Blob.of(f"{folder}/{text}" if text else "" for text in blob.texts())
            for name in ("names", "label_names", "maps")
            if (blob := getattr(own, name)) is not None
        }
        if objects:
            moved["labels"] = np.array([classes.id(name) for name in source.classes], np.int32)[own.labels]
        columns.append(own.replace(splits=to_joint[own.splits], **moved))
    whole = Columns.concatenate(columns)
    order = np.argsort(whole.splits, kind="stable")
    whole = whole.take_images(order)
    whole = whole.replace(
        ids=np.arange(1, whole.objects + 1, dtype=np.int64), image_ids=np.arange(1, whole.images + 1, dtype=np.int64)
    )
    texts = np.array(whole.names.texts(), object)
    source = replace(
        first,
        columns=whole,
        classes=classes,
        root=root,
        split_names=tuple(splits),
        folders=tuple(files.common_folder(texts[whole.splits == k].tolist()) for k in range(len(splits))),
        orphans=tuple(f"{folder}/{orphan}" for folder, source in sources.items() for orphan in source.orphans),
        notes=tuple(f"{folder}: {note}" for folder, source in sources.items() for note in source.notes),
    )
    return Dataset(source)
