"""Relations between objects in the columns of a dataset: the table "relations" with subject, predicate and object.

Targets have them in the fields `keys` and `relations` (`sightline.structures.relations`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.tables import NONE, Table
from sightline.errors import InputError
from sightline.structures import Instances
from sightline.structures.relations import FIELDS, Relation, triplets_of

TABLE = "relations"
ENDS = ("subject", "object")
COLUMNS = ("subject", "predicate", "object")


def has_relations(columns: Columns) -> bool:
    """Whether there is a table of relations between two objects."""
    table = columns.tables.get(TABLE)
    return table is not None and table.objects == ENDS and isinstance(table.columns.get("predicate"), Blob)


def read_relations(columns: Columns, name: str, rows: slice) -> Any:
    """The field `keys` or `relations` of the objects in `rows`, which are all objects of one image.

    The key of an object is its position in its image. Relations without an object, or without a subject, are left out.
    """
    count = rows.stop - rows.start
    if name == "keys":
        return torch.arange(count)
    found: list[list[Relation]] = [[] for _ in range(count)]
    if count:
        image = int(np.searchsorted(columns.offsets, rows.start, "right")) - 1
        for row in columns.tables[TABLE].of(image):
            if NONE not in (row["subject"], row["object"]):
                found[row["subject"]].append(Relation(row["predicate"], row["object"]))
    return found


def relations_table(targets: Sequence[Instances]) -> Table | None:
    """The relations of targets as a table; None if no target has the fields.

    Raises:
        InputError: two objects of an image have the same key, or a relation is to a key that no object has,
            or to the object itself.
    """
    if not any(name in target for target in targets for name in FIELDS):
        return None
    rows = []
    for i, target in enumerate(targets):
        where = target.source or f"image {i}"
        if len(target) and not all(name in target for name in FIELDS):
            raise InputError(f"{where} has only one of the fields keys and relations; give both, or neither")
        if len(target):
            _require_keys(target, where)
        rows.append([{"subject": t.subject, "predicate": t.predicate, "object": t.object} for t in triplets_of(target)])
    return Table.from_rows(rows, ENDS, columns=COLUMNS)


def _require_keys(target: Instances, where: str) -> None:
    keys = target.keys.tolist()
    known = set(keys)
    if len(known) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise InputError(f"{where} has two objects with the key {twice}; give each object a key of its own")
    for subject, own in zip(keys, target.relations, strict=True):
        for relation in map(Relation._make, own):
            if relation.object == subject:
                raise InputError(
                    f"{where}: object {subject} is {relation.predicate!r} itself, but relations are between two "
                    "objects; remove it"
                )
            if relation.object not in known:
                raise InputError(
                    f"{where}: object {subject} is {relation.predicate!r} object {relation.object}, but there is no "
                    f"object with this key; the keys are {', '.join(map(str, keys))}; correct or remove the relation"
                )


def predicates_of(columns: Columns) -> tuple[str, ...]:
    """The predicates of all relations, the most frequent first; of equals, in alphabetical order."""
    if not has_relations(columns):
        return ()
    predicates = columns.tables[TABLE].columns["predicate"]
    assert isinstance(predicates, Blob), "predicates are text"
    counts = Counter(predicates.texts())
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))
