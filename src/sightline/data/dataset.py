"""The dataset: images on disk (or in memory) and what is known of them, and the datasets that can be made of it."""

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
from sightline.keywords import checked_keywords
from sightline.structures import BACKGROUND, Classes, Instances


class Dataset(LabelledImages):
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

    @checked_keywords
    def split(self, train: float = 0.8, val: float = 0.1, test: float = 0.1, seed: int = 0) -> Dataset:
        """Divide the images at random into "train", "val" and "test"; the same seed divides the same way.

        Args:
            train, val, test: shares of the images, together at most 1; a share of 0 makes no split. Each split with a
                share gets at least one image.
            seed: of NumPy's PCG64.
        """
        return divided(self, train, val, test, seed)

    # In memory

    @classmethod
    def from_instances(
        cls, images: Sequence[Any], targets: Sequence[Instances], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """See `sightline.data.memory.source_of_instances`."""
        return cls(source_of_instances(images, targets, classes, **more))

    @classmethod
    def from_class_maps(
        cls, images: Sequence[Any], maps: Sequence[Any], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """See `sightline.data.memory.source_of_class_maps`."""
        return cls(source_of_class_maps(images, maps, classes, **more))

    @classmethod
    def from_labels(
        cls, images: Sequence[Any], labels: Sequence[Any], classes: Classes | Sequence[str], **more: Any
    ) -> Dataset:
        """See `sightline.data.memory.source_of_labels`."""
        return cls(source_of_labels(images, labels, classes, **more))
