"""Anchors: reference boxes of dense detectors, one set for each cell of each feature map.

All anchors are [N, 4] xyxy. In a map of H×W cells with K anchors per cell, anchor k of cell (row, column) is number
(row · W + column) · K + k, the order in which a head's [K·4, H, W] output is read after moving its channels to the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size


def base_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """The anchors of one cell, centred on (0, 0).

    An anchor of size s and ratio r = height / width has width s / √r and height s · √r, so its area is s². Corners are
    rounded to whole pixels (half to even).

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: heights over widths.

    Returns:
        [len(ratios) · len(sizes), 4] float32 xyxy on the CPU; sizes vary fastest.

    Raises:
        InputError: a size or ratio is not above 0.

    Source: Ren et al., Faster R-CNN, PAMI 2017, section 3.1.1.
    """
    _require_positive("size", sizes)
    _require_positive("ratio", ratios)
    size = torch.tensor([float(s) for s in sizes])
    root = torch.tensor([float(r) for r in ratios]).sqrt()[:, None]
    width, height = (1 / root * size).flatten(), (root * size).flatten()
    return (torch.stack((-width, -height, width, height), 1) / 2).round()


def grid_anchors(base: Tensor, feature_size: Size, stride: int | tuple[int, int]) -> Tensor:
    """Replicate one cell's anchors over a feature map.

    The anchors of cell (row, column) are centred at (column · stride, row · stride), the top-left corner of the cell,
    as published checkpoints expect.

    Args:
        base: [K, 4] anchors around (0, 0), in pixels of the image.
        feature_size: (H, W) of the map.
        stride: stride of the map in pixels, or (vertical, horizontal) strides.

    Returns:
        [H · W · K, 4] xyxy pixels, of `base`'s dtype and device.
    """
    height, width = feature_size
    stride_y, stride_x = (stride, stride) if isinstance(stride, int) else stride
    shift_y = torch.arange(height, dtype=base.dtype, device=base.device) * stride_y
    shift_x = torch.arange(width, dtype=base.dtype, device=base.device) * stride_x
    y, x = torch.meshgrid(shift_y, shift_x, indexing="ij")
    return (torch.stack((x, y, x, y), -1)[:, :, None] + base).reshape(-1, 4)


def pyramid_anchors(
    bases: Sequence[Tensor],
    feature_sizes: Sequence[Size],
    image_size: Size,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """The anchors of every level of a feature pyramid.

    Args:
        bases: one [K, 4] tensor per level, see `base_anchors`.
        feature_sizes: (H, W) of each level's map.
        image_size: (height, width) of the padded batch; the stride of a level is this size divided by the size of the
            map, rounded down.
        device, dtype: device and dtype of the result; by default those of `bases`.

    Returns:
        One [H · W · K, 4] xyxy tensor per level, in pixels of the padded batch.

    Raises:
        InputError: the number of bases differs from the number of maps.
    """
    if len(bases) != len(feature_sizes):
        raise InputError(
            f"{len(bases)} sets of base anchors do not fit {len(feature_sizes)} feature maps; give one each"
        )
    levels = []
    for base, (height, width) in zip(bases, feature_sizes, strict=True):
        base = base.to(device=device, dtype=dtype)
        levels.append(grid_anchors(base, (height, width), (image_size[0] // height, image_size[1] // width)))
    return levels


def default_box_shapes(
    ratios: Sequence[Sequence[float]],
    min_ratio: float = 0.15,
    max_ratio: float = 0.9,
    scales: Sequence[float] | None = None,
    clip: bool = True,
) -> list[Tensor]:
    """The shapes of SSD's default boxes, one set for each feature map.

    Map k of scale s_k has two squares, of sides s_k and √(s_k · s_k+1), and for each ratio r one box of width s_k · √r
    and height s_k / √r and one with the two exchanged: 2 + 2 · len(ratios[k]) boxes per cell.

    Args:
        ratios: aspect ratios of each map besides 1, such as [[2], [2, 3], [2, 3], [2, 3], [2], [2]] in SSD300.
        min_ratio, max_ratio: scales of the first and the last map. Scales in between are evenly spaced; the additional
            scale after the last one is 1.
        scales: explicit scales instead of `min_ratio` and `max_ratio`, one more than maps.
        clip: whether widths and heights are limited to the size of the image.

    Returns:
        One [K, 2] float32 tensor (width, height) per map, as fractions of the image.

    Raises:
        InputError: `scales` is not one longer than `ratios`, or a scale or ratio is not above 0.

    Source: Liu et al., SSD, 2016, section 2.2, "Choosing scales and aspect ratios for default boxes", equation 4.
    Departure: the default of `min_ratio` is 0.15, as published code takes it, not the paper's 0.2.
    """
    maps = len(ratios)
    if scales is None:
        step = (max_ratio - min_ratio) / (maps - 1) if maps > 1 else 0.0
        scales = [min_ratio + step * k for k in range(maps)] + [1.0 if maps > 1 else max_ratio]
    if len(scales) != maps + 1:
        raise InputError(
            f"default boxes on {maps} feature maps need {maps + 1} scales, one more, but {len(scales)} are given"
        )
    _require_positive("scale", scales)
    shapes = []
    for k, extra in enumerate(ratios):
        _require_positive("ratio", extra)
        scale, between = scales[k], math.sqrt(scales[k] * scales[k + 1])
        pairs = [(scale, scale), (between, between)]
        for ratio in extra:
            wide, narrow = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            pairs += [(wide, narrow), (narrow, wide)]
        shape = torch.tensor(pairs)
        shapes.append(shape.clamp(0, 1) if clip else shape)
    return shapes


def default_boxes(
    shapes: Sequence[Tensor], feature_sizes: Sequence[Size], image_size: Size, steps: Sequence[float] | None = None
) -> Tensor:
    """SSD's default boxes on all feature maps.

    Args:
        shapes: one [K, 2] tensor (width, height) per map, as fractions of the image, see `default_box_shapes`.
        feature_sizes: (H, W) of each map.
        image_size: (height, width) of the image inside the network.
        steps: stride of each map in pixels; by default the size of the image divided by that of the map. The published
            SSD300 uses slightly different strides, which its checkpoints need.

    Returns:
        [Σ H · W · K, 4] xyxy in pixels of `image_size`, of `shapes`' dtype and device, not clipped to the image.

    Raises:
        InputError: the numbers of shapes, maps and steps differ.

    Source: Liu et al., SSD, 2016, section 2.2.
    """
    if len(shapes) != len(feature_sizes) or (steps is not None and len(steps) != len(shapes)):
        given = f"{len(shapes)} sets of shapes" + ("" if steps is None else f" and {len(steps)} steps")
        raise InputError(f"{given} do not fit {len(feature_sizes)} feature maps; give one for each")
    height, width = image_size
    levels = []
    for k, (shape, (rows, columns)) in enumerate(zip(shapes, feature_sizes, strict=True)):
        cells_y, cells_x = (rows, columns) if steps is None else (height / steps[k], width / steps[k])
        y = (torch.arange(rows, dtype=shape.dtype, device=shape.device) + 0.5) / cells_y
        x = (torch.arange(columns, dtype=shape.dtype, device=shape.device) + 0.5) / cells_x
        cy, cx = torch.meshgrid(y, x, indexing="ij")
        levels.append(_around(torch.stack((cx, cy), -1).reshape(-1, 1, 2), shape))
    x1, y1, x2, y2 = torch.cat(levels).unbind(-1)
    return torch.stack((x1 * width, y1 * height, x2 * width, y2 * height), -1)


def anchors_at(
    centres: Tensor,
    sizes: Sequence[float],
    ratios: Sequence[float],
    image_size: Size,
    pairs: Literal["all", "first"] = "all",
) -> Tensor:
    """Anchors by centre (x, y), size s and ratio r: width = W · s · √r, height = H · s / √r in an image of W×H.

    Here r = 1 keeps the image's own shape and a larger r is wider; in `base_anchors` r is height over width.

    Args:
        centres: [N, 2] float (x, y) in pixels.
        sizes: n sizes in (0, 1].
        ratios: m ratios above 0.
        image_size: (height, width) of the image in pixels.
        pairs: "all" for all n · m pairs, or "first" for the n + m − 1 pairs with the first size or the first ratio.

    Returns:
        [N · K, 4] xyxy pixels, with the dtype and device of `centres`, grouped by centre. Sizes vary fastest, so
        "first" gives the first ratio with every size, then all other ratios with the first size.

    Raises:
        InputError: a size is outside (0, 1], a ratio is not above 0, or `pairs` is unknown.
    """
    _require_positive("size", sizes)
    _require_positive("ratio", ratios)
    if max(sizes) > 1:
        raise InputError(f"anchor size {max(sizes)} is above 1, but sizes are fractions of the image in (0, 1]")
    if pairs not in ("all", "first"):
        raise InputError(f'pairs must be "all" or "first", not {pairs!r}')
    height, width = image_size
    shapes = [
        (width * size * math.sqrt(ratio), height * size / math.sqrt(ratio))
        for i, ratio in enumerate(ratios)
        for j, size in enumerate(sizes)
        if pairs == "all" or i == 0 or j == 0
    ]
    return _around(centres[:, None], torch.tensor(shapes, dtype=centres.dtype, device=centres.device))


def _around(centres: Tensor, shapes: Tensor) -> Tensor:
    """Boxes [N · K, 4] xyxy of shapes [K, 2] (width, height) around centres [N, 1, 2] (x, y)."""
    half = 0.5 * shapes
    return torch.cat((centres - half, centres + half), -1).reshape(-1, 4)


def _require_positive(what: str, values: Sequence[float]) -> None:
    for value in values:
        if not value > 0:
            raise InputError(f"anchor {what} {value} must be above 0")
