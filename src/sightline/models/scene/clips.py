"""Batches of clips as films: the frames of each clip side by side in one wide image.

A film is an image, so that a network batch of clips has the form of every other batch, [N, C, H, T · W]. All methods of
explanation apply to it, and caches of frozen features hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.structures import ImageBatch, Size, as_clip, require_images


@dataclass(frozen=True)
class ClipBatch(ImageBatch):
    """Clips of the same number of frames, as films.

    Attributes:
        durations: length of each video in seconds.
        frame_sizes: (height, width) of the original frames of each clip.
    """

    durations: Sequence[float] = field(default=(), kw_only=True)
    frame_sizes: Sequence[Size] = field(default=(), kw_only=True)

    def with_copies(self, tensor: Tensor) -> ClipBatch:
        """A batch of M changed copies of the one clip of this batch; see `ImageBatch.with_copies`."""
        copies, m = super().with_copies(tensor), len(tensor)
        return ClipBatch(
            copies.tensor,
            copies.sizes,
            copies.original_sizes,
            durations=list(self.durations) * m,
            frame_sizes=list(self.frame_sizes) * m,
        )


class ClipPreprocess(Preprocess):
    """Sample a fixed number of frames from each clip, evenly in time; normalise, resize and put them in a row.

    A still image [C, H, W] is a clip of one frame, which is repeated.

    Args:
        mean, std: as for `Preprocess`.
        frames: number of frames T of each clip.
        side: height and width of each frame in pixels.
        arguments: additional arguments of `Preprocess`.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], frames: int, side: int, **arguments: Any):
        super().__init__(mean, std, fixed_size=(side, side), divisor=1, **arguments)
        if frames < 2:
            raise InputError(f"frames is {frames}, but events need at least 2 frames; give 16 if in doubt")
        self.frames = frames

    def forward(self, images: Sequence[Tensor], targets: Any = None) -> tuple[ClipBatch, Any]:
        """Clips [C, Ti, Hi, Wi] → a batch of films [N, C, side, T · side], and the targets, which do not change."""
        self.check(images)
        clips = [as_clip(image) for image in images]
        films = [self._film(clip.sampled(self.frames)) for clip in clips]
        sizes = [clip.image_size for clip in clips]
        batch = ImageBatch.pad(films, [(height, self.frames * width) for height, width in sizes])
        return ClipBatch(
            batch.tensor.contiguous(memory_format=torch.channels_last),
            batch.sizes,
            batch.original_sizes,
            durations=[clip.duration for clip in clips],
            frame_sizes=sizes,
        ), targets

    def _film(self, frames: Tensor) -> Tensor:
        """Frames [C, T, H, W] → [C, side, T · side] float."""
        return torch.cat([self.prepare(frame) for frame in frames.unbind(1)], 2)

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """One group: all films have one size."""
        self.check(images)
        return [list(range(len(images)))]

    def check(self, images: Sequence[Tensor]) -> None:
        """Check the shape and the dtype of clips, or of still images, and their number of channels."""
        stills = []
        for position, image in enumerate(images):
            if image.ndim == 4 and 0 in image.shape:
                raise InputError(f"clip {position} has shape {list(image.shape)}: it has no frames or no pixels")
            stills.append(image.as_subclass(Tensor)[:, 0] if image.ndim == 4 else image)
        require_images(stills, self.channels)

    def extra_repr(self) -> str:
        return f"{self.frames} frames, {super().extra_repr()}"
