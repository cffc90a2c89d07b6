"""Selecting images and objects of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from sightline.data.labelled import AnyDataset, warn_rows_lost
from sightline.data.relabel import only_classes
from sightline.errors import InputError


def filtered(
    dataset: AnyDataset,
    classes: str | Sequence[str] | None,
    split: str | Sequence[str] | None,
    names: str | Sequence[str] | None,
    min_area: float | None,
    with_objects: bool | None,
) -> AnyDataset:
    """See `Dataset.filter`."""
    if not dataset.label_kind.has_objects and (min_area is not None or with_objects is not None):
        name = "min_area" if min_area is not None else "with_objects"
        raise InputError(f"{name} selects by objects, but this dataset has {dataset.label_kind.noun}; leave it out")
    if split is not None:
        dataset = _of_splits(dataset, _listed(split, "split"))
    if names is not None:
        dataset = _of_names(dataset, _listed(names, "names"))
    if classes is not None:
        dataset = only_classes(dataset, _listed(classes, "classes"))
    if min_area is not None:
        dataset = _of_area(dataset, min_area)
    if with_objects is not None:
        has = np.diff(dataset.columns.offsets) > 0
        dataset = dataset.taken(np.flatnonzero(has == bool(with_objects)))
    return dataset


def _listed(value: str | Sequence[str], argument: str) -> list[str]:
    listed = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
    if not listed or not all(isinstance(text, str) for text in listed):
        raise InputError(f"{argument} is {value!r}, but must be a string or a list of at least one string")
    return listed


def _of_splits(dataset: AnyDataset, requested: list[str]) -> AnyDataset:
    """The images of the given splits, as a dataset with these splits only."""
    for name in requested:
        if name not in dataset.splits:
            raise InputError(f"there is no split {name!r}; there are: {', '.join(dataset.splits) or 'none'}")
    source = dataset.source
    kept = [k for k, name in enumerate(source.split_names) if name in requested]
    part = dataset.taken(np.flatnonzero(np.isin(dataset.columns.splits, kept)))
    columns = part.source.columns
    new = replace(
        part.source,
        columns=columns.replace(splits=np.searchsorted(kept, columns.splits).astype(np.int8)),
        split_names=tuple(source.split_names[k] for k in kept),
        folders=tuple(source.folders[k] for k in kept) if source.folders else (),
        label_files=tuple(source.label_files[k] for k in kept) if source.label_files else (),
    )
    return part.derived(new, part.rows)


def _of_names(dataset: AnyDataset, patterns: list[str]) -> AnyDataset:
    """The images whose path or file name matches one of the patterns."""
    rows = []
    for i in range(len(dataset)):
        path = dataset.name(i)
        if any(fnmatchcase(text, pattern) for pattern in patterns for text in (path, path.rsplit("/", 1)[-1])):
            rows.append(i)
    if not rows:
        like = " or ".join(map(repr, patterns))
        example = f", such as {dataset.name(0)!r}," if len(dataset) else ""
        raise InputError(f"none of the {len(dataset)} images{example} matches {like}; correct the pattern")
    return dataset.taken(np.array(rows, np.int64))


def _of_area(dataset: AnyDataset, least: float) -> AnyDataset:
    """The same images, without objects below a minimum area."""
    if isinstance(least, bool) or not isinstance(least, int | float) or not least >= 0:
        raise InputError(f"min_area is {least!r}, but must be a number of pixels from 0 on, such as 1024")
    columns = dataset.source.columns
    large = ~(columns.areas < least)  # a NaN area is kept, so that `check` finds it
    source = replace(dataset.source, columns=columns.take_objects(large), opened={})
    left = dataset.derived(source, dataset.rows)
    warn_rows_lost(dataset, left)
    return left
