"""Boxes: conversion, clipping, IoU, and encoding of deltas.

A box has four values in the last dimension, in pixels unless stated otherwise, with x to the right and y down; (0, 0)
is the outer corner of the top-left pixel. The format is "xyxy" unless stated otherwise. Functions support all float
dtypes and devices, and are differentiable. Areas and IoU of half-precision boxes are computed in float32, since the
area of a 300-pixel box exceeds the range of float16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size

FORMATS = ("xyxy", "xywh", "cxcywh")
"""Box formats: two corners; top-left corner and size; centre and size."""

MAX_LOG_RATIO = math.log(1000.0 / 16)
"""Maximum of dw and dh in `decode_boxes`, which keeps exp() finite."""


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Convert boxes to another format.

    Args:
        boxes: [..., 4] in `in_fmt`, in any unit.
        in_fmt, out_fmt: "xyxy" (x1, y1, x2, y2), "xywh" (top-left corner, width, height) or "cxcywh" (centre, width,
            height).

    Returns:
        [..., 4] in `out_fmt`; the same tensor if the formats are equal.

    Raises:
        InputError: a format is unknown.
    """
    for fmt in (in_fmt, out_fmt):
        if fmt not in FORMATS:
            raise InputError(f"box format {fmt!r} is not known; use one of {', '.join(map(repr, FORMATS))}")
    if in_fmt == out_fmt:
        return boxes
    a, b, c, d = boxes.unbind(-1)
    if in_fmt == "xyxy":
        x1, y1, width, height = a, b, c - a, d - b
    elif in_fmt == "xywh":
        x1, y1, width, height = a, b, c, d
    else:
        x1, y1, width, height = a - 0.5 * c, b - 0.5 * d, c, d
    if out_fmt == "xyxy":
        # x2 is the centre plus half the width; x1 plus the width would be rounded twice
        x2, y2 = (a + 0.5 * c, b + 0.5 * d) if in_fmt == "cxcywh" else (x1 + width, y1 + height)
        return torch.stack((x1, y1, x2, y2), -1)
    if out_fmt == "cxcywh":
        return torch.stack((x1 + 0.5 * width, y1 + 0.5 * height, width, height), -1)
    return torch.stack((x1, y1, width, height), -1)


def scale_boxes(boxes: Tensor, scale: tuple[float, float] | tuple[Tensor, Tensor]) -> Tensor:
    """Scale boxes with their image: x and width by sx, y and height by sy.

    Args:
        boxes: [..., 4] in any format.
        scale: (sx, sy) scale factors.

    Returns:
        [..., 4] in the same format.
    """
    # a tensor of the two factors would need a copy to the device in every call
    a, b, c, d = boxes.unbind(-1)
    sx, sy = scale
    return torch.stack((a * sx, b * sy, c * sx, d * sy), -1)


def normalize_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Pixels to fractions of the image: [..., 4] in any format, `size` is (height, width)."""
    height, width = size
    if not (height > 0 and width > 0):
        raise InputError(f"boxes cannot be normalised by an image of size {tuple(size)}; both sides must be above 0")
    a, b, c, d = boxes.unbind(-1)
    return torch.stack((a / width, b / height, c / width, d / height), -1)


def denormalize_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Fractions of the image to pixels: [..., 4] in any format, `size` is (height, width)."""
    height, width = size
    return scale_boxes(boxes, (width, height))


def clip_boxes_to_image(boxes: Tensor, size: Size) -> Tensor:
    """Clip boxes to the image.

    Args:
        boxes: [..., 4] xyxy pixels.
        size: (height, width) of the image.

    Returns:
        [..., 4]; a box outside the image gets an area of 0. Clipped coordinates have no gradient.
    """
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), -1)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices of the boxes whose width and height are at least `min_size`.

    Args:
        boxes: [N, 4] xyxy pixels.
        min_size: minimum side in pixels.

    Returns:
        [K] int64 indices, in ascending order.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    return (sides >= min_size).all(1).nonzero().flatten()


def box_area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4] xyxy, in square pixels; float32 for half-precision boxes."""
    x1, y1, x2, y2 = at_least_float32(boxes).unbind(-1)
    return (x2 - x1) * (y2 - y1)


# IoU. The formulas work on boxes that broadcast against each other: pairwise functions call them with [N, 1, 4] and
# [1, M, 4], losses in `losses.py` with [N, 4] and [N, 4].


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (Jaccard index) of all pairs of boxes.

    Args:
        a: [N, 4] xyxy. b: [M, 4] xyxy, on the same device.

    Returns:
        [N, M] in [0, 1]; nan for two boxes of zero area, for which it is 0/0.
    """
    return elementwise_iou(a[:, None], b[None])


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of all pairs of boxes, in [−1, 1]: IoU minus the empty fraction of the smallest enclosing box.

    Args:
        a: [N, 4] xyxy. b: [M, 4] xyxy, on the same device.

    Returns:
        [N, M]; nan for two boxes of zero area that lie on one line.

    Source: Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1.
    """
    return elementwise_generalized_iou(a[:, None], b[None])


def distance_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Distance IoU of all pairs of boxes, in [−1, 1]: IoU − (distance of centres / diagonal of the enclosing box)².

    Args:
        a: [N, 4] xyxy. b: [M, 4] xyxy, on the same device.

    Returns:
        [N, M]; nan for two boxes of zero area.

    Source: Zheng et al., Distance-IoU Loss, 2020, equation 6. 1e-7 is added to the squared diagonal.
    """
    return elementwise_distance_iou(a[:, None], b[None])


