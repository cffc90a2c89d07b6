"""Preprocessing: images of any size → one normalised, resized and padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.layers.renormalise import IMAGENET_MEAN as IMAGENET_MEAN
from sightline.nn.layers.renormalise import IMAGENET_STD as IMAGENET_STD
from sightline.nn.layers.renormalise import for_channels as for_channels
from sightline.ops.geometry import following, resize_target
from sightline.ops.resizing import Interpolation, resize_images
from sightline.structures import ImageBatch, Instances, Size, camera_of, require_images

LONGEST = 100  # without max_size, the longer side becomes at most this many times as long as the shorter side


@dataclass(frozen=True)
class InputSize:
    """The size that images are resized to, keeping their aspect ratio.

    Attributes:
        min_size: length of the shorter side in pixels, unless the longer side would exceed `max_size`.
        max_size: maximum length of the longer side in pixels.
    """

    min_size: int = 800
    max_size: int = 1333


SIZE = InputSize()


class Preprocess(nn.Module):
    """Scale images to [0, 1], normalise, resize and pad them into one batch.

    Args:
        mean, std: mean and standard deviation of each channel, for images in [0, 1]. Their length is the number of
            channels.
        min_size, max_size: the shorter side is resized to `min_size` pixels, unless the longer side would exceed
            `max_size`. With `max_size` None, the longer side is limited to 100 times the shorter side.
        fixed_size: (height, width) to resize to instead, without keeping the aspect ratio.
        divisor: height and width of the batch are padded to multiples of `divisor`.
        antialias: images are antialiased when downsampled, as Pillow does it. torchvision's classifiers and segmenters
            were trained with antialiasing, its detectors without.
        interpolation: "bilinear", or "bicubic", whose values are clipped to [0, 1].

    Raises:
        InputError: a size is below 1, `min_size` is above `max_size`, or the interpolation is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        *,
        min_size: int = 800,
        max_size: int | None = 1333,
        fixed_size: Size | None = None,
        divisor: int = 32,
        antialias: bool = False,
        interpolation: Interpolation = "bilinear",
    ):
        super().__init__()
        if fixed_size is None and not 1 <= min_size <= (min_size if max_size is None else max_size):
            raise InputError(f"min_size is {min_size} and max_size {max_size}, but 1 ≤ min_size ≤ max_size must hold")
        if fixed_size is not None and min(fixed_size) < 1:
            raise InputError(f"the model's image size is {fixed_size}, but both sides must be at least 1 pixel")
        self.min_size, self.max_size, self.fixed_size, self.divisor = min_size, max_size, fixed_size, divisor
        if interpolation not in ("bilinear", "bicubic"):
            raise InputError(f"interpolation is {interpolation!r}, but must be 'bilinear' or 'bicubic'")
        self.antialias, self.interpolation = antialias, interpolation
        # not in the state dict, since published checkpoints have no such entries
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def seen_size(self) -> Size | None:
        """(height, width) of a square image after resizing; None if images keep their size."""
        return self.fixed_size or (self.min_size, self.min_size)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Images [C, Hi, Wi], uint8 or float in [0, 1], and targets → a batch, and targets in pixels of the batch."""
        if targets is not None and len(targets) != len(images):
            raise InputError(f"there are {len(images)} images but {len(targets)} targets; give one target per image")
        self.check(images)
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch = ImageBatch.pad([self.prepare(x) for x in images], sizes, self.divisor)
        batch = batch.with_cameras([camera_of(image) for image in images])
        # depthwise convolutions and RoI align are faster in channels_last memory format
        batch = replace(batch, tensor=batch.tensor.contiguous(memory_format=torch.channels_last))
        if targets is None:
            return batch, None
        for t, size in zip(targets, sizes, strict=True):
            for row, geometry, values in following(t):
                if geometry.raster and tuple(values.shape[1:]) != size:
                    raise InputError(
                        f"{t.source or 'a target'} has {row.name} of {list(values.shape[1:])} pixels, but its image "
                        f"has {list(size)}; give {row.name} of the image's size"
                    )
        device = batch.tensor.device
        moved = [
            resize_target(t.to(device), scale, size)
            for t, scale, size in zip(targets, batch.scales, batch.sizes, strict=True)
        ]
        return batch, moved

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Group images that are padded to the same size: lists of positions.

        Extra padding changes predictions near the border slightly. With one batch per group, the result for an image
        does not depend on the other images, and no computation is spent on padding.
        """
        self.check(images)
        found: dict[Size, list[int]] = {}
        for i, image in enumerate(images):
            height, width = self.resized((image.shape[-2], image.shape[-1]))
            found.setdefault((-(-height // self.divisor), -(-width // self.divisor)), []).append(i)
        return list(found.values())

    def prepare(self, image: Tensor) -> Tensor:
        """Normalise and resize one image: [C, H, W] → float [C, h, w], on the model's device."""
        image = image.to(self.mean.device)
        dtype = torch.promote_types(self.mean.dtype, torch.float32)  # PyTorch cannot antialias in half precision
        image = image.to(dtype).div_(255) if image.dtype == torch.uint8 else image.to(dtype)
        size = self.resized((int(image.shape[1]), int(image.shape[2])))
        if image.shape[1:] != size:
            image = resize_images(image[None], size, self.interpolation, self.antialias)[0]
        return (image - self.mean).div_(self.std).to(self.mean.dtype)

    def check(self, images: Sequence[Tensor]) -> None:
        """Check the number of channels, the size and the dtype of images; see `require_images`."""
        require_images(images, self.channels)

    def resized(self, size: Size) -> Size:
        """(height, width) of an image of size `size` after resizing."""
        if self.fixed_size is not None:
            return self.fixed_size
        short, long = min(size), max(size)
        if self.max_size is None and long <= LONGEST * short:
            other = self.min_size * long // short  # as torchvision resizes for its classifiers and segmenters
            return (self.min_size, other) if size[0] <= size[1] else (other, self.min_size)
        return self.fitted(size)

    def fitted(self, size: Size) -> Size:
        """(height, width) of an image of size `size`, so that no side is longer than its limit."""
        # in double precision and truncated, as in the published models: the last bit can change the size by a pixel
        limit = LONGEST * self.min_size if self.max_size is None else self.max_size
        factor = min(self.min_size / min(size), limit / max(size))
        return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))

    def extra_repr(self) -> str:
        limit = "" if self.max_size is None else f", longer ≤ {self.max_size}"
        size = f"size={self.fixed_size}" if self.fixed_size else f"shorter side {self.min_size}{limit}"
        how = f"{self.interpolation}, {'' if self.antialias else 'not '}antialiased"
        return f"{self.channels} channels, {size}, {how}, divisor={self.divisor}"


def imagenet_preprocess(in_channels: int, size: InputSize | None = None, **arguments: Any) -> Preprocess:
    """Preprocessing with the ImageNet normalisation of the published backbones.

    Args:
        in_channels: number of channels of the images.
        size: size that images are resized to.
        arguments: additional arguments of `Preprocess`; `divisor` is 32 by default.
    """
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    return Preprocess(mean, std, **(vars(size) if size is not None else {}), **arguments)
