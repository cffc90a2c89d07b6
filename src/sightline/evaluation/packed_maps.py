"""Store the class maps of a whole dataset compressed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch

from sightline.structures import Classes, ClassMap


class PackedMaps(Sequence[ClassMap]):
    """A sequence of `ClassMap`s without probabilities; stored compressed, and decoded when an item is accessed."""

    def __init__(self) -> None:
        self._packed: list[tuple[bytes, str, tuple[int, int], Classes | None, str | None]] = []

    def append(self, item: ClassMap) -> None:
        labels = item.labels.cpu().numpy()
        small = labels.astype(np.int8 if labels.size == 0 or labels.max() < 128 else np.int32)
        data = zlib.compress(small.tobytes(), 1)
        self._packed.append((data, small.dtype.char, item.image_size, item.classes, item.source))

    def join(self, other: PackedMaps) -> None:
        self._packed += other._packed

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, i: int) -> ClassMap: ...
    @overload
    def __getitem__(self, i: slice) -> list[ClassMap]: ...
    def __getitem__(self, i: int | slice) -> ClassMap | list[ClassMap]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        data, kind, size, classes, source = self._packed[i]
        labels = np.frombuffer(zlib.decompress(data), kind).reshape(size).astype(np.int64)
        return ClassMap(torch.from_numpy(labels), classes, source=source)