def complete_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of all pairs of boxes: distance IoU minus a term for different aspect ratios.

    Args:
        a: [N, 4] xyxy. b: [M, 4] xyxy, on the same device.

    Returns:
        [N, M]; nan for two boxes of zero area, or where a box has neither width nor height.

    Source: Zheng et al., Distance-IoU Loss, 2020, equations 8 to 11; no gradient flows through the trade-off α.
    """
    return elementwise_complete_iou(a[:, None], b[None])


def elementwise_iou(a: Tensor, b: Tensor, eps: float = 0.0) -> Tensor:
    """IoU [...] of boxes [..., 4] that broadcast against each other. `eps` is added to the union."""
    intersection, union = _intersection_and_union(a, b)
    return intersection / _plus(union, eps)


def elementwise_generalized_iou(a: Tensor, b: Tensor, eps: float = 0.0) -> Tensor:
    """`generalized_box_iou` of boxes that broadcast against each other. `eps` is added to the denominators."""
    intersection, union = _intersection_and_union(a, b)
    width, height = _enclosing_sides(a, b)
    enclosing = width * height
    return intersection / _plus(union, eps) - (enclosing - union) / _plus(enclosing, eps)


def elementwise_distance_iou(a: Tensor, b: Tensor, eps: float = 0.0) -> Tensor:
    """`distance_box_iou` of boxes that broadcast against each other. `eps` is added to the union."""
    return elementwise_iou(a, b, eps) - _centre_distance(a, b)


def elementwise_complete_iou(a: Tensor, b: Tensor, eps: float = 0.0) -> Tensor:
    """`complete_box_iou` of boxes that broadcast against each other. `eps` is added to the union."""
    iou = elementwise_iou(a, b, eps)
    unlikeness = (4 / math.pi**2) * (_aspect_angle(a) - _aspect_angle(b)) ** 2
    with torch.no_grad():
        trade_off = unlikeness / (1 - iou + unlikeness + _TINY)
    return iou - _centre_distance(a, b) - trade_off * unlikeness


_TINY = 1e-7


def at_least_float32(values: Tensor) -> Tensor:
    """Convert half-precision values to float32; other dtypes are unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _plus(value: Tensor, eps: float) -> Tensor:
    return value + eps if eps else value  # avoids a pass over a matrix of millions of pairs


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas [...]. One coordinate at a time, for contiguous [N, M] matrices are much faster than [N, M, 2] ones.

    relu, not clamp: boxes that only touch then pass no gradient on, whichever side they touch at. In-place steps are
    on values that no backward pass needs.
    """
    ax1, ay1, ax2, ay2 = at_least_float32(a).unbind(-1)
    bx1, by1, bx2, by2 = at_least_float32(b).unbind(-1)
    width = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).relu_()
    height = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).relu_()
    intersection = width * height
    union = (((ax2 - ax1) * (ay2 - ay1)) + ((bx2 - bx1) * (by2 - by1))).sub_(intersection)
    return intersection, union


def _enclosing_sides(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height [...] of the smallest box around both."""
    ax1, ay1, ax2, ay2 = at_least_float32(a).unbind(-1)
    bx1, by1, bx2, by2 = at_least_float32(b).unbind(-1)
    return torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1), torch.maximum(ay2, by2) - torch.minimum(ay1, by1)


def _centre_distance(a: Tensor, b: Tensor) -> Tensor:
    """(distance of the centres / diagonal of the enclosing box)², [...]."""
    width, height = _enclosing_sides(a, b)
    acx, acy, _, _ = box_convert(at_least_float32(a), "xyxy", "cxcywh").unbind(-1)
    bcx, bcy, _, _ = box_convert(at_least_float32(b), "xyxy", "cxcywh").unbind(-1)
    return ((acx - bcx) ** 2 + (acy - bcy) ** 2) / (width**2 + height**2 + _TINY)


