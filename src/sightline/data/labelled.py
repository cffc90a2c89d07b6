"""Images with what is known of them, as a view of shared columns: how it is read and how parts of it are taken."""

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

from sightline.data.columns import Columns
from sightline.data.full_scale import FullScale, sampled
from sightline.data.images import highest_sample, image_size, read_image
from sightline.data.keypoint_pairs import mirrored_keypoints
from sightline.data.kinds import Kind, kind_of
from sightline.data.malformed import BadLabel
from sightline.data.source import Source
from sightline.data.stored import USUAL, further_fields
from sightline.data.tables import rows_lost
from sightline.errors import InputError
from sightline.structures import Classes, Size, Target
from sightline.words import counted

log = logging.getLogger("sightline")


class LabelledImages(Sequence[tuple[Tensor, Target]]):
    """Images with targets, read and taken apart; `Dataset` adds what makes other datasets of them.

    Functions that make one dataset of another take and give objects of this class, and so need not know `Dataset`,
    whose methods call them.

    Args:
        source: what is shared.
        rows: int64 ids of the source's images this view shows, in its order; None for all.
        fields: the names of the fields targets have (of kinds with objects).
        channels: the channels images are read with, as in `read_image`.
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

    # What it is

    @property
    def classes(self) -> Classes:
        """The names behind the labels."""
        return self.source.classes

    @property
    def kind(self) -> str:
        """What a target is: "instances", "class_map" or "class_scores"."""
        return self.source.kind

    @property
    def label_kind(self) -> Kind:
        """The row of `sightline.data.kinds.KINDS` for the kind."""
        return kind_of(self.source)

    @property
    def root(self) -> Path | None:
        """The folder image names are relative to; None in memory."""
        return self.source.root

    @property
    def format(self) -> str:
        """A key of `sightline.data.formats.FORMATS`; "memory" for data made in memory, "mixed" for joined formats."""
        return self.source.format

    @property
    def orphans(self) -> tuple[str, ...]:
        """Labels whose image is not there, and images that belong to no split, as words."""
        return (*self.source.orphans, *self.source.left_out)

    @property
    def missing_splits(self) -> Mapping[str, str]:
        """Splits that the dataset's description names but whose folder or list is not there, with the words for it."""
        return self.source.missing_splits

    @property
    def malformed(self) -> tuple[BadLabel, ...]:
        """Labels that could not be read and were left out; see `lenient` of `sightline.open_dataset`."""
        return self.source.malformed

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """One name per keypoint; empty where the format states none, and before keypoints of a further file are read.

        (COCO keeps the keypoints of persons in a file of their own, which `with_fields("keypoints")` reads.)
        """
        return self.source.keypoint_names

    @property
    def keypoint_swap(self) -> tuple[int, ...] | None:
        """For each keypoint the index of its mirror image (left eye ↔ right eye), a permutation of 0 … P−1.

        It is what the format states (`flip_idx` of YOLO), else what the names of the keypoints say; None where neither
        is known, and keypoints then cannot be mirrored.
        """
        if self.source.keypoint_swap is not None:
            return self.source.keypoint_swap
        keypoints = self.source.columns.keypoints
        return mirrored_keypoints(self.keypoint_names, None if keypoints is None else keypoints.shape[1])

    @property
    def full_scale(self) -> int | None:
        """The sample value that becomes 1.0 where images have more than 8 bits a sample; None where none has.

        As stated (`with_full_scale`), else the smallest of 255, 1023, 4095, 16383 and 65535 that holds all samples of
        up to 200 images, evenly spread over the dataset as it was opened; see `sightline.data.full_scale`.
        """
        return self.source.full_scale.value(self._highest_samples)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of how the files were read, such as which column of a CSV was taken for what."""
        return self.source.notes

    @property
    def whole(self) -> bool:
        """Whether it is the dataset as opened or made, of which no images were chosen (`data[:]` chooses all)."""
        return self._rows is None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have images in this view."""
        present = set(np.unique(self._image_column("splits")).tolist())
        return tuple(name for position, name in enumerate(self.source.split_names) if position in present)

    @property
    def columns(self) -> Columns:
        """The annotations of this view (made anew at each call, unless the view shows everything)."""
        return self.source.columns if self._rows is None else self.source.columns.take_images(self._rows)

    def __len__(self) -> int:
        return self.source.columns.images if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        labels = self.source.columns.offsets
        rows = slice(None) if self._rows is None else self._rows
        objects = f", {int(np.diff(labels)[rows].sum())} objects" if self.label_kind.has_objects else ""
        named = ", ".join(f"{name} {len(self[name])}" for name in self.splits)
        splits = "without splits" if self.splits == ("all",) else f"({named})"
        return f"Dataset({self.format}, {len(self)} images {splits}{objects}, {self.classes!r})"

    @property
    def rows(self) -> np.ndarray | None:
        """int64 ids of the source's images this view shows, in its order; None for all."""
        return self._rows

    # One image

    def name(self, i: int) -> str:
        """The image's path relative to the root, with /; unique within a split."""
        return self.source.columns.names.text(self._row(i))

    def image_name(self, i: int) -> str:
        """The image's name without the folder that the format's layout puts it in."""
        name, folders = self.name(i), self.source.folders
        folder = folders[self.source.columns.splits[self._row(i)]] + "/" if folders else ""
        return name.removeprefix(folder)

    def path(self, i: int) -> Path | None:
        """The image's file; None in memory."""
        return None if self.source.root is None else self.source.root / self.name(i)

    def label_path(self, i: int) -> Path | None:
        """The file that holds the image's labels; None in memory and where the image has none."""
        source, row = self.source, self._row(i)
        if source.root is not None and source.columns.label_names is not None:
            name = source.columns.label_names.text(row)
            return source.root / name if name else None
        return source.label_files[source.columns.splits[row]] if source.label_files else None

    def split_of(self, i: int) -> str:
        """The name of the split the image belongs to."""
        return self.source.split_names[self.source.columns.splits[self._row(i)]]

    def image_size(self, i: int) -> Size:
        """(height, width) as the label states it; from the image's header where it does not."""
        row, columns = self._row(i), self.source.columns
        height, width = int(columns.heights[row]), int(columns.widths[row])
        path = self.path(i)
        return image_size(path) if path is not None and not (height and width) else (height, width)

    def image_extra(self, i: int) -> dict[str, Any]:
        """What else is known of the image (COCO: licence, date, URL …; captions)."""
        extra = self.source.columns.image_extra
        entry = extra[self._row(i)] if extra is not None else b""
        return json.loads(entry) if entry else {}

    def captions(self, i: int) -> list[str]:
        """Sentences about the whole image (of a COCO dataset: after `with_fields("captions")`)."""
        return self.image_extra(i).get("captions", [])

    def table(self, name: str, i: int) -> list[dict[str, Any]]:
        """The rows about image `i` in a further table, such as its relations; see `sightline.data.tables`.

        A column that refers to objects holds their positions in the image's target, or −1 for none.

        Raises:
            InputError: there is no such table.
        """
        tables = self.source.columns.tables
        if name not in tables:
            known = f"it has {', '.join(tables)}" if tables else "it has none"
            raise InputError(f"the dataset has no table {name!r}; {known}")
        return tables[name].of(self._row(i))

    def image(self, i: int) -> Tensor:
        """[C, H, W], uint8 or float in [0, 1]; see `read_image`."""
        if self.source.pictures is not None:
            return self.source.pictures[self._row(i)]
        path = self.path(i)
        assert path is not None, "a dataset without pictures has a root"
        return read_image(path, self.channels, full_scale=lambda: self.full_scale)

    def target(self, i: int) -> Target:
        """What is known of the image, checked; the image is not decoded.

        Raises:
            InputError: a box is inverted or not finite, or a label is no class's id; it names image and annotation.
        """
        make = self.label_kind.make
        assert make is not None, "datasets with columns are of a kind that makes targets of them"
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
                    f"the split {item!r} is missing: {self.missing_splits[item]} is not there; correct the path, or "
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
                raise InputError(f"a mask of {len(chosen)} entries cannot choose among {len(self)} images")
            return self._view(np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64))
        position = operator.index(item)
        image, target = self.image(position), self.target(position)
        if tuple(target.image_size) != tuple(image.shape[-2:]):
            (height, width), (tall, wide) = image.shape[-2:], target.image_size
            raise InputError(
                f"{self.name(position)} is {width} × {height} pixels, but its label is of an image of {wide} × {tall}; "
                "put the right image or label there (sightline check DATA lists all such images)"
            )
        return image, target

    def __iter__(self) -> Iterator[tuple[Tensor, Target]]:
        return (self[i] for i in range(len(self)))

    def with_fields(self, *names: str) -> Self:
        """The same images, with further fields in their targets: "masks", "keypoints", "captions", or an extra column.

        An object without a segmentation has an empty mask.

        Raises:
            InputError: the dataset knows no such field.
        """
        source = self.source
        for name in names:
            if name in source.later:
                later = {other: reader for other, reader in source.later.items() if other != name}
                source = replace(source.later[name](source), later=later)
        columns = source.columns
        known = further_fields(columns)
        # Sentences about whole images are no field of the objects; they come with `captions(i)`.
        wanted = [n for n in names if n not in self.fields and not (n == "captions" and "captions" not in known)]
        for name in wanted:
            if name not in known:
                raise InputError(f"the dataset has no field {name!r}; it has {', '.join([*self.fields, *known])}")
        return type(self)(source, self._rows, (*self.fields, *wanted), self.channels)

    def opened_with(self, arguments: Mapping[str, Any]) -> Self:
        """The same dataset, remembering the arguments of `open_dataset` that open it again."""
        return type(self)(replace(self.source, opened=arguments), self._rows, self.fields, self.channels)

    def with_channels(self, channels: int | None) -> Self:
        """The same dataset, its images read with `channels` channels as in `read_image`."""
        return type(self)(self.source, self._rows, self.fields, channels)

    def with_full_scale(self, full_scale: int | None) -> Self:
        """The same images, samples of more than 8 bits divided by `full_scale` (4095 for a camera of 12 bits).

        None finds it anew. Images in memory are scaled when the dataset is made, and stay as they are.

        Raises:
            InputError: it is not a whole number from 1 to 65535.
        """
        source = replace(self.source, full_scale=FullScale(full_scale))
        return type(self)(source, self._rows, self.fields, self.channels)

    def with_columns(self, columns: Columns) -> Self:
        """The same images with other annotations: `columns` must have a row for each image, in this order."""
        if columns.images != len(self):
            raise InputError(f"columns of {columns.images} images do not fit a dataset of {len(self)}")
        return type(self)(replace(self.own_source(), columns=columns), None, self.fields, self.channels)

    def derived(self, source: Source, rows: np.ndarray | None) -> Self:
        """The images `rows` of another source, with this one's fields and channels."""
        return type(self)(source, rows, self.fields, self.channels)

    def taken(self, rows: np.ndarray) -> Self:
        """The images at `rows` as a dataset of their own, which is whole if this one is."""
        return self.derived(self[rows].own_source(), None if self.whole else np.arange(len(rows)))

    def _view(self, chosen: np.ndarray) -> Self:
        if len(chosen) and (chosen.min() < -len(self) or chosen.max() >= len(self)):
            raise IndexError(f"image {chosen.max() if chosen.max() >= len(self) else chosen.min()} of {len(self)}")
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        return type(self)(self.source, chosen if self._rows is None else self._rows[chosen], self.fields, self.channels)

    def own_source(self) -> Source:
        """A source of this view's images alone."""
        if self._rows is None:
            return self.source
        rows = self._rows.tolist()
        pictures, maps = self.source.pictures, self.source.class_maps
        return replace(
            self.source,
            columns=self.columns,
            pictures=None if pictures is None else _chosen(pictures, rows),
            class_maps=None if maps is None else _chosen(maps, rows),
        )

    def _image_column(self, name: str) -> np.ndarray:
        column = getattr(self.source.columns, name)
        return column if self._rows is None else column[self._rows]

    def _highest_samples(self) -> Iterable[int | None]:
        root, names = self.source.root, self.source.columns.names
        if root is None or self.source.pictures is not None:
            return ()
        return (highest_sample(root / names.text(row)) for row in sampled(range(len(names))))

    def _row(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return i % len(self) if self._rows is None else int(self._rows[i])


def say_rows_lost(before: LabelledImages, after: LabelledImages) -> None:
    """Warn of rows of further tables that went with the objects they refer to."""
    if before.source.columns.tables:
        for name, count in rows_lost(before.columns.tables, after.columns.tables).items():
            log.warning("%s of %s left out: an object that they refer to was left out", counted(count, "row"), name)


def _chosen(items: Sequence[Tensor], rows: Sequence[int]) -> Sequence[Tensor]:
    """The items at `rows`; what is read when it is asked for is not read now."""
    return items.take(rows) if hasattr(items, "take") else [items[row] for row in rows]


AnyDataset = TypeVar("AnyDataset", bound=LabelledImages)
