"""How the fields of objects follow their image when it is resized, placed in a larger one, warped or cropped.

`GEOMETRIES` has one entry for each `geometry` that a row of `sightline.structures.fields` can name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.ops.boxes import scale_boxes
from sightline.ops.masks import mask_to_rle, rle_to_mask
from sightline.structures import Instances, Size, WholeImage
from sightline.structures.fields import FIELDS, Field


class Geometry:
    """Values that do not depend on the image's geometry; the base of those that do.

    Attributes:
        raster: values are one for each pixel, [N, H, W], and are warped with the image.
        in_scene: values are of the scene, and a warp or crop of the image alone would make them wrong.
    """

    raster = False
    in_scene = False

    def resized(self, values: Any, scale: tuple[float, float], size: Size) -> Any:
        """Values in an image that was resized by (x, y) factors to `size`."""
        return values

    def placed(self, values: Any, corner: tuple[int, int], size: Size) -> Any:
        """Values in an image of `size`, in which their own image lies with its top left corner at (x, y)."""
        return values

    def points(self, values: Any, boxes: Tensor) -> Tensor | None:
        """The points [N, …, 2] (x, y in pixels) that decide where values go when the image is warped; None if none do.

        Args:
            values: of the field.
            boxes: [N, 4] xyxy of the same objects.
        """
        return None

    def moved(self, values: Any, points: Tensor, size: Size) -> Any:
        """Values after `points` were moved into an image of `size`."""
        return values

    def clipped(self, values: Any, size: Size) -> Any:
        """Values without what lies beyond an image of `size`; the same object where nothing does."""
        return values

    def cut(self, values: Any, factor: Tensor) -> Any:
        """Values of objects whose visible area [N] was multiplied by `factor`."""
        return values

    def packed(self, values: Any) -> Any:
        """Values in the form that takes the least memory; the same object where they are in it already."""
        return values

    def unpacked(self, values: Any, size: Size) -> Any:
        """What `packed` made of the values of an image of `size`, as it was."""
        return values

    def written(self, value: Any, row: Field) -> Any:
        """One object's value for a JSON file, numbers rounded as the row of the field says."""
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            return value.int().tolist() if value.dtype == torch.bool else value.tolist()
        flat = [round(number, row.decimals) for number in value.double().flatten().tolist()]
        return flat if row.flat else np.array(flat).reshape(value.shape).tolist()


class Boxes(Geometry):
    """[N, 4], x1, y1, x2, y2 in pixels; a warped box is the tight one around its four corners, and is not clipped."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return scale_boxes(values, scale)

    def placed(self, values: Tensor, corner: tuple[int, int], size: Size) -> Tensor:
        return values + values.new_tensor([*corner, *corner])

    def points(self, values: Tensor, boxes: Tensor) -> Tensor:
        return values[:, [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(1, (4, 2))

    def moved(self, values: Tensor, points: Tensor, size: Size) -> Tensor:
        return torch.cat([points.amin(1), points.amax(1)], dim=1).to(values.dtype)


class Points(Geometry):
    """[N, …, 3], x and y in pixels and visibility; points beyond the image become absent: (0, 0, 0)."""

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
    """[N, …, 2], x and y in pixels without a place, such as a motion; they turn and stretch with the image."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return values * values.new_tensor(scale)

    def points(self, values: Tensor, boxes: Tensor) -> Tensor:
        centres = (boxes[:, :2] + boxes[:, 2:]).to(values.dtype) / 2
        start = centres.view(len(values), *[1] * (values.ndim - 2), 2).expand_as(values)
        return torch.stack([start, start + values], dim=-2)

    def moved(self, values: Tensor, points: Tensor, size: Size) -> Tensor:
        return (points[..., 1, :] - points[..., 0, :]).to(values.dtype)


class Pixels(Geometry):
    """[N, H, W], a value for each pixel of the image; what lies beyond the image is 0."""

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
        """Of masks, COCO's compressed RLE of each."""
        return [mask_to_rle(mask) for mask in values.cpu()] if values.dtype == torch.bool else values

    def unpacked(self, values: Any, size: Size) -> Tensor:
        if isinstance(values, Tensor):
            return values
        masks = [rle_to_mask(rle) for rle in values]
        return torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)

    def written(self, value: Tensor, row: Field) -> Any:
        return mask_to_rle(value) if value.dtype == torch.bool else super().written(value, row)


class Areas(Geometry):
    """[N], in pixels; of an object that is cut, the visible share stays."""

    def resized(self, values: Tensor, scale: tuple[float, float], size: Size) -> Tensor:
        return values * (scale[0] * scale[1])

    def cut(self, values: Tensor, factor: Tensor) -> Tensor:
        return values * factor.to(values.dtype)


class Scene(Geometry):
    """Places and lengths of the scene, such as metres, which know nothing of pixels."""

    in_scene = True


GEOMETRIES: dict[str, Geometry] = {
    "none": Geometry(),
    "boxes": Boxes(),
    "points": Points(),
    "vectors": Vectors(),
    "pixels": Pixels(),
    "areas": Areas(),
    "scene": Scene(),
}
"""By the name that the row of a field gives."""


@singledispatch
def following(target: Any) -> Iterator[tuple[Field, Geometry, Any]]:
    """Row, geometry and values of each field of `Instances` that has a row; nothing for another type of target."""
    return iter(())


@following.register
def _(target: Instances) -> Iterator[tuple[Field, Geometry, Any]]:
    for name, values in target.fields.items():
        if (row := FIELDS.get(name)) is not None:
            yield row, GEOMETRIES[row.geometry], values


@singledispatch
def resize_target(target: Any, scale: tuple[float, float], size: Size) -> Any:
    """The target of an image that was resized to `size`; of a type that does not say how it follows, as it was.

    Args:
        target: in pixels of the image as it was.
        scale: (x, y) factors, horizontal first.
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
    """The objects of a picture, in pixels of a larger one of `size` in which its top left corner lies at (x, y)."""
    fields = {row.name: geometry.placed(values, corner, size) for row, geometry, values in following(target)}
    return target.replace(image_size=size, **fields)


def _inside(points: Tensor, size: Size) -> Tensor:
    """bool [N, …]: whether points [N, …, 2 or 3] lie in an image of `size`."""
    return (points[..., :2] >= 0).all(-1) & (points[..., 0] < size[1]) & (points[..., 1] < size[0])
