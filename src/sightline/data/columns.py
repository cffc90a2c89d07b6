"""Annotations as columns: flat NumPy arrays, one row an annotation, with offsets for each image.

A million boxes cost some tens of bytes each where Python objects would cost thousands; and as reading a row touches no
reference count, processes forked to load images share every page.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from sightline.errors import InputError


class Blob(Sequence[bytes]):
    """Byte strings end to end in one uint8 array; immutable.

    Attributes:
        data: uint8, all bytes.
        offsets: int64 [N + 1]; entry i is `data[offsets[i]:offsets[i + 1]]`.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: np.ndarray, offsets: np.ndarray):
        self.data = data
        self.offsets = offsets

    @classmethod
    def of(cls, entries: Iterable[bytes | str]) -> Blob:
        """Pack strings (as UTF-8; file names that are not in it keep their bytes' stand-ins) or bytes."""
        packed = bytearray()
        ends = array("q", [0])
        for entry in entries:
            packed += entry.encode("utf-8", "surrogatepass") if isinstance(entry, str) else entry
            ends.append(len(packed))
        return cls(np.frombuffer(bytes(packed), np.uint8), np.frombuffer(ends, np.int64))

    @classmethod
    def empty(cls, length: int) -> Blob:
        """`length` empty entries."""
        return cls(np.zeros(0, np.uint8), np.zeros(length + 1, np.int64))

    @classmethod
    def concatenate(cls, blobs: Sequence[Blob]) -> Blob:
        starts = np.cumsum([0, *(len(blob._used()) for blob in blobs)])
        ends = [blob.offsets[1:] - blob.offsets[0] + start for blob, start in zip(blobs, starts, strict=False)]
        return cls(np.concatenate([blob._used() for blob in blobs]), np.concatenate([np.zeros(1, np.int64), *ends]))

    def _used(self) -> np.ndarray:
        return self.data[self.offsets[0] : self.offsets[-1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, item: int) -> bytes: ...
    @overload
    def __getitem__(self, item: slice) -> Blob: ...
    def __getitem__(self, item: int | slice) -> bytes | Blob:
        if isinstance(item, slice):
            start, stop, step = item.indices(len(self))
            if step == 1:  # shares the bytes
                return Blob(self.data, self.offsets[start : max(start, stop) + 1])
            return self.take(np.arange(start, stop, step))
        if not -len(self) <= item < len(self):
            raise IndexError(f"entry {item} of {len(self)}")
        item %= len(self)
        return self.data[self.offsets[item] : self.offsets[item + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blob):
            return NotImplemented
        return np.array_equal(self.lengths, other.lengths) and np.array_equal(self._used(), other._used())

    __hash__ = None  # type: ignore[assignment]

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of each entry, int64 [N]."""
        return np.diff(self.offsets)

    def text(self, item: int) -> str:
        """Entry `item` as a string."""
        return self[item].decode("utf-8", "surrogatepass")

    def texts(self) -> list[str]:
        """All entries as strings."""
        return [entry.decode("utf-8", "surrogatepass") for entry in self]

    def take(self, rows: np.ndarray) -> Blob:
        """The entries at `rows` (ids or a bool mask), packed anew."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.offsets[rows + 1] - self.offsets[rows], out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        start = 0
        while start < len(rows):  # in pieces: the positions take eight times the bytes they point at
            end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _PIECE, side="right")) - 1)
            positions, _ = ranges(self.offsets, rows[start:end])
            data[offsets[start] : offsets[end]] = self.data[positions]
            start = end
        return Blob(data, offsets)

    def __repr__(self) -> str:
        return f"Blob({len(self)} entries, {len(self._used())} bytes)"


