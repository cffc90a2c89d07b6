"""Images with boxes and images with one label each as one dataset, for the joint training of YOLO9000."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from torch import Tensor

from sightline.data.dataset import Dataset
from sightline.errors import InputError
from sightline.structures import Classes, ClassScores, Instances, Target


class JointData(Sequence[tuple[Tensor, Target]]):
    """The images of two datasets, concatenated; the images with boxes are repeated if there are few.

    Classes are those of the first dataset, then those that the second adds, by name. Targets are `Instances` for the
    first and `ClassScores` for the second, in these classes.

    Args:
        boxed: images with boxes.
        labelled: images with one label each.
        most: maximum number of labelled images per image with boxes; the latter are repeated to reach it.

    Raises:
        InputError: a dataset is empty, or has another kind of labels.

    Source: Redmon and Farhadi, "YOLO9000", 2017, section 4, "Joint classification and detection": the smaller dataset
    is oversampled so that the larger one is at most four times as large.
    """

    kind = "joint"

    def __init__(self, boxed: Dataset, labelled: Dataset, most: float = 4.0):
        for part, target, what in ((boxed, Instances, "boxes"), (labelled, ClassScores, "a label each")):
            if not len(part):
                raise InputError(f"the dataset of images with {what} is empty; give one with images")
            if part.label_kind.target is not target:
                raise InputError(f"the labels are {part.label_kind.noun}, but images with {what} are expected")
        if not most > 0:
            raise InputError(f"most is {most}, but must be a number above 0, such as 4 labelled images per boxed image")
        self.repeats = max(1, math.ceil(len(labelled) / (most * len(boxed))))
        self.classes = Classes([*boxed.classes, *(name for name in labelled.classes if name not in boxed.classes)])
        self.boxed, self.labelled = boxed.with_classes(self.classes), labelled.with_classes(self.classes)

    @property
    def parts(self) -> tuple[Dataset, Dataset]:
        """The two datasets, in the joint classes."""
        return self.boxed, self.labelled

    @property
    def root(self) -> Path | None:
        """A folder from which images are read; None if all are in memory."""
        return self.boxed.root or self.labelled.root

    def __len__(self) -> int:
        return self.repeats * len(self.boxed) + len(self.labelled)

    @overload
    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[tuple[Tensor, Target]]: ...
    def __getitem__(self, index: int | slice, /) -> tuple[Tensor, Target] | list[tuple[Tensor, Target]]:
        """(image, target) at a position, or a list of them for a slice; images with boxes come first."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        first = self.repeats * len(self.boxed)
        return self.boxed[index % len(self.boxed)] if index < first else self.labelled[index - first]
