"""Ragged tables: rows about an image that describe neither objects nor the image, such as relations and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sightline.data.blob import Blob, Column, column_joined, column_taken, ranges
from sightline.errors import InputError

NONE = -1
"""The reference of a row that refers to no object."""


@dataclass(frozen=True)
class Table:
    """R rows about N images, with any number of rows per image.

    Attributes:
        offsets: int64 [N + 1]; the rows of image i are `offsets[i]` to `offsets[i + 1]` of the columns.
        columns: columns by name, with R rows each: arrays, or Blobs for strings.
        objects: names of the columns that refer to objects: int64 [R], indices of objects in the row's image, or −1 for
            none. When objects are removed, references are renumbered, and rows that refer to a removed object are
            removed.
        times: names of the columns that contain times: float64 [R], in seconds from the beginning of the item that the
            row belongs to. `clipped` shifts them to a later beginning.
    """

    offsets: np.ndarray
    columns: Mapping[str, Column]
    objects: tuple[str, ...] = ()
    times: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.offsets) < 1 or self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise InputError("the offsets of a table must increase from 0, with one entry per image and one more")
        for name, column in self.columns.items():
            if len(column) != self.rows:
                raise InputError(f"column {name} of a table has {len(column)} rows, but its offsets end at {self.rows}")
        for name in (*self.objects, *self.times):
            if not isinstance(self.columns.get(name), np.ndarray):
                raise InputError(f"the table has no numeric column {name!r}; available: {', '.join(self.columns)}")

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Sequence[Mapping[str, Any]]],
        objects: Sequence[str] = (),
        times: Sequence[str] = (),
        columns: Sequence[str] = (),
    ) -> Table:
        """Create a table from rows given as dictionaries, one list per image.

        Args:
            rows: the rows of each image; all rows have the same keys.
            objects, times: see `Table`.
            columns: names of columns, needed if there may be no rows; strings, unless they are in `objects` or `times`.
        """
        flat = [row for own in rows for row in own]
        names = list(dict.fromkeys([*columns, *objects, *times, *(name for row in flat for name in row)]))
        for row in flat:
            if set(row) != set(names):
                raise InputError(f"a row has {', '.join(row)}, but all rows of a table have {', '.join(names)}")
        made: dict[str, Column] = {}
        for name in names:
            values = [row[name] for row in flat]
            if name in objects:
                made[name] = np.array(values, np.int64)
            elif name in times:
                made[name] = np.array(values, np.float64)
            else:
                made[name] = Blob.of(values) if all(isinstance(v, str) for v in values) else np.array(values)
        ends = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        return cls(ends, made, tuple(objects), tuple(times))

    @property
    def images(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def rows(self) -> int:
        """R."""
        return int(self.offsets[-1])

    @property
    def image_of(self) -> np.ndarray:
        """int64 [R]: the image that each row belongs to."""
        return np.repeat(np.arange(self.images), np.diff(self.offsets))

    @property
    def nbytes(self) -> int:
        """Bytes of all columns together."""
        return self.offsets.nbytes + sum(column.nbytes for column in self.columns.values())

    def of(self, i: int) -> list[dict[str, Any]]:
        """The rows of image `i` as dictionaries of Python values."""
        part = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        columns = {n: c[part].texts() if isinstance(c, Blob) else c[part].tolist() for n, c in self.columns.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def require_fitting(self, name: str, offsets: np.ndarray) -> None:
        """Raise an error if the table does not fit images with objects at `offsets` [N + 1].

        Raises:
            InputError: it has another number of images, or refers to an object that does not exist.
        """
        if self.images != len(offsets) - 1:
            raise InputError(f"table {name} has {self.images} images, but there are {len(offsets) - 1}")
        counts = np.diff(offsets)[self.image_of]
        for column in self.objects:
            found = self.columns[column]
            assert isinstance(found, np.ndarray), "a reference is a number"
            bad = (found < NONE) | (found >= counts)
            if bad.any():
                row = int(bad.argmax())
                raise InputError(
                    f"table {name}: row {row} has {column} {found[row]}, but its image has {counts[row]} objects, "
                    "numbered from 0"
                )

    def take_images(self, rows: np.ndarray) -> Table:
        """The rows of the images at `rows` (ids [M], in this order)."""
        chosen, offsets = ranges(self.offsets, rows)
        return replace(self, offsets=offsets, columns=self._taken(chosen))

    def take_rows(self, rows: np.ndarray) -> Table:
        """The same images with only the rows at `rows` (a bool mask [R], or increasing ids)."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets = np.searchsorted(rows, self.offsets).astype(np.int64)
        return replace(self, offsets=offsets, columns=self._taken(rows))

    def take_objects(self, rows: np.ndarray, offsets: np.ndarray) -> Table:
        """The table after objects were removed: references are renumbered, and rows of removed objects are removed.

        Args:
            rows: increasing ids of the objects that are kept.
            offsets: int64 [N + 1], offsets of the objects before.
        """
        if not self.objects:
            return self
        total = int(offsets[-1])
        before = np.zeros(total + 1, np.int64)  # for each object, the number of kept objects before it
        stays = np.zeros(total, bool)
        stays[rows] = True
        np.cumsum(stays, out=before[1:])
        starts = offsets[self.image_of]
        kept, renumbered = np.ones(self.rows, bool), {}
        for name in self.objects:
            old = self.columns[name]
            assert isinstance(old, np.ndarray), "a reference is a number"
            named = old != NONE
            at = np.where(named, starts + old, 0)
            kept &= ~named | (stays[at] if total else False)
            renumbered[name] = np.where(named, before[at] - before[starts], NONE)
        return replace(self, columns={**self.columns, **renumbered}).take_rows(kept)

    def clipped(self, starts: np.ndarray, ends: np.ndarray) -> Table:
        """The rows within a part of each item, with times relative to the part's beginning and clipped to it.

        A row is kept if the interval from its smallest to its largest time overlaps the part.

        Args:
            starts, ends: float [N], in seconds from the beginning of each item.
        """
        if not self.times:
            return self
        image = self.image_of
        times = np.stack([np.asarray(self.columns[name], np.float64) for name in self.times])
        first, last = times.min(0), times.max(0)
        length = (ends - starts)[image]
        moved = {n: np.clip(t - starts[image], 0, length) for n, t in zip(self.times, times, strict=True)}
        inside = (first < ends[image]) & (last > starts[image]) | (first == last) & (first == starts[image])
        return replace(self, columns={**self.columns, **moved}).take_rows(inside)

    def _taken(self, rows: np.ndarray) -> dict[str, Column]:
        return {name: column_taken(column, rows) for name, column in self.columns.items()}

    @classmethod
    def concatenate(cls, parts: Sequence[Table | None], images: Sequence[int]) -> Table:
        """Concatenate tables; None for a part without rows for its `images`.

        Raises:
            InputError: the parts have different columns of references or times, or a column is text in only one part.
        """
        given = [part for part in parts if part is not None]
        first = given[0]
        for part in given[1:]:
            if (part.objects, part.times) != (first.objects, first.times):
                raise InputError(
                    f"tables with references {', '.join((*first.objects, *first.times)) or 'to nothing'} and "
                    f"{', '.join((*part.objects, *part.times)) or 'to nothing'} cannot be concatenated; rename one"
                )
        counts = [
            np.zeros(n, np.int64) if part is None else np.diff(part.offsets)
            for part, n in zip(parts, images, strict=True)
        ]
        names = dict.fromkeys(name for part in given for name in part.columns)
        columns: dict[str, Column] = {}
        for name in names:
            own = [part.columns.get(name) for part in given]
            if len({isinstance(column, Blob) for column in own if column is not None}) > 1:
                raise InputError(f"column {name!r} of a table is text in one dataset and numeric in another")
            columns[name] = column_joined(own, [part.rows for part in given])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return cls(offsets, columns, first.objects, first.times)


def rows_lost(before: Mapping[str, Table], after: Mapping[str, Table]) -> dict[str, int]:
    """The number of rows that each table lost, for tables that lost any."""
    counts = {name: table.rows - (after[name].rows if name in after else 0) for name, table in before.items()}
    return {name: count for name, count in counts.items() if count}
