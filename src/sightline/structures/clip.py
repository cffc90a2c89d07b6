"""Videos as tensors of frames with their times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.carrying import CarryingTensor
from sightline.structures.size import Size


class Clip(CarryingTensor):
    """A video as a tensor of its frames, [C, T, H, W], with their times. It can be used in place of an image tensor.

    Operations on a clip return plain tensors without times, so that times are never kept for frames that they do not
    fit. Copies and changes of device or dtype keep them (`to`, `float`, `clone`, …).

    Args:
        frames: [C, T, H, W] uint8, or float in [0, 1]; not copied. [C, H, W] is a clip of one frame.
        times: T increasing times in seconds from the beginning of the video; by default T / fps apart.
        duration: length of the video in seconds; by default the time of the last frame and 1 / fps.
        fps: frames per second, used for the defaults of `times` and `duration`.

    Raises:
        InputError: the shape is wrong, there is no frame, or times are not increasing or beyond the duration.
    """

    times: tuple[float, ...]
    duration: float

    def __new__(
        cls, frames: Tensor, times: Sequence[float] | None = None, duration: float | None = None, fps: float = 8.0
    ) -> Self:
        frames = frames[:, None] if frames.ndim == 3 else frames
        if frames.ndim != 4 or 0 in frames.shape:
            raise InputError(
                f"a clip has shape {list(frames.shape)}, but must be [channels, frames, height, width] with at least "
                "one frame"
            )
        if not fps > 0:
            raise InputError(f"fps is {fps}, but must be a number of frames per second above 0")
        count = int(frames.shape[1])
        own = tuple(i / fps for i in range(count)) if times is None else tuple(float(time) for time in times)
        if len(own) != count:
            raise InputError(f"there are {len(own)} times, but the clip has {count} frames; give one time per frame")
        length = own[-1] + 1 / fps if duration is None else float(duration)
        if not all(a < b for a, b in zip(own, (*own[1:], float("inf")), strict=True)) or own[0] < 0:
            raise InputError("the times of a clip's frames must be 0 or more, and increase from frame to frame")
        if not own[-1] <= length < float("inf") or length <= 0:
            raise InputError(
                f"the duration of a clip is {length:g} s, but its last frame is at {own[-1]:g} s; give the length of "
                "the video in seconds"
            )
        return cls.of(frames, own, length)

    @classmethod
    def of(cls, frames: Tensor, times: tuple[float, ...], duration: float) -> Self:
        """A clip from frames [C, T, H, W], their times and its duration, without checks."""
        clip = frames.as_subclass(cls)
        clip.times, clip.duration = times, duration
        return clip

    @property
    def frames(self) -> int:
        """T."""
        return int(self.shape[1])

    @property
    def image_size(self) -> Size:
        """(height, width) of a frame in pixels."""
        return int(self.shape[2]), int(self.shape[3])

    def frame(self, i: int) -> Tensor:
        """[C, H, W], frame `i`."""
        return self.as_subclass(Tensor)[:, i]

    def sampled(self, count: int) -> Tensor:
        """[C, count, H, W]: the frames nearest to `count` moments that divide the duration evenly.

        Moment k of n is (k + ½) · duration / n, the middle of the k-th part. A frame is shown from its time until that
        of the next one, and the frame that is shown at the moment is taken; frames repeat if there are too few.
        """
        return self.as_subclass(Tensor)[:, self.shown(count)]

    def shown(self, count: int) -> list[int]:
        """Indices of the frames that `sampled` returns."""
        moments = (torch.arange(count, dtype=torch.float64) + 0.5) * (self.duration / count)
        starts = torch.tensor(self.times, dtype=torch.float64)
        found: list[int] = (torch.searchsorted(starts, moments, right=True) - 1).clamp_(0).tolist()
        return found

    def film(self, count: int | None = None) -> Tensor:
        """[C, H, count · W]: frames side by side, from left to right; `count` as for `sampled`, by default all T."""
        frames = self.as_subclass(Tensor) if count is None else self.sampled(count)
        return frames.permute(0, 2, 1, 3).flatten(2)

    def _kept(self, frames: Tensor) -> Self:
        return self.of(frames, self.times, self.duration)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.clone()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _clip_again, (self.as_subclass(Tensor), self.times, self.duration)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        height, width = self.image_size
        return f"Clip({self.frames} frames of {width}×{height} pixels, {self.duration:g} s, {self.dtype})"


def _clip_again(frames: Tensor, times: tuple[float, ...], duration: float) -> Clip:
    return Clip.of(frames, times, duration)


def as_clip(image: Tensor) -> Clip:
    """A clip itself; frames [C, T, H, W] or a still image [C, H, W] as a clip with the default times."""
    return image if isinstance(image, Clip) else Clip(image)
