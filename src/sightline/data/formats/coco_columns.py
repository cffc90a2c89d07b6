"""A COCO JSON file as columns, read in pieces to keep memory use close to the size of the columns.

Format: https://cocodataset.org/#format-data. COCO boxes are x, y, width, height in pixels, with (0, 0) at the outer
corner of the top-left pixel, as everywhere in Sightline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob, Column, column_of_objects
from sightline.data.columns import Columns
from sightline.data.formats.coco_gather import FIRST_TEXT, Images, Objects, Texts, compact
from sightline.data.formats.coco_labels import with_image_labels
from sightline.data.formats.coco_relations import with_relations
from sightline.data.formats.files import class_names, unknown_class
from sightline.data.formats.jsonstream import JsonFile
from sightline.data.malformed import skip_label
from sightline.data.segmentation import area_of
from sightline.errors import InputError
from sightline.structures import Classes
from sightline.structures.fields import FIELDS


@dataclass
class CocoFile:
    """The contents of one file; labels are indices into `classes`."""

    columns: Columns
    classes: Classes
    categories: list[dict[str, Any]]
    meta: dict[str, Any]
    orphans: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_file(path: Path, folder: str, split: int, classes: Classes | None) -> CocoFile:
    """Read a COCO JSON file.

    Args:
        path: the file.
        folder: prefix for each image's file name, joined with /; "" for none.
        split: index of the split that the images belong to.
        classes: class names that categories are mapped to; None for the file's categories by increasing id.

        Raises:
        InputError: the file is not COCO JSON, or an annotation lacks a required key or has an unknown category.
    """
    images = Images(path)
    objects = Objects(path, images.texts)
    others: dict[str, Any] = {}
    seen = set()
    for key, value in JsonFile(path).items({"images", "annotations"}):
        seen.add(key)
        if key in ("images", "annotations"):
            if isinstance(value, list | dict | str | float | int | None):
                raise InputError(f'{path} is not COCO: "{key}" must be a list of objects, not {type(value).__name__}')
            gather = images.add if key == "images" else objects.add
            for batch in value:
                gather(batch)
        else:
            others[key] = value
    if not seen & {"images", "annotations"}:
        raise InputError(
            f'{path} is not COCO: it has no "images" and no "annotations" ({", ".join(seen) or "no keys"})'
        )
    categories, ids = _categories(others.pop("categories", []), path, objects.category_texts)
    own = class_names(dict.fromkeys(c["name"] for c in categories), path)
    known = own if classes is None else classes
    image_ids = _cat(images.ids, np.int64)
    columns, orphans = _columns(images, objects, folder, split)
    if objects.count:
        for entry in objects.labels:  # image labels among annotations with boxes: they lack a box
            skip_label(objects.without_box(entry), path)
    elif objects.labels:
        by_number = dict(zip(ids.tolist(), categories, strict=True))
        columns, orphans = with_image_labels(columns, objects, image_ids, by_number, known, path)
    labels = _labels(columns, categories, ids, objects.category_texts, known, path)
    columns = with_relations(columns.replace(labels=labels), path)
    if (labels < 0).any():
        columns = columns.take_objects(labels >= 0)
    return CocoFile(columns, known, categories, others, orphans, _same_names(categories, path))


def _columns(images: Images, objects: Objects, folder: str, split: int) -> tuple[Columns, list[str]]:
    """Columns in the order of images (labels are still category ids), and annotations of unlisted images."""
    image_ids = _cat(images.ids, np.int64)
    by_id = np.argsort(image_ids, kind="stable")
    if len(image_ids) > 1 and (np.diff(image_ids[by_id]) == 0).any():
        (twice,) = images.texts.originals(image_ids[by_id][1:][np.diff(image_ids[by_id]) == 0][:1])
        raise InputError(f"{images.path} contains two images with id {twice}, but ids must be unique; renumber them")
    of = _cat(objects.parts["images"], np.int64)
    place = np.searchsorted(image_ids[by_id], of)
    place[place == len(image_ids)] = 0
    row = by_id[place] if len(image_ids) else np.zeros(len(of), np.int64)
    listed = image_ids[row] == of if len(image_ids) else np.zeros(len(of), bool)
    ids = _cat(objects.parts["ids"], np.int64)
    orphans = [
        f"{images.path.name}: annotation {a} of image {i}"
        for a, i in zip(ids[~listed].tolist(), images.texts.originals(of[~listed]), strict=True)
    ]
    order = np.flatnonzero(listed)
    order = order[np.argsort(row[order], kind="stable")]
    in_place = np.array_equal(order, np.arange(len(of)))
    offsets = np.zeros(len(image_ids) + 1, np.int64)
    np.cumsum(np.bincount(row[order], minlength=len(image_ids)), out=offsets[1:])

    def sort(name: str, dtype: Any) -> Any:
        parts = objects.parts.pop(name)  # free each list as soon as it is concatenated
        if dtype is Blob:
            blob = Blob.concatenate(parts) if parts else Blob.empty(0)
            parts.clear()  # segmentations take the most memory, and a sorted copy is made next
            return blob if in_place else blob.take(order)
        joined = _cat(parts, dtype)
        return joined if in_place else joined[order]

    sizes = np.concatenate(images.sizes) if images.sizes else np.zeros((0, 2), np.int64)
    names = Blob.concatenate(images.names) if images.names else Blob.empty(0)
    image_extra = Blob.concatenate(images.extra) if images.extra else Blob.empty(0)
    if objects.sentences:
        image_extra = _with_captions(image_extra, image_ids, objects.sentences)
    if images.texts.numbers:
        image_ids, image_extra = _numbered(image_ids, image_extra, images.texts)
    captions, rest = sort("captions", Blob), sort("rest", Blob)
    columns = Columns(
        offsets=offsets,
        boxes=sort("boxes", np.float64).reshape(-1, 4),
        labels=sort("categories", np.int64),
        crowd=sort("crowd", bool),
        difficult=sort("difficult", bool),
        areas=sort("areas", np.float64),
        ids=ids[order],
        segmentations=sort("segmentations", Blob),
        keypoints=_joined_keypoints(objects.parts["keypoints"], objects.parts["images"], order),
        captions=captions if captions.data.size else None,
        extra=_promoted(rest, ids[order], images.path),
        names=Blob.of(f"{folder}/{name}" for name in names.texts()) if folder else names,
        heights=sizes[:, 0].astype(np.int32),
        widths=sizes[:, 1].astype(np.int32),
        image_ids=image_ids,
        splits=np.full(len(image_ids), split, np.int8),
        image_extra=image_extra if image_extra.data.size else None,
    )
    return columns.replace(areas=_areas(columns)), orphans


def _areas(columns: Columns) -> np.ndarray:
    """Stated areas; if an area is missing or impossible, that of the mask, and without a mask that of the box."""
    areas = columns.areas.copy()
    missing = np.flatnonzero(~((areas >= 0) & np.isfinite(areas)))
    images = columns.image_of
    for row in missing.tolist():
        entry = columns.segmentations[row]
        size = int(columns.heights[images[row]]), int(columns.widths[images[row]])
        area = area_of(json.loads(entry), size) if entry else None
        width, height = columns.boxes[row, 2:] - columns.boxes[row, :2]
        areas[row] = max(width, 0.0) * max(height, 0.0) if area is None else area
    return areas


def _numbered(ids: np.ndarray, extra: Blob, texts: Texts) -> tuple[np.ndarray, Blob]:
    """Numbers for images whose ids are strings; the strings are kept in the images' extra data."""
    is_text = ids >= FIRST_TEXT
    numbers = ids.copy()
    numbers[is_text] = max(ids[~is_text].max(initial=0), 0) + 1 + np.arange(is_text.sum())
    entries = []
    for entry, text, id in zip(extra, is_text.tolist(), texts.originals(ids), strict=True):
        entries.append(compact({"id": id} | (json.loads(entry) if entry else {})).encode() if text else entry)
    return numbers, Blob.of(entries)


