"""Results as tables of Parquet files, and back.

Each part of a dataset of predictions has a file in images/ and, for tasks whose results are objects, regions or events,
one in objects/. A row of images/ has the columns

- source: the path or URI of the image;
- height, width: its size in pixels;
- objects: the number of its rows in objects/;

and for classification class, label and score of the best class and scores, the probabilities of all classes; for events
duration, in seconds. A row of objects/ has source; row, its number in the image, from 0; and

- of an object: class, label, score, x1, y1, x2, y2 (pixels), mask (COCO's RLE: size [height, width] and counts), and
  each additional field of `Instances` under its name: numbers and text as they are, tensors as flat lists;
- of the region of a class in a class map: class, label, pixels (their number), x1, y1, x2, y2 and mask;
- of an event: start, end (seconds), caption and score.

Unreadable images have a row in errors/: source and error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, singledispatch
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle, masks_to_boxes, rle_to_mask
from sightline.structures import IGNORE, Classes, ClassMap, ClassScores, Events, Instances, Size
from sightline.structures.fields import FIELDS
from sightline.structures.meshes import Mesh
from sightline.structures.relations import Relation

KEY = b"sightline"
"""The entry of a file's metadata that describes the results, as JSON."""
CORNERS = ("x1", "y1", "x2", "y2")
Column = tuple[str, Sequence[Any]]
"""The type of a column, a key of `_types`, and its values."""


@dataclass(frozen=True)
class Parts:
    """A result in columns.

    Attributes:
        kind: a key of `READERS`.
        image: columns of images/ with one value each.
        objects: columns of objects/, all of length `count`; None if such results have none.
        count: number of rows in objects/.
        fields: for each field of `Instances`, its dtype and the shape of one object's value; None for a list.
    """

    kind: str
    image: Mapping[str, Column] = field(default_factory=dict)
    objects: Mapping[str, Column] | None = None
    count: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)


@singledispatch
def parts_of(result: Any) -> Parts:
    """A result in columns; functions for additional types can be registered.

    Raises:
        InputError: results of this type have no columns.
    """
    raise InputError(
        f"the model predicts {type(result).__name__}, which Parquet files cannot hold; write a folder (--out DIR)"
    )


@parts_of.register
def _of_objects(result: Instances) -> Parts:
    columns: dict[str, Column] = {}
    fields: dict[str, Any] = {}
    for name, value in result.fields.items():
        if not isinstance(value, Tensor):
            fields[name] = None
            columns |= _listed(name, value)
            continue
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        kind = str(value.dtype).removeprefix("torch.")
        fields[name] = {"dtype": kind, "shape": list(value.shape[1:])}
        columns |= _column(name, kind, value, result.classes)
    return Parts("objects", {}, columns, len(result), fields)


def _column(name: str, kind: str, value: Tensor, classes: Classes | None) -> dict[str, Column]:
    """The columns of a field that is a tensor."""
    if name == "boxes":
        return {corner: (kind, value[:, i].tolist()) for i, corner in enumerate(CORNERS)}
    if name == "labels":
        ids = value.tolist()
        names = [None if classes is None else classes[i] for i in ids]
        return {"class": ("string", names), "label": (kind, ids)}
    if name == "masks":
        return {"mask": ("mask", [_rle(mask) for mask in value])}
    own = "score" if name == "scores" else name
    return {own: (kind, value.tolist()) if value.ndim == 1 else (f"list {kind}", value.flatten(1).tolist())}


def _listed(name: str, values: Sequence[Any]) -> dict[str, Column]:
    """The columns of a field that is a list; none for values that are neither text, relations nor meshes."""
    if name == "relations":
        return {name: ("relations", [[Relation(*own)._asdict() for own in of] for of in values])}
    if name == "meshes":
        solids = [Mesh.of(value) for value in values]
        flat = [{"vertices": m.vertices.flatten().tolist(), "faces": m.faces.flatten().tolist()} for m in solids]
        return {name: ("mesh", flat)}
    if (FIELDS[name].dtype if name in FIELDS else "") == "str":
        return {name: ("string", list(values))}
    return {}


def _rle(mask: Tensor) -> dict[str, Any]:
    rle = mask_to_rle(mask)
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


