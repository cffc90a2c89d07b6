"""The data shared by all views of a dataset, and the creation of targets from it."""

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
    """The data shared by all views of one dataset.

    Attributes:
        columns: all annotations.
        classes: the class names.
        kind: the kind of labels, a key of `sightline.data.kinds.KINDS`.
        about: the name of the field that the labels are about, beyond boxes: "captions", "relations", "cuboids",
            "meshes"; "" for labels of several uses. It decides what `train` learns if no model is named.
        root: the folder that image names are relative to; None for images in memory.
        format: the format that was read, or "memory".
        split_names: names of the splits; `columns.splits` contains indices into them.
        folders: for each split, the leading part of its image names that belongs to the layout.
        label_files: for each split, its only label file; None if each image has its own.
        orphans: labels whose image does not exist, as descriptions ("Annotations/x.xml").
        left_out: images that belong to no split, as descriptions ("images/batch2: 3 images in no split").
        missing_splits: splits that are configured but whose folder or list does not exist, with an explanation.
        meta: metadata of the format beside the columns (COCO: info, licenses, categories).
        images: uint8 or float tensors [C, H, W], for images in memory.
        class_maps: integer tensors [H, W], for class maps in memory.
        ignore: the value of ignored pixels in maps.
        map_values: the meaning of the values in map files, if they are not ids.
        map_classes: the classes of the ids in maps, and their new ids; None if they are `classes`.
        later: loaders of columns that are read on request, by field name; they return the completed source.
        malformed: labels that could not be read and were skipped, if the dataset was opened leniently.
        keypoint_names: one name per keypoint, from the format; empty if it has none.
        keypoint_swap: for each keypoint the index of its mirror image, from the format; None if it has none.
        full_scale: full scale of integer samples with more than 8 bits, given or determined; shared by all views.
        notes: notes for the user on how the files were read, one sentence each; logged when the dataset is opened.
        opened: the arguments of `open_dataset` that open the data again; empty for other data.
        division: how `Dataset.split` divided it: "seed" and "shares" by split; empty if it was not used.
    """

    columns: Columns
    classes: Classes
    kind: str = "instances"
    about: str = ""
    root: Path | None = None
    format: str = "memory"
    split_names: tuple[str, ...] = ("all",)
    folders: tuple[str, ...] = ()
    label_files: tuple[Path | None, ...] = ()
    orphans: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    missing_splits: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[Tensor] | None = None
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
    """The validated objects of image `row` of `size`, with `fields` copied from the columns."""
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
            raise InputError(f"the image {name} has no mask; add one with its name, or leave the image out")
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
    assert labels is not None, "a dataset of image labels has this column"
    return ClassScores(size, int(labels[row]), classes=source.classes, source=source.columns.names.text(row))