def _aspect_angle(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = at_least_float32(boxes).unbind(-1)
    return torch.atan((x2 - x1) / (y2 - y1))


# Encoding of boxes relative to anchors.


def encode_boxes(
    boxes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Encode boxes relative to anchors as deltas, the regression targets of a box head.

    dx = wx (x − xa) / wa, dy = wy (y − ya) / ha, dw = ww log(w / wa), dh = wh log(h / ha), with centres x, y.

    Args:
        boxes: [..., 4] xyxy with sides above 0 (a side of 0 gives −inf).
        anchors: [..., 4] xyxy with sides above 0, broadcasting against `boxes`.
        weights: (wx, wy, ww, wh), the inverse standard deviations of the deltas, to normalise them.

    Returns:
        [..., 4] deltas, without unit.

    Source: Girshick et al., Rich feature hierarchies (R-CNN), 2014, appendix C, equations 6 to 9; weights as in
    Fast R-CNN's normalised targets (Girshick, 2015, section 2.3).
    """
    wx, wy, ww, wh = weights
    ax, ay, aw, ah = box_convert(anchors, "xyxy", "cxcywh").unbind(-1)
    x, y, w, h = box_convert(boxes, "xyxy", "cxcywh").unbind(-1)
    deltas = (wx * (x - ax) / aw, wy * (y - ay) / ah, ww * torch.log(w / aw), wh * torch.log(h / ah))
    return torch.stack(deltas, -1)


def decode_boxes(
    deltas: Tensor,
    anchors: Tensor,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    max_log_ratio: float = MAX_LOG_RATIO,
) -> Tensor:
    """Decode boxes from deltas: the inverse of `encode_boxes`.

    Args:
        deltas: [..., 4] deltas.
        anchors: [..., 4] xyxy, broadcasting against `deltas`: [N, 1, 4] for deltas [N, K, 4] of K classes.
        weights: weights of `encode_boxes`.
        max_log_ratio: maximum of dw and dh before exp(), which prevents an overflow in untrained networks.

    Returns:
        [..., 4] xyxy, not clipped to any image.

    Source: Girshick et al., Rich feature hierarchies (R-CNN), 2014, appendix C, equations 1 to 4.
    """
    wx, wy, ww, wh = weights
    ax, ay, aw, ah = box_convert(anchors, "xyxy", "cxcywh").unbind(-1)
    dx, dy, dw, dh = deltas.unbind(-1)
    x, y = ax + dx / wx * aw, ay + dy / wy * ah
    half_w = 0.5 * aw * torch.exp((dw / ww).clamp(max=max_log_ratio))
    half_h = 0.5 * ah * torch.exp((dh / wh).clamp(max=max_log_ratio))
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), -1)


def encode_distances(boxes: Tensor, anchors: Tensor, normalize: bool = True) -> Tensor:
    """Encode boxes as the distances from an anchor's centre to the four sides: (left, top, right, bottom).

    Args:
        boxes: [..., 4] xyxy.
        anchors: [..., 4] xyxy, broadcasting against `boxes`.
        normalize: whether distances are divided by the anchor's width and height; otherwise they are in pixels.

    Returns:
        [..., 4]; all four are above 0 if the centre is inside the box.

    Source: Tian et al., FCOS, 2019, section 3.1, equation 1.
    """
    ax, ay, aw, ah = box_convert(anchors, "xyxy", "cxcywh").unbind(-1)
    x1, y1, x2, y2 = boxes.unbind(-1)
    left, top, right, bottom = ax - x1, ay - y1, x2 - ax, y2 - ay
    if normalize:
        left, top, right, bottom = left / aw, top / ah, right / aw, bottom / ah
    return torch.stack((left, top, right, bottom), -1)


def decode_distances(distances: Tensor, anchors: Tensor, normalize: bool = True) -> Tensor:
    """Decode boxes [..., 4] xyxy from distances: the inverse of `encode_distances`. The arguments broadcast."""
    ax, ay, aw, ah = box_convert(anchors, "xyxy", "cxcywh").unbind(-1)
    left, top, right, bottom = distances.unbind(-1)
    if normalize:
        left, top, right, bottom = left * aw, top * ah, right * aw, bottom * ah
    return torch.stack((ax - left, ay - top, ax + right, ay + bottom), -1)


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of all pairs of shapes, as boxes with a common corner.

    Args:
        a: [N, 2] width and height. b: [M, 2], in the same unit, on the same device.

    Returns:
        [N, M] in [0, 1]; nan for two shapes without area.

    Source: Redmon and Farhadi, YOLO9000, 2017, section 2, where 1 − IoU is the distance for clustering.
    """
    aw, ah = at_least_float32(a)[:, None].unbind(-1)
    bw, bh = at_least_float32(b)[None].unbind(-1)
    intersection = torch.minimum(aw, bw) * torch.minimum(ah, bh)
    return intersection / (aw * ah + bw * bh - intersection)
