"""A COCO JSON file as columns, read in pieces so that memory stays near what the columns take.

Format: https://cocodataset.org/#format-data. Boxes there are x, y, width, height in pixels, with (0, 0) at the outer
corner of the top-left pixel, as here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.columns import Blob, Column, Columns
from sightline.data.formats.files import class_names, unknown_class
from sightline.data.formats.jsonstream import Batch, JsonFile
from sightline.errors import InputError
from sightline.structures import Classes

_KNOWN = frozenset(
    ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult", "segmentation"]
) | frozenset(["keypoints", "num_keypoints", "caption"])
_IMAGE_KNOWN = frozenset(["id", "file_name", "height", "width"])
_NOTHING = frozenset(["", "[]", "null", "[[]]"])


@dataclass
class CocoFile:
    """What one file holds; the columns' labels are positions in `classes`."""

    columns: Columns
    classes: Classes
    categories: list[dict[str, Any]]
    meta: dict[str, Any]
    orphans: list[str] = field(default_factory=list)


def read_file(path: Path, folder: str, split: int, classes: Classes | None) -> CocoFile:
    """Read a COCO JSON file.

    Args:
        path: the file.
        folder: put before each image's file name, with /; "" for nothing.
        split: the number of the split its images belong to.
        classes: names to which categories are mapped; None for the file's own, by rising category id.

    Raises:
        InputError: the file is not COCO JSON, or an annotation lacks what it must have or is of an unknown category.
    """
    images, objects = _Images(path), _Objects(path)
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
    categories = _categories(others.pop("categories", []), path)
    own = class_names(dict.fromkeys(str(c["name"]) for c in categories), path)
    known = own if classes is None else classes
    columns, orphans = _columns(images, objects, folder, split)
    labels = _labels(columns, categories, known, path)
    return CocoFile(columns.replace(labels=labels), known, categories, others, orphans)


class _Images:
    """The images of a file, gathered."""

    def __init__(self, path: Path):
        self.path = path
        self.ids: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []
        self.names: list[Blob] = []
        self.extra: list[Blob] = []

    def add(self, batch: Batch) -> None:
        entries, _ = batch
        for entry in entries:
            if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
                raise InputError(f'{self.path} has an image without "id" or "file_name": {_short(entry)}; add them')
        self.ids.append(_whole([entry["id"] for entry in entries], self.path, "an image's id"))
        sizes = [(entry.get("height") or 0, entry.get("width") or 0) for entry in entries]
        self.sizes.append(_whole(sizes, self.path, "an image's height and width").reshape(-1, 2))
        self.names.append(Blob.of(entry["file_name"].replace("\\", "/") for entry in entries))
        self.extra.append(_rest(entries, _IMAGE_KNOWN))


