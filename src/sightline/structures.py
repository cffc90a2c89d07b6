"""What flows through the library: images in, `Instances`, `ClassMap` or `ClassScores` out, and the classes' names.

Targets and predictions are of the same types. Coordinates are pixels of the image they belong to, x to the right and y
down, with (0, 0) at the outer corner of the top-left pixel; boxes are (x1, y1, x2, y2).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from sightline.errors import ClassMismatch, InputError

_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")

Size = tuple[int, int]
"""Height and width, in pixels."""

IGNORE = -1
"""The class id of pixels that neither train nor count in a `ClassMap`."""

BACKGROUND = "background"
"""What is where no object is; a class of this name is not tinted in pictures."""


class Classes(Sequence[str]):
    """The names of K classes; ids are positions 0 … K−1, without background and without gaps. Immutable.

    Args:
        names: distinct, non-empty names in the order of their ids.

    Raises:
        InputError: a name is empty, is not a string, holds a line break or another control character, or occurs twice.
    """

    def __init__(self, names: Iterable[str]):
        if isinstance(names, str):
            raise InputError(f"classes must be a list of names, not the single string {names!r}; write [{names!r}]")
        if not isinstance(names, Iterable):
            raise InputError(
                f"classes must be a list of names, not {names!r}; write their names, such as ['cat', 'dog']"
            )
        self.names = tuple(names)
        seen: set[str] = set()
        for position, name in enumerate(self.names):
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"class {position} is {name!r}, but a class name must be a non-empty string")
            if _UNPRINTABLE.search(name):
                raise InputError(
                    f"class {position} is {name!r}, but a class name must be one line of text without "
                    "control characters and halves of surrogate pairs; rename it"
                )
            if name in seen:
                raise InputError(
                    f"class {name!r} occurs twice (again at {position}), but names must be distinct; rename one"
                )
            seen.add(name)
        self._ids = {name: position for position, name in enumerate(self.names)}

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[str, ...]: ...
    def __getitem__(self, item: int | slice) -> str | tuple[str, ...]:
        return self.names[item]

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Classes):
            return self.names == other.names
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:6]) + (f", … {len(self) - 6} more" if len(self) > 6 else "")
        return f"Classes({len(self)}: {shown})"

    def id(self, name: str) -> int:
        """The id of `name`; an unknown name is refused with the nearest known one."""
        if name not in self._ids:
            near = difflib.get_close_matches(name, self.names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(self.names[:10])}"
            raise InputError(f"unknown class {name!r}{hint}")
        return self._ids[name]

    def require_same(self, other: Classes, mine: str, theirs: str) -> None:
        """Refuse `other` by name unless both hold the same names in the same order.

        Args:
            other: the classes to compare with.
            mine, theirs: what the two belong to, for the sentence ("the model", "the dataset").

        Raises:
            ClassMismatch: naming what is missing, what is more, or that the order differs.
        """
        if self == other:
            return
        missing = [name for name in self if name not in other]
        extra = [name for name in other if name not in self]
        parts = []
        if missing:
            parts.append(f"{theirs} lacks {_list_names(missing)}")
        if extra:
            parts.append(f"{theirs} also has {_list_names(extra)}")
        if not parts:
            first = next(i for i, (a, b) in enumerate(zip(self, other, strict=True)) if a != b)
            parts.append(
                f"their order differs: id {first} is {self[first]!r} in {mine} and {other[first]!r} in {theirs}"
            )
        raise ClassMismatch(
            f"the classes of {mine} and {theirs} differ: {' and '.join(parts)}; rename or reorder the data's "
            "classes (--classes OLD=NEW, in Python open_dataset(…, classes=…)), or take a model of these classes"
        )


def _list_names(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


class Instances:
    """The objects of one image: fields of equal length N, the image's size, and the classes' names.

    Any keyword is a field. Fields with a known meaning are checked:

    =============  =======================  ===============================================================
    field          shape and dtype          meaning
    =============  =======================  ===============================================================
    boxes          [N, 4] float             x1, y1, x2, y2 in pixels of the image
    labels         [N] int64                class ids 0 … K−1
    scores         [N] float                confidence in [0, 1]
    masks          [N, H, W] bool           one mask an object, of the image's size
    keypoints      [N, P, 3] float          x, y in pixels and visibility (0 absent, 1 hidden, 2 visible)
    cuboids        [N, 9] float             x, y, z, w, h, l in metres and roll, pitch, yaw in radians
    crowd          [N] bool                 a region of many objects: neither right nor wrong when found
    difficult      [N] bool                 VOC's mark: does not count when found or missed
    areas          [N] float                the object's area in pixels, for size bins
    captions       list of N str            a phrase an object
    meshes         list of N                a mesh an object
    =============  =======================  ===============================================================

    Args:
        image_size: (height, width) of the image in pixels.
        classes: names of the classes, or None where they are not known.
        source: the file or item the objects belong to, for messages and predictions of whole folders.
        fields: tensors or lists, all of length N. Without any field the image is empty: N = 0.

    Raises:
        InputError: lengths differ; a box is not finite or inverted; a label is not a class's id; a shape is wrong.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor
    keypoints: Tensor
    cuboids: Tensor
    crowd: Tensor
    difficult: Tensor
    areas: Tensor
    captions: list[str]

    def __init__(self, image_size: Size, *, classes: Classes | None = None, source: str | None = None, **fields: Any):
        height, width = image_size
        self.image_size: Size = (int(height), int(width))
        self.classes = classes
        self.source = source
        self._fields: dict[str, Any] = {name: _as_field(name, value) for name, value in fields.items()}
        if not self._fields:
            self._fields = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        self._check()

    @classmethod
    def unchecked(
        cls, image_size: Size, *, classes: Classes | None, source: str | None = None, **fields: Any
    ) -> Instances:
        """As the constructor, without looking at values: for decoders, whose results are right by construction.

        Looking would stop an accelerator's queue at every image.
        """
        self = cls.__new__(cls)
        self.image_size, self.classes, self.source, self._fields = image_size, classes, source, fields
        return self

    def _check(self) -> None:
        what = f"{self.source}: " if self.source else ""
        lengths = {name: len(value) for name, value in self._fields.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{what}fields must have equal length, but they have {lengths}")
        for name, shape in _SHAPES.items():
            value = self._fields.get(name)
            if value is not None and (
                value.ndim != len(shape)
                or any(want not in (None, have) for want, have in zip(shape, value.shape, strict=True))
            ):
                wanted = ", ".join("any" if size is None else str(size) for size in shape)
                raise InputError(f"{what}{name} must have shape [{wanted}], not {list(value.shape)}")
        masks = self._fields.get("masks")
        if masks is not None and tuple(masks.shape[1:]) != self.image_size:
            raise InputError(
                f"{what}masks are of size {list(masks.shape[1:])}, but the image is of size {list(self.image_size)}"
            )
        boxes = self._fields.get("boxes")
        if boxes is not None and len(boxes):
            bad = ~boxes.isfinite().all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
            if bad.any():
                row = int(bad.nonzero()[0])
                values = [round(v, 2) if math.isfinite(v) else v for v in boxes[row].tolist()]
                raise InputError(
                    f"{what}box {row} is {values}, but a box must be finite with x1 ≤ x2 and y1 ≤ y2; "
                    "correct or remove it (sightline check --fix drop does)"
                )
        labels = self._fields.get("labels")
        if labels is not None and len(labels) and self.classes is not None:
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= len(self.classes):
                bad_id = low if low < 0 else high
                raise InputError(
                    f"{what}label {bad_id} is not a class id: "
                    f"there are {len(self.classes)} classes, ids 0 to {len(self.classes) - 1}"
                )

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"Instances has no field {name!r}; it has {', '.join(fields) or 'none'}")

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def __len__(self) -> int:
        return len(next(iter(self._fields.values())))

    def __iter__(self) -> Iterator[Instances]:
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(self, item: Tensor | slice | int | Sequence[int]) -> Instances:
        """The chosen objects: a bool mask [N], ids, a slice, or one position (the result then has length 1)."""
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"object {item} of {len(self)}")
            item = slice(item, item + 1) if item != -1 else slice(item, None)
        if not isinstance(item, slice | Tensor):
            item = torch.as_tensor(item, dtype=None if len(item) else torch.int64)
        chosen: dict[str, Any] = {}
        for name, value in self._fields.items():
            if isinstance(value, Tensor):
                chosen[name] = value[item.to(value.device) if isinstance(item, Tensor) else item]
            elif isinstance(item, slice):
                chosen[name] = value[item]
            else:
                ids = item.nonzero().flatten() if item.dtype == torch.bool else item
                chosen[name] = [value[i] for i in ids.tolist()]
        return Instances.unchecked(self.image_size, classes=self.classes, source=self.source, **chosen)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields by name (a new dict; the values are not copied)."""
        return dict(self._fields)

    def replace(self, *, image_size: Size | None = None, **fields: Any) -> Instances:
        """A copy with fields set anew or added, and another image size where given; not checked again."""
        merged = self._fields | fields
        return Instances.unchecked(image_size or self.image_size, classes=self.classes, source=self.source, **merged)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Instances:
        """The same objects with every tensor on `device`."""
        moved = {
            n: v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor) else v for n, v in self._fields.items()
        }
        return Instances.unchecked(self.image_size, classes=self.classes, source=self.source, **moved)

    def names(self) -> list[str]:
        """The class name of each object."""
        if self.classes is None:
            raise InputError("these instances carry no class names; make them with classes=")
        return [self.classes[i] for i in self.labels.tolist()]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __repr__(self) -> str:
        """How many objects of which classes, and the first few with scores and boxes in pixels."""
        height, width = self.image_size
        where = f" of {self.source}" if self.source else ""
        objects = f"{len(self)} object{'' if len(self) == 1 else 's'}"
        counted = self._counted() if "labels" in self else ""
        head = f"Instances({objects}{where}{counted}, {width}×{height} pixels, fields: {', '.join(self._fields)})"
        if "boxes" not in self or not len(self):
            return head
        lines = [self._line(i) for i in range(min(len(self), _SHOWN))]
        more = [f"  … {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return "\n".join([head, *lines, *more])

    def _counted(self) -> str:
        ids, counts = self.labels.unique(return_counts=True)
        most = sorted(zip(counts.tolist(), ids.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
        shown = [f"{count} {self._class_name(label)}" for count, label in most[:6]]
        more = f", … {len(most) - 6} more classes" if len(most) > 6 else ""
        return f": {', '.join(shown)}{more}" if shown else ""

    def _class_name(self, label: int) -> str:
        known = self.classes is not None and 0 <= label < len(self.classes)
        return self.classes[label] if known and self.classes is not None else f"class {label}"

    def _line(self, i: int) -> str:
        name = f"{self._class_name(int(self.labels[i]))} " if "labels" in self else ""
        score = f"{float(self.scores[i]):.2f} " if "scores" in self else ""
        return f"  {name}{score}[{', '.join(f'{value:.1f}' for value in self.boxes[i].tolist())}]"


_SHOWN = 5
"""Objects that `repr` lists."""
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "boxes": (None, 4),
    "labels": (None,),
    "scores": (None,),
    "masks": (None, None, None),
    "keypoints": (None, None, 3),
    "cuboids": (None, 9),
    "crowd": (None,),
    "difficult": (None,),
    "areas": (None,),
}
_DTYPES = {"labels": torch.int64, "masks": torch.bool, "crowd": torch.bool, "difficult": torch.bool}


def _as_field(name: str, value: Any) -> Any:
    if name not in _SHAPES:
        return (
            value
            if isinstance(value, Tensor)
            else list(value)
            if not hasattr(value, "dtype")
            else torch.as_tensor(value)
        )
    tensor = torch.as_tensor(value)
    if tensor.numel() == 0 and tensor.ndim != len(_SHAPES[name]):
        tensor = tensor.new_zeros([size or 0 for size in _SHAPES[name]])  # an empty list knows no shape
    if name in _DTYPES:
        return tensor.to(_DTYPES[name])
    return tensor if tensor.is_floating_point() else tensor.float()


@dataclass(frozen=True, repr=False)
class ClassMap:
    """One class for each pixel.

    Attributes:
        labels: [H, W] int64, class ids 0 … K−1, or `IGNORE`.
        classes: names of the classes, or None where they are not known.
        scores: [K, H, W] float probabilities, for predictions.
        source: the file or item it belongs to.
    """

    labels: Tensor
    classes: Classes | None = None
    scores: Tensor | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        what = f"{self.source}: " if self.source else ""
        if self.labels.ndim != 2:
            raise InputError(f"{what}a class map must have shape [height, width], not {list(self.labels.shape)}")
        if self.scores is not None and self.scores.shape[1:] != self.labels.shape:
            raise InputError(f"{what}scores {list(self.scores.shape)} do not fit a map of {list(self.labels.shape)}")
        object.__setattr__(self, "labels", self.labels.to(torch.int64))
        if self.classes is not None and self.labels.device.type == "cpu" and self.labels.numel():
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < IGNORE or high >= len(self.classes):
                bad_id = low if low < IGNORE else high
                raise InputError(
                    f"{what}the map holds id {bad_id}, but there are {len(self.classes)} classes: "
                    f"ids are 0 to {len(self.classes) - 1}, or {IGNORE} for pixels that do not count"
                )

    @property
    def image_size(self) -> Size:
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    def __repr__(self) -> str:
        height, width = self.image_size
        ids, counts = self.labels.unique(return_counts=True)
        most = sorted(zip(counts.tolist(), ids.tolist(), strict=True), reverse=True)
        names = ["not counted" if i < 0 else f"class {i}" if self.classes is None else self.classes[i] for _, i in most]
        shares = [f"{name} {100 * n / self.labels.numel():.1f} %" for name, (n, _) in zip(names, most, strict=True)]
        shown = ", ".join(shares[:6]) + (f", … {len(shares) - 6} more" if len(shares) > 6 else "")
        where = f" of {self.source}" if self.source else ""
        return f"ClassMap({width}×{height} pixels{where}{', with scores' if self.scores is not None else ''}: {shown})"

    def to(self, device: torch.device | str) -> ClassMap:
        scores = None if self.scores is None else self.scores.to(device)
        return ClassMap(self.labels.to(device), self.classes, scores, self.source)


@dataclass(frozen=True)
class ClassScores:
    """What a whole image shows.

    Attributes:
        image_size: (height, width) of the image in pixels.
        label: id of the one class, for a target; None where only scores are known.
        scores: [K] float probabilities, for a prediction (or a soft target).
        classes: names of the classes, or None where they are not known.
        source: the file or item it belongs to.
    """

    image_size: Size
    label: int | None = None
    scores: Tensor | None = None
    classes: Classes | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        what = f"{self.source}: " if self.source else ""
        if self.label is None and self.scores is None:
            raise InputError(f"{what}class scores need a label, scores, or both")
        if self.classes is not None and self.label is not None and not 0 <= self.label < len(self.classes):
            raise InputError(f"{what}label {self.label} is not a class id: ids are 0 to {len(self.classes) - 1}")
        if self.classes is not None and self.scores is not None and self.scores.shape != (len(self.classes),):
            raise InputError(
                f"{what}scores have shape {list(self.scores.shape)}, but there are {len(self.classes)} classes"
            )

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes with their scores, best first."""
        if self.scores is None or self.classes is None:
            raise InputError("the best classes are known only where there are scores and class names")
        values, ids = self.scores.topk(min(k, len(self.classes)))
        return [(self.classes[i], v) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]

    def to(self, device: torch.device | str) -> ClassScores:
        scores = None if self.scores is None else self.scores.to(device)
        return ClassScores(self.image_size, self.label, scores, self.classes, self.source)


