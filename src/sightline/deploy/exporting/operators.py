"""Operators that `torch.export` keeps as one node, and the ONNX operators that they become.

The number of boxes that greedy suppression keeps depends on their values. As an operator of its own it has a fixed
shape: it marks the boxes that it keeps instead of listing them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.ops.suppression import batched_nms

LEAST = -1.0
"""The score of a place that holds no box."""
MANY = 8
"""With this number of groups or more, suppression leaves out places without a box."""


@torch.library.custom_op("sightline::kept_by_nms", mutates_args=())
def kept_by_nms(boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, iou_threshold: float) -> Tensor:
    """Which boxes greedy suppression keeps in each image of a batch; boxes only suppress boxes of the same group.

    Args:
        boxes: [N, P, 4] float, xyxy.
        scores: [N, P] float; a negative score marks a place without a box, which is never kept.
        groups: [N, P] int64 from 0 to `num_groups` − 1, such as classes.
        num_groups: number of groups G.
        iou_threshold: as for `sightline.ops.suppression.nms`.

    Returns:
        [N, P] bool.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for own, box, score, group in zip(kept, boxes, scores, groups, strict=True):
        here = (score >= 0).nonzero().flatten()
        own[here[batched_nms(box[here], score[here], group[here], iou_threshold)]] = True
    return kept


@kept_by_nms.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op("sightline::best_scores", mutates_args=())
def best_scores(scores: Tensor, limit: int, least: float) -> tuple[Tensor, Tensor]:
    """The highest of the last axis that are above `least`, sorted: scores [..., M] → values and places [..., limit].

    Where there are fewer, the rest have the value `least` and the place 0. In ONNX only as many are searched as there
    are in any row, mostly few: the time of TopK grows with their number. Lower scores are made equal before, so that
    they are not sorted.
    """
    value, place = scores.topk(min(limit, scores.shape[-1]), -1)
    there = value > least
    missing = (0, limit - value.shape[-1])
    values = F.pad(torch.where(there, value, least), missing, value=least)
    return values, F.pad(torch.where(there, place, 0), missing)


@best_scores.register_fake
def _(scores: Tensor, limit: int, least: float) -> tuple[Tensor, Tensor]:
    values = scores.new_empty((*scores.shape[:-1], limit))
    return values, torch.empty_like(values, dtype=torch.int64)


