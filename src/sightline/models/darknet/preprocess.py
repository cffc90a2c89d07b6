"""Darknet's preprocessing: values in [0, 1], resized to the network's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.models.preprocess import Preprocess
from sightline.ops.geometry import place_instances, resize_target
from sightline.structures import ImageBatch, Instances, Size
from sightline.structures.batch import Frame

GREY = 0.5
"""The value of the bars of a letterbox."""


class DarknetPreprocess(Preprocess):
    """Check, scale to [0, 1], resize to the network's size, with corner pixels on corner pixels.

    Args:
        channels: of the images.
        size: (height, width) of the network.
        letterbox: keep the aspect ratio, with grey bars at both sides or above and below, as darknet does for YOLO v2
            and v3; else stretch, as it does for YOLO v1.
    """

    def __init__(self, channels: int, size: Size, letterbox: bool = True):
        super().__init__([0.0] * channels, [1.0] * channels, fixed_size=size, divisor=1)
        self.canvas, self.letterbox = size, letterbox

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """As `Preprocess`; of a letterbox each image lies in the middle of the batch."""
        batch, moved = super().forward(images, targets)
        batch = replace(batch, frames=[self._frame(size) for size in batch.original_sizes])
        if moved is None or not self.letterbox:
            return batch, moved
        return batch, [self._into(t, size) for t, size in zip(moved, batch.original_sizes, strict=True)]

    def prepare(self, image: Tensor) -> Tensor:
        """One image [C, H, W] → float [C, height, width] of the network's size, on the model's device."""
        image = image.to(self.mean.device)
        image = image.to(self.mean.dtype) / 255 if image.dtype == torch.uint8 else image.to(self.mean.dtype)
        (height, width), (top, left) = self.inner((int(image.shape[1]), int(image.shape[2])))
        if image.shape[1:] != (height, width):
            image = F.interpolate(image[None], size=(height, width), mode="bilinear", align_corners=True)[0]
        if (height, width) == self.canvas:
            return image
        canvas = image.new_full((len(image), *self.canvas), GREY)
        canvas[:, top : top + height, left : left + width] = image
        return canvas

    def inner(self, size: Size) -> tuple[Size, Size]:
        """(height, width) that an image of `size` gets, and (top, left) where it lies."""
        (height, width), (tall, wide) = self.canvas, size
        if not self.letterbox:
            return self.canvas, (0, 0)
        if width * tall < height * wide:  # the width decides
            height = max(1, tall * width // wide)
        else:
            width = max(1, wide * height // tall)
        return (height, width), ((self.canvas[0] - height) // 2, (self.canvas[1] - width) // 2)

    def _frame(self, size: Size) -> Frame:
        (height, width), (top, left) = self.inner(size)
        return left, top, left + width, top + height

    def back(self, boxes: Tensor, size: Size) -> Tensor:
        """Boxes [N, 4] in pixels of the batch → as if the image of `size` had been stretched to all of it."""
        (height, width), (top, left) = self.inner(size)
        scale = boxes.new_tensor([self.canvas[1] / width, self.canvas[0] / height] * 2)
        limits = boxes.new_tensor([self.canvas[1], self.canvas[0]] * 2)
        return torch.minimum(((boxes - boxes.new_tensor([left, top] * 2)) * scale).clamp(min=0), limits)

    def _into(self, target: Instances, size: Size) -> Instances:
        """A target of the stretched image → of the letterbox."""
        (height, width), (top, left) = self.inner(size)
        small = resize_target(target, (width / self.canvas[1], height / self.canvas[0]), (height, width))
        return place_instances(small, (left, top), self.canvas)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {'letterbox' if self.letterbox else 'stretched'}"
