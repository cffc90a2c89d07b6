"""Collecting the images and annotations of a COCO file into arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from sightline.data.blob import Blob
from sightline.data.formats.jsonstream import Batch
from sightline.data.malformed import skip_label
from sightline.data.segmentation import usable_part
from sightline.errors import InputError
from sightline.ops.masks import rle_to_box

_KNOWN = frozenset(
    ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult", "segmentation"]
) | frozenset(["keypoints", "num_keypoints", "caption"])
_OF_IMAGE = ("id", "image_id", "category_id", "bbox")
"""The keys that are kept of an annotation with an image label."""
_IMAGE_KNOWN = frozenset(["id", "file_name", "height", "width"])
FIRST_TEXT = 2**61
"""Numbers from here on represent string ids."""
_NOTHING = frozenset(["", "[]", "null", "[[]]", '""'])
_FLAGS = {None: False, 0: False, 1: True, "0": False, "1": True}


class Texts:
    """Maps ids to integers: string ids, which pycocotools accepts as well, get large numbers.

    A string that is a plain integer ("12", not "012") is mapped to that integer. Integers of more than 61 bits, such as
    hashes, are treated like strings.
    """

    def __init__(self) -> None:
        self.numbers: dict[str | int, int] = {}

    def ids(self, values: list[Any], path: Path, what: str) -> np.ndarray:
        """Convert ids to int64; raises InputError naming a value that is not a valid id."""
        if not all(type(value) is int and -FIRST_TEXT < value < FIRST_TEXT for value in values):
            values = [self._number(value) if isinstance(value, str) or _is_word(value) else value for value in values]
        return whole(values, path, what, -FIRST_TEXT, FIRST_TEXT + len(self.numbers))

    def _number(self, id: str | int) -> int:
        if not _is_word(id):
            return int(id)
        return self.numbers.setdefault(id, FIRST_TEXT + len(self.numbers))

    def originals(self, numbers: np.ndarray) -> list[int | str]:
        """The original ids of `numbers`."""
        texts = list(self.numbers)
        return [texts[number - FIRST_TEXT] if number >= FIRST_TEXT else number for number in numbers.tolist()]


def _is_word(id: Any) -> bool:
    """Whether an id is a string other than a plain integer, or an integer with many digits."""
    if not isinstance(id, str):
        return type(id) is int and abs(id) >= FIRST_TEXT
    return not (id.isascii() and id.isdecimal() and len(id) <= 18 and (id[0] != "0" or id == "0"))


def _side(value: Any) -> Any:
    """The height or width of an image, 0 if missing; some tools write numbers as strings."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value or 0


def _one_by_one(add: Callable[[Batch], None], batch: Batch, path: Path) -> None:
    """Add a batch as a whole; if that fails, add its entries one by one and skip those that cannot be read."""
    entries, texts = batch
    try:
        add(batch)
    except InputError:
        for entry in entries:
            try:
                add(([entry], texts))
            except InputError as error:
                skip_label(error, path)


class Images:
    """Collects the images of a file."""

    def __init__(self, path: Path):
        self.path = path
        self.texts = Texts()
        self.ids: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []
        self.names: list[Blob] = []
        self.extra: list[Blob] = []

    def add(self, batch: Batch) -> None:
        """Add images; those that cannot be read are skipped."""
        _one_by_one(self._add, batch, self.path)

    def _add(self, batch: Batch) -> None:
        entries, _ = batch
        for entry in entries:
            if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
                raise InputError(f'{self.path} has an image without "id" or "file_name": {_short(entry)}; add them')
        sizes = [(_side(entry.get("height")), _side(entry.get("width"))) for entry in entries]
        one = f"image {entries[0]['file_name']}" if len(entries) == 1 else "an image"
        whole_sizes = whole(sizes, self.path, f"{one}'s height and width", 0, 2**30).reshape(-1, 2)
        self.ids.append(self.texts.ids([entry["id"] for entry in entries], self.path, f"{one}'s id"))
        self.sizes.append(whole_sizes)
        self.names.append(Blob.of(entry["file_name"].replace("\\", "/") for entry in entries))
        self.extra.append(_rest(entries, _IMAGE_KNOWN))


