"""The same labels among other classes: renamed, merged, left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import IGNORE, Classes, ClassMap

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset

GONE = -1
"""The new id of a class that is left out. In class maps it is `IGNORE`."""


@dataclass(frozen=True)
class MapClasses:
    """What became of the classes in class maps, which hold the ids of old ones.

    Attributes:
        classes: that the maps were made with.
        ids: int64 [K], the id each of them has now; `IGNORE` where its pixels do not count.
    """

    classes: Classes
    ids: np.ndarray

    def renewed(self, labels: Tensor, name: str) -> Tensor:
        """Old ids [H, W] as new ones; `name` is the image's, for messages."""
        old = ClassMap(labels, self.classes, source=name).labels  # refuses ids that are no class
        table = torch.from_numpy(np.append(self.ids, IGNORE))
        return table[torch.where(old == IGNORE, len(self.ids), old)]


def with_class_mapping(dataset: Dataset, mapping: Mapping[str, str | None]) -> Dataset:
    """See `Dataset.with_class_mapping`."""
    if not isinstance(mapping, Mapping):
        raise InputError(f"a class mapping is a dict of old and new names, not {type(mapping).__name__}")
    for old, new in mapping.items():
        if not isinstance(old, str):
            raise InputError(f"the class mapping has the key {old!r}, but keys are names of classes")
        dataset.classes.id(old)
        if new is not None and (not isinstance(new, str) or not new.strip()):
            raise InputError(f"class {old!r} cannot become {new!r}; give a name, or None to leave the class out")
    new_names = [mapping.get(name, name) for name in dataset.classes]
    names = list(dict.fromkeys(name.strip() for name in new_names if name is not None))
    if not names:
        raise InputError(f"the mapping leaves out all {len(new_names)} classes; keep at least one")
    ids = [GONE if name is None else names.index(name.strip()) for name in new_names]
    return _opened_again(dataset, relabelled(dataset, names, ids), ids)


def only_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The labels of some classes, in their order here; the others are left out."""
    chosen = list(Classes(names))
    for name in chosen:
        dataset.classes.id(name)
    ids = [chosen.index(name) if name in chosen else GONE for name in dataset.classes]
    return _opened_again(dataset, relabelled(dataset, chosen, ids), ids)


def _opened_again(before: Dataset, after: Dataset, ids: Sequence[int]) -> Dataset:
    """`after`, knowing how `open_dataset` opens it with its own classes; or that it cannot."""
    opened = dict(before.source.opened)
    stated = opened.get("classes", {name: name for name in before.classes})
    if not opened or not isinstance(stated, Mapping):
        return after.opened_with({})
    new = {name: None if id == GONE else after.classes[id] for name, id in zip(before.classes, ids, strict=True)}
    whole = dict.fromkeys(before.classes, None) | dict(stated) if "classes" not in opened else dict(stated)
    mapping = {old: None if name is None else new[name] for old, name in whole.items()}
    in_order = tuple(dict.fromkeys(name for name in mapping.values() if name is not None)) == tuple(after.classes)
    return after.opened_with({**opened, "classes": mapping} if in_order else {})


def relabelled(dataset: Dataset, names: Sequence[str], ids: Sequence[int]) -> Dataset:
    """Labels with other ids of other classes.

    Args:
        dataset: of any kind.
        names: the new classes.
        ids: for each old class the new one's id, or `GONE`: its objects are left out, its pixels do not count, images
            that are of it are left out.
    """
    from sightline.data.dataset import Dataset

    table = np.array(ids, np.int64)
    source = dataset.source
    changed: dict[str, Any] = {"classes": Classes(names), "meta": _meta(dataset, names, ids)}
    if dataset.kind == "class_map":
        before = source.map_classes
        changed["map_classes"] = (
            MapClasses(source.classes, table)
            if before is None
            else MapClasses(before.classes, np.where(before.ids == IGNORE, IGNORE, table[before.ids]))
        )
        return Dataset(replace(source, **changed), dataset.rows, dataset.fields, dataset.channels)
    columns = source.columns
    if dataset.kind == "class_scores":
        assert columns.image_labels is not None, "a dataset of whole-image labels has them"
        labels = _moved(columns.image_labels, table, len(names))
        changed["columns"] = columns.replace(image_labels=labels)
        moved = Dataset(replace(source, **changed), dataset.rows, dataset.fields, dataset.channels)
        kept = (labels if dataset.rows is None else labels[dataset.rows]) != GONE
        return moved if kept.all() else taken(moved, np.flatnonzero(kept))
    labels = _moved(columns.labels, table, len(names))
    columns = columns.replace(labels=labels)
    changed["columns"] = columns if (labels != GONE).all() else columns.take_objects(labels != GONE)
    return Dataset(replace(source, **changed), dataset.rows, dataset.fields, dataset.channels)


def taken(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """The images at `rows` as a dataset of their own, which is whole if the other one was."""
    from sightline.data.dataset import Dataset

    part = dataset[rows]._own_source()
    return Dataset(part, None if dataset.whole else np.arange(len(rows)), dataset.fields, dataset.channels)


def _moved(labels: np.ndarray, table: np.ndarray, total: int) -> np.ndarray:
    """New ids; an id that is no class stays none, beyond the new ones, for `check` to find."""
    known = (labels >= 0) & (labels < len(table))
    beyond = np.where(labels < 0, total, labels - len(table) + total)
    return np.where(known, table[np.where(known, labels, 0)], beyond).astype(np.int32)


def _meta(dataset: Dataset, names: Sequence[str], ids: Sequence[int]) -> Mapping[str, Any]:
    """What the format keeps of each class: for a new one, of the class of that name, else of the only old one."""
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
