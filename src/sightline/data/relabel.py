"""Renaming, merging and removing classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sightline.data.kinds import GONE
from sightline.data.labelled import AnyDataset, LabelledImages, warn_rows_lost
from sightline.errors import InputError
from sightline.structures import Classes


def with_class_mapping(dataset: AnyDataset, mapping: Mapping[str, str | None]) -> AnyDataset:
    """See `Dataset.with_class_mapping`."""
    if not isinstance(mapping, Mapping):
        raise InputError(f"a class mapping is a dict from old to new names, not {type(mapping).__name__}")
    for old, new in mapping.items():
        if not isinstance(old, str):
            raise InputError(f"the class mapping has the key {old!r}, but keys are class names")
        dataset.classes.id(old)
        if new is not None and (not isinstance(new, str) or not new.strip()):
            raise InputError(f"class {old!r} cannot become {new!r}; give a name, or None to remove the class")
    new_names = [mapping.get(name, name) for name in dataset.classes]
    names = list(dict.fromkeys(name.strip() for name in new_names if name is not None))
    if not names:
        raise InputError(f"the mapping removes all {len(new_names)} classes; keep at least one")
    ids = [GONE if name is None else names.index(name.strip()) for name in new_names]
    return _opened_again(dataset, relabelled(dataset, names, ids), ids)


def only_classes(dataset: AnyDataset, names: Sequence[str]) -> AnyDataset:
    """The labels of the given classes, in this order; all others are removed."""
    chosen = list(Classes(names))
    for name in chosen:
        dataset.classes.id(name)
    ids = [chosen.index(name) if name in chosen else GONE for name in dataset.classes]
    return _opened_again(dataset, relabelled(dataset, chosen, ids), ids)


def _opened_again(before: AnyDataset, after: AnyDataset, ids: Sequence[int]) -> AnyDataset:
    """`after` with the arguments of `open_dataset` that open it with its own classes, or a mark that there are none."""
    opened = dict(before.source.opened)
    stated = opened.get("classes", {name: name for name in before.classes})
    if not opened or not isinstance(stated, Mapping):
        return after.opened_with({})
    new = {name: None if id == GONE else after.classes[id] for name, id in zip(before.classes, ids, strict=True)}
    whole = dict.fromkeys(before.classes, None) | dict(stated) if "classes" not in opened else dict(stated)
    mapping = {old: None if name is None else new[name] for old, name in whole.items()}
    in_order = tuple(dict.fromkeys(name for name in mapping.values() if name is not None)) == tuple(after.classes)
    return after.opened_with({**opened, "classes": mapping} if in_order else {})


def relabelled(dataset: AnyDataset, names: Sequence[str], ids: Sequence[int]) -> AnyDataset:
    """Labels with new class ids.

    Args:
        dataset: a dataset of any kind.
        names: the new classes.
        ids: for each old class the id of the new one, or `GONE`: its objects are removed, its pixels are ignored, and
            images labelled with it are removed.
    """
    kind, source = dataset.label_kind, dataset.source
    if kind.relabel is None:
        raise InputError(f"{kind.noun} have no classes that could be renamed, merged or removed")
    relabelled, kept = kind.relabel(source, np.array(ids, np.int64), len(names))
    moved = dataset.derived(replace(relabelled, classes=Classes(names), meta=_meta(dataset, names, ids)), dataset.rows)
    if kind.has_objects:
        warn_rows_lost(dataset, moved)
    if kept is not None and dataset.rows is not None:
        kept = kept[dataset.rows]
    return moved if kept is None or kept.all() else moved.taken(np.flatnonzero(kept))


def _meta(dataset: LabelledImages, names: Sequence[str], ids: Sequence[int]) -> Mapping[str, Any]:
    """The format's metadata of each class: for a new one, that of the class with its name, else of the only old one."""
    meta = dataset.source.meta
    categories = {category.get("name"): category for category in meta.get("categories") or ()}
    if not categories:
        return meta
    entries = []
    for id, name in enumerate(names):
        old = [dataset.classes[k] for k, new in enumerate(ids) if new == id]
        like = name if name in old else old[0] if len(old) == 1 else None
        entries.append({**categories.get(like, {}), "name": name})
    return {**meta, "categories": entries}