class _Objects:
    """The annotations of a file, gathered in order."""

    def __init__(self, path: Path):
        self.path = path
        self.count = 0
        self.parts: dict[str, list[Any]] = {name: [] for name in ("ids", "images", "categories", "boxes", "areas")}
        self.parts |= {name: [] for name in ("crowd", "difficult", "segmentations", "keypoints", "captions", "rest")}
        self.sentences: dict[int, list[str]] = {}

    def add(self, batch: Batch) -> None:
        entries, texts = batch
        for entry in entries:
            if not isinstance(entry, dict) or "image_id" not in entry:
                raise InputError(f'{self.path} has an annotation without "image_id": {_short(entry)}; add it')
        if any("category_id" not in entry for entry in entries):
            entries = self._without_sentences(entries)
        boxes = [entry.get("bbox") for entry in entries]
        if not all(type(box) is list and len(box) == 4 for box in boxes):
            boxes = [self._box(entry, texts) for entry in entries]
        numbers = np.array(boxes)
        if numbers.dtype.kind not in "if":  # something in them is no number: find it, and say so
            numbers = np.array([self._box(entry, texts) for entry in entries])
        xywh = numbers.astype(np.float64).reshape(-1, 4)
        xyxy = xywh.copy()
        xyxy[:, 2:] += xywh[:, :2]
        sides = np.maximum(xywh[:, 2:], 0).prod(1)
        areas = [entry.get("area") for entry in entries]
        if None in areas:
            areas = [side if area is None else area for area, side in zip(areas, sides.tolist(), strict=True)]
        ids = [entry.get("id") for entry in entries]
        if None in ids:
            ids = [self.count + 1 + k if id is None else id for k, id in enumerate(ids)]
        add = {name: part.append for name, part in self.parts.items()}
        add["ids"](_whole(ids, self.path, "an annotation's id"))
        add["images"](_whole([entry["image_id"] for entry in entries], self.path, "an annotation's image_id"))
        add["categories"](_whole([entry["category_id"] for entry in entries], self.path, "a category_id"))
        add["boxes"](xyxy)
        add["areas"](_numbers(areas, self.path, "an annotation's area").astype(np.float64))
        add["crowd"](np.array([bool(entry.get("iscrowd")) for entry in entries], bool))
        add["difficult"](np.array([bool(entry.get("difficult")) for entry in entries], bool))
        add["segmentations"](Blob.of(_text(entry.get("segmentation"), texts) for entry in entries))
        add["keypoints"](self._keypoints(entries))
        add["captions"](_captions(entries))
        add["rest"](_rest(entries, _KNOWN))
        self.count += len(entries)

    def _without_sentences(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Set aside sentences about whole images; what is left are objects."""
        objects = []
        for entry in entries:
            if "category_id" in entry:
                objects.append(entry)
            elif "caption" in entry:
                self.sentences.setdefault(int(entry["image_id"]), []).append(str(entry["caption"]))
            else:
                raise InputError(f'{self.path}: annotation {entry.get("id")} has no "category_id"; add it')
        return objects

    def _box(self, entry: dict[str, Any], texts: Sequence[str]) -> list[float]:
        """The box of one annotation: from its polygons where it has none of its own."""
        box = entry.get("bbox")
        if box is None or box == []:
            segmentation = json.loads(_text(entry.get("segmentation"), texts) or "[]")
            if segmentation and isinstance(segmentation, list):
                points = np.concatenate([np.asarray(p, np.float64).reshape(-1, 2) for p in segmentation])
                return [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()]
        if isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) for v in box):
            return box
        raise InputError(
            f"{self.path}: annotation {entry.get('id')} has bbox {_short(box)}, but a box is four numbers "
            "[x, y, width, height] in pixels; correct or remove it"
        )

    def _keypoints(self, entries: list[dict[str, Any]]) -> np.ndarray | None:
        lists = [entry.get("keypoints") for entry in entries]
        longest = max((len(points) for points in lists if points), default=0)
        if not longest:
            return None
        out = np.zeros((len(lists), longest // 3, 3), np.float32)
        for slot, points, entry in zip(out, lists, entries, strict=True):
            if points:
                if len(points) % 3:
                    raise InputError(
                        f"{self.path}: annotation {entry.get('id')} has {len(points)} keypoint values, but each point "
                        "has three: x, y, visibility"
                    )
                slot[: len(points) // 3] = np.reshape(points, (-1, 3))
        return out


def _columns(images: _Images, objects: _Objects, folder: str, split: int) -> tuple[Columns, list[str]]:
    """Columns in the images' order (labels are still category ids), and annotations of images that are not listed."""
    image_ids = _cat(images.ids, np.int64)
    by_id = np.argsort(image_ids, kind="stable")
    if len(image_ids) > 1 and (np.diff(image_ids[by_id]) == 0).any():
        twice = image_ids[by_id][1:][np.diff(image_ids[by_id]) == 0][0]
        raise InputError(f"{images.path} has two images with id {twice}, but ids must be unique; renumber them")
    of = _cat(objects.parts["images"], np.int64)
    place = np.searchsorted(image_ids[by_id], of)
    place[place == len(image_ids)] = 0
    row = by_id[place] if len(image_ids) else np.zeros(len(of), np.int64)
    listed = image_ids[row] == of if len(image_ids) else np.zeros(len(of), bool)
    ids = _cat(objects.parts["ids"], np.int64)
    orphans = [
        f"{images.path.name}: annotation {a} of image {i}" for a, i in zip(ids[~listed], of[~listed], strict=True)
    ]
    order = np.flatnonzero(listed)
    order = order[np.argsort(row[order], kind="stable")]
    in_place = np.array_equal(order, np.arange(len(of)))
    offsets = np.zeros(len(image_ids) + 1, np.int64)
    np.cumsum(np.bincount(row[order], minlength=len(image_ids)), out=offsets[1:])

    def sort(name: str, dtype: Any) -> Any:
        parts = objects.parts.pop(name)  # let each go as soon as it is joined
        if dtype is Blob:
            blob = Blob.concatenate(parts) if parts else Blob.empty(0)
            return blob if in_place else blob.take(order)
        joined = _cat(parts, dtype)
        return joined if in_place else joined[order]

    sizes = np.concatenate(images.sizes) if images.sizes else np.zeros((0, 2), np.int64)
    names = Blob.concatenate(images.names) if images.names else Blob.empty(0)
    image_extra = Blob.concatenate(images.extra) if images.extra else Blob.empty(0)
    if objects.sentences:
        image_extra = _with_captions(image_extra, image_ids, objects.sentences)
    captions, rest = sort("captions", Blob), sort("rest", Blob)
    columns = Columns(
        offsets=offsets,
        boxes=sort("boxes", np.float64).reshape(-1, 4),
        labels=sort("categories", np.int64),
        crowd=sort("crowd", bool),
        difficult=sort("difficult", bool),
        areas=sort("areas", np.float64),
        ids=sort("ids", np.int64),
        segmentations=sort("segmentations", Blob),
        keypoints=_joined_keypoints(objects.parts["keypoints"], objects.parts["images"], order),
        captions=captions if captions.data.size else None,
        extra=_promoted(rest),
        names=Blob.of(f"{folder}/{name}" for name in names.texts()) if folder else names,
        heights=sizes[:, 0].astype(np.int32),
        widths=sizes[:, 1].astype(np.int32),
        image_ids=image_ids,
        splits=np.full(len(image_ids), split, np.int8),
        image_extra=image_extra if image_extra.data.size else None,
    )
    return columns, orphans


def _labels(columns: Columns, categories: list[dict[str, Any]], classes: Classes, path: Path) -> np.ndarray:
    """Class ids for the category ids in `columns.labels`."""
    ids = np.array([c["id"] for c in categories], np.int64)  # rising
    place = np.minimum(np.searchsorted(ids, columns.labels), max(len(ids) - 1, 0))
    known = ids[place] == columns.labels if len(ids) else np.zeros(len(columns.labels), bool)
    if not known.all():
        at = int(np.flatnonzero(~known)[0])
        names = [f"{c['id']} {c['name']}" for c in categories]
        raise unknown_class(f"{path}: annotation {columns.ids[at]}", f"category_id {columns.labels[at]}", names)
    to_class = np.array([classes.id(c["name"]) if c["name"] in classes else -1 for c in categories], np.int32)
    labels = to_class[place] if len(ids) else np.zeros(0, np.int32)
    if (labels < 0).any():
        at = int(np.flatnonzero(labels < 0)[0])
        name = categories[int(place[at])]["name"]
        raise unknown_class(f"{path}: annotation {columns.ids[at]}", f"category {name!r}", classes)
    return labels


def _categories(value: Any, path: Path) -> list[dict[str, Any]]:
    """The categories by rising id."""
    if not isinstance(value, list) or not all(isinstance(c, dict) and "id" in c and "name" in c for c in value):
        raise InputError(f'{path} is not COCO: "categories" must be a list of objects with "id" and "name"')
    return sorted(({**c, "name": str(c["name"])} for c in value), key=lambda c: int(c["id"]))


def _with_captions(extra: Blob, image_ids: np.ndarray, sentences: dict[int, list[str]]) -> Blob:
    entries = []
    for id, entry in zip(image_ids.tolist(), extra, strict=True):
        known = json.loads(entry) if entry else {}
        if id in sentences:
            known["captions"] = sentences[id]
        entries.append(_compact(known) if known else "")
    return Blob.of(entries)


def _promoted(rest: Blob) -> dict[str, Column]:
    """Keys beyond COCO's: a column each where all annotations have numbers of one shape, else JSON in "other"."""
    if not rest.data.size:
        return {}
    dicts: Iterable[dict[str, Any]] = (json.loads(entry) if entry else {} for entry in rest)
    first = json.loads(next(entry for entry in rest if entry))
    columns: dict[str, Column] = {}
    if rest.lengths.min() > 0:
        for name, example in first.items():
            try:
                column = np.array([json.loads(entry)[name] for entry in rest])
            except (KeyError, ValueError):
                continue
            if column.dtype.kind in "biuf" and column.shape[1:] == np.shape(example):
                columns[name] = column
    other = Blob.of(_compact(d) if (d := {k: v for k, v in e.items() if k not in columns}) else "" for e in dicts)
    return columns | ({"other": other} if other.data.size else {})


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


def _captions(entries: list[dict[str, Any]]) -> Blob:
    if not any("caption" in entry for entry in entries):
        return Blob.empty(len(entries))
    return Blob.of(str(entry.get("caption") or "") for entry in entries)


def _text(segmentation: Any, texts: Sequence[str]) -> str:
    text = texts[segmentation] if type(segmentation) is int else ""
    return "" if text in _NOTHING else text


def _rest(entries: list[dict[str, Any]], known: frozenset[str]) -> Blob:
    """Compact JSON of whatever keys are not `known`."""
    if all(entry.keys() <= known for entry in entries):
        return Blob.empty(len(entries))
    rests = ({key: value for key, value in entry.items() if key not in known} for entry in entries)
    return Blob.of(_compact(rest) if rest else "" for rest in rests)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _whole(values: list[Any], path: Path, what: str) -> np.ndarray:
    numbers = _numbers([int(v) if isinstance(v, str) and v.isdecimal() else v for v in values], path, what)
    if numbers.dtype.kind == "f" and not (numbers == np.floor(numbers)).all():
        raise InputError(f"{path}: {what} is {numbers[numbers != np.floor(numbers)][0]}, but it must be a whole number")
    return numbers.astype(np.int64)


def _numbers(values: list[Any], path: Path, what: str) -> np.ndarray:
    numbers = np.array(values)
    if numbers.dtype.kind not in "iufb" and len(values):
        bad = next((v for v in values if not isinstance(v, int | float | tuple)), values[0])
        raise InputError(f"{path}: {what} is {_short(bad)}, but it must be a number")
    return numbers


def _cat(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
