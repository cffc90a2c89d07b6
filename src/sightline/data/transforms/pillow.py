"""Tensors as Pillow images and back, for the operations Pillow does fastest."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def rgb_picture(image: Tensor) -> Image.Image:
    """An image [3, H, W] uint8 as a Pillow image."""
    # Merging planes is eight times as fast as interleaving them first.
    return Image.merge("RGB", [Image.fromarray(plane.numpy()) for plane in image])


def rgb_tensor(picture: Image.Image) -> Tensor:
    """A Pillow image of mode RGB as a tensor [3, H, W] uint8, contiguous."""
    image = np.empty((3, picture.height, picture.width), dtype=np.uint8)
    for plane, band in zip(image, picture.split(), strict=True):
        plane[...] = np.asarray(band)
    return torch.from_numpy(image)