def _labels(
    columns: Columns, categories: list[dict[str, Any]], ids: np.ndarray, texts: Texts, classes: Classes, path: Path
) -> np.ndarray:
    """Class ids for the category ids in `columns.labels`, −1 if unknown; `ids` are the category ids."""
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids[order], columns.labels), max(len(ids) - 1, 0))
    place = order[place] if len(ids) else place
    known = ids[place] == columns.labels if len(ids) else np.zeros(len(columns.labels), bool)
    listed = [f"{c['id']} {c['name']}" for c in categories]
    unknown = np.flatnonzero(~known)
    for at, id in zip(unknown.tolist(), texts.originals(columns.labels[unknown]), strict=True):
        skip_label(unknown_class(f"{path}: annotation {columns.ids[at]}", f"category_id {id!r}", listed), path)
    to_class = np.array([classes.id(c["name"]) if c["name"] in classes else -1 for c in categories], np.int32)
    labels = to_class[place] if len(ids) else np.full(len(known), -1, np.int32)
    labels[~known] = -1
    for at in np.flatnonzero((labels < 0) & known).tolist():
        name = categories[int(place[at])]["name"]
        skip_label(unknown_class(f"{path}: annotation {columns.ids[at]}", f"category {name!r}", classes), path)
    return labels


