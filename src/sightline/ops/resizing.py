"""Images resized as Pillow and torchvision do it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Interpolation = Literal["bilinear", "bicubic"]


def resize_images(
    images: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear", antialias: bool = False
) -> Tensor:
    """Resize a batch of images.

    Args:
        images: [N, C, H, W] float in [0, 1].
        size: (height, width) of the result.
        interpolation: "bilinear", or "bicubic", whose values are cut off at 0 and 1.
        antialias: images are antialiased when downsampled, as Pillow does it; else each pixel is interpolated between
            its nearest neighbours.

    Returns:
        [N, C, *size] float in [0, 1].
    """
    if interpolation == "bilinear":
        smaller = size[0] < images.shape[2] or size[1] < images.shape[3]
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=antialias and smaller)
    # antialiased, PyTorch's cubic is Pillow's, enlarging too; Pillow cuts off what overshoots after each direction
    for step in ((int(images.shape[2]), size[1]), size):
        images = F.interpolate(images, size=step, mode="bicubic", align_corners=False, antialias=antialias).clamp(0, 1)
    return images