@torch.library.custom_op("sightline::best_entries", mutates_args=())
def best_entries(scores: Tensor, limit: int, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """The highest of scores [N, M, K] that are above `least`, sorted: values, rows and columns [N, limit] each.

    Where there are fewer, the rest have the value `least`, row 0 and column 0. They lie in the rows with the highest
    values, so only these are compared, in ONNX only as many as have a value above `least` in any image.
    """
    columns = scores.shape[2]
    _, rows = scores.amax(-1).topk(min(limit, scores.shape[1]))
    own = scores.gather(1, rows[..., None].expand(-1, -1, columns))
    values, entry = best_scores(own.flatten(1), limit, least)
    there = values > least
    return values, torch.where(there, rows.gather(1, entry // columns), 0), torch.where(there, entry % columns, 0)


@best_entries.register_fake
def _(scores: Tensor, limit: int, least: float) -> tuple[Tensor, Tensor, Tensor]:
    values = scores.new_empty((scores.shape[0], limit))
    rows = torch.empty_like(values, dtype=torch.int64)
    return values, rows, torch.empty_like(rows)


@cache
def translations() -> dict[Any, Callable[..., Any]]:
    """The ONNX form of each operator of this module, for `torch.onnx.export`."""
    from onnxscript import BOOL, FLOAT, INT64, opset20

    op: Any = opset20  # its types do not know that numbers become constants

    def suppressed(boxes: FLOAT, scores: FLOAT, groups: INT64, num_groups: int, iou_threshold: float) -> BOOL:
        # NonMaxSuppression takes scores [N, G, P]: each box has a score in its own group alone
        none = op.Expand(op.Constant(value_int=0), op.Shape(scores))
        order = None
        if num_groups >= MANY:  # G · P numbers are many, so P becomes the number of places that hold a box
            there = op.Cast(op.Greater(scores, op.Constant(value_float=LEAST / 2)), to=7)
            number = op.ReduceMax(op.ReduceSum(there, op.Constant(value_ints=[1]), keepdims=0), keepdims=1)
            scores, order = op.TopK(scores, op.Max(number, op.Constant(value_ints=[1])), axis=1)
            boxes = op.GatherND(boxes, op.Unsqueeze(order, [2]), batch_dims=1)
            groups = op.GatherElements(groups, order, axis=1)
        every = op.Constant(value_ints=list(range(num_groups)))
        own = op.Equal(op.Unsqueeze(groups, [1]), op.Unsqueeze(every, [0, 2]))
        spread = op.Where(own, op.Unsqueeze(scores, [1]), op.Constant(value_float=LEAST))
        chosen = op.NonMaxSuppression(
            boxes,
            spread,
            op.Shape(scores, start=1, end=2),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[LEAST / 2]),
        )
        places = op.Gather(chosen, [0, 2], axis=1)  # image and box of each (image, group, box)
        marks = op.Expand(op.Constant(value_int=1), op.Shape(places, start=0, end=1))
        if order is not None:
            image = op.Gather(chosen, [0], axis=1)
            places = op.Concat(image, op.Unsqueeze(op.GatherND(order, places), [1]), axis=1)
        return op.Cast(op.ScatterND(none, places, marks), to=9)

    def highest(scores: Any, limit: int, floor: Any) -> tuple[Any, Any, Any]:
        """The highest of the last axis, and their number: how many any row has above the floor, from 1 to `limit`."""
        above = op.Greater(scores, floor)
        counts = op.ReduceSum(op.Cast(above, to=1), op.Constant(value_ints=[-1]), keepdims=0)
        most = op.Reshape(op.Cast(op.ReduceMax(counts, keepdims=0), to=7), op.Constant(value_ints=[1]))
        number = op.Max(op.Min(most, op.Constant(value_int=limit)), op.Constant(value_int=1))
        return *op.TopK(op.Max(scores, floor), number, axis=-1), number

    def filled(limit: int, number: Any, floor: Any, values: Any, *indices: Any) -> tuple[Any, ...]:
        """Values [..., number] and their indices up to `limit`: where no value is above the floor, the index is 0."""
        there, none = op.Greater(values, floor), op.Constant(value_int=0)
        lacking = op.Sub(op.Constant(value_ints=[limit]), number)
        rest = op.Concat(op.Shape(values, start=0, end=-1), lacking, axis=0)
        zeros = op.Expand(none, rest)
        return (
            op.Concat(values, op.Expand(floor, rest), axis=-1),
            *(op.Concat(op.Where(there, index, none), zeros, axis=-1) for index in indices),
        )

    def best(scores: FLOAT, limit: int, least: float) -> tuple[FLOAT, INT64]:
        floor = op.Constant(value_float=least)
        values, places, number = highest(scores, limit, floor)
        return filled(limit, number, floor, values, places)

    def entries(scores: FLOAT, limit: int, least: float) -> tuple[FLOAT, INT64, INT64]:
        floor = op.Constant(value_float=least)
        _, rows, _ = highest(op.ReduceMax(scores, op.Constant(value_ints=[2]), keepdims=0), limit, floor)
        own = op.GatherND(scores, op.Unsqueeze(rows, op.Constant(value_ints=[2])), batch_dims=1)
        values, entry, number = highest(op.Reshape(own, op.Constant(value_ints=[0, -1])), limit, floor)
        columns = op.Shape(scores, start=2)
        row = op.GatherElements(rows, op.Div(entry, columns), axis=1)
        return filled(limit, number, floor, values, row, op.Mod(entry, columns))

    names = locals()
    return {
        torch.ops.sightline.kept_by_nms.default: annotated(suppressed, names),
        torch.ops.sightline.best_scores.default: annotated(best, names),
        torch.ops.sightline.best_entries.default: annotated(entries, names),
    }


def scripted(function: Callable[..., Any], arguments: dict[str, Any], returns: Any) -> Any:
    """A function of ONNX operators with loops as an ONNX function.

    Args:
        function: as `onnxscript.script` takes it. Its source has no annotations of tensors, which must be global names.
        arguments: the type of each tensor argument.
        returns: the type of what it returns.
    """
    import onnxscript
    from onnxscript import opset18  # of the graph that PyTorch's exporter inlines functions into

    function.__annotations__ |= {**arguments, "return": returns}
    return onnxscript.script(onnxscript.values.Opset("sightline", 1), default_opset=opset18)(function)


def annotated(function: Callable[..., Any], names: dict[str, Any]) -> Callable[..., Any]:
    """The function with its annotations as types, which the exporter reads, instead of strings."""
    function.__annotations__ = get_type_hints(function, localns=names)
    return function
