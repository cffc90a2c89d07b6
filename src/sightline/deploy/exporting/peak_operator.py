"""Keypoints from heat maps as an operator that `torch.export` keeps as one node, and the ONNX function it becomes.

A heat map is resized to the size of its box in pixels, which differs from box to box: the ONNX function is a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.exporting.operators import scripted
from sightline.nn.heads.keypoint import heatmaps_to_keypoints


@torch.library.custom_op("sightline::peaks", mutates_args=())
def peaks(heat: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The positions [R, P, 3] and values [R, P] of the maxima of heat maps, as `heatmaps_to_keypoints`.

    Args:
        heat: [R, P, M, M] float.
        boxes: [R, 4] xyxy pixels.
    """
    return heatmaps_to_keypoints(heat, boxes)


@peaks.register_fake
def _(heat: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    return heat.new_empty(heat.shape[0], heat.shape[1], 3), heat.new_empty(heat.shape[0], heat.shape[1])


@cache
def translations() -> dict[Any, Callable[..., Any]]:
    """The ONNX form of the operator of this module, for `torch.onnx.export`."""
    from onnxscript import FLOAT, opset18

    op: Any = opset18

    def peaks_of(heat, boxes):  # type: ignore[no-untyped-def]
        cells = op.Cast(op.Squeeze(op.Shape(heat, start=3, end=4)), to=1)
        one = op.Constant(value_float=1.0)
        cell = op.Range(op.Constant(value_float=-2.0), cells + 2.0, one)  # with two more on each side
        padded = op.Pad(heat, [0, 0, 2, 2, 0, 0, 2, 2], mode="edge")
        points = op.Slice(op.Slice(heat, [0], [0], [0]), [0, 0], [3, 1], [2, 3])  # [0, P, 3, 1], filled below
        values = op.Slice(op.Slice(heat, [0], [0], [0]), [0, 0], [1, 1], [2, 3])
        count = op.Squeeze(op.Shape(heat, start=0, end=1))
        for i in range(count):
            box = op.Gather(boxes, i, axis=0)
            low = op.Slice(box, [0], [2], [0])
            sides = op.Max(op.Slice(box, [2], [4], [0]) - low, 1.0)
            pixels = op.Ceil(sides)
            # bicubic weights (Keys 1981, a = −0.75) along x and y: [2, longer side, cells]
            pixel = op.Range(op.Constant(value_float=0.0), op.ReduceMax(pixels, keepdims=0), one) + 0.5
            position = op.Unsqueeze(pixel, [0]) * op.Unsqueeze(cells / pixels, [1]) - 0.5
            d = op.Abs(op.Unsqueeze(position, [2]) - cell)
            near = (1.25 * d - 2.25) * d * d + 1.0
            far = ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0
            weights = op.Where(d <= 1.0, near, op.Where(d < 2.0, far, op.Constant(value_float=0.0)))
            count_of = op.Cast(pixels, to=7)
            columns = op.Slice(op.Gather(weights, 0), [0], op.Slice(count_of, [0], [1], [0]), [0])
            rows = op.Slice(op.Gather(weights, 1), [0], op.Slice(count_of, [1], [2], [0]), [0])
            full = op.MatMul(op.MatMul(rows, op.Gather(padded, i, axis=0)), op.Transpose(columns, perm=[1, 0]))
            flat = op.Reshape(full, op.Concat(op.Shape(full, start=0, end=1), [-1], axis=0))
            best = op.ReduceMax(flat, [1], keepdims=1)
            place = op.ArgMax(flat, axis=1, keepdims=1)
            width = op.Gather(count_of, 0)
            row = place / width
            found = op.Concat(op.Cast(place - row * width, to=1), op.Cast(row, to=1), axis=1) + 0.5
            where = found * op.Unsqueeze(sides / pixels, [0]) + op.Unsqueeze(low, [0])
            point = op.Concat(where, op.Expand(op.Constant(value_floats=[2.0]), op.Shape(best)), axis=1)
            points = op.Concat(points, op.Unsqueeze(point, [0, 3]), axis=0)
            values = op.Concat(values, op.Unsqueeze(best, [0, 3]), axis=0)
        return op.Squeeze(points, [3]), op.Squeeze(values, [2, 3])

    function = scripted(peaks_of, {"heat": FLOAT, "boxes": FLOAT}, tuple[FLOAT, FLOAT])
    return {torch.ops.sightline.peaks.default: function}
