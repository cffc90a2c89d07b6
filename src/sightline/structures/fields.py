"""The fields of `Instances`: a table with one row per field.

The table says how each field is checked, resized, augmented, packed, written to JSON and drawn. To define a field of
your own, add a row:

    from sightline.structures import fields

    fields.add(fields.Field("velocity", shape=(2,), geometry="vectors", meaning="pixels per frame"))

A field without a row follows its object when objects are selected, moved to a device or concatenated. It does not
change with the image, and is not written to prediction files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size

Check = Callable[[Any, Size, Classes | None], str | None]
"""(values, (height, width) of the image, classes) → a description of what is wrong with the values, or None."""


@dataclass(frozen=True)
class Field:
    """Description of one field of `Instances`.

    Attributes:
        name: name of the field.
        shape: shape of one object's value: sizes, or letters for variable sizes ("P"). None for a list of values.
        dtype: "float" (floating point dtypes are kept, others are converted to float32), "int64" or "bool"; for a
            list, the type of its values as text ("str"), or "".
        meaning: description for the documentation.
        geometry: how values change when the image is resized, flipped, warped or cropped; a key of
            `sightline.ops.geometry.GEOMETRIES`. "none": not at all. "boxes": (x1, y1, x2, y2) in pixels. "points":
            (x, y) in pixels and visibility. "vectors": displacements (x, y) in pixels. "pixels": one value per pixel
            of the image. "areas": areas in pixels. "scene": metres or another unit of the scene; such values become
            invalid when the image is warped or cropped without its camera.
        pairs: whether points come in left and right pairs, which are swapped when the image is mirrored (see
            `Dataset.keypoint_swap`).
        outline: whether the pixels are the object itself, so that boxes, areas and visible fractions follow from them.
        missing: value for objects of images without the field, when they are combined with images that have it (in a
            mosaic, for example). None leaves the field out.
        json: name of the field in JSON files; "" for `name`, None if the field is not written.
        decimals: number of decimals in JSON files.
        flat: whether JSON files hold the values of an object as one flat list.
        drawn: how `sightline.draw` draws the field; a key of `sightline.report.draw_objects.DRAWN`, or "" if it does
            not.
        check: function that describes what is wrong with the values beyond their shape, or None.
    """

    name: str
    shape: tuple[int | str, ...] | None = ()
    dtype: str = "float"
    meaning: str = ""
    geometry: str = "none"
    pairs: bool = False
    outline: bool = False
    missing: Any = None
    json: str | None = ""
    decimals: int = 3
    flat: bool = False
    drawn: str = ""
    check: Check | None = None

    def __post_init__(self) -> None:
        if self.shape is not None and self.dtype not in ("float", *_DTYPES):
            raise InputError(
                f"the field {self.name!r} has dtype {self.dtype!r}, but it must be one of float, "
                f"{', '.join(_DTYPES)}; only a list of values (shape None) can have another"
            )

    @property
    def form(self) -> str:
        """Shape and dtype as text, such as "[N, 4] float" or "list of N str"."""
        if self.shape is None:
            return f"list of N {self.dtype}".rstrip()
        return f"[{', '.join(['N', *map(str, self.shape)])}] {self.dtype}"

    @property
    def packed(self) -> str:
        """Name of the field that stores the masks as compressed COCO RLE instead of bitmaps."""
        return f"{self.name.removesuffix('s')}_rles"

    def fitted(self, value: Any) -> Any:
        """`value` converted to the field's dtype: a tensor, or a list. An empty list becomes an empty tensor.

        Shapes are not checked; see `wrong_shape`.
        """
        if self.shape is None:
            return list(value)
        tensor = torch.as_tensor(value)
        if tensor.numel() == 0 and tensor.ndim != 1 + len(self.shape):
            tensor = tensor.new_zeros([0, *(size if isinstance(size, int) else 0 for size in self.shape)])
        if self.dtype in _DTYPES:
            return tensor.to(_DTYPES[self.dtype])
        return tensor if tensor.is_floating_point() else tensor.float()

    def wrong_shape(self, value: Any) -> str | None:
        """A message if the tensor has the wrong shape, else None."""
        if self.shape is None:
            return None
        fits = value.ndim == 1 + len(self.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(self.shape, value.shape[1:], strict=True)
        )
        expected = ", ".join(["any", *(str(size) if isinstance(size, int) else "any" for size in self.shape)])
        return None if fits else f"{self.name} must have shape [{expected}], not {list(value.shape)}"


_DTYPES = {"int64": torch.int64, "bool": torch.bool}


def _size_of_the_image(masks: Tensor, size: Size, _: Classes | None) -> str | None:
    if tuple(masks.shape[1:]) == size:
        return None
    return f"masks are of size {list(masks.shape[1:])}, but the image is of size {list(size)}"


def _ordered(boxes: Tensor, _: Size, __: Classes | None) -> str | None:
    if not len(boxes):
        return None
    bad = ~boxes.isfinite().all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
    if not bad.any():
        return None
    row = int(bad.nonzero()[0])
    values = [round(v, 2) if math.isfinite(v) else v for v in boxes[row].tolist()]
    return (
        f"box {row} is {values}, but a box must be finite with x1 ≤ x2 and y1 ≤ y2; "
        "correct or remove it (sightline check --fix drop does)"
    )


def _class_ids(labels: Tensor, _: Size, classes: Classes | None) -> str | None:
    if classes is None or not len(labels):
        return None
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and high < len(classes):
        return None
    bad = low if low < 0 else high
    return f"label {bad} is not a class id: there are {len(classes)} classes, ids 0 to {len(classes) - 1}"


def _in_front(cuboids: Tensor, _: Size, __: Classes | None) -> str | None:
    """What is wrong with cuboids that an image cannot show. Unknown ones are NaN."""
    if not len(cuboids):
        return None
    behind, flat = cuboids[:, 2] <= 0, (cuboids[:, 3:6] <= 0).any(1)  # both False for NaN
    if behind.any():
        row = int(behind.nonzero()[0])
        return (
            f"cuboid {row} is behind the camera: its centre has z = {float(cuboids[row, 2]):.3g} metres, but an object "
            "that an image shows has z above 0; correct or remove it"
        )
    if flat.any():
        row = int(flat.nonzero()[0])
        sides = ", ".join(f"{side:.3g}" for side in cuboids[row, 3:6].tolist())
        return f"cuboid {row} has the sides {sides} metres (w, h, l), but each must be above 0; correct or remove it"
    return None


_ROWS = (
    Field(
        "boxes",
        (4,),
        "float",
        "x1, y1, x2, y2 in pixels of the image",
        "boxes",
        json=None,  # every format has a form of its own for boxes and classes
        drawn="boxes",
        check=_ordered,
    ),
    Field("labels", (), "int64", "class ids 0 … K−1", json=None, check=_class_ids),
    Field("scores", (), "float", "confidence in [0, 1]", json="score", decimals=6),
    Field(
        "masks",
        ("H", "W"),
        "bool",
        "one mask per object, of the image's size",
        "pixels",
        outline=True,
        json="segmentation",
        drawn="pixels",
        check=_size_of_the_image,
    ),
    Field(
        "keypoints",
        ("P", 3),
        "float",
        "x, y in pixels and visibility (0 absent, 1 hidden, 2 visible)",
        "points",
        pairs=True,
        flat=True,
        drawn="points",
    ),
    Field(
        "cuboids",
        (9,),
        "float",
        "x, y, z, w, h, l in metres and roll, pitch, yaw in radians",
        "scene",
        decimals=5,
        drawn="cuboids",
        check=_in_front,
    ),
    Field("cameras", (3, 3), "float", "intrinsics of the image's camera, in its pixels", "cameras", json=None),
    Field("camera_guess", (), "bool", "the focal length of this camera is a guess", missing=False),
    Field(
        "crowd",
        (),
        "bool",
        "a region of many objects: neither right nor wrong when found",
        missing=False,
        json="iscrowd",
    ),
    Field("difficult", (), "bool", "VOC's mark: does not count when found or missed", missing=False),
    Field("areas", (), "float", "the object's area in pixels, for size bins", "areas", json="area"),
    Field("captions", None, "str", "one phrase per object", json="caption", drawn="captions"),
    Field("keys", (), "int64", "a distinct number per object, which relations refer to", json=None),
    Field("tracks", (), "int64", "number of the object in a video, the same in all frames", json="track", drawn="text"),
    Field(
        "relations",
        None,
        "",
        "the relations of each object to others (`structures.relations`)",
        json=None,
        drawn="relations",
    ),
    Field("meshes", None, "", "one mesh per object", "scene", json="mesh", drawn="surfaces"),
)

FIELDS: dict[str, Field] = {row.name: row for row in _ROWS}
"""Rows of the table by field name; `add` adds a row."""


def add(field: Field) -> None:
    """Add a field to the table.

    Raises:
        InputError: it is not a `Field`, or there is a field of this name already.
    """
    if not isinstance(field, Field) or not field.name.isidentifier():
        raise InputError(f"fields.add takes a Field whose name is a Python identifier, not {field!r}")
    if field.name in FIELDS:
        raise InputError(f"there is a field {field.name!r} already ({FIELDS[field.name].meaning}); choose another name")
    FIELDS[field.name] = field


def field_of(name: str) -> Field:
    """The row of a field; a row of default values for a field that is not in the table."""
    return FIELDS.get(name) or Field(name, None)
