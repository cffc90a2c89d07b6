"""The kinds of label of a dataset, one row each. Code that depends on the kind uses the attributes of the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sightline.data.columns import Columns
from sightline.data.events import event_problems, make_events
from sightline.data.map_values import MapClasses
from sightline.data.source import Source, make_class_map, make_class_scores, make_instances
from sightline.errors import InputError
from sightline.structures import IGNORE, ClassMap, ClassScores, Events, Instances, Size

GONE = -1
"""The new id of a class that is removed. In class maps it is `IGNORE`."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of label.

    Attributes:
        name: the key in `KINDS`, and the value of `Dataset.kind`.
        noun: the labels in sentences, in the plural ("objects").
        unit: what is counted per class, in the plural ("objects", "pixels", "images").
        target: the type of a target; it has an attribute `image_size`, (height, width).
        item: what has a target, in the singular: "image", or "video".
        make: `make(source, row, size, fields)` returns the target of image `row` of a source; `size()` returns the
            image's (height, width), and `fields` are the names of the requested fields. None for a user-defined kind
            that only the user's datasets contain.
        relabel: `relabel(source, ids, total)` returns the source with new class ids, and a bool mask of the images that
            are kept. `ids` [K] is the new id of each old class (or `GONE`), and `total` the number of new classes. None
            if labels have no classes.
        class_ids: `class_ids(columns)` returns the class id of each counted unit and the image it belongs to, both [M];
            None if the columns do not contain them.
        has_objects: True if the columns have one row per object.
        has_maps: True if there is one map [H, W] per image.
        augmentation: the usual augmentation recipe for these labels, to which policies such as "randaugment" are added.
        problems: `problems(columns)` yields what `check` reports about these labels: (a rule of
            `sightline.data.check.problems.RULES`, what is wrong, index of the image).
    """

    name: str
    noun: str
    unit: str
    target: type[Any]
    item: str = "image"
    make: Callable[[Source, int, Callable[[], Size], Sequence[str]], Any] | None = None
    relabel: Callable[[Source, np.ndarray, int], tuple[Source, np.ndarray | None]] | None = None
    class_ids: Callable[[Columns], tuple[np.ndarray, np.ndarray]] | None = None
    has_objects: bool = False
    has_maps: bool = False
    augmentation: str = "default"
    problems: Callable[[Columns], Iterator[tuple[str, str, int]]] | None = None


def kind_of(data: Any) -> Kind:
    """The row of a dataset's kind, from its attribute `kind`.

    Raises:
        InputError: there is no such kind.
    """
    name = data.kind
    if name not in KINDS:
        raise InputError(
            f"there is no kind of label {name!r}; available: {', '.join(KINDS)} "
            "(sightline.data.kinds.add registers another one)"
        )
    return KINDS[name]


def kind_of_target(target: Any) -> Kind | None:
    """The kind with this type of targets; None if there is none."""
    return next((kind for kind in KINDS.values() if isinstance(target, kind.target)), None)


def add(kind: Kind) -> None:
    """Register a user-defined kind of label.

    Raises:
        InputError: it is not a `Kind`, its target is not a type, or a kind with this name exists.
    """
    if not isinstance(kind, Kind) or not isinstance(kind.target, type):
        raise InputError(f"kinds.add takes a Kind(name=…, noun=…, unit=…, target=TYPE), not {kind!r}")
    if kind.name in KINDS:
        raise InputError(f"a kind of label {kind.name!r} already exists; choose another name")
    KINDS[kind.name] = kind


def _relabel_objects(source: Source, ids: np.ndarray, total: int) -> tuple[Source, np.ndarray | None]:
    labels = _renumbered(source.columns.labels, ids, total)
    columns = source.columns.replace(labels=labels)
    return replace(source, columns=columns if (labels != GONE).all() else columns.take_objects(labels != GONE)), None


def _relabel_maps(source: Source, ids: np.ndarray, total: int) -> tuple[Source, np.ndarray | None]:
    before = source.map_classes
    if before is None:
        return replace(source, map_classes=MapClasses(source.classes, ids)), None
    now = np.where(before.ids == IGNORE, IGNORE, ids[before.ids])
    return replace(source, map_classes=MapClasses(before.classes, now)), None


def _relabel_images(source: Source, ids: np.ndarray, total: int) -> tuple[Source, np.ndarray | None]:
    labels = _renumbered(_image_labels(source.columns), ids, total)
    return replace(source, columns=source.columns.replace(image_labels=labels)), labels != GONE


def _renumbered(labels: np.ndarray, ids: np.ndarray, total: int) -> np.ndarray:
    """New ids; invalid ids stay invalid, above the new ones, so that `check` finds them."""
    known = (labels >= 0) & (labels < len(ids))
    beyond = np.where(labels < 0, total, labels - len(ids) + total)
    return np.where(known, ids[np.where(known, labels, 0)], beyond).astype(np.int32)


def _image_labels(columns: Columns) -> np.ndarray:
    assert columns.image_labels is not None, "a dataset of image labels has this column"
    return columns.image_labels


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="instances",
            noun="objects",
            unit="objects",
            target=Instances,
            make=lambda source, row, size, fields: make_instances(source, row, size(), fields),
            relabel=_relabel_objects,
            class_ids=lambda columns: (columns.labels, columns.image_of),
            has_objects=True,
        ),
        Kind(
            name="class_map",
            noun="class maps",
            unit="pixels",
            target=ClassMap,
            make=lambda source, row, size, fields: make_class_map(source, row),
            relabel=_relabel_maps,
            has_maps=True,
            augmentation="crops",
        ),
        Kind(
            name="class_scores",
            noun="image classes",
            unit="images",
            target=ClassScores,
            make=lambda source, row, size, fields: make_class_scores(source, row, size()),
            relabel=_relabel_images,
            class_ids=lambda columns: (_image_labels(columns), np.arange(columns.images)),
            augmentation="resized_crops",
        ),
        Kind(
            name="events",
            noun="events in videos",
            item="video",
            unit="events",
            target=Events,
            make=lambda source, row, size, fields: make_events(source, row, size()),
            augmentation="none",
            problems=event_problems,
        ),
    )
}
"""The kinds by name."""