Target = Instances | ClassMap | ClassScores
"""What a model is taught by, and what it answers with."""


@dataclass(frozen=True)
class ImageBatch:
    """Images of different sizes as one padded tensor, made by a model's preprocessing.

    Attributes:
        tensor: [N, C, H, W] float; each image lies at the top left, the rest is padding.
        sizes: (height, width) of each image inside the tensor.
        original_sizes: (height, width) of each image as it came in.
    """

    tensor: Tensor
    sizes: list[Size]
    original_sizes: list[Size]

    @classmethod
    def pad(
        cls, images: Sequence[Tensor], original_sizes: Sequence[Size], divisor: int = 1, value: float = 0.0
    ) -> ImageBatch:
        """Pad `images` ([C, Hi, Wi] each) at the right and bottom to one size, a multiple of `divisor`."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height = math.ceil(max(h for h, _ in sizes) / divisor) * divisor
        width = math.ceil(max(w for _, w in sizes) / divisor) * divisor
        if all(size == (height, width) for size in sizes):
            tensor = torch.stack(list(images))
        else:
            tensor = images[0].new_full((len(images), images[0].shape[0], height, width), value)
            for slot, image in zip(tensor, images, strict=True):
                slot[:, : image.shape[-2], : image.shape[-1]] = image
        return cls(tensor, sizes, list(original_sizes))

    @property
    def scales(self) -> list[tuple[float, float]]:
        """(x, y) factors from original pixels to the batch's pixels, one pair an image."""
        return [(w / ow, h / oh) for (h, w), (oh, ow) in zip(self.sizes, self.original_sizes, strict=True)]

    def __len__(self) -> int:
        return len(self.sizes)


def require_images(images: Sequence[Tensor], channels: int) -> None:
    """Refuse what a model cannot take as images.

    Args:
        images: to be [C, H, W] each, uint8 or float in [0, 1].
        channels: the C that the model takes.

    Raises:
        InputError: there are none; one has another number of channels, no pixels, or a dtype that does not say its
            range.
    """
    if len(images) == 0:
        raise InputError("there are no images; give at least one")
    for position, image in enumerate(images):
        if image.ndim != 3 or image.shape[0] != channels:
            raise InputError(
                f"image {position} has shape {list(image.shape)}, but this model takes "
                f"[{channels}, height, width]; read it with {channels} channels, "
                f"or create the model with in_channels={image.shape[0]}"
            )
        if 0 in image.shape:
            raise InputError(f"image {position} has shape {list(image.shape)}: it has no pixels")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise InputError(f"image {position} is of {image.dtype}, but must be uint8, or floating point in [0, 1]")
