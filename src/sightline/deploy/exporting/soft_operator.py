"""Soft-NMS as an operator that `torch.export` keeps as one node, and the ONNX function that it becomes: a loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.exporting.operators import LEAST, scripted
from sightline.ops.suppression import soft_nms


@torch.library.custom_op("sightline::softened", mutates_args=())
def softened(
    boxes: Tensor, scores: Tensor, groups: Tensor, sigma: float, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """The best boxes of each image after Gaussian Soft-NMS, see `sightline.ops.suppression.soft_nms`.

    Args:
        boxes: [N, P, 4] float, xyxy.
        scores: [N, P] float; a negative score marks a place without a box.
        groups: [N, P] int64; boxes of different groups, such as classes, do not affect each other.
        sigma: width of the Gaussian.
        threshold: boxes with a lower new score are removed.
        count: number of boxes C of each image, at most P.

    Returns:
        Places [N, C] int64 of the boxes by descending new score, and these scores [N, C], `LEAST` beyond the last box.
    """
    places = torch.zeros(len(boxes), count, dtype=torch.int64, device=boxes.device)
    best = scores.new_full((len(boxes), count), LEAST)
    for i, (box, score, group) in enumerate(zip(boxes, scores, groups, strict=True)):
        here = (score >= 0).nonzero().flatten()
        ids, own = soft_nms(box[here], score[here], sigma, threshold, labels=group[here])
        places[i, : len(ids)], best[i, : len(ids)] = here[ids][:count], own[:count]
    return places, best


@softened.register_fake
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor, sigma: float, threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    shape = (scores.shape[0], count)
    return groups.new_empty(shape), scores.new_empty(shape)


@cache
def translations() -> dict[Any, Callable[..., Any]]:
    """The ONNX form of the operator of this module, for `torch.onnx.export`."""
    from onnxscript import FLOAT, INT64, opset18

    op: Any = opset18

    def soften(boxes, scores, groups, sigma: float, threshold: float, count: int):  # type: ignore[no-untyped-def]
        none = op.Constant(value_float=-1.0)
        low = op.Slice(boxes, [0], [2], [2])
        high = op.Slice(boxes, [2], [4], [2])
        side = high - low
        area = op.ReduceProd(side, [2], keepdims=0)
        left = op.Where(scores < threshold, none, scores)
        places = op.Slice(groups, [0], [0], [1])
        best = op.Slice(scores, [0], [0], [1])
        for _i in range(count):
            place = op.ArgMax(left, axis=1, keepdims=1)
            value = op.GatherElements(left, place, axis=1)
            places = op.Concat(places, place, axis=1)
            best = op.Concat(best, value, axis=1)
            corner = op.Expand(op.Unsqueeze(place, [2]), op.Constant(value_ints=[1, 1, 2]))
            own_low = op.GatherElements(low, corner, axis=1)
            own_high = op.GatherElements(high, corner, axis=1)
            sides = op.Max(op.Min(high, own_high) - op.Max(low, own_low), 0.0)
            both = op.ReduceProd(sides, [2], keepdims=0)
            union = op.Max(area + op.GatherElements(area, place, axis=1) - both, 1e-12)  # boxes may have no area
            iou = both / union
            near = op.And(iou > 0.0, groups == op.GatherElements(groups, place, axis=1))
            less = op.Where(near, left * op.Exp(-(iou * iou) / sigma), left)
            less = op.Where(less < threshold, none, less)
            left = op.ScatterElements(less, place, op.Expand(none, op.Shape(place)), axis=1)
        return places, best

    function = scripted(soften, {"boxes": FLOAT, "scores": FLOAT, "groups": INT64}, tuple[INT64, FLOAT])
    return {torch.ops.sightline.softened.default: function}
