"""Images with labels as a view of shared columns: access to images and targets, and selection of subsets."""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import numpy as np
from torch import Tensor

from sightline.data.cameras import depth_path, needs_cameras, read_camera, stated_camera
from sightline.data.columns import Columns
from sightline.data.full_scale import FullScale, evenly_spaced
from sightline.data.images import image_size, max_sample, read_image
from sightline.data.keypoint_pairs import mirrored_keypoints
from sightline.data.kinds import Kind, kind_of
from sightline.data.malformed import BadLabel
from sightline.data.relations import predicates_of
from sightline.data.source import Source
from sightline.data.stored import USUAL, optional_fields
from sightline.data.tables import rows_lost
from sightline.errors import InputError
from sightline.structures import Camera, Classes, Size, Target, View, with_camera
from sightline.structures.tabular import html_of
from sightline.words import counted

log = logging.getLogger("sightline")


class LabelledImages(Sequence[tuple[Tensor, Target]]):
    """Images with targets: access and selection. `Dataset` adds methods that derive other datasets.

    Functions that derive datasets accept and return objects of this class, so they need not import `Dataset`, whose
    methods call them.

    Args:
        source: the shared data.
        rows: int64 ids of the source's images in this view, in order; None for all images.
        fields: names of the fields of targets (kinds with objects).
        channels: channels of images, as in `read_image`.
    """

    def __init__(
        self,
        source: Source,
        rows: np.ndarray | None = None,
        fields: tuple[str, ...] = USUAL,
        channels: int | None = 3,
    ):
        self.source = source
        self.fields = fields
        self.channels = channels
        self._rows = rows

    # Properties

    @property
    def classes(self) -> Classes:
        """The class names."""
        return self.source.classes

    @property
    def kind(self) -> str:
        """The kind of labels: "instances", "class_map", "class_scores", or a registered kind."""
        return self.source.kind

    @property
    def about(self) -> str:
        """The field that the labels are about, such as "captions" or "cuboids"; "" for labels of several uses."""
        return self.source.about

    @property
    def label_kind(self) -> Kind:
        """The row of `sightline.data.kinds.KINDS` for this kind."""
        return kind_of(self.source)

    @property
    def root(self) -> Path | None:
        """The folder that image names are relative to; None for images in memory."""
        return self.source.root

    @property
    def format(self) -> str:
        """A key of `sightline.data.formats.FORMATS`; "memory" for data in memory, "mixed" for several formats."""
        return self.source.format

    @property
    def orphans(self) -> tuple[str, ...]:
        """Labels whose image does not exist, and images that belong to no split, as descriptions."""
        return (*self.source.orphans, *self.source.left_out)

    @property
    def missing_splits(self) -> Mapping[str, str]:
        """Splits named in the dataset's description whose folder or list does not exist, with an explanation."""
        return self.source.missing_splits

    @property
    def malformed(self) -> tuple[BadLabel, ...]:
        """Labels that could not be read and were skipped; see `lenient` of `sightline.open_dataset`."""
        return self.source.malformed

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """One name per keypoint; empty if the format has none, or before keypoints are loaded from another file.

        (COCO stores person keypoints in a separate file, which `with_fields("keypoints")` loads.)
        """
        return self.source.keypoint_names

    @property
    def keypoint_swap(self) -> tuple[int, ...] | None:
        """For each keypoint the index of its mirror image (left eye ↔ right eye), a permutation of 0 … P−1.

        It comes from the format (`flip_idx` of YOLO), else from the keypoint names. If neither defines it, it is None
        and keypoints cannot be mirrored.
        """
        if self.source.keypoint_swap is not None:
            return self.source.keypoint_swap
        keypoints = self.source.columns.keypoints
        return mirrored_keypoints(self.keypoint_names, None if keypoints is None else keypoints.shape[1])

    @property
    def predicates(self) -> tuple[str, ...]:
        """The predicates of the relations between objects, the most frequent first; empty without relations."""
        return predicates_of(self.columns)

    @property
    def full_scale(self) -> int | None:
        """The sample value that becomes 1.0 for images with more than 8 bits per sample; None if there are none.

        It is the given value (`with_full_scale`), else the smallest of 255, 1023, 4095, 16383 and 65535 that is not
        below any sample of up to 200 images, evenly spaced in the dataset as opened; see `sightline.data.full_scale`.
        """
        return self.source.full_scale.value(self._highest_samples)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on how the files were read, such as the meaning of the columns of a CSV."""
        return self.source.notes

    @property
    def whole(self) -> bool:
        """Whether this is the complete dataset, of which no subset was selected (`data[:]` selects everything)."""
        return self._rows is None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits with images in this view."""
        present = set(np.unique(self._image_column("splits")).tolist())
        return tuple(name for position, name in enumerate(self.source.split_names) if position in present)

    @property
    def columns(self) -> Columns:
        """The annotations of this view (created at each call, unless the view shows everything)."""
        return self.source.columns if self._rows is None else self.source.columns.take_images(self._rows)

    def __len__(self) -> int:
        return self.source.columns.images if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        labels = self.source.columns.offsets
        rows = slice(None) if self._rows is None else self._rows
        objects = f", {int(np.diff(labels)[rows].sum())} objects" if self.label_kind.has_objects else ""
        named = ", ".join(f"{name} {len(self[name])}" for name in self.splits)
        splits = "without splits" if self.splits == ("all",) else f"({named})"
        return f"Dataset({self.format}, {len(self)} {self.label_kind.item}s {splits}{objects}, {self.classes!r})"

    def _repr_html_(self) -> str:
        """Counts per split and class, and a few images with their labels, for notebooks."""
        return html_of(self)

    @property
    def rows(self) -> np.ndarray | None:
        """int64 ids of the source's images in this view, in order; None for all images."""
        return self._rows

    # Access to one image

    def name(self, i: int) -> str:
        """The image's path relative to the root, with / as separator; unique within a split."""
        return self.source.columns.names.text(self._row(i))

    def image_name(self, i: int) -> str:
        """The image's name without the folder of the format's layout."""
        name, folders = self.name(i), self.source.folders
        folder = folders[self.source.columns.splits[self._row(i)]] + "/" if folders else ""
        return name.removeprefix(folder)

    def path(self, i: int) -> Path | None:
        """The image file; None for images in memory."""
        return None if self.source.root is None else self.source.root / self.name(i)

    def label_path(self, i: int) -> Path | None:
        """The file with the image's labels; None for images in memory and without labels."""
        source, row = self.source, self._row(i)
        if source.root is not None and source.columns.label_names is not None:
            name = source.columns.label_names.text(row)
            return source.root / name if name else None
        return source.label_files[source.columns.splits[row]] if source.label_files else None

    def split_of(self, i: int) -> str:
        """The name of the image's split."""
        return self.source.split_names[self.source.columns.splits[self._row(i)]]

    def image_size(self, i: int) -> Size:
        """(height, width) as stated in the label, else from the image's header."""
        row, columns = self._row(i), self.source.columns
        height, width = int(columns.heights[row]), int(columns.widths[row])
        path = self.path(i)
        return image_size(path) if path is not None and not (height and width) else (height, width)

    def image_extra(self, i: int) -> dict[str, Any]:
        """Additional data about the image (COCO: licence, date, URL, …; captions)."""
        extra = self.source.columns.image_extra
        entry = extra[self._row(i)] if extra is not None else b""
        return json.loads(entry) if entry else {}

    def captions(self, i: int) -> list[str]:
        """Captions of the image (COCO: after `with_fields("captions")`)."""
        return self.image_extra(i).get("captions", [])

    def table(self, name: str, i: int) -> list[dict[str, Any]]:
        """The rows about image `i` in an additional table, such as relations; see `sightline.data.tables`.

        A column that refers to objects contains their indices in the image's target, or −1 for none.

        Raises:
            InputError: there is no such table.
        """
        tables = self.source.columns.tables
        if name not in tables:
            known = f"it has {', '.join(tables)}" if tables else "it has none"
            raise InputError(f"the dataset has no table {name!r}; {known}")
        return tables[name].of(self._row(i))

    def image(self, i: int) -> Tensor:
        """[C, H, W], uint8 or float in [0, 1]; see `read_image`.

        If targets have fields in scene coordinates (cuboids or meshes), it is a `View` with the image's camera and its
        depth map, as far as they are known; see `sightline.data.cameras`.
        """
        image = self._pixels(i)
        if isinstance(image, View) or not needs_cameras(self.fields):
            return image
        return with_camera(image, self.camera(i, (int(image.shape[1]), int(image.shape[2]))))

    def camera(self, i: int, size: Size | None = None) -> Camera | None:
        """The image's camera; None if it is unknown.

        Args:
            i: index of the image.
            size: (height, width) of the image, to read its depth map from a file as well; None for the intrinsics only.

        Raises:
            InputError: the matrix in the labels is not that of a camera, or the depth map does not fit the image.
        """
        row = self._row(i)
        return stated_camera(self.source, row) if size is None else read_camera(self.source, row, size)

    def depth_path(self, i: int) -> Path | None:
        """The file with the depth map of the image's camera; None if there is none."""
        return depth_path(self.source, self._row(i))

    def _pixels(self, i: int) -> Tensor:
        if self.source.images is not None:
            return self.source.images[self._row(i)]
        path = self.path(i)
        assert path is not None, "a dataset without images in memory has a root"
        return read_image(path, self.channels, full_scale=lambda: self.full_scale)

    def target(self, i: int) -> Target:
        """The validated target of the image; the image is not decoded.

        Raises:
            InputError: a box is inverted or not finite, or a label is not a class id; the message names image and
                annotation.
        """
        make = self.label_kind.make
        assert make is not None, "datasets with columns have a kind that creates targets"
        target: Target = make(self.source, self._row(i), lambda: self.image_size(i), self.fields)
        return target

    # Views

    @overload
    def __getitem__(self, item: int) -> tuple[Tensor, Target]: ...
    @overload
    def __getitem__(self, item: str | slice | Sequence[int] | Sequence[bool] | np.ndarray | Tensor) -> Self: ...
    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            if item not in self.splits and item in self.missing_splits:
                raise InputError(
                    f"the split {item!r} is missing: {self.missing_splits[item]} does not exist; correct the path, or "
                    f"name the split when opening ({item}=…)"
                )
            if item not in self.splits:
                raise InputError(
                    f"there is no split {item!r}; there are: {', '.join(self.splits) or 'none'} "
                    "(name one when opening, or divide with .split(0.8, 0.1, 0.1))"
                )
            return self._view(np.flatnonzero(self._image_column("splits") == self.source.split_names.index(item)))
        if isinstance(item, slice):
            return self._view(np.arange(len(self))[item])
        if isinstance(item, Sequence | np.ndarray | Tensor) and not (isinstance(item, Tensor) and item.ndim == 0):
            chosen = np.asarray(item)
            if chosen.dtype == bool and len(chosen) != len(self):
                raise InputError(f"a mask with {len(chosen)} entries cannot select from {len(self)} images")
            return self._view(np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64))
        position = operator.index(item)
        image, target = self.image(position), self.target(position)
        if tuple(target.image_size) != tuple(image.shape[-2:]):
            (height, width), (tall, wide) = image.shape[-2:], target.image_size
            raise InputError(
                f"{self.name(position)} is {width} × {height} pixels, but its label is for an image of {wide} × "
                f"{tall}; correct the image or the label (sightline check DATA lists all such images)"
            )
        return image, target

    def __iter__(self) -> Iterator[tuple[Tensor, Target]]:
        return (self[i] for i in range(len(self)))

    def with_fields(self, *names: str) -> Self:
        """The same images, with additional fields in their targets: "masks", "keypoints", "captions", or an extra
        column.

        An object without a segmentation has an empty mask.

        Raises:
            InputError: the dataset has no such field.
        """
        source = self.source
        for name in names:
            if name in source.later:
                later = {other: reader for other, reader in source.later.items() if other != name}
                source = replace(source.later[name](source), later=later)
        columns = source.columns
        known = optional_fields(columns)
        # Captions of images are not a field of the objects; they are returned by `captions(i)`.
        requested = [n for n in names if n not in self.fields and not (n == "captions" and "captions" not in known)]
        for name in requested:
            if name not in known:
                raise InputError(f"the dataset has no field {name!r}; it has {', '.join([*self.fields, *known])}")
        return type(self)(source, self._rows, (*self.fields, *requested), self.channels)

    def opened_with(self, arguments: Mapping[str, Any]) -> Self:
        """The same dataset, which stores the arguments of `open_dataset` that open it again."""
        return type(self)(replace(self.source, opened=arguments), self._rows, self.fields, self.channels)

    def with_channels(self, channels: int | None) -> Self:
        """The same dataset, whose images are read with this number of channels, as in `read_image`."""
        return type(self)(self.source, self._rows, self.fields, channels)

    def with_full_scale(self, full_scale: int | None) -> Self:
        """The same images, with samples of more than 8 bits divided by `full_scale` (4095 for a 12-bit camera).

        With None it is determined again. Images in memory are scaled when the dataset is created, and do not change.

        Raises:
            InputError: it is not an integer from 1 to 65535.
        """
        source = replace(self.source, full_scale=FullScale(full_scale))
        return type(self)(source, self._rows, self.fields, self.channels)

    def with_columns(self, columns: Columns) -> Self:
        """The same images with other annotations: `columns` must have one row per image, in this order."""
        if columns.images != len(self):
            raise InputError(f"columns of {columns.images} images do not fit a dataset of {len(self)} images")
        return type(self)(replace(self.own_source(), columns=columns), None, self.fields, self.channels)

    def derived(self, source: Source, rows: np.ndarray | None) -> Self:
        """The images `rows` of another source, with the fields and channels of this view."""
        return type(self)(source, rows, self.fields, self.channels)

    def taken(self, rows: np.ndarray) -> Self:
        """The images at `rows` as a separate dataset, which counts as complete if this one does."""
        return self.derived(self[rows].own_source(), None if self.whole else np.arange(len(rows)))

    def _view(self, chosen: np.ndarray) -> Self:
        if len(chosen) and (chosen.min() < -len(self) or chosen.max() >= len(self)):
            raise IndexError(f"image {chosen.max() if chosen.max() >= len(self) else chosen.min()} of {len(self)}")
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        return type(self)(self.source, chosen if self._rows is None else self._rows[chosen], self.fields, self.channels)

    def own_source(self) -> Source:
        """A source that contains only the images of this view."""
        if self._rows is None:
            return self.source
        rows = self._rows.tolist()
        tensors, maps = self.source.images, self.source.class_maps
        return replace(
            self.source,
            columns=self.columns,
            images=None if tensors is None else _chosen(tensors, rows),
            class_maps=None if maps is None else _chosen(maps, rows),
        )

    def _image_column(self, name: str) -> np.ndarray:
        column = getattr(self.source.columns, name)
        return column if self._rows is None else column[self._rows]

    def _highest_samples(self) -> Iterable[int | None]:
        root, names = self.source.root, self.source.columns.names
        if root is None or self.source.images is not None:
            return ()
        return (max_sample(root / names.text(row)) for row in evenly_spaced(range(len(names))))

    def _row(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return i % len(self) if self._rows is None else int(self._rows[i])


def warn_rows_lost(before: LabelledImages, after: LabelledImages) -> None:
    """Warn about rows of additional tables that were removed with the objects they refer to."""
    if before.source.columns.tables:
        for name, count in rows_lost(before.columns.tables, after.columns.tables).items():
            log.warning("%s of %s removed: an object that they refer to was removed", counted(count, "row"), name)


def _chosen(items: Sequence[Tensor], rows: Sequence[int]) -> Sequence[Tensor]:
    """The items at `rows`; lazy items are not read."""
    return items.take(rows) if hasattr(items, "take") else [items[row] for row in rows]


AnyDataset = TypeVar("AnyDataset", bound=LabelledImages)