class Objects:
    """Collects the annotations of a file in order.

    Attributes:
        labels: annotations with a category but no box or outline that precede the first annotation with one. If the
            file has no other annotations, they are image labels.
    """

    def __init__(self, path: Path, image_texts: Texts):
        self.path = path
        self.image_texts = image_texts
        self.category_texts = Texts()
        self.count = 0
        self.parts: dict[str, list[Any]] = {name: [] for name in ("ids", "images", "categories", "boxes", "areas")}
        self.parts |= {name: [] for name in ("crowd", "difficult", "segmentations", "keypoints", "captions", "rest")}
        self.sentences: dict[int, list[str]] = {}
        self.labels: list[dict[str, Any]] = []

    def add(self, batch: Batch) -> None:
        """Add annotations; those that cannot be read are skipped."""
        _one_by_one(self._add, batch, self.path)

    def _add(self, batch: Batch) -> None:
        entries, texts = batch
        for entry in entries:
            if not isinstance(entry, dict) or "image_id" not in entry:
                raise InputError(f'{self.path} has an annotation without "image_id": {_short(entry)}; add it')
        sentences: list[tuple[int, str]] = []
        if any("category_id" not in entry for entry in entries):
            entries = self._without_sentences(entries, sentences)
        if not self.count and all(_is_of_image(entry, texts) for entry in entries):
            self.labels += [{key: entry.get(key) for key in _OF_IMAGE} for entry in entries]
            entries = []
        boxes = [entry.get("bbox") for entry in entries]
        if not all(type(box) is list and len(box) == 4 for box in boxes):
            boxes = [self._box(entry, texts) for entry in entries]
        numbers = _array(boxes)
        if boxes and (numbers.dtype.kind not in "if" or bool in set(map(type, chain.from_iterable(boxes)))):
            # some value is not a number: find it and report it
            numbers = np.array([self._box(entry, texts) for entry in entries])
        xywh = numbers.astype(np.float64).reshape(-1, 4)
        xyxy = xywh.copy()
        xyxy[:, 2:] += xywh[:, :2]
        areas = [entry.get("area") for entry in entries]
        if None in areas:
            areas = [np.nan if area is None else area for area in areas]
        ids = [entry.get("id") for entry in entries]
        if None in ids:
            ids = [self.count + 1 + k if id is None else id for k, id in enumerate(ids)]
        new: dict[str, Any] = {}
        one = f"annotation {entries[0].get('id')}" if len(entries) == 1 else "an annotation"
        # A number represents a string, which is kept with the other keys.
        ids = [crc32(str(id).encode("utf-8", "replace")) if _is_word(id) else id for id in ids]
        new["ids"] = whole(ids, self.path, f"{one}'s id")
        images = [entry["image_id"] for entry in entries]
        new["images"] = self.image_texts.ids(images, self.path, f"{one}'s image_id")
        categories = [entry["category_id"] for entry in entries]
        new["categories"] = self.category_texts.ids(categories, self.path, f"{one}'s category_id")
        new["boxes"] = xyxy
        new["areas"] = _numbers(areas, self.path, f"{one}'s area").astype(np.float64)
        new["crowd"] = _flags(entries, "iscrowd", self.path, one)
        new["difficult"] = _flags(entries, "difficult", self.path, one)
        new["segmentations"] = Blob.of(_text(entry.get("segmentation"), texts) for entry in entries)
        new["keypoints"] = self._keypoints(entries)
        new["captions"] = _captions(entries, self.path)
        words = any(_is_word(entry.get("id")) for entry in entries)
        new["rest"] = _rest(entries, _KNOWN - {"id"} if words else _KNOWN)
        for name, values in new.items():  # all values or none
            self.parts[name].append(values)
        for image, sentence in sentences:
            self.sentences.setdefault(image, []).append(sentence)
        self.count += len(entries)

    def _without_sentences(
        self, entries: list[dict[str, Any]], sentences: list[tuple[int, str]]
    ) -> list[dict[str, Any]]:
        """Store captions of images; return the remaining annotations, which are objects."""
        objects = []
        for entry in entries:
            if "category_id" in entry:
                objects.append(entry)
            elif "caption" in entry:
                (image,) = self.image_texts.ids([entry["image_id"]], self.path, "an annotation's image_id").tolist()
                sentences.append((image, _caption(entry, self.path)))
            else:
                raise InputError(f'{self.path}: annotation {entry.get("id")} has no "category_id"; add it')
        return objects

    def _box(self, entry: dict[str, Any], texts: Sequence[str]) -> list[float]:
        """The box of one annotation; derived from its outline if it has no box."""
        box = entry.get("bbox")
        if box is None or box == []:
            segmentation = json.loads(_text(entry.get("segmentation"), texts) or "[]")
            part = usable_part(segmentation, (0, 0))
            if isinstance(part, dict):
                x1, y1, x2, y2 = rle_to_box(part).tolist()
                return [x1, y1, x2 - x1, y2 - y1]
            if part:
                points = np.concatenate([np.array(ring, np.float64) for ring in part]).reshape(-1, 2)
                return [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()]
        if isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and _is_number(v) for v in box):
            return [float(v) for v in box]
        raise self.without_box(entry)

    def without_box(self, entry: Mapping[str, Any]) -> InputError:
        """The error for an annotation without a valid box."""
        return InputError(
            f"{self.path}: annotation {entry.get('id')} has bbox {_short(entry.get('bbox'))}, but a box is four "
            "numbers [x, y, width, height] in pixels; correct or remove it"
        )

    def _keypoints(self, entries: list[dict[str, Any]]) -> np.ndarray | None:
        known: dict[int, np.ndarray] = {}
        for row, entry in enumerate(entries):
            points = entry.get("keypoints")
            if points:
                values = _array(points)
                if values.dtype.kind not in "if" or values.ndim != 1 or values.size % 3 or bool in map(type, points):
                    raise InputError(
                        f"{self.path}: annotation {entry.get('id')} has keypoints {_short(points)}, but each point has "
                        "three numbers: x, y, visibility"
                    )
                known[row] = values.reshape(-1, 3)
        if not known:
            return None
        out = np.zeros((len(entries), max(map(len, known.values())), 3), np.float32)
        for row, values in known.items():
            out[row, : len(values)] = values
        absent = ~(out[:, :, 2] > 0)  # also NaN
        out[absent & ~np.isfinite(out).all(2)] = 0  # coordinates of absent points carry no information
        return out


