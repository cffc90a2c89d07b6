"""The objects of one image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size


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
