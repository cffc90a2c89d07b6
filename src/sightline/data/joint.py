"""Images with boxes and images with one label each, as one set: what YOLO9000 learns from together."""

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
    """The images of two data sets, one after the other; the boxed ones several times where they are few.

    Classes are those of the first set, then what the second adds, by name. Targets are `Instances` of the one and
    `ClassScores` of the other, in those classes.

    Args:
        boxed: images with boxes.
        labelled: images with one label each.
        most: labelled images a boxed one, at most: boxed images are repeated until it holds.

    Raises:
        InputError: a set is empty, or of another kind.

    Source: Redmon and Farhadi, "YOLO9000", 2017, section 4, "Joint classification and detection": the larger set is
    held to four times the smaller by repeating the smaller.
    """

    kind = "joint"

    def __init__(self, boxed: Dataset, labelled: Dataset, most: float = 4.0):
        for part, target, what in ((boxed, Instances, "boxes"), (labelled, ClassScores, "a label each")):
            if not len(part):
                raise InputError(f"the images with {what} are none; give a data set that has some")
            if part.label_kind.target is not target:
                raise InputError(f"a data set of {part.label_kind.noun} was given in the place of images with {what}")
        if not most > 0:
            raise InputError(f"most is {most}, but must be a number above 0, such as 4 labelled images a boxed one")
        self.repeats = max(1, math.ceil(len(labelled) / (most * len(boxed))))
        self.classes = Classes([*boxed.classes, *(name for name in labelled.classes if name not in boxed.classes)])
        self.boxed, self.labelled = boxed.with_classes(self.classes), labelled.with_classes(self.classes)

    @property
    def parts(self) -> tuple[Dataset, Dataset]:
        """The two sets, in the joint classes."""
        return self.boxed, self.labelled

    @property
    def root(self) -> Path | None:
        """A folder where images are read from; None where all are in memory."""
        return self.boxed.root or self.labelled.root

    def __len__(self) -> int:
        return self.repeats * len(self.boxed) + len(self.labelled)

    @overload
    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[tuple[Tensor, Target]]: ...
    def __getitem__(self, index: int | slice, /) -> tuple[Tensor, Target] | list[tuple[Tensor, Target]]:
        """(image, target) of a position, or those of a slice; boxed images come first."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        first = self.repeats * len(self.boxed)
        return self.boxed[index % len(self.boxed)] if index < first else self.labelled[index - first]
