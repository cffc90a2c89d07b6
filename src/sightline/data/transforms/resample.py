"""Resampling through one 3×3 matrix: bilinear for images, nearest-neighbour for masks and class maps.

The matrix maps pixels of the source to pixels of the output. (0, 0) is the outer corner of the top-left pixel, so the
pixel in column i spans i … i+1 and its centre is i + 0.5. The cheapest sufficient method is used:

- whole-pixel shifts, flips and quarter turns are slices: no value is interpolated;
- other axis-aligned changes use Pillow's resize of a box, which antialiases when downsampling;
- everything else is sampled bilinearly, after averaging blocks of pixels when downsampling by two or more.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sightline.data.transforms.pillow import rgb_image, rgb_tensor
from sightline.structures import Size

_EPS = 1e-6  # in pixels: rounding error of an integer after a few matrix products


def warp_image(image: Tensor, matrix: np.ndarray, size: Size, fill: float) -> Tensor:
    """Warp an image with a matrix.

    Args:
        image: [C, H, W] uint8, or float in [0, 1].
        matrix: [3, 3] affine, source pixels → output pixels, invertible.
        size: (height, width) of the output.
        fill: value beyond the source's border, in [0, 1] of full scale.

    Returns:
        [C, h, w] of the same dtype; possibly a view.
    """
    value = round(fill * 255) if image.dtype == torch.uint8 else fill
    inverse = np.linalg.inv(matrix)
    turned = _straighten(inverse, size)
    if turned is None:
        return _sample(image, inverse, size, value)
    inverse, transpose = turned
    source = image.transpose(1, 2) if transpose else image
    height, width = int(source.shape[1]), int(source.shape[2])
    rows = _span(inverse[1, 1], inverse[1, 2], size[0], height)
    columns = _span(inverse[0, 0], inverse[0, 2], size[1], width)
    if rows is None or columns is None:
        return image.new_full((image.shape[0], *size), value)
    if rows.whole and columns.whole:
        piece = source[:, round(rows.low) : round(rows.high), round(columns.low) : round(columns.high)]
    else:
        piece = _resize(source, (columns.low, rows.low, columns.high, rows.high), (rows.length, columns.length))
    mirrored = [dim for dim, span in ((1, rows), (2, columns)) if span.mirrored]
    if mirrored:
        piece = piece.flip(mirrored)
    if (rows.length, columns.length) == tuple(size):
        return piece
    output = image.new_full((image.shape[0], *size), value)
    output[:, rows.start : rows.start + rows.length, columns.start : columns.start + columns.length] = piece
    return output


def warp_labels(labels: Tensor, matrix: np.ndarray, size: Size, outside: int | bool) -> Tensor:
    """Warp masks or class maps with a matrix; each output pixel has the value of the source pixel under its centre.

    Args:
        labels: [..., H, W] of any dtype.
        matrix: [3, 3] affine, source pixels → output pixels, invertible.
        size: (height, width) of the output.
        outside: value beyond the source's border.

    Returns:
        [..., h, w] of the same dtype.
    """
    values = labels.numpy()  # its `take` is more than twice as fast as indexing in torch
    inverse = np.linalg.inv(matrix)
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    turned = _straighten(inverse, size)
    if turned is None:
        height, width = values.shape[-2:]
        columns = np.floor(inverse[0, 0] * x + inverse[0, 1] * y[:, None] + inverse[0, 2]).astype(np.int64)
        rows = np.floor(inverse[1, 0] * x + inverse[1, 1] * y[:, None] + inverse[1, 2]).astype(np.int64)
        beyond = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
        index = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
        picked = values.reshape(*values.shape[:-2], height * width).take(index, axis=-1)
        np.copyto(picked, np.asarray(outside, picked.dtype), where=beyond)
        return torch.from_numpy(picked)
    inverse, transpose = turned
    source = values.swapaxes(-1, -2) if transpose else values
    columns = np.floor(inverse[0, 0] * x + inverse[0, 2]).astype(np.int64)
    rows = np.floor(inverse[1, 1] * y + inverse[1, 2]).astype(np.int64)
    rows_in = np.flatnonzero((rows >= 0) & (rows < source.shape[-2]))
    columns_in = np.flatnonzero((columns >= 0) & (columns < source.shape[-1]))
    picked = source.take(rows[rows_in], axis=-2).take(columns[columns_in], axis=-1)
    if picked.shape[-2:] == tuple(size):
        return torch.from_numpy(picked)
    output = np.full((*values.shape[:-2], *size), outside, dtype=values.dtype)
    if picked.size:  # the inside is a rectangle
        output[..., rows_in[0] : rows_in[-1] + 1, columns_in[0] : columns_in[-1] + 1] = picked
    return torch.from_numpy(output)


def _straighten(inverse: np.ndarray, size: Size) -> tuple[np.ndarray, bool] | None:
    """The inverse matrix with cleared off-diagonal, and whether the source must be transposed first.

    None if the matrix rotates by an angle other than a quarter turn, or shears. The tolerance is how far the
    off-diagonal moves a pixel at the far side of the output.
    """
    reach = np.array([size[1], size[0]], dtype=float)
    linear = inverse[:2, :2]
    if abs(linear[0, 1]) * reach[1] < _EPS and abs(linear[1, 0]) * reach[0] < _EPS:
        return inverse * [[1, 0, 1], [0, 1, 1], [1, 1, 1]], False
    if abs(linear[0, 0]) * reach[0] < _EPS and abs(linear[1, 1]) * reach[1] < _EPS:
        (_, b, c), (d, _, f) = inverse[:2]
        return np.array([[d, 0, f], [0, b, c], [0, 0, 1]]), True
    return None


class _Span:
    """Along one axis: the output pixels that are entirely inside the source, and the part of the source they show."""

    def __init__(self, start: int, length: int, low: float, high: float, mirrored: bool, whole: bool):
        self.start, self.length = start, length
        self.low, self.high = low, high
        self.mirrored, self.whole = mirrored, whole


def _span(scale: float, shift: float, length: int, available: int) -> _Span | None:
    """The span of an axis with source = scale · output + shift; None if the output shows nothing of the source."""
    mirrored = scale < 0
    if mirrored:  # count output pixels from the other end
        scale, shift = -scale, scale * length + shift
    start = max(0, math.ceil(-shift / scale - _EPS))
    stop = min(length, math.floor((available - shift) / scale + _EPS))
    if stop <= start:
        return None
    low = min(max(scale * start + shift, 0.0), float(available))
    high = min(max(scale * stop + shift, 0.0), float(available))
    whole = abs(scale - 1) * length < _EPS and abs(low - round(low)) < _EPS
    return _Span(length - stop if mirrored else start, stop - start, low, high, mirrored, whole)


def _resize(image: Tensor, box: tuple[float, float, float, float], size: Size) -> Tensor:
    """The part `box` (x1, y1, x2, y2) of an image [C, H, W] resized to (height, width), antialiased if downsampled."""
    target = (size[1], size[0])
    if image.dtype == torch.uint8 and image.shape[0] == 3:
        return rgb_tensor(rgb_image(image).resize(target, Image.Resampling.BILINEAR, box=box))
    source = image if image.dtype == torch.uint8 else image.float()
    planes = [
        np.asarray(Image.fromarray(plane.numpy()).resize(target, Image.Resampling.BILINEAR, box=box))
        for plane in source.contiguous()
    ]
    return torch.from_numpy(np.stack(planes)).to(image.dtype)


def _sample(image: Tensor, inverse: np.ndarray, size: Size, value: float) -> Tensor:
    """The image [C, H, W] sampled bilinearly at `inverse` of each output pixel's centre."""
    source = image.to(torch.float32)
    shrink = np.linalg.norm(inverse[:2, :2], axis=1)  # source pixels per output pixel, along source x and y
    factor = [max(1, int(s + _EPS)) for s in shrink]
    height, width = int(source.shape[1]), int(source.shape[2])
    if max(factor) > 1:  # bilinear sampling uses 2×2 pixels: to skip none, average whole blocks first
        factor = [min(factor[0], width), min(factor[1], height)]
        source = F.avg_pool2d(source[None], factor[::-1], ceil_mode=True, count_include_pad=False)[0]
    to_source = np.diag([1 / factor[0], 1 / factor[1], 1.0]) @ inverse
    from_unit = np.array([[size[1] / 2, 0, size[1] / 2], [0, size[0] / 2, size[0] / 2], [0, 0, 1]])
    blocks = (int(source.shape[1]), int(source.shape[2]))
    to_unit = np.array([[2 / blocks[1], 0, -1], [0, 2 / blocks[0], -1], [0, 0, 1]])
    theta = torch.from_numpy((to_unit @ to_source @ from_unit)[:2]).to(torch.float32)[None]
    grid = F.affine_grid(theta, [1, int(source.shape[0]), *size], align_corners=False)
    sampled = F.grid_sample((source - value)[None], grid, "bilinear", "zeros", align_corners=False)[0].add_(value)
    if image.dtype == torch.uint8:
        return sampled.round_().clamp_(0, 255).to(torch.uint8)
    return sampled.to(image.dtype)
