"""Relations between objects: "relations" of an entry in "images" is a list of [subject, predicate, object].

Subject and object are annotation ids. Relations are read into the table "relations" (`sightline.data.tables`), whose
references follow the objects, and are written from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.malformed import skip_label
from sightline.data.relations import COLUMNS, ENDS, TABLE
from sightline.data.tables import NONE, Table
from sightline.errors import InputError


def with_relations(columns: Columns, path: Path) -> Columns:
    """The columns with the relations table, if images have relations.

    A relation of an object that is not in its image, of an object with itself or without a predicate, and another value
    among relations are malformed labels (`sightline.data.malformed`) of the file `path`. A list without any relation
    is something else, and kept in the images' extra data.
    """
    extra = columns.image_extra
    if extra is None or b'"relations"' not in extra.data.tobytes():
        return columns
    entries: list[bytes] = list(extra)
    rows: list[list[dict[str, Any]]] = []
    for i, text in enumerate(entries):
        facts = json.loads(text) if b'"relations"' in text else {}
        stated = facts.get(TABLE)
        rows.append([])
        if isinstance(stated, list) and (not stated or any(map(_is_relation, stated))):
            own = columns.ids[columns.offsets[i] : columns.offsets[i + 1]].tolist()
            place = {id: position for position, id in enumerate(own)}
            for relation in stated:
                wrong = _wrong(relation, place)
                if wrong:
                    shown = json.dumps(relation, ensure_ascii=False)[:80]
                    where = f"{path}: {columns.names.text(i)} has the relation {shown}"
                    skip_label(InputError(f"{where}, but {wrong}; correct or remove it"), path)
                else:
                    subject, predicate, other = relation
                    rows[i].append({"subject": place[subject], "predicate": predicate, "object": place[other]})
            del facts[TABLE]
            entries[i] = json.dumps(facts, separators=(",", ":")).encode() if facts else b""
    table = Table.from_rows(rows, objects=ENDS, columns=COLUMNS)
    left = Blob.of(entries)
    return columns.replace(image_extra=left if left.data.size else None, tables={**columns.tables, TABLE: table})


def _wrong(relation: Any, known: Mapping[int, int]) -> str:
    """What is wrong with a value among relations; "" if nothing is. `known` are the ids of the image's objects."""
    if not _is_relation(relation):
        return "it must be [subject, predicate, object], two annotation ids and a text"
    subject, predicate, other = relation
    for id in (subject, other):
        if id not in known:
            return f"no object {id}"
    if subject == other:
        return "an object has no relation to itself"
    return "" if predicate.strip() else "its predicate is empty"


def _is_relation(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [int, str, int]


def written(columns: Columns) -> Columns:
    """The columns with only those table rows that COCO can store: relations between two objects."""
    table = columns.tables.get(TABLE)
    if table is None or table.objects != ENDS or set(table.columns) != {*ENDS, "predicate"}:
        return columns.replace(tables={})
    whole = np.logical_and.reduce([np.asarray(table.columns[name]) != NONE for name in ENDS])
    return columns.replace(tables={TABLE: table.take_rows(whole)})


def relations_of(columns: Columns, i: int, ids: np.ndarray) -> list[list[Any]]:
    """The relations of image `i` for its JSON entry; `columns` come from `written`, `ids` are annotation ids."""
    table, first = columns.tables.get(TABLE), int(columns.offsets[i])
    rows = [] if table is None else table.of(i)
    return [[int(ids[first + row["subject"]]), row["predicate"], int(ids[first + row["object"]])] for row in rows]
