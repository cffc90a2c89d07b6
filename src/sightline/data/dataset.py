"""The dataset: images on disk (or in memory) and what is known of them, as a view of shared columns."""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from sightline.data.choosing import filtered
from sightline.data.columns import Columns
from sightline.data.combine import concatenated
from sightline.data.full_scale import FullScale, sampled
from sightline.data.images import highest_sample, image_size, read_image
from sightline.data.keypoint_pairs import mirrored_keypoints
from sightline.data.malformed import BadLabel
from sightline.data.rasterise import as_class_map
from sightline.data.relabel import relabelled, with_class_mapping
from sightline.data.source import Kind, Source, make_class_map, make_class_scores, make_instances
from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.structures import BACKGROUND, Classes, Instances, Size, Target
from sightline.words import are, counted

_DEFAULT_FIELDS = ("boxes", "labels", "crowd", "difficult", "areas")

_LOG = logging.getLogger("sightline")


class Dataset(Sequence[tuple[Tensor, Target]]):
    """Images with targets. Indexing gives (image, target); a split's name, a slice, ids or a bool array give a Dataset.

    A dataset is a view: splits and subsets share their columns, and so do worker processes that are forked (where
    workers are spawned instead, each receives a copy, of about 100 bytes a box). It is made by
    `sightline.open_dataset`, or in memory by `from_instances`, `from_class_maps`, `from_labels`.

    Args:
        source: what is shared.
        rows: int64 ids of the source's images this view shows, in its order; None for all.
        fields: the names of the fields targets have (kind "instances").
        channels: the channels images are read with, as in `read_image`.
    """

    def __init__(
        self,
        source: Source,
        rows: np.ndarray | None = None,
        fields: tuple[str, ...] = _DEFAULT_FIELDS,
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
    def kind(self) -> Kind:
        """What a target is: "instances", "class_map" or "class_scores"."""
        return self.source.kind

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
        objects = f", {int(np.diff(labels)[rows].sum())} objects" if self.kind == "instances" else ""
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
        if self.kind == "class_map":
            return make_class_map(self.source, self._row(i))
        if self.kind == "class_scores":
            return make_class_scores(self.source, self._row(i), self.image_size(i))
        return make_instances(self.source, self._row(i), self.image_size(i), self.fields)

    # Views

    @overload
    def __getitem__(self, item: int) -> tuple[Tensor, Target]: ...
    @overload
    def __getitem__(self, item: str | slice | Sequence[int] | Sequence[bool] | np.ndarray | Tensor) -> Dataset: ...
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

    def with_fields(self, *names: str) -> Dataset:
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
        known = [n for n in ("keypoints", "captions") if getattr(columns, n) is not None]
        known += ["masks", *columns.extra] if columns.segmentations.data.size else [*columns.extra]
        # Sentences about whole images are no field of the objects; they come with `captions(i)`.
        wanted = [n for n in names if n not in self.fields and not (n == "captions" and "captions" not in known)]
        for name in wanted:
            if name not in known:
                raise InputError(f"the dataset has no field {name!r}; it has {', '.join([*self.fields, *known])}")
        return Dataset(source, self._rows, (*self.fields, *wanted), self.channels)

    def opened_with(self, arguments: Mapping[str, Any]) -> Dataset:
        """The same dataset, remembering the arguments of `open_dataset` that open it again."""
        return Dataset(replace(self.source, opened=arguments), self._rows, self.fields, self.channels)

    def with_channels(self, channels: int | None) -> Dataset:
        """The same dataset, its images read with `channels` channels as in `read_image`."""
        return Dataset(self.source, self._rows, self.fields, channels)

    def with_full_scale(self, full_scale: int | None) -> Dataset:
        """The same images, samples of more than 8 bits divided by `full_scale` (4095 for a camera of 12 bits).

        None finds it anew. Images in memory are scaled when the dataset is made, and stay as they are.

        Raises:
            InputError: it is not a whole number from 1 to 65535.
        """
        source = replace(self.source, full_scale=FullScale(full_scale))
        return Dataset(source, self._rows, self.fields, self.channels)

    def with_classes(self, names: Sequence[str]) -> Dataset:
        """The same labels among other classes: `names` holds those of this dataset, in any order, and maybe more.

        Raises:
            InputError: a class is not among the names.
        """
        classes = Classes(names)
        return relabelled(self, classes, [classes.id(name) for name in self.classes])

    @checked_keywords
    def with_class_mapping(self, mapping: Mapping[str, str | None]) -> Dataset:
        """The same images, their classes renamed, merged or left out: `{"apple": "fruit", "pear": "fruit", "x": None}`.

        Classes that the mapping does not name stay. The new classes are in the order of the old ones. Objects of a
        class that is left out are removed, pixels of it do not count (`IGNORE`), and images that are of it as a whole
        are left out.

        Args:
            mapping: the new name of each old class, which may be that of another one; None leaves the class out.

        Raises:
            InputError: an old name is no class, a new one is no name, or no class is left.
        """
        return with_class_mapping(self, mapping)

    @checked_keywords
    def filter(
        self,
        *,
        classes: str | Sequence[str] | None = None,
        split: str | Sequence[str] | None = None,
        names: str | Sequence[str] | None = None,
        min_area: float | None = None,
        with_objects: bool | None = None,
    ) -> Dataset:
        """The images and objects that fit all that is given.

        Args:
            classes: the dataset then has these classes alone, in this order; what is of another one is left out as in
                `with_class_mapping`.
            split: one split or several.
            names: a pattern such as "2024-*" or "street/*.png", or several, for an image's path or for its file's name.
                Case counts; * stands for / as well.
            min_area: objects of fewer pixels are left out, by their stated area (COCO), that of their mask, or that of
                their box, the first that is known. Images stay.
            with_objects: images with objects alone (True), or those without (False), after all the rest.

        Raises:
            InputError: a class or split is not there, no image has such a name, or the labels are no objects and
                min_area or with_objects is given.
        """
        return filtered(self, classes, split, names, min_area, with_objects)

    def __add__(self, other: Dataset) -> Dataset:
        """The images of both, those of `other` last; `sum` joins several.

        Classes are united by their names, those of this dataset first. Splits keep their names. The two may have
        different formats and folders.

        Raises:
            InputError: the labels are of different kinds, one dataset is divided into splits and the other is not, an
                image file is in the same split of both, class names differ in capital letters alone, or keypoints that
                are asked for differ.
        """
        return concatenated([self, other]) if isinstance(other, Dataset) else NotImplemented

    def __radd__(self, other: object) -> Dataset:
        return self if other == 0 else NotImplemented  # where sum begins

    def as_class_map(self, background: str | None = BACKGROUND) -> Dataset:
        """Objects with outlines as a dataset of class maps: each pixel has the class of its smallest object.

        Maps are drawn when they are asked for. An object without outline, among others that have one, fills its box;
        crowds do not count.

        Args:
            background: the class of pixels without an object, which becomes id 0 unless the classes have it already;
                None for pixels that do not count.

        Raises:
            InputError: the objects have no outlines.
        """
        return as_class_map(self, background)

    def with_columns(self, columns: Columns) -> Dataset:
        """The same images with other annotations: `columns` must have a row for each image, in this order."""
        if columns.images != len(self):
            raise InputError(f"columns of {columns.images} images do not fit a dataset of {len(self)}")
        return Dataset(replace(self._own_source(), columns=columns), None, self.fields, self.channels)

    @checked_keywords
    def split(self, train: float = 0.8, val: float = 0.1, test: float = 0.1, seed: int = 0) -> Dataset:
        """Divide the images at random into "train", "val" and "test"; the same seed divides the same way.

        Args:
            train, val, test: shares of the images, together at most 1; a share of 0 makes no split. Each split with a
                share gets at least one image.
            seed: of NumPy's PCG64.
        """
        shares = {name: share for name, share in (("train", train), ("val", val), ("test", test)) if share}
        places = _divide(len(self), list(shares.values()), seed)
        kept = np.flatnonzero(places >= 0)
        if len(kept) < len(self):
            given = " + ".join(f"{share:g}" for share in shares.values())
            left = len(self) - len(kept)
            _LOG.warning(
                "%s of %d %s left out of all splits: %s is less than 1", counted(left), len(self), are(left), given
            )
        whole = len(kept) == len(self)
        own = (self if whole else self._view(kept))._own_source()
        folders = tuple({*own.folders})  # one folder stays known; several cannot be told apart by the new splits
        source = replace(
            own,
            columns=own.columns.replace(splits=places[kept]),
            split_names=tuple(shares),
            folders=folders * len(shares) if len(folders) == 1 else (),
            label_files=own.label_files[:1] * len(shares) if len({*own.label_files}) == 1 else (),
            division={"seed": int(seed), "shares": {name: float(share) for name, share in shares.items()}},
        )
        return Dataset(source, None, self.fields, self.channels)

    def _view(self, chosen: np.ndarray) -> Dataset:
        if len(chosen) and (chosen.min() < -len(self) or chosen.max() >= len(self)):
            raise IndexError(f"image {chosen.max() if chosen.max() >= len(self) else chosen.min()} of {len(self)}")
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        return Dataset(self.source, chosen if self._rows is None else self._rows[chosen], self.fields, self.channels)

    def _own_source(self) -> Source:
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

    # In memory

    @classmethod
    def from_instances(
        cls, images: Sequence[Any], targets: Sequence[Instances], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """See `sightline.data.memory.from_instances`."""
        from sightline.data.memory import from_instances

        return from_instances(images, targets, classes, **more)

    @classmethod
    def from_class_maps(
        cls, images: Sequence[Any], maps: Sequence[Any], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """See `sightline.data.memory.from_class_maps`."""
        from sightline.data.memory import from_class_maps

        return from_class_maps(images, maps, classes, **more)

    @classmethod
    def from_labels(
        cls, images: Sequence[Any], labels: Sequence[Any], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """See `sightline.data.memory.from_labels`."""
        from sightline.data.memory import from_labels

        return from_labels(images, labels, classes, **more)


def _chosen(items: Sequence[Tensor], rows: Sequence[int]) -> Sequence[Tensor]:
    """The items at `rows`; what is read when it is asked for is not read now."""
    return items.take(rows) if hasattr(items, "take") else [items[row] for row in rows]


def _divide(count: int, shares: Sequence[float], seed: int) -> np.ndarray:
    """int8 [count]: the split each image falls into, or −1."""
    if not shares or min(shares) < 0 or sum(shares) > 1 + 1e-9:
        raise InputError(f"shares {[*shares]} cannot divide a dataset; give parts of 1 such as 0.8, 0.1, 0.1")
    if count < len(shares):
        raise InputError(f"{count} images cannot be divided into {len(shares)} splits; set a share to 0")
    ends = np.rint(np.cumsum(shares) * count).astype(int)
    for k in range(len(ends)):  # at least one image each: first from the left, then from the right
        ends[k] = max(ends[k], (ends[k - 1] if k else 0) + 1)
    for k in range(len(ends) - 1, -1, -1):
        ends[k] = min(ends[k], count - (len(ends) - 1 - k))
    places = np.full(count, -1, np.int8)
    order = np.random.default_rng(seed).permutation(count)
    places[order[: ends[-1]]] = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    return places
