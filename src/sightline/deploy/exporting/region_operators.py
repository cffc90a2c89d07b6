"""RoI align and RoI pooling as operators that `torch.export` keeps as one node, and the ONNX operators they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.exporting.operators import annotated
from sightline.ops.regions import roi_align, roi_pool


@torch.library.custom_op("sightline::aligned_regions", mutates_args=())
def aligned_regions(
    maps: Sequence[Tensor], rois: Tensor, levels: Tensor, size: int, samples: int, aligned: bool
) -> Tensor:
    """RoI align of regions, each on its own map.

    Args:
        maps: [N, C, H_l, W_l] float.
        rois: [R, 5] image, x1, y1, x2, y2 in cells of the region's map.
        levels: [R] int64, the map of each region.
        size: number of bins along each side.
        samples: number of samples along each side of a bin.
        aligned: as for `sightline.ops.regions.roi_align`.

    Returns:
        [R, C, size, size].
    """
    result = maps[0].new_zeros(len(rois), maps[0].shape[1], size, size)
    for level, one in enumerate(maps):
        own = (levels == level).nonzero().flatten()
        result[own] = roi_align(one, rois[own], size, 1.0, samples, aligned)
    return result


@aligned_regions.register_fake
def _(maps: Sequence[Tensor], rois: Tensor, levels: Tensor, size: int, samples: int, aligned: bool) -> Tensor:
    return maps[0].new_empty(rois.shape[0], maps[0].shape[1], size, size)


@torch.library.custom_op("sightline::pooled_regions", mutates_args=())
def pooled_regions(features: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    """RoI pooling of regions [R, 5] (image, x1, y1, x2, y2 in pixels) on a map [N, C, H, W]: [R, C, size, size].

    `scale` is the number of cells per pixel.
    """
    return roi_pool(features, rois, size, scale)


@pooled_regions.register_fake
def _(features: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    return features.new_empty(rois.shape[0], features.shape[1], size, size)


@cache
def translations() -> dict[Any, Callable[..., Any]]:
    """The ONNX form of each operator of this module, for `torch.onnx.export`."""
    from onnxscript import FLOAT, INT64, opset20

    op: Any = opset20  # its types do not know that numbers become constants

    def align(maps: Sequence[FLOAT], rois: FLOAT, levels: INT64, size: int, samples: int, aligned: bool) -> FLOAT:
        image = op.Cast(op.Gather(rois, op.Constant(value_int=0), axis=1), to=7)
        one, five = op.Constant(value_ints=[1]), op.Constant(value_ints=[5])
        boxes = op.Slice(rois, one, five, one)
        settings = {
            "coordinate_transformation_mode": "half_pixel" if aligned else "output_half_pixel",
            "output_height": size,
            "output_width": size,
            "sampling_ratio": samples,
        }
        if len(maps) == 1:
            return op.RoiAlign(maps[0], boxes, image, **settings)
        parts, places = [], []
        for level, one_map in enumerate(maps):
            own = op.NonZero(op.Equal(levels, op.Constant(value_int=level)))
            own = op.Reshape(own, op.Constant(value_ints=[-1]))
            parts.append(op.RoiAlign(one_map, op.Gather(boxes, own), op.Gather(image, own), **settings))
            places.append(own)
        place = op.Concat(*places, axis=0)
        count = op.Shape(place)
        numbers = op.Range(op.Constant(value_int=0), op.Squeeze(count), op.Constant(value_int=1))
        row = op.ScatterND(numbers, op.Unsqueeze(place, [1]), numbers)  # of each region among the parts
        return op.Gather(op.Concat(*parts, axis=0), row)

    def pool(features: FLOAT, rois: FLOAT, size: int, scale: float) -> FLOAT:
        return op.MaxRoiPool(features, rois, pooled_shape=[size, size], spatial_scale=scale)

    names = locals()
    return {
        torch.ops.sightline.aligned_regions.default: annotated(align, names),
        torch.ops.sightline.pooled_regions.default: annotated(pool, names),
    }
