"""`Instances` of a whole data set with their masks run-length encoded: as bitmaps they would not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import torch

from sightline.structures import Instances

PACKED = "mask_rles"
"""The field that holds what was "masks": COCO's compressed RLE of each object."""


def pack(item: Instances) -> Instances:
    """The same objects with a field `PACKED` in place of "masks"; as they are where there are none."""
    if not isinstance(item, Instances) or "masks" not in item:
        return item
    from sightline.ops.masks import mask_to_rle

    fields = item.fields
    fields[PACKED] = [mask_to_rle(mask) for mask in fields.pop("masks").cpu()]
    return Instances.unchecked(item.image_size, classes=item.classes, source=item.source, **fields)


def unpack(item: Instances) -> Instances:
    """The same objects with "masks" [N, H, W] bool again."""
    if PACKED not in item:
        return item
    from sightline.ops.masks import rle_to_mask

    fields = item.fields
    bitmaps = [rle_to_mask(rle) for rle in fields.pop(PACKED)]
    masks = torch.stack(bitmaps) if bitmaps else torch.zeros(0, *item.image_size, dtype=torch.bool)
    return Instances.unchecked(item.image_size, classes=item.classes, source=item.source, **fields, masks=masks)


class PackedInstances(Sequence[Instances]):
    """Reads like a list of `Instances`; masks are kept encoded and decoded anew each time one is asked for.

    Args:
        items: with masks as bitmaps, or packed already.
    """

    def __init__(self, items: Iterable[Instances] = ()):
        self.packed = [pack(item) for item in items]

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
