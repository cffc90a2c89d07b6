"""Rasterising objects with outlines to class maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from sightline.data.labelled import AnyDataset, LabelledImages
from sightline.data.segmentation import spans_of
from sightline.errors import InputError
from sightline.ops.masks import span_pixels
from sightline.structures import BACKGROUND, IGNORE, Classes


class LazyMaps(Sequence[Tensor]):
    """Class maps that are created on access, [H, W] int64 each."""

    @abstractmethod
    def take(self, rows: Sequence[int]) -> LazyMaps:
        """The maps of the selected images."""

    @abstractmethod
    def _draw(self, i: int) -> Tensor:
        """The map of image `i`."""

    @overload
    def __getitem__(self, i: int) -> Tensor: ...
    @overload
    def __getitem__(self, i: slice) -> LazyMaps: ...
    def __getitem__(self, i: int | slice) -> Tensor | LazyMaps:
        if isinstance(i, slice):
            return self.take(range(*i.indices(len(self))))
        return self._draw(i)


class RasterisedMaps(LazyMaps):
    """The class map of each image, drawn on access: small objects over large ones, crowds as `IGNORE`.

    Args:
        dataset: a dataset of objects with outlines; its views share the rows of its source.
        ids: class ids in the maps, by label of the objects.
        background: id of pixels without an object.
    """

    def __init__(self, dataset: LabelledImages, ids: Sequence[int], background: int):
        self.dataset, self.ids, self.background = dataset, ids, background

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, rows: Sequence[int]) -> RasterisedMaps:
        return RasterisedMaps(self.dataset[np.asarray(rows, np.int64)], self.ids, self.background)

    def _draw(self, i: int) -> Tensor:
        size, columns = self.dataset.image_size(i), self.dataset[[i]].columns
        name = self.dataset.name(i)
        spans = [spans_of(columns, a, size, f"{name}: object {a}") for a in range(columns.objects)]
        areas = np.array([lengths.sum() for _, lengths in spans], np.int64)
        labels = np.full(size[0] * size[1], self.background, np.int64)  # column-major, like the runs
        for a in np.argsort(-areas, kind="stable").tolist():
            id = IGNORE if columns.crowd[a] else self.ids[int(columns.labels[a])]
            labels[span_pixels(*spans[a])] = id
        return torch.from_numpy(np.ascontiguousarray(labels.reshape(size[1], size[0]).T))


def as_class_map(dataset: AnyDataset, background: str | None = BACKGROUND) -> AnyDataset:
    """See `Dataset.as_class_map`."""
    if dataset.label_kind.has_maps:
        return dataset
    if not dataset.label_kind.has_objects:
        raise InputError("image labels cannot be converted to class maps; give a dataset of objects with outlines")
    try:
        outlined = dataset.with_fields("masks")
    except InputError:
        raise InputError(
            "the objects have boxes but no outlines, so they cannot be drawn as class maps; give a dataset with masks"
        ) from None
    whole = outlined.derived(outlined.source, None)
    names = list(dataset.classes)
    if background is not None and background not in names:
        names.insert(0, background)
    ids = [names.index(name) for name in dataset.classes]
    maps = RasterisedMaps(whole, ids, IGNORE if background is None else names.index(background))
    columns = whole.source.columns
    source = replace(
        whole.source,
        columns=columns.without_objects(),
        classes=Classes(names),
        kind="class_map",
        class_maps=maps,
        ignore=None,
        later={},
    )
    return type(dataset)(source, dataset.rows, channels=dataset.channels)