def ranges(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all that belongs to `rows` under `offsets` [N + 1], and the offsets of the selection."""
    starts, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return np.repeat(starts - ends[:-1], counts) + np.arange(ends[-1]), ends


Column = np.ndarray | Blob
_PIECE = 4 * 2**20
"""Bytes copied at once when entries of a Blob are chosen."""


@dataclass(frozen=True)
class Columns:
    """All annotations of A objects on N images, as the file holds them: nothing is corrected, so `check` can report it.

    Attributes:
        offsets: int64 [N + 1]; the objects of image i are rows `offsets[i]` to `offsets[i + 1]` of the columns below.
        boxes: float64 [A, 4], x1, y1, x2, y2 in pixels.
        labels: int32 [A], class ids.
        crowd, difficult: bool [A].
        areas: float64 [A], pixels; the box's area where the format knows none.
        ids: int64 [A], the annotation's id in its file; counted from 1 where the format has none.
        segmentations: compact COCO JSON of polygons or RLE, an entry an object, empty where there is none.
        keypoints: float32 [A, P, 3] (x, y, visibility), or None.
        captions: a phrase an object, or None.
        extra: further columns by name, each with A rows (arrays or Blobs).
        names: of the images: paths with / relative to the dataset's root.
        heights, widths: int32 [N], pixels, as the labels state them; 0 where they do not.
        image_ids: int64 [N].
        splits: int8 [N], positions in the dataset's split names.
        label_names: path of each image's label file relative to the root, or None where one file holds all.
        image_labels: int32 [N], the class of each whole image (kind "class_scores"), or None.
        maps: path of each image's class map (kind "class_map"), or None.
        image_extra: compact JSON of whatever else is known of an image, or None.
    """

    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray
    ids: np.ndarray
    segmentations: Blob
    names: Blob
    heights: np.ndarray
    widths: np.ndarray
    image_ids: np.ndarray
    splits: np.ndarray
    keypoints: np.ndarray | None = None
    captions: Blob | None = None
    extra: dict[str, Column] = field(default_factory=dict)
    label_names: Blob | None = None
    image_labels: np.ndarray | None = None
    maps: Blob | None = None
    image_extra: Blob | None = None

    def __post_init__(self) -> None:
        for names, length in ((_OBJECT, len(self.labels)), (_IMAGE, len(self.names))):
            for name in names:
                value = getattr(self, name)
                if value is not None and len(value) != length:
                    raise InputError(f"column {name} has {len(value)} rows, but there are {length}")
        if len(self.offsets) != self.images + 1 or self.offsets[-1] != self.objects:
            raise InputError(f"offsets must run from 0 to {self.objects} with {self.images + 1} entries")

    @property
    def images(self) -> int:
        """N."""
        return len(self.names)

    @property
    def objects(self) -> int:
        """A."""
        return len(self.labels)

    @property
    def image_of(self) -> np.ndarray:
        """int64 [A]: the image each object belongs to."""
        return np.repeat(np.arange(self.images), np.diff(self.offsets))

    @property
    def nbytes(self) -> int:
        """Bytes of all columns together."""
        values = [getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"]
        return sum(_nbytes(value) for value in [*values, *self.extra.values()] if value is not None)

    def take_images(self, rows: np.ndarray) -> Columns:
        """Columns of the images at `rows` (ids [M], in that order) with their objects."""
        objects, offsets = ranges(self.offsets, rows)
        return self._taken(objects, rows, offsets)

    def take_objects(self, rows: np.ndarray) -> Columns:
        """Columns of the same images with the objects at `rows` only (a bool mask [A], or rising ids)."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets = np.searchsorted(rows, self.offsets).astype(np.int64)
        return self._taken(rows, None, offsets)

    @classmethod
    def of_images(cls, **columns: Any) -> Columns:
        """Columns of images without objects: `columns` are those of the images (see `Columns`)."""
        return cls(**_no_objects(len(columns["names"])), **columns)

    def without_objects(self) -> Columns:
        """The columns of the same images alone."""
        return self.replace(**_no_objects(self.images), keypoints=None, captions=None, extra={})

    def replace(self, **columns: Any) -> Columns:
        """A copy with some columns replaced; the others are shared, not copied."""
        return dataclasses.replace(self, **columns)

    def _taken(self, objects: np.ndarray, images: np.ndarray | None, offsets: np.ndarray) -> Columns:
        columns: dict[str, Any] = {name: _take(getattr(self, name), objects) for name in _OBJECT}
        columns |= {
            name: getattr(self, name) if images is None else _take(getattr(self, name), images) for name in _IMAGE
        }
        return Columns(offsets=offsets, extra={n: _take(v, objects) for n, v in self.extra.items()}, **columns)

    @classmethod
    def concatenate(cls, parts: Sequence[Columns]) -> Columns:
        """Columns of several readings, one after the other. A column that only some have is filled up with nothing."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(part.objects for part in parts)])
        ends = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
        columns: dict[str, Any] = {"offsets": np.concatenate([np.zeros(1, np.int64), *ends])}
        for name in (*_OBJECT, *_IMAGE):
            columns[name] = _joined(
                [getattr(p, name) for p in parts], [p.objects if name in _OBJECT else p.images for p in parts]
            )
        extra = {name: None for part in parts for name in part.extra}
        columns["extra"] = {
            name: _joined([p.extra.get(name) for p in parts], [p.objects for p in parts]) for name in extra
        }
        return cls(**columns)


_OBJECT = ("boxes", "labels", "crowd", "difficult", "areas", "ids", "segmentations", "keypoints", "captions")
_IMAGE = ("names", "heights", "widths", "image_ids", "splits", "label_names", "image_labels", "maps", "image_extra")


def _no_objects(images: int) -> dict[str, Any]:
    return {
        "offsets": np.zeros(images + 1, np.int64),
        "boxes": np.zeros((0, 4)),
        "labels": np.zeros(0, np.int32),
        "crowd": np.zeros(0, bool),
        "difficult": np.zeros(0, bool),
        "areas": np.zeros(0),
        "ids": np.zeros(0, np.int64),
        "segmentations": Blob.empty(0),
    }


def _nbytes(value: Column) -> int:
    return value.data.nbytes + value.offsets.nbytes if isinstance(value, Blob) else value.nbytes


def _take(value: Column | None, rows: np.ndarray) -> Any:
    return None if value is None else value.take(rows) if isinstance(value, Blob) else value[rows]


def _joined(values: Sequence[Column | None], lengths: Sequence[int]) -> Any:
    known = next((value for value in values if value is not None), None)
    if known is None:
        return None
    if isinstance(known, Blob):
        return Blob.concatenate(
            [v if isinstance(v, Blob) else Blob.empty(n) for v, n in zip(values, lengths, strict=True)]
        )
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    shape = np.max([v.shape[1:] for v in arrays], axis=0).astype(int)  # P may differ
    out = np.zeros((sum(lengths), *shape), np.result_type(*arrays))
    start = 0
    for value, length in zip(values, lengths, strict=True):
        if isinstance(value, np.ndarray):
            out[(slice(start, start + length), *(slice(size) for size in value.shape[1:]))] = value
        start += length
    return out