def _categories(value: Any, path: Path, texts: Texts) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The categories by increasing id (in file order if ids are strings), and the numbers that represent their ids."""
    if not isinstance(value, list) or not all(isinstance(c, dict) and "id" in c and "name" in c for c in value):
        raise InputError(f'{path} is not COCO: "categories" must be a list of objects with "id" and "name"')
    ids = texts.ids([c["id"] for c in value], path, "a category's id")
    by_id: dict[int, dict[str, Any]] = {}
    for category, id, original in zip(value, ids.tolist(), texts.originals(ids), strict=True):
        name = category["name"]
        if type(name) not in (str, int, float) or not str(name).strip():
            raise InputError(f"{path}: category {original!r} has the name {name!r}, but names are strings; correct it")
        name = str(name).strip()
        first = by_id.setdefault(id, {**category, "id": original, "name": name})["name"]
        if first != name:
            raise InputError(
                f"{path} has two categories with id {original!r}, {first!r} and {name!r}, so the class of their "
                "annotations is ambiguous; renumber one category and its annotations"
            )
    if not any(isinstance(category["id"], str) for category in by_id.values()):
        by_id = dict(sorted(by_id.items()))
    return list(by_id.values()), np.array(list(by_id), np.int64)


def _same_names(categories: list[dict[str, Any]], path: Path) -> list[str]:
    """A note for each name that several categories share, ignoring leading and trailing spaces."""
    by_name: dict[str, list[Any]] = {}
    for category in categories:
        by_name.setdefault(category["name"], []).append(category["id"])
    return [
        f"{path.name}: categories {', '.join(map(str, ids))} all have the name {name!r} (ignoring spaces around it) "
        "and are read as one class"
        for name, ids in by_name.items()
        if len(ids) > 1
    ]


def _with_captions(extra: Blob, image_ids: np.ndarray, sentences: dict[int, list[str]]) -> Blob:
    entries = []
    for id, entry in zip(image_ids.tolist(), extra, strict=True):
        known = json.loads(entry) if entry else {}
        if id in sentences:
            known["captions"] = sentences[id]
        entries.append(compact(known) if known else "")
    return Blob.of(entries)


def _promoted(rest: Blob, ids: np.ndarray, path: Path) -> dict[str, Column]:
    """Keys beyond COCO's as columns: one column per key if all annotations have numbers of one shape, or lists of a
    known field (`sightline.structures.fields`); the others are stored as JSON in "other"."""
    if not rest.data.size:
        return {}
    dicts: Iterable[dict[str, Any]] = (json.loads(entry) if entry else {} for entry in rest)
    first = json.loads(next(entry for entry in rest if entry))
    columns: dict[str, Column] = _optional_fields(rest, ids, path)
    lists = {row.json or row.name for row in FIELDS.values() if row.shape is None and row.json is not None}
    if rest.lengths.min() > 0:
        for name, example in first.items():
            if name in columns:
                continue
            try:
                values = [json.loads(entry)[name] for entry in rest]
                column = column_of_objects(values) if name in lists else np.array(values)
            except (KeyError, ValueError):
                continue
            if name in lists or (column.dtype.kind in "biuf" and column.shape[1:] == np.shape(example)):
                columns[name] = column
    other = Blob.of(compact(d) if (d := {k: v for k, v in e.items() if k not in columns}) else "" for e in dicts)
    return columns | ({"other": other} if other.data.size else {})


def _optional_fields(rest: Blob, ids: np.ndarray, path: Path) -> dict[str, Column]:
    """Known fields of a fixed number of float values, NaN for annotations without them, such as unknown cuboids.

    If some values fit a field, others are malformed labels of the file `path`; if none does, they are something else.
    """
    columns: dict[str, Column] = {}
    for row in FIELDS.values():
        name = row.json or row.name
        shape = tuple(side for side in row.shape or () if isinstance(side, int))
        if not shape or shape != row.shape or row.json is None or row.dtype != "float":
            continue
        if f'"{name}"'.encode() not in rest.data.tobytes():
            continue
        found = [json.loads(entry).get(name) if entry else None for entry in rest]
        values = np.full((len(rest), *shape), np.nan)
        wrong = []
        for place, value in enumerate(found):
            if value is not None and (numbers := _numbers(value, shape)) is not None:
                values[place] = numbers
            elif value is not None:
                wrong.append(place)
        if len(wrong) == sum(value is not None for value in found):
            continue
        for place in wrong:
            rule = f"{' × '.join(map(str, shape))} finite numbers"
            error = f"{path}: annotation {ids[place]}'s {name} are {compact(found[place])[:80]}, but must be {rule}"
            skip_label(InputError(f"{error}; correct them, or remove the key if they are unknown"), path)
        columns[name] = values
    return columns


def _numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """`value` as numbers of a shape, all NaN if they are unknown; None if it is something else."""
    try:
        numbers = np.array(value)
    except ValueError:  # lists of different lengths
        return None
    fits = numbers.dtype.kind in "if" and numbers.shape == shape and not np.isinf(numbers).any()
    fits = fits and bool(np.isnan(numbers).all() == np.isnan(numbers).any())
    return numbers if fits else None


def _joined_keypoints(parts: list[np.ndarray | None], images: list[np.ndarray], order: np.ndarray) -> np.ndarray | None:
    points = max((part.shape[1] for part in parts if part is not None), default=0)
    if not points:
        return None
    out = np.zeros((sum(map(len, images)), points, 3), np.float32)
    start = 0
    for part, image in zip(parts, images, strict=True):
        if part is not None:
            out[start : start + len(part), : part.shape[1]] = part
        start += len(image)
    return out[order]


def _cat(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