@parts_of.register
def _of_map(result: ClassMap) -> Parts:
    ids = [i for i in result.labels.unique().tolist() if i != IGNORE]
    masks = torch.stack([result.labels == i for i in ids]) if ids else torch.zeros(0, *result.image_size).bool()
    boxes = masks_to_boxes(masks)
    columns: dict[str, Column] = {
        "class": ("string", [None if result.classes is None else result.classes[i] for i in ids]),
        "label": ("int64", ids),
        "pixels": ("int64", masks.flatten(1).sum(1).tolist()),
        **{corner: ("float32", boxes[:, i].tolist()) for i, corner in enumerate(CORNERS)},
        "mask": ("mask", [_rle(mask) for mask in masks]),
    }
    return Parts("class map", {}, columns, len(ids))


@parts_of.register
def _of_class(result: ClassScores) -> Parts:
    scores = None if result.scores is None else result.scores.float().tolist()
    best = result.label if scores is None else max(range(len(scores)), key=scores.__getitem__)
    name = None if result.classes is None or best is None else result.classes[best]
    score = None if scores is None or best is None else scores[best]
    columns: dict[str, Column] = {
        "class": ("string", [name]),
        "label": ("int64", [best]),
        "score": ("float32", [score]),
    }
    return Parts("class scores", columns | {"scores": ("list float32", [scores])})


@parts_of.register
def _of_events(result: Events) -> Parts:
    columns: dict[str, Column] = {
        "start": ("float64", result.times[:, 0].tolist()),
        "end": ("float64", result.times[:, 1].tolist()),
        "caption": ("string", list(result.captions)),
        "score": ("float32", [None] * len(result) if result.scores is None else result.scores.float().tolist()),
    }
    return Parts("events", {"duration": ("float64", [result.duration])}, columns, len(result))


