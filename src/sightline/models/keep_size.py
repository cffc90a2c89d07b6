"""Preprocessing without resizing, and the preprocessing of segmentation models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.structures import Size


class KeepSize(Preprocess):
    """Normalise images without resizing them. The batch is padded to multiples of `divisor`."""

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, *, divisor: int = 1):
        super().__init__(mean, std, divisor=divisor)

    @property
    def seen_size(self) -> None:
        return None

    def resized(self, size: Size) -> Size:
        return size

    def restored(self, image: Tensor) -> Tensor:
        """Undo the normalisation: a normalised image → uint8."""
        return ((image * self.std + self.mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def extra_repr(self) -> str:
        return f"{self.channels} channels, size kept, divisor={self.divisor}"


def segmenter_preprocess(
    in_channels: int, image_size: int | None, max_size: int | None = None, divisor: int = 1
) -> Preprocess:
    """Preprocessing of segmentation models: ImageNet normalisation; the shorter side is resized to `image_size`.

    Images are antialiased when downsampled. `image_size` None keeps their size.
    """
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    if image_size is None:
        return KeepSize(mean, std, divisor=divisor)
    return Preprocess(mean, std, min_size=image_size, max_size=max_size, divisor=divisor, antialias=True)
