"""Writing videos frame by frame with PyAV."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.runtime.optional import require

CODECS = ("libx264", "libopenh264", "h264", "mpeg4")
"""Encoders for written videos, the best first; the first three make H.264."""
_TICKS = 90_000
"""Time stamps of written frames are in fractions of a second of this size."""


class VideoWriter:
    """Writes frames one by one as a video, H.264 if an encoder is available; the suffix decides the container.

    Frames of other sizes than the first are cut or filled with black at the right and below; so is an odd side, because
    players expect half the colour resolution.

    Args:
        path: a new file, such as video.mp4.
        fps: frames per second.
        crf: quality of H.264: 0 is lossless, 12 close to it, 23 usual.

    Attributes:
        codec: the encoder.

    Raises:
        InputError: PyAV is not installed, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, crf: int = 20):
        require("av", "PyAV", "video", "writing videos")
        self.path = path
        self.codec = next((name for name in CODECS if _can_encode(name)), CODECS[-1])
        self._fps, self._crf = fps, crf
        self._last = -1
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: np.ndarray, time: float) -> None:
        """Add a frame [H, W, 3] uint8 RGB, shown from `time` in seconds on; times must rise."""
        import av

        height, width = frame.shape[:2]
        try:
            if self._container is None:
                self._open(height + height % 2, width + width % 2)
            size = (self._stream.height, self._stream.width)
            if (height, width) != size:
                filled = np.zeros((*size, 3), np.uint8)
                own = frame[: size[0], : size[1]]
                filled[: own.shape[0], : own.shape[1]] = own
                frame = filled
            made = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            self._last = max(self._last + 1, round(time * _TICKS))
            made.pts, made.time_base = self._last, Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(made))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(f"the video {self.path} cannot be written: {error}; choose another path") from error

    def _open(self, height: int, width: int) -> None:
        import av

        self._container = av.open(os.fspath(self.path), "w")
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = self._container.add_stream(self.codec, rate=rate)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        if self.codec == "libx264":
            self._stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        else:
            self._stream.bit_rate = max(1_000_000, round(0.15 * height * width * self._fps))

    def close(self) -> None:
        """Finish the file."""
        import av

        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(f"the video {self.path} cannot be written: {error}; choose another path") from error
        finally:
            self._container = None


def _can_encode(name: str) -> bool:
    import av

    try:
        av.CodecContext.create(name, "w")
    except (av.FFmpegError, ValueError):
        return False
    return True
