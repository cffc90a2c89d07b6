"""Regions cut out of an image and warped to one size (Girshick et al. 2014, "R-CNN", section 2.1 and appendix A)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp_regions(image: Tensor, boxes: Tensor, size: int, context: float = 0.0) -> Tensor:
    """Regions of one image, each stretched to a square: bilinear, one sample an output pixel.

    Args:
        image: [C, H, W] float.
        boxes: [R, 4] xyxy in its pixels; they may reach beyond the image.
        size: side S of the squares, in pixels.
        context: share of the square's side, at each of its borders, that shows what surrounds the region
            (16 / 227 in the paper). It must be below a half.

    Returns:
        [R, C, S, S]; zero where a region reaches beyond the image, so an image whose mean was taken off is filled with
        its mean there.
    """
    if len(boxes) == 0:
        return image.new_zeros(0, image.shape[0], size, size)
    boxes = boxes.to(image)
    centres, halves = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / (2 - 4 * context)
    steps = (torch.arange(size, dtype=image.dtype, device=image.device) * 2 + 1) / size - 1  # pixel centres in [−1, 1]
    points = centres[:, None] + halves[:, None] * steps[:, None]  # [R, S, 2]: x and y of columns and rows
    scale = points.new_tensor([2 / image.shape[2], 2 / image.shape[1]])
    x, y = (points * scale - 1).unbind(-1)
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    # sample all regions as one tall image, so that the input image is not repeated for each
    warped = F.grid_sample(image[None], grid.reshape(1, -1, size, 2), padding_mode="zeros", align_corners=False)
    return warped[0].unflatten(1, (len(boxes), size)).transpose(0, 1)
