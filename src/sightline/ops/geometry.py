"""How fields of `Instances` change when their image is resized, placed in a larger image, warped or cropped.

`GEOMETRIES` has one entry for each value of `geometry` in `sightline.structures.fields`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.ops.boxes import scale_boxes
from sightline.ops.masks import mask_to_rle, rle_to_mask
from sightline.structures import Instances, Size, WholeImage
from sightline.structures.fields import FIELDS, Field


class Geometry:
    """Values that do not depend on the geometry of the image; base class of all others.

    Attributes:
        raster: whether values are [N, H, W], one per pixel, and are warped like the image.
        in_scene: whether values are in scene coordinates, which become invalid if the image is warped without a camera.
    """

    raster = False
    in_scene = False

    def resized(self, values: Any, scale: tuple[float, float], size: Size) -> Any:
        """Values after the image was resized by (x, y) scale factors to `size`."""
        return values

    def placed(self, values: Any, corner: tuple[int, int], size: Size) -> Any:
        """Values after the image was placed in an image of size `size`, with its top-left corner at (x, y)."""
        return values

    def points(self, values: Any, boxes: Tensor) -> Tensor | None:
        """The points [N, …, 2] (x, y in pixels) to transform when the image is warped; None if there are none.

        Args:
            values: values of the field.
            boxes: [N, 4] xyxy boxes of the same objects.
        """
        return None

    def moved(self, values: Any, points: Tensor, size: Size) -> Any:
        """Values after their `points` were transformed, in an image of size `size`."""
        return values

    def clipped(self, values: Any, size: Size) -> Any:
        """Values clipped to an image of size `size`; the same object if nothing changes."""
        return values

    def cut(self, values: Any, factor: Tensor) -> Any:
        """Values after the visible area of each object [N] was multiplied by `factor`."""
        return values

    def packed(self, values: Any) -> Any:
        """Values in a compressed form; the same object if there is none."""
        return values

    def unpacked(self, values: Any, size: Size) -> Any:
        """The inverse of `packed`, for an image of size `size`."""
        return values

    def written(self, value: Any, row: Field) -> Any:
        """The value of one object for a JSON file, rounded to the decimals of the field."""
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            return value.int().tolist() if value.dtype == torch.bool else value.tolist()
        flat = [round(number, row.decimals) for number in value.double().flatten().tolist()]
        return flat if row.flat else np.array(flat).reshape(value.shape).tolist()


class Boxes(Geometry):
    """[N, 4], (x1, y1, x2, y2) in pixels. A warped box is the bounding box of its warped corners, without clipping."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return scale_boxes(values, scale)

    def placed(self, values: Tensor, corner: tuple[int, int], size: Size) -> Tensor:
        return values + values.new_tensor([*corner, *corner])

    def points(self, values: Tensor, boxes: Tensor) -> Tensor:
        return values[:, [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(1, (4, 2))

    def moved(self, values: Tensor, points: Tensor, size: Size) -> Tensor:
        return torch.cat([points.amin(1), points.amax(1)], dim=1).to(values.dtype)


class Points(Geometry):
    """[N, …, 3], x and y in pixels and visibility. Points outside the image become absent: (0, 0, 0)."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return values * values.new_tensor([*scale, 1.0])

    def placed(self, values: Tensor, corner: tuple[int, int], size: Size) -> Tensor:
        there = (values[..., 2:] > 0).to(values.dtype)
        return torch.cat([(values[..., :2] + values.new_tensor(corner)) * there, values[..., 2:]], -1)

    def points(self, values: Tensor, boxes: Tensor) -> Tensor:
        return values[..., :2]

    def moved(self, values: Tensor, points: Tensor, size: Size) -> Tensor:
        there = _inside(points, size) & (values[..., 2] > 0)
        return torch.cat([points.to(values.dtype), values[..., 2:]], dim=-1) * there[..., None]

    def clipped(self, values: Tensor, size: Size) -> Tensor:
        inside = _inside(values, size)
        return values if bool((inside | (values[..., 2] <= 0)).all()) else values * inside[..., None]


class Vectors(Geometry):
    """[N, …, 2], displacements in pixels, such as a motion. They are rotated and scaled with the image."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return values * values.new_tensor(scale)

    def points(self, values: Tensor, boxes: Tensor) -> Tensor:
        centres = (boxes[:, :2] + boxes[:, 2:]).to(values.dtype) / 2
        start = centres.view(len(values), *[1] * (values.ndim - 2), 2).expand_as(values)
        return torch.stack([start, start + values], dim=-2)

    def moved(self, values: Tensor, points: Tensor, size: Size) -> Tensor:
        return (points[..., 1, :] - points[..., 0, :]).to(values.dtype)


class Pixels(Geometry):
    """[N, H, W], one value per pixel of the image; 0 outside the image."""

    raster = True

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        if tuple(values.shape[1:]) == tuple(size):
            return values
        if values.is_floating_point():
            taken = values
        else:  # what `interpolate` takes, without loss
            taken = values.byte() if values.dtype == torch.bool else values.double()
        return F.interpolate(taken[:, None], size=size, mode="nearest")[:, 0].to(values.dtype)

    def placed(self, values: Tensor, corner: tuple[int, int], size: Size) -> Tensor:
        whole = values.new_zeros((len(values), *size))
        (x, y), (height, width) = corner, values.shape[1:]
        whole[:, y : y + height, x : x + width] = values
        return whole

    def packed(self, values: Tensor) -> Any:
        """Masks as COCO's compressed RLE; other values unchanged."""
        return [mask_to_rle(mask) for mask in values.cpu()] if values.dtype == torch.bool else values

    def unpacked(self, values: Any, size: Size) -> Tensor:
        if isinstance(values, Tensor):
            return values
        masks = [rle_to_mask(rle) for rle in values]
        return torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)

    def written(self, value: Tensor, row: Field) -> Any:
        return mask_to_rle(value) if value.dtype == torch.bool else super().written(value, row)


class Areas(Geometry):
    """[N], areas in pixels. The area of a cropped object is multiplied by its visible fraction."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return values * (scale[0] * scale[1])

    def cut(self, values: Tensor, factor: Tensor) -> Tensor:
        return values * factor.to(values.dtype)


class Scene(Geometry):
    """Positions and lengths in the scene, such as metres, which do not depend on pixels."""

    in_scene = True


class Cameras(Geometry):
    """[N, 3, 3], matrices from camera coordinates to homogeneous pixels."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return values * values.new_tensor([*scale, 1.0])[:, None]

    def placed(self, values: Tensor, corner: tuple[int, int], size: Size) -> Tensor:
        moved = values.clone()
        moved[:, :2, 2] += values.new_tensor(corner)
        return moved


GEOMETRIES: dict[str, Geometry] = {
    "none": Geometry(),
    "boxes": Boxes(),
    "points": Points(),
    "vectors": Vectors(),
    "pixels": Pixels(),
    "areas": Areas(),
    "scene": Scene(),
    "cameras": Cameras(),
}
"""Geometries by name, as in `Field.geometry`."""


def geometry_of(row: Field) -> Geometry:
    """The geometry of a field.

    Raises:
        InputError: there is no geometry of the name that the row gives.
    """
    if row.geometry not in GEOMETRIES:
        raise InputError(
            f"the field {row.name!r} has geometry {row.geometry!r}, but it must be one of "
            f"{', '.join(GEOMETRIES)}; correct it, or add yours to sightline.ops.geometry.GEOMETRIES"
        )
    return GEOMETRIES[row.geometry]


@singledispatch
def following(target: Any) -> Iterator[tuple[Field, Geometry, Any]]:
    """Row, geometry and values of each field of `Instances` with a row; nothing for other types of targets."""
    return iter(())


@following.register
def _(target: Instances) -> Iterator[tuple[Field, Geometry, Any]]:
    for name, values in target.fields.items():
        if (row := FIELDS.get(name)) is not None:
            yield row, geometry_of(row), values


@singledispatch
def resize_target(target: Any, scale: tuple[float, float], size: Size) -> Any:
    """The target after its image was resized. Targets of unknown types are returned unchanged.

    Args:
        target: target in pixels of the original image.
        scale: (x, y) scale factors.
        size: (height, width) of the resized image.
    """
    return target


@resize_target.register
def _(target: Instances, scale: tuple[float, float], size: Size) -> Instances:
    fields = {row.name: geometry.resized(values, scale, size) for row, geometry, values in following(target)}
    return target.replace(image_size=size, **fields)


@resize_target.register
def _(target: WholeImage, scale: tuple[float, float], size: Size) -> WholeImage:
    return target.resized(size)


def place_instances(target: Instances, corner: tuple[int, int], size: Size) -> Instances:
    """The objects of an image after it was placed in a larger image of size `size`, with its corner at (x, y)."""
    fields = {row.name: geometry.placed(values, corner, size) for row, geometry, values in following(target)}
    return target.replace(image_size=size, **fields)


def _inside(points: Tensor, size: Size) -> Tensor:
    """bool [N, …]: whether points [N, …, 2 or 3] are inside an image of size `size`."""
    return (points[..., :2] >= 0).all(-1) & (points[..., 0] < size[1]) & (points[..., 1] < size[0])
