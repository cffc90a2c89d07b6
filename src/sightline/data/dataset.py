"""The `Dataset` class: images on disk or in memory with their labels, and methods that derive new datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.data.choosing import filtered
from sightline.data.combine import concatenated
from sightline.data.labelled import LabelledImages
from sightline.data.memory import source_of_class_maps, source_of_instances, source_of_labels
from sightline.data.rasterise import as_class_map
from sightline.data.relabel import relabelled, with_class_mapping
from sightline.data.shares import divided
from sightline.data.torch_data import source_of_torch
from sightline.keywords import checked_keywords
from sightline.structures import BACKGROUND, Classes, Instances


class Dataset(LabelledImages):
    """Images with targets.

    Indexing with an integer returns (image, target). Indexing with the name of a split, a slice, ids or a bool array
    returns a Dataset. A dataset is a view: splits and subsets share their columns, and so do forked worker processes
    (spawned workers receive a copy of about 100 bytes per box). Create one with `sightline.open_dataset`, or in memory
    with `from_instances`, `from_class_maps`, `from_labels` or `from_torch`.

    Args:
        source: the shared data.
        rows: int64 ids of the source's images in this view, in order; None for all images.
        fields: names of the fields of targets (kind "instances").
        channels: channels of images, as in `read_image`.
    """

    def with_classes(self, names: Sequence[str]) -> Dataset:
        """The same labels with other classes. `names` must contain all classes of this dataset, in any order.

        Raises:
            InputError: a class is missing from the names.
        """
        classes = Classes(names)
        return relabelled(self, classes, [classes.id(name) for name in self.classes])

    @checked_keywords
    def with_class_mapping(self, mapping: Mapping[str, str | None]) -> Dataset:
        """Rename, merge or remove classes: `{"apple": "fruit", "pear": "fruit", "x": None}`.

        Classes that are not in the mapping are kept. The new classes are in the order of the old ones. Objects of a
        removed class are removed, pixels of it are ignored (`IGNORE`), and images that have it as their label are
        removed.

        Args:
            mapping: new name by old class name; the new name may be the name of another class. None removes the class.

        Raises:
            InputError: an old name is not a class, a new name is not valid, or no class is left.
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
        """Select images and objects that meet all given conditions.

        Args:
            classes: keep only these classes, in this order; others are removed as by `with_class_mapping`.
            split: the name of a split, or several.
            names: one or several patterns such as "2024-*" or "street/*.png", matched against the path of an image or
                its file name. Case-sensitive; * also matches /.
            min_area: minimum area of objects in pixels: the stated area (COCO), else the area of the mask, else that of
                the box. Images are kept even if all their objects are removed.
            with_objects: True to keep only images with objects, False to keep only images without; applied last.

        Raises:
            InputError: a class or split does not exist, no image name matches, or min_area or with_objects is given
                although the labels are not objects.
        """
        return filtered(self, classes, split, names, min_area, with_objects)

    def __add__(self, other: Dataset) -> Dataset:
        """Concatenate two datasets, images of `other` last; `sum` concatenates several.

        Classes are merged by name, those of this dataset first. Splits keep their names. The two datasets may have
        different formats and folders.

        Raises:
            InputError: the labels are of different kinds, only one dataset has splits, an image file is in the same
                split of both, class names differ only in capitalization, or requested keypoints differ.
        """
        return concatenated([self, other]) if isinstance(other, Dataset) else NotImplemented

    def __radd__(self, other: object) -> Dataset:
        return self if other == 0 else NotImplemented  # sum() starts with 0

    def as_class_map(self, background: str | None = BACKGROUND) -> Dataset:
        """Convert objects with outlines to class maps, where each pixel has the class of its smallest object.

        Maps are drawn lazily. If some objects have an outline, an object without one fills its box. Pixels of crowd
        regions are ignored.

        Args:
            background: name of the class of pixels without an object. It gets id 0, unless the classes already contain
                it. None to ignore these pixels instead.

        Raises:
            InputError: the objects have no outlines.
        """
        return as_class_map(self, background)

    @checked_keywords
    def split(self, train: float = 0.8, val: float = 0.1, test: float = 0.1, seed: int = 0) -> Dataset:
        """Split the images at random into "train", "val" and "test". The result depends only on the seed.

        Args:
            train, val, test: fractions of the images, in total at most 1. A fraction of 0 creates no split; any other
                split has at least one image.
            seed: seed of NumPy's PCG64 generator.
        """
        return divided(self, train, val, test, seed)

    # Datasets in memory

    @classmethod
    def from_instances(
        cls, images: Sequence[Any], targets: Sequence[Instances], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """Create a dataset in memory; see `sightline.data.memory.source_of_instances`."""
        return cls(source_of_instances(images, targets, classes, **more))

    @classmethod
    def from_class_maps(
        cls, images: Sequence[Any], maps: Sequence[Any], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """Create a dataset in memory; see `sightline.data.memory.source_of_class_maps`."""
        return cls(source_of_class_maps(images, maps, classes, **more))

    @classmethod
    def from_labels(
        cls, images: Sequence[Any], labels: Sequence[Any], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """Create a dataset in memory; see `sightline.data.memory.source_of_labels`."""
        return cls(source_of_labels(images, labels, classes, **more))

    @classmethod
    def from_torch(cls, data: Any, classes: Classes | Sequence[str] | None = None, **more: Any) -> Dataset:
        """Create a dataset from a PyTorch dataset; see `sightline.data.torch_data.source_of_torch`."""
        return cls(source_of_torch(data, classes, **more))
