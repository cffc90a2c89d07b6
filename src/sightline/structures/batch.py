"""A batch of images, as a model's network takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.clip import Clip
from sightline.structures.size import Size
from sightline.structures.view import Camera

Frame = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in pixels."""


@dataclass(frozen=True)
class ImageBatch:
    """Images of different sizes in one padded tensor, as a model's preprocessing returns them.

    Attributes:
        tensor: [N, C, H, W] float. Each image is at the top left; the rest is padding.
        sizes: (height, width) of each image inside the tensor.
        original_sizes: (height, width) of each image before preprocessing.
        cameras: camera of each image, in pixels of the batch; None for an image without a camera (see `View`). Empty if
            no image has a camera.
        frames: (x1, y1, x2, y2) of each whole original image in pixels of the batch, if preprocessing crops images
            (frames exceed the batch) or places them in the middle of a canvas. Empty if each image is at the top left.
    """

    tensor: Tensor
    sizes: list[Size]
    original_sizes: list[Size]
    cameras: Sequence[Camera | None] = field(default=(), kw_only=True)
    frames: Sequence[Frame] = field(default=(), kw_only=True)

    @classmethod
    def pad(
        cls, images: Sequence[Tensor], original_sizes: Sequence[Size], divisor: int = 1, value: float = 0.0
    ) -> ImageBatch:
        """Pad `images` ([C, Hi, Wi] each) at the right and bottom to a common size, a multiple of `divisor`."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height = math.ceil(max(h for h, _ in sizes) / divisor) * divisor
        width = math.ceil(max(w for _, w in sizes) / divisor) * divisor
        if all(size == (height, width) for size in sizes):
            tensor = torch.stack(list(images))
        else:
            tensor = images[0].new_full((len(images), images[0].shape[0], height, width), value)
            for slot, image in zip(tensor, images, strict=True):
                slot[:, : image.shape[-2], : image.shape[-1]] = image
        return cls(tensor, sizes, list(original_sizes))

    def with_cameras(self, cameras: Sequence[Camera | None]) -> ImageBatch:
        """The same batch with cameras, given in pixels of the original images."""
        if not any(cameras):
            return self
        pairs = zip(cameras, self.original_sizes, self.sizes, strict=True)
        return replace(self, cameras=[c and c.resized(old, new) for c, old, new in pairs])

    def require_cameras(self) -> list[Camera]:
        """The cameras of all images.

        Raises:
            InputError: an image has no camera.
        """
        known = [camera for camera in self.cameras if camera is not None]
        if len(known) < len(self.sizes):
            missing = next(i for i in range(len(self.sizes)) if i >= len(self.cameras) or self.cameras[i] is None)
            raise InputError(
                f"image {missing} has no camera, which this model needs; give it as sl.View(image, intrinsics)"
            )
        return known

    @property
    def scales(self) -> list[tuple[float, float]]:
        """(x, y) scale factors from original pixels to pixels of the batch, one pair per image."""
        return [(w / ow, h / oh) for (h, w), (oh, ow) in zip(self.sizes, self.original_sizes, strict=True)]

    def frame(self, i: int) -> Frame:
        """(x1, y1, x2, y2) of the whole original image i in pixels of the batch; it may exceed the batch."""
        return self.frames[i] if self.frames else (0, 0, self.sizes[i][1], self.sizes[i][0])

    def in_batch(self, boxes: Tensor, i: int = 0) -> Tensor:
        """Boxes [..., 4] xyxy in pixels of the original image i → pixels of the batch."""
        scale, shift = self._placement(boxes, i)
        return boxes * scale + shift

    def in_image(self, boxes: Tensor, i: int = 0) -> Tensor:
        """Boxes [..., 4] xyxy in pixels of the batch → pixels of the original image i, not clipped."""
        scale, shift = self._placement(boxes, i)
        return (boxes - shift) / scale

    def _placement(self, boxes: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Scale and offset [4] from the original image i to the batch."""
        left, top, right, bottom = self.frame(i)
        height, width = self.original_sizes[i]
        x, y = (right - left) / width, (bottom - top) / height
        return boxes.new_tensor([x, y, x, y]), boxes.new_tensor([left, top, left, top])

    def with_copies(self, tensor: Tensor) -> ImageBatch:
        """A batch of M changed copies of the one image of this batch.

        Args:
            tensor: [M, C, H, W], the pixels of the copies.

        Raises:
            InputError: this batch does not have exactly one image.
        """
        if len(self) != 1:
            raise InputError(f"the batch has {len(self)} images, but copies are made of one; give a batch of one image")
        m = len(tensor)
        cameras, frames = list(self.cameras) * m, list(self.frames) * m
        return ImageBatch(tensor, self.sizes * m, self.original_sizes * m, cameras=cameras, frames=frames)

    def __len__(self) -> int:
        return len(self.sizes)


def require_images(images: Sequence[Tensor], channels: int) -> None:
    """Check that a model can take these images.

    Args:
        images: [C, H, W] each, uint8 or float in [0, 1].
        channels: number of channels C that the model takes.

    Raises:
        InputError: the list is empty, or an image has a different number of channels, no pixels, or an integer dtype
            other than uint8.
    """
    if len(images) == 0:
        raise InputError("there are no images; give at least one")
    for position, image in enumerate(images):
        if isinstance(image, Clip):
            raise InputError(f"image {position} is a video, but this model takes images; give one of its frames")
        if image.ndim != 3 or image.shape[0] != channels:
            raise InputError(
                f"image {position} has shape {list(image.shape)}, but this model takes "
                f"[{channels}, height, width]; read it with {channels} channels, "
                f"or create the model with in_channels={image.shape[0]}"
            )
        if 0 in image.shape:
            raise InputError(f"image {position} has shape {list(image.shape)}: it has no pixels")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise InputError(f"image {position} is of {image.dtype}, but must be uint8, or floating point in [0, 1]")