def _flags(entries: list[dict[str, Any]], name: str, path: Path, one: str) -> np.ndarray:
    """bool: from 0 and 1, or true and false; a string such as "no" would be truthy."""
    values = [entry.get(name) for entry in entries]
    try:
        return np.array([_FLAGS[value] for value in values], bool)
    except (KeyError, TypeError):
        bad = next(value for value in values if isinstance(value, list | dict) or value not in _FLAGS)
        raise InputError(f"{path}: {one}'s {name} is {_short(bad)}, but must be 0 or 1") from None


def _captions(entries: list[dict[str, Any]], path: Path) -> Blob:
    if not any("caption" in entry for entry in entries):
        return Blob.empty(len(entries))
    return Blob.of(_caption(entry, path) for entry in entries)


def _caption(entry: dict[str, Any], path: Path) -> str:
    caption = entry.get("caption")
    if caption is not None and not isinstance(caption, str):
        one = f"annotation {entry.get('id')}"
        raise InputError(f"{path}: {one}'s caption is {_short(caption)}, but must be text; correct or remove it")
    return caption or ""


def _is_of_image(entry: Mapping[str, Any], texts: Sequence[str]) -> bool:
    """Whether an annotation has nothing that locates the object in its image."""
    return not (entry.get("bbox") or entry.get("keypoints") or _text(entry.get("segmentation"), texts))


def _text(segmentation: Any, texts: Sequence[str]) -> str:
    text = texts[segmentation] if type(segmentation) is int else ""
    return "" if text in _NOTHING else text


def _rest(entries: list[dict[str, Any]], known: frozenset[str]) -> Blob:
    """Compact JSON of all keys that are not `known`."""
    if all(entry.keys() <= known for entry in entries):
        return Blob.empty(len(entries))
    rests = ({key: value for key, value in entry.items() if key not in known} for entry in entries)
    return Blob.of(compact(rest) if rest else "" for rest in rests)


def whole(values: list[Any], path: Path, what: str, least: int = -(2**62), most: int = 2**62) -> np.ndarray:
    """Convert to int64; raises InputError naming a value that is not an integer within the limits."""
    values = [int(v) if isinstance(v, str) and v.isdecimal() else v for v in values]
    numbers = _numbers(values, path, what)
    bad = ~((numbers >= least) & (numbers <= most))  # also true of NaN
    if numbers.dtype.kind == "f":
        bad |= numbers != np.floor(numbers)
    if bad.any():
        raise InputError(f"{path}: {what} is {_short(values[int(np.argwhere(bad)[0, 0])])}, but must be a whole number")
    return numbers.astype(np.int64)


def _numbers(values: list[Any], path: Path, what: str) -> np.ndarray:
    numbers = _array(values)
    pairs = bool(values) and isinstance(values[0], tuple)
    wrong = numbers.dtype.kind not in "iuf" or numbers.ndim != 1 + pairs
    if values and (wrong or bool in set(map(type, chain.from_iterable(values) if pairs else values))):
        bad = next((v for v in values if not _is_number(v)), values[0])
        raise InputError(f"{path}: {what} is {_short(bad)}, but must be a number")
    return numbers


def _is_number(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(type(v) in (int, float) and abs(v) < 2**63 for v in values)


def _array(values: Any) -> np.ndarray:
    try:
        return np.array(values)
    except ValueError:  # lists of different lengths
        return np.array(None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def compact(value: Any) -> str:
    """JSON without whitespace."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
