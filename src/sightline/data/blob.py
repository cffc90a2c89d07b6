"""Column types: NumPy arrays and packed strings, with functions that select and concatenate rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np


class Blob(Sequence[bytes]):
    """Byte strings stored back to back in one uint8 array; immutable.

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
        """Pack strings or bytes. Strings are encoded as UTF-8; surrogate escapes in file names keep their bytes."""
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
            if step == 1:  # a view: the bytes are shared
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
    def nbytes(self) -> int:
        """Total number of bytes in the data and the offsets."""
        return self.data.nbytes + self.offsets.nbytes

    @property
    def lengths(self) -> np.ndarray:
        """Length in bytes of each entry, int64 [N]."""
        return np.diff(self.offsets)

    def text(self, item: int) -> str:
        """Entry `item` as a string."""
        return self[item].decode("utf-8", "surrogatepass")

    def texts(self) -> list[str]:
        """All entries as strings."""
        return [entry.decode("utf-8", "surrogatepass") for entry in self]

    def take(self, rows: np.ndarray) -> Blob:
        """The entries at `rows` (ids or a bool mask) as a new, packed Blob."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.offsets[rows + 1] - self.offsets[rows], out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        start = 0
        while start < len(rows):  # in chunks: the index array is eight times as large as the bytes it selects
            end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _PIECE, side="right")) - 1)
            positions, _ = ranges(self.offsets, rows[start:end])
            data[offsets[start] : offsets[end]] = self.data[positions]
            start = end
        return Blob(data, offsets)

    def __repr__(self) -> str:
        return f"Blob({len(self)} entries, {len(self._used())} bytes)"


def ranges(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all elements that belong to `rows` under `offsets` [N + 1], and the offsets of the selection."""
    starts, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return np.repeat(starts - ends[:-1], counts) + np.arange(ends[-1]), ends


Column = np.ndarray | Blob
_PIECE = 4 * 2**20
"""Number of bytes copied at once when entries of a Blob are selected."""


def column_of_objects(values: Sequence[Any]) -> np.ndarray:
    """An array of Python objects, for a column of arbitrary values such as lists."""
    column = np.empty(len(values), object)
    for row, value in enumerate(values):  # np.array would turn lists of equal length into a 2-D array
        column[row] = value
    return column


def column_taken(value: Column | None, rows: np.ndarray) -> Any:
    """The selected rows of a column; None if the column is None."""
    return None if value is None else value.take(rows) if isinstance(value, Blob) else value[rows]


def column_joined(values: Sequence[Column | None], lengths: Sequence[int], missing: float = 0) -> Any:
    """Concatenate columns of `lengths` rows. A column that is None contributes empty rows, or rows of `missing`.

    Returns None if all columns are None.
    """
    known = next((value for value in values if value is not None), None)
    if known is None:
        return None
    if isinstance(known, Blob):
        return Blob.concatenate(
            [v if isinstance(v, Blob) else Blob.empty(n) for v, n in zip(values, lengths, strict=True)]
        )
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    shape = np.max([v.shape[1:] for v in arrays], axis=0).astype(int)  # the number of keypoints may differ
    out = np.full((sum(lengths), *shape), missing, np.result_type(*arrays))
    start = 0
    for value, length in zip(values, lengths, strict=True):
        if isinstance(value, np.ndarray):
            out[(slice(start, start + length), *(slice(size) for size in value.shape[1:]))] = value
        start += length
    return out
