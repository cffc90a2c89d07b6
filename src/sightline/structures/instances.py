"""Detection: the objects of one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.deferred import Deferred
from sightline.structures.fields import FIELDS
from sightline.structures.size import Size, as_size
from sightline.structures.tabular import Tabular
from sightline.words import listed


class Instances(Tabular):
    """The objects of one image: fields of length N, the size of the image, and the class names.

    Every other keyword is a field. The fields in this table are checked, and are transformed together with the image
    when it is resized or augmented. `sightline.structures.fields.add` adds a field to the table.

    =============  =======================  ===============================================================
    field          shape and dtype          meaning
    =============  =======================  ===============================================================
    boxes          [N, 4] float             x1, y1, x2, y2 in pixels of the image
    labels         [N] int64                class ids 0 … K−1
    scores         [N] float                confidence in [0, 1]
    masks          [N, H, W] bool           one mask per object, of the image's size
    keypoints      [N, P, 3] float          x, y in pixels and visibility (0 absent, 1 hidden, 2 visible)
    cuboids        [N, 9] float             x, y, z, w, h, l in metres and roll, pitch, yaw in radians
    cameras        [N, 3, 3] float          intrinsics of the image's camera, in its pixels
    camera_guess   [N] bool                 the focal length of this camera is a guess
    crowd          [N] bool                 a region of many objects: neither right nor wrong when found
    difficult      [N] bool                 VOC's mark: does not count when found or missed
    areas          [N] float                the object's area in pixels, for size bins
    captions       list of N str            one phrase per object
    keys           [N] int64                a distinct number per object, which relations refer to
    tracks         [N] int64                number of the object in a video, the same in all frames
    relations      list of N                the relations of each object to others (`structures.relations`)
    meshes         list of N                one mesh per object
    =============  =======================  ===============================================================

    Args:
        image_size: (height, width) of the image in pixels.
        classes: names of the classes, or None if they are unknown.
        source: file or item that the objects belong to. It appears in error messages and in prediction files.
        fields: tensors or lists, all of length N. Without fields, N is 0.

    Raises:
        InputError: the lengths differ, a shape is wrong, a box is not finite or inverted, a label is not a class id, or
            the size is not one of an image.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor
    keypoints: Tensor
    cuboids: Tensor
    cameras: Tensor
    crowd: Tensor
    difficult: Tensor
    areas: Tensor
    captions: list[str]
    keys: Tensor
    tracks: Tensor
    relations: list[list[Any]]

    def __init__(self, image_size: Size, *, classes: Classes | None = None, source: str | None = None, **fields: Any):
        self.image_size: Size = as_size(image_size)
        self.classes = classes
        self.source = source
        self._fields: dict[str, Any] = {name: _as_field(name, value) for name, value in fields.items()}
        if not self._fields:
            self._fields = {name: FIELDS[name].fitted([]) for name in ("boxes", "labels")}
        self._check()

    @classmethod
    def unchecked(
        cls, image_size: Size, *, classes: Classes | None, source: str | None = None, **fields: Any
    ) -> Instances:
        """Like the constructor, but without checking the values, which may be `Deferred`.

        For decoders, whose results are valid by construction: checking would synchronise with the GPU for every image.
        """
        self = cls.__new__(cls)
        self.image_size, self.classes, self.source, self._fields = image_size, classes, source, fields
        return self

    def _check(self) -> None:
        what = f"{self.source}: " if self.source else ""
        single = [name for name, value in self._fields.items() if isinstance(value, Tensor) and not value.ndim]
        if single:
            raise InputError(f"{what}{single[0]} is a single number, but must have one value per object")
        lengths = {name: len(value) for name, value in self._fields.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{what}fields must have equal length, but they have {lengths}")
        rows = [(row, value) for name, value in self._fields.items() if (row := FIELDS.get(name)) is not None]
        for row, value in rows:
            if wrong := row.wrong_shape(value):
                raise InputError(f"{what}{wrong}")
        for row, value in rows:
            if row.check is not None and (wrong := row.check(value, self.image_size, self.classes)):
                raise InputError(f"{what}{wrong}")

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return self._value(name)
        raise AttributeError(f"Instances has no field {name!r}; it has {', '.join(fields) or 'none'}")

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def __len__(self) -> int:
        return len(next(iter(self._fields.values())))

    def __iter__(self) -> Iterator[Instances]:
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(self, item: Tensor | slice | int | Sequence[int]) -> Instances:
        """Select objects by a bool mask [N], indices, a slice, or one index (the result then has length 1)."""
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
            elif isinstance(value, Deferred) or isinstance(item, slice):
                chosen[name] = value[item]
            else:
                ids = item.nonzero().flatten() if item.dtype == torch.bool else item
                chosen[name] = [value[i] for i in ids.tolist()]
        return Instances.unchecked(self.image_size, classes=self.classes, source=self.source, **chosen)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields by name: a new dict with the same values."""
        return {name: self._value(name) for name in self._fields}

    def _value(self, name: str) -> Any:
        value = self._fields[name]
        if isinstance(value, Deferred):
            value = self._fields[name] = value()
        return value

    def replace(self, *, image_size: Size | None = None, **fields: Any) -> Instances:
        """A copy with some fields, and the image size if given, replaced or added.

        The values are not checked, and may be `Deferred`.
        """
        merged = self._fields | fields
        return Instances.unchecked(image_size or self.image_size, classes=self.classes, source=self.source, **merged)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Instances:
        """The same objects with every tensor on `device`."""
        moved = {
            n: v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor | Deferred) else v
            for n, v in self._fields.items()
        }
        return Instances.unchecked(self.image_size, classes=self.classes, source=self.source, **moved)

    def names(self) -> list[str]:
        """The class name of each object."""
        if self.classes is None:
            raise InputError("these instances have no class names; create them with classes=…")
        return [self.classes[i] for i in self.labels.tolist()]

    def to_columns(self) -> dict[str, list[Any]]:
        """One row per object: image, class, label, score, x1, y1, x2, y2 (as far as known), and the other fields.

        Of a mask the number of its pixels is listed ("mask_pixels"); fields of several numbers per object, such as
        keypoints, are nested lists. Fields that are not written to files, such as `cameras`, are left out.
        """
        columns: dict[str, list[Any]] = {"image": [self.source] * len(self)}
        if "labels" in self:
            columns["class"] = [self._class_name(label) for label in self.labels.tolist()]
            columns["label"] = self.labels.tolist()
        if "scores" in self:
            columns["score"] = self.scores.tolist()
        if "boxes" in self:
            columns |= dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T.tolist(), strict=True))
        for name, value in self.fields.items():
            row = FIELDS.get(name)
            if name in ("boxes", "labels", "scores") or (row is not None and row.json is None):
                continue
            if row is not None and row.outline and isinstance(value, Tensor):
                columns[f"{name.removesuffix('s')}_pixels"] = value.flatten(1).sum(1).tolist() if len(value) else []
            else:
                known = name if row is None else row.json or name
                columns[known] = value.tolist() if isinstance(value, Tensor) else list(value)
        return columns

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __repr__(self) -> str:
        """The number of objects per class, and the first few objects with scores and boxes in pixels."""
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
        counts_of = [f"{count} {self._class_name(label)}" for count, label in most]
        return f": {listed(counts_of, what='classes')}" if most else ""

    def _class_name(self, label: int) -> str:
        known = self.classes is not None and 0 <= label < len(self.classes)
        return self.classes[label] if known and self.classes is not None else f"class {label}"

    def _line(self, i: int) -> str:
        name = f"{self._class_name(int(self.labels[i]))} " if "labels" in self else ""
        score = f"{float(self.scores[i]):.2f} " if "scores" in self else ""
        return f"  {name}{score}[{', '.join(f'{value:.1f}' for value in self.boxes[i].tolist())}]"


_SHOWN = 5
"""Number of objects that `repr` lists."""


def _as_field(name: str, value: Any) -> Any:
    if name in FIELDS:
        return FIELDS[name].fitted(value)
    if isinstance(value, Tensor):
        return value
    return torch.as_tensor(value) if hasattr(value, "dtype") else list(value)
