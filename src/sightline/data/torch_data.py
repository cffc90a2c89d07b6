"""Wrap a PyTorch dataset of (image, target) pairs for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.data.arrays import image_tensor
from sightline.data.images import from_pil
from sightline.data.keypoint_pairs import mirrored_keypoints
from sightline.data.kinds import KINDS, kind_of_target
from sightline.data.memory import source_of_class_maps, source_of_instances, source_of_labels
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.interop._fields import labels_of
from sightline.interop.torchvision import from_torchvision
from sightline.structures import Classes, ClassMap, ClassScores, Instances, Size

_BACKGROUND = ("background", "__background__")


class TorchData:
    """Wraps any dataset that has a length and returns (image, target) for an index.

    Images are tensors [C, H, W], arrays [H, W, C] (uint8, or float in [0, 1]) or Pillow images. Targets are
    `Instances`, `ClassMap`, `ClassScores`, another type registered by `sightline.data.kinds.add` (with an attribute
    `image_size`), or dictionaries as torchvision's detectors take them: "boxes" [N, 4] x1, y1, x2, y2 in pixels,
    "labels" [N], and optionally "masks" [N, H, W], "keypoints" [N, P, 3], "iscrowd" and "area". An integer target is
    the class of the whole image, counted from 0, as in torchvision's `ImageFolder`.

    torchvision's detectors count classes from 1, because 0 is their background. All targets are read once to find out
    whether the labels of dictionaries count from 0 or from 1.

    Args:
        data: the dataset. An index must always return the same image; augmentation belongs to the training.
        classes: names of the classes; by default `data.classes`, without a "background" in first place.

    Raises:
        InputError: the classes are unknown, or an item has another form; the message names it.
    """

    root = None
    format = "torch"

    def __init__(self, data: Any, classes: Classes | None = None):
        if isinstance(data, Mapping) or not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
            raise InputError(
                f"a {type(data).__name__} is no PyTorch dataset of (image, target) pairs; give an object with "
                "__len__ and __getitem__"
            )
        self.data = data
        names = list(classes or getattr(data, "classes", None) or ())
        example = self._item(0)[1] if len(data) else None
        whole = _is_label(example)  # for whole images "background" is an ordinary class
        has_background = bool(names) and names[0] in _BACKGROUND and classes is None and not whole
        names = names[1:] if has_background else names
        if not names:
            raise InputError(
                "the dataset does not name its classes; give classes=[…], or set an attribute `classes` on the dataset"
            )
        self.classes = classes if isinstance(classes, Classes) else Classes(names)
        first = KINDS["class_scores"] if whole else kind_of_target(example)
        if first is None and example is not None and not isinstance(example, Mapping):
            raise _unknown_target(example, 0)
        self.kind = (first or KINDS["instances"]).name
        self.first_label = 1 if has_background else 0
        lowest, highest, dictionaries = None, None, False
        if first is None and not has_background:
            for i in range(len(data)):
                target = self._item(i)[1]
                if not isinstance(target, Mapping):
                    break
                dictionaries = True
                labels = labels_of(target.get("labels", ()), f"image {i}")
                if labels.numel():
                    low, high = int(labels.min()), int(labels.max())
                    lowest = low if lowest is None else min(low, lowest)
                    highest = high if highest is None else max(high, highest)
        if dictionaries and lowest is not None and highest is not None:
            self.first_label = self._counted_from(lowest, highest)

    def _counted_from(self, lowest: int, highest: int) -> int:
        """Return 0 or 1, the label of the first class."""
        if lowest >= 1 and highest == len(self.classes):
            return 1
        if lowest >= 0 and highest < len(self.classes) and (lowest == 0 or len(self.classes) == 1):
            return 0
        if lowest >= 1 and highest < len(self.classes):
            raise InputError(
                f"the labels range from {lowest} to {highest} with {len(self.classes)} classes, so it is not clear "
                "whether they count from 0 or, as in torchvision, from 1; give targets as sl.Instances, which count "
                "from 0, or set an attribute `classes` that begins with 'background' on the dataset"
            )
        raise InputError(
            f"the labels range from {lowest} to {highest}, but there are {len(self.classes)} classes "
            f"({', '.join(self.classes[:6])}); correct the labels, or name all classes"
        )

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        return (self[i] for i in range(len(self)))

    def with_fields(self, *names: str) -> TorchData:
        """Return this data after checking that its targets have these fields.

        Raises:
            InputError: the first target lacks a field.
        """
        target = self[0][1]
        for name in names if KINDS[self.kind].has_objects else ():
            if name not in target:
                raise InputError(f"the dataset's targets have no field {name!r}; they have {', '.join(target.fields)}")
        return self

    def name(self, i: int) -> str:
        """The name of an image in messages and reports."""
        return f"image {i}"

    def image(self, i: int) -> Tensor:
        """[C, H, W], uint8 or float in [0, 1]."""
        return _as_image(self._item(i)[0], i)

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """The names of the keypoints, from an attribute of this name of the dataset; else empty."""
        return tuple(getattr(self.data, "keypoint_names", ()))

    @property
    def keypoint_swap(self) -> tuple[int, ...] | None:
        """The index of each keypoint's mirror image: the dataset's attribute, else found by the names, else None."""
        own = getattr(self.data, "keypoint_swap", None)
        return mirrored_keypoints(self.keypoint_names) if own is None else tuple(own)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        picture, target = self._item(i)
        image = _as_image(picture, i)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        if isinstance(target, Mapping):
            target = self._instances(target, size, i)
        elif _is_label(target):
            target = ClassScores(size, label=int(target), classes=self.classes, source=f"image {i}")
        if kind_of_target(target) is None:
            raise _unknown_target(target, i)
        if target.image_size != size:
            raise InputError(f"image {i} has the size {list(size)}, but its target is for {list(target.image_size)}")
        return image, _checked(target, self.classes, f"image {i}")

    def _item(self, i: int) -> tuple[Any, Any]:
        item = self.data[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(f"item {i} of the dataset is a {type(item).__name__}, but must be a pair (image, target)")
        return item[0], item[1]

    def _instances(self, target: Mapping[str, Any], size: tuple[int, int], i: int) -> Instances:
        labels = {name: value for name, value in target.items() if name != "scores"}
        return from_torchvision(labels, size, self.classes, first_label=self.first_label, source=f"image {i}")


class LazyImages(Sequence[Tensor]):
    """The images of a wrapped dataset, each read when it is asked for.

    Attributes:
        sizes: (height, width) of each image.
    """

    def __init__(self, data: TorchData, sizes: Sequence[Size]):
        self.data = data
        self.sizes = list(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, item: int) -> Tensor: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, item: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(item, slice):
            return [self.data.image(i) for i in range(*item.indices(len(self)))]
        image = self.data.image(item)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        if size != tuple(self.sizes[item]):
            raise InputError(
                f"image {item} of the PyTorch dataset has the size {list(size)} now and had {list(self.sizes[item])} "
                "before; an index must always return the same image: leave augmentation to the training"
            )
        return image


def source_of_torch(data: Any, classes: Classes | Sequence[str] | None = None, **more: Any) -> Source:
    """The source of a dataset whose images and targets come from a PyTorch dataset.

    All items are read once, for their targets and sizes; the images are read again when they are used.

    Args:
        data: see `TorchData`; targets are dictionaries, `Instances`, `ClassMap`, `ClassScores` or integers.
        classes: names of the classes; by default `data.classes`.
        more: additional arguments of `sightline.data.memory.source_of_instances` and its siblings, such as names and
            splits.

    Raises:
        InputError: an item has another form, or its target is of another kind; the message names it.
    """
    names = classes if classes is None or isinstance(classes, Classes) else Classes(classes)
    wrapped = TorchData(data, names)
    targets = [target for _, target in wrapped]
    for i, target in enumerate(targets):
        if kind_of_target(target) is not KINDS[wrapped.kind]:
            raise InputError(
                f"image {i}: its target is a {type(target).__name__}, but that of image 0 is a "
                f"{type(targets[0]).__name__}; give all images targets of one kind"
            )
    images = LazyImages(wrapped, [target.image_size for target in targets])
    return _source(targets[0] if targets else Instances((1, 1)), images, targets, wrapped, more)


@singledispatch
def _source(example: Any, images: LazyImages, targets: list[Any], data: TorchData, more: Mapping[str, Any]) -> Source:
    """The source of targets of the type of `example`; `more` are additional arguments."""
    raise InputError(
        f"targets of type {type(example).__name__} cannot be stored in a dataset; train and evaluate with the PyTorch "
        "dataset itself"
    )


@_source.register
def _of_objects(
    example: Instances, images: LazyImages, targets: list[Any], data: TorchData, more: Mapping[str, Any]
) -> Source:
    return source_of_instances(images, targets, data.classes, **{"keypoint_names": data.keypoint_names, **more})


@_source.register
def _of_maps(
    example: ClassMap, images: LazyImages, targets: list[Any], data: TorchData, more: Mapping[str, Any]
) -> Source:
    return source_of_class_maps(images, [target.labels for target in targets], data.classes, **more)


@_source.register
def _of_labels(
    example: ClassScores, images: LazyImages, targets: list[Any], data: TorchData, more: Mapping[str, Any]
) -> Source:
    labels = [_label(target, i) for i, target in enumerate(targets)]
    return source_of_labels(images, labels, data.classes, **more)


def _label(target: ClassScores, i: int) -> int:
    if target.label is None:
        raise InputError(f"image {i}: its target has scores, but no label; give the id of its class")
    return target.label


@singledispatch
def _checked(target: Any, classes: Classes, name: str) -> Any:
    """Validate a target again, now that the classes are known."""
    return target


@_checked.register
def _checked_objects(target: Instances, classes: Classes, name: str) -> Instances:
    return Instances(target.image_size, classes=classes, source=target.source or name, **target.fields)


def _unknown_target(target: Any, i: int) -> InputError:
    known = ", ".join(kind.target.__name__ for kind in KINDS.values())
    vector = isinstance(target, Tensor | np.ndarray | list | tuple) and np.ndim(target) == 1 and len(target) > 1
    if vector and set(np.asarray(target).tolist()) <= {0, 1}:
        return InputError(
            f"image {i}: its target has one 0 or 1 for each of {len(target)} classes, but an image has one class; give "
            "its id, such as target.argmax(); for several classes per image, train one model for each class"
        )
    return InputError(
        f"image {i}: its target is a {type(target).__name__}; give {known}, a dictionary with boxes and labels, or the "
        "id of the image's class"
    )


def _is_label(target: Any) -> bool:
    """Whether a target is an integer of Python, NumPy or PyTorch."""
    if isinstance(target, Tensor):
        return target.ndim == 0 and not target.is_floating_point() and target.dtype is not torch.bool
    return isinstance(target, int | np.integer) and not isinstance(target, bool)


def is_torch_data(data: Any) -> bool:
    """Whether an object has a length and indexed items and is not one of the library's own datasets."""
    own = hasattr(data, "kind") and hasattr(data, "classes")
    return not own and hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | bytes)


_SIDE = 16
"""Two axes of at least this length beside one of at most 4 are height and width, and the third is that of channels."""


def _as_image(picture: Any, i: int) -> Tensor:
    if isinstance(picture, Image.Image):
        return from_pil(picture)
    if not isinstance(picture, Tensor | np.ndarray):
        raise InputError(f"image {i} is a {type(picture).__name__}; give a tensor, an array or a Pillow image")
    if picture.ndim not in (2, 3):
        raise InputError(f"image {i} has the shape {list(picture.shape)}, but an image is [H, W] or [C, H, W]")
    channels = picture.shape[0] if isinstance(picture, Tensor) else picture.shape[-1]
    if picture.ndim == 3 and min(picture.shape) <= 4 and sorted(picture.shape)[1] >= _SIDE and channels >= _SIDE:
        form = "[C, H, W], as permute(2, 0, 1) does" if isinstance(picture, Tensor) else "[H, W, C]"
        raise InputError(
            f"image {i} has the shape {list(picture.shape)}, which would be {channels} channels; the axes seem to be "
            f"swapped: give {form}"
        )
    return image_tensor(picture, int(channels) if picture.ndim == 3 else 1, f"image {i}")
