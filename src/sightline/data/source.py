"""What all views of one dataset share, and how targets are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.data.columns import Columns
from sightline.data.full_scale import FullScale
from sightline.data.malformed import BadLabel
from sightline.data.map_values import MapClasses, MapValues
from sightline.data.stored import read_field
from sightline.errors import InputError
from sightline.structures import IGNORE, Classes, ClassMap, ClassScores, Instances, Size


@dataclass(frozen=True)
class Source:
    """What all views of one dataset share.

    Attributes:
        columns: every annotation.
        classes: the names behind the labels.
        kind: what a target is, a key of `sightline.data.kinds.KINDS`.
        root: the folder image names are relative to; None for images in memory.
        format: the format read, or "memory".
        split_names: by position, as `columns.splits` refers to them.
        folders: of each split, the leading part of its image names that is the layout's.
        label_files: of each split, the one file that holds its labels; None where each image has its own.
        orphans: labels whose image is not there, as words ("Annotations/x.xml").
        left_out: images that the layout puts into no split, as words ("images/batch2: 3 images in no split").
        missing_splits: splits that a description names but whose folder or list is not there, with the words for it.
        meta: what the format keeps beside the columns (COCO: info, licenses, categories).
        pictures: uint8 or float tensors [C, H, W], for a dataset in memory.
        class_maps: [H, W] whole-number tensors, for class maps in memory.
        ignore: the value in maps that stands for pixels that do not count.
        map_values: what the values of map files stand for, where they are not ids.
        map_classes: the classes that maps hold the ids of, and what became of them; None where they are `classes`.
        later: readers of columns that are only read when asked for, by field name; they return the completed source.
        malformed: labels that could not be read and were left out, where the dataset was opened leniently.
        keypoint_names: one name per keypoint, as the format states them; empty where it states none.
        keypoint_swap: for each keypoint the index of its mirror image, as the format states it; None where it does not.
        full_scale: of whole-number samples of more than 8 bits, as stated or found; all views share it.
        notes: what the user should know of how the files were read, a sentence each; logged when they are opened.
        opened: the arguments of `open_dataset` by which the data is opened again; empty for other data.
        division: how `Dataset.split` divided it: "seed" and "shares" by split; empty where the splits are its own.
    """

    columns: Columns
    classes: Classes
    kind: str = "instances"
    root: Path | None = None
    format: str = "memory"
    split_names: tuple[str, ...] = ("all",)
    folders: tuple[str, ...] = ()
    label_files: tuple[Path | None, ...] = ()
    orphans: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    missing_splits: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[Tensor] | None = None
    class_maps: Sequence[Tensor] | None = None
    ignore: int | None = 255
    map_values: MapValues | None = None
    map_classes: MapClasses | None = None
    later: Mapping[str, Callable[[Source], Source]] = field(default_factory=dict)
    malformed: tuple[BadLabel, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    keypoint_swap: tuple[int, ...] | None = None
    full_scale: FullScale = field(default_factory=FullScale)
    notes: tuple[str, ...] = ()
    opened: Mapping[str, Any] = field(default_factory=dict)
    division: Mapping[str, Any] = field(default_factory=dict)


def make_instances(source: Source, row: int, size: Size, fields: Sequence[str]) -> Instances:
    """The objects of image `row` of `size`, checked, with `fields` copied from the columns."""
    columns = source.columns
    rows = slice(int(columns.offsets[row]), int(columns.offsets[row + 1]))
    image = columns.names.text(row)
    values = {name: read_field(columns, name, rows, size, image) for name in fields}
    return Instances(size, classes=source.classes, source=image, **values)


def make_class_map(source: Source, row: int) -> ClassMap:
    """The class map of image `row`."""
    if source.class_maps is not None:
        labels = source.class_maps[row]
    else:
        assert source.columns.maps is not None, "a dataset of class maps has them in memory or in files"
        name, mask = source.columns.names.text(row), source.columns.maps.text(row)
        if not mask:
            raise InputError(f"the image {name} has no mask; add one of its name, or leave the image out")
        size = int(source.columns.heights[row]), int(source.columns.widths[row])
        values = source.map_values or MapValues(source.ignore)
        own = source.classes if source.map_classes is None else source.map_classes.classes
        labels = values.read((source.root or Path()) / mask, own, name, size)
    if source.class_maps is not None and source.ignore is not None:
        labels = labels.to(torch.int64).masked_fill(labels == source.ignore, IGNORE)
    if source.map_classes is not None:
        labels = source.map_classes.renewed(labels, source.columns.names.text(row))
    return ClassMap(labels, source.classes, source=source.columns.names.text(row))


def make_class_scores(source: Source, row: int, size: Size) -> ClassScores:
    """The class of image `row` of `size`."""
    labels = source.columns.image_labels
    assert labels is not None, "a dataset of whole-image labels has them"
    return ClassScores(size, int(labels[row]), classes=source.classes, source=source.columns.names.text(row))