class Columns:
    """The columns of a table that is collected row by row; where a row lacks a column, its value is null."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.values: dict[str, list[Any]] = {}
        self.length = 0

    def extend(self, count: int, columns: Mapping[str, Column]) -> None:
        """Add `count` rows."""
        for name, (kind, values) in columns.items():
            self.types.setdefault(name, kind)
            self.values.setdefault(name, [None] * self.length).extend(values)
        self.length += count
        for values in self.values.values():
            values.extend([None] * (self.length - len(values)))

    def table(self, facts: Mapping[str, Any]) -> Any:
        """A table of pyarrow; `facts` become its metadata."""
        import pyarrow as arrow

        types = _types()
        schema = arrow.schema([(name, types[kind]) for name, kind in self.types.items()])
        found = arrow.table(self.values, schema=schema)
        return found.replace_schema_metadata({KEY: json.dumps(facts)})


@cache
def _types() -> dict[str, Any]:
    """The types of columns by name."""
    import pyarrow as arrow

    plain = {
        name: getattr(arrow, name)() for name in ("int8", "uint8", "int16", "int32", "int64", "float32", "float64")
    }
    plain |= {"bool": arrow.bool_(), "string": arrow.string()}
    relation = arrow.struct([("predicate", arrow.string()), ("object", arrow.int64()), ("score", arrow.float32())])
    return {
        **plain,
        **{f"list {name}": arrow.list_(kind) for name, kind in plain.items()},
        "mask": arrow.struct([("size", arrow.list_(arrow.int32(), 2)), ("counts", arrow.string())]),
        "relations": arrow.list_(relation),
        "mesh": arrow.struct([("vertices", arrow.list_(arrow.float32())), ("faces", arrow.list_(arrow.int64()))]),
    }


class Part:
    """The rows of one part of a dataset of predictions.

    Attributes:
        images, objects, errors: the columns of the three tables.
        has_objects: whether results of this kind have rows in objects/.
    """

    def __init__(self) -> None:
        self.images, self.objects, self.errors = Columns(), Columns(), Columns()
        self.has_objects = False
        self._facts: dict[str, Any] = {"kind": None, "classes": None, "fields": {}}
        nothing: Column = ("string", [])
        self.images.extend(0, {"source": nothing, "height": ("int32", []), "width": ("int32", [])})
        self.objects.extend(0, {"source": nothing, "row": ("int32", [])})

    def add(self, source: str, size: Size, result: Any) -> None:
        """Add the result of an image of (height, width) `size`.

        Raises:
            InputError: results of this type have no columns.
        """
        found = parts_of(result)
        classes = getattr(result, "classes", None)
        self._facts |= {"kind": found.kind, "classes": None if classes is None else list(classes)}
        self._facts["fields"] |= found.fields
        row: dict[str, Column] = {"source": ("string", [source])}
        row |= {"height": ("int32", [size[0]]), "width": ("int32", [size[1]])}
        if found.objects is not None:
            self.has_objects = True
            row["objects"] = ("int32", [found.count])
            numbers: dict[str, Column] = {"source": ("string", [source] * found.count)}
            self.objects.extend(found.count, {**numbers, "row": ("int32", range(found.count)), **found.objects})
        self.images.extend(1, {**row, **found.image})

    def fail(self, source: str, error: str) -> None:
        """Add an image that could not be predicted, and the reason."""
        self.errors.extend(1, {"source": ("string", [source]), "error": ("string", [error])})

    def tables(self) -> dict[str, Any]:
        """The tables by the name of their folder, in the order in which they are written: images last."""
        found = {"objects": self.objects.table(self._facts)} if self.has_objects else {}
        if self.errors.length:
            found["errors"] = self.errors.table({})
        return found | {"images": self.images.table(self._facts)}


def results_of(images: Any, objects: Any) -> Iterator[Any]:
    """The results of a part, in their order.

    Args:
        images: its table of images/.
        objects: its table of objects/; None if there is none.

    Raises:
        InputError: the tables were not written by `Part`.
    """
    facts = json.loads((images.schema.metadata or {}).get(KEY, b"{}"))
    if not images.num_rows:
        return
    reader = READERS.get(facts.get("kind"))
    if reader is None:
        raise InputError("the Parquet files were not written by Sightline; give a folder of sightline predict")
    classes = None if facts["classes"] is None else Classes(facts["classes"])
    columns = {} if objects is None else {name: objects.column(name).to_pylist() for name in objects.column_names}
    first = 0
    for row in images.to_pylist():
        count = row.get("objects") or 0
        own = {name: values[first : first + count] for name, values in columns.items()}
        yield reader(row, own, classes, facts["fields"])
        first += count


Columned = Mapping[str, list[Any]]


def _objects_back(row: Mapping[str, Any], own: Columned, classes: Classes | None, fields: Mapping[str, Any]) -> Any:
    size = (row["height"], row["width"])
    count = row["objects"]
    found: dict[str, Any] = {}
    for name, kind in fields.items():
        if kind is None:
            if name in own:
                found[name] = [_value_back(name, value) for value in own[name]]
            continue
        if name == "masks":
            masks = [rle_to_mask(rle) for rle in own["mask"]]
            found[name] = torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)
            continue
        names = {"boxes": CORNERS, "labels": ("label",), "scores": ("score",)}.get(name, (name,))
        if any(value is None for one in names for value in own[one]):
            continue  # the model gave this field for other images only
        values = own[names[0]] if len(names) == 1 else list(zip(*(own[one] for one in names), strict=True))
        dtype = getattr(torch, kind["dtype"])
        found[name] = torch.tensor(values, dtype=dtype).reshape(count, *kind["shape"])
    return Instances.unchecked(size, classes=classes, source=row["source"], **found)


def _value_back(name: str, value: Any) -> Any:
    if name == "relations":
        return [Relation(**own) for own in value]
    if name == "meshes":
        vertices = torch.tensor(value["vertices"], dtype=torch.float32).reshape(-1, 3)
        return Mesh.unchecked(vertices, torch.tensor(value["faces"], dtype=torch.int64).reshape(-1, 3))
    return value


def _map_back(row: Mapping[str, Any], own: Columned, classes: Classes | None, _: Any) -> Any:
    labels = torch.full((row["height"], row["width"]), IGNORE, dtype=torch.int64)
    for label, rle in zip(own["label"], own["mask"], strict=True):
        labels[rle_to_mask(rle)] = label
    return ClassMap(labels, classes, source=row["source"])


def _class_back(row: Mapping[str, Any], own: Columned, classes: Classes | None, _: Any) -> Any:
    scores = None if row["scores"] is None else torch.tensor(row["scores"], dtype=torch.float32)
    label = row["label"] if scores is None else None
    return ClassScores((row["height"], row["width"]), label, scores, classes, row["source"])


def _events_back(row: Mapping[str, Any], own: Columned, classes: Classes | None, _: Any) -> Any:
    times = torch.tensor(list(zip(own["start"], own["end"], strict=True)), dtype=torch.float64).reshape(-1, 2)
    scores = None if None in own["score"] else torch.tensor(own["score"], dtype=torch.float32)
    size = (row["height"], row["width"])
    return Events(size, times, tuple(own["caption"]), row["duration"], scores, classes, row["source"])


READERS = {
    "objects": _objects_back,
    "class map": _map_back,
    "class scores": _class_back,
    "events": _events_back,
}
"""Functions that turn a row of images/ and its rows of objects/ into a result, by the kind of the results."""
