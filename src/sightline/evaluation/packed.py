"""Store the `Instances` of a whole dataset with run-length encoded masks; as bitmaps they would not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import singledispatch
from typing import Any, overload

from sightline.ops.geometry import following, geometry_of
from sightline.structures import Instances
from sightline.structures.fields import FIELDS

PACKED = FIELDS["masks"].packed
"""The field that replaces "masks": COCO's compressed RLE of each object."""


@singledispatch
def pack(item: Any) -> Any:
    """Pack a target or prediction to save memory; by default it is returned unchanged.

    Of objects, each field that can be packed gets the name `Field.packed`; that of masks is `PACKED`.
    """
    return item


@pack.register
def _(item: Instances) -> Instances:
    fields = item.fields
    for row, geometry, values in following(item):
        if (packed := geometry.packed(values)) is not values:
            del fields[row.name]
            fields[row.packed] = packed
    return Instances.unchecked(item.image_size, classes=item.classes, source=item.source, **fields)


@singledispatch
def unpack(item: Any) -> Any:
    """Undo `pack`; the result of what was packed is on the CPU."""
    return item


@unpack.register
def _(item: Instances) -> Instances:
    fields = item.fields
    for row in FIELDS.values():
        if row.packed in fields:
            fields[row.name] = geometry_of(row).unpacked(fields.pop(row.packed), item.image_size)
    return Instances.unchecked(item.image_size, classes=item.classes, source=item.source, **fields)


class PackedInstances(Sequence[Instances]):
    """A sequence of `Instances` whose masks are stored encoded and decoded each time an item is accessed.

    Args:
        items: with masks as bitmaps, or already packed.
    """

    def __init__(self, items: Iterable[Instances] = ()):
        self.packed: list[Instances] = [pack(item) for item in items]

    def extend(self, items: Iterable[Any]) -> None:
        self.packed += [pack(item) for item in items]

    def __len__(self) -> int:
        return len(self.packed)

    @overload
    def __getitem__(self, i: int) -> Instances: ...
    @overload
    def __getitem__(self, i: slice) -> PackedInstances: ...
    def __getitem__(self, i: int | slice) -> Instances | PackedInstances:
        return PackedInstances(self.packed[i]) if isinstance(i, slice) else unpack(self.packed[i])

    def __iter__(self) -> Iterator[Instances]:
        return map(unpack, self.packed)
