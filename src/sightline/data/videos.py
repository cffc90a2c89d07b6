"""Reading and writing videos with PyAV: files are returned as `Clip`s, frames at a fixed rate with their times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch

from sightline.errors import REPLACE, InputError
from sightline.runtime import reading
from sightline.runtime.optional import require
from sightline.structures import Clip, Size

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".3gp", ".ts"}
)
"""Suffixes (lower case) of files that are treated as videos."""
RATE = 8.0
"""Frames that are kept per second."""
MOST = 256
"""Maximum number of frames of a clip; a longer video is sampled at a lower rate."""
SIDE = 320
"""Maximum length of the longer side of a frame in pixels; larger frames are made smaller when they are decoded."""
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flv,asf"
"""Containers that are opened. Others, such as playlists, can name files and addresses of their own."""
_MISSING = 0.1
"""A video is truncated if more than this fraction of its stated duration, and more than a second, has no frames."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether the file's suffix is one of `SUFFIXES` (the file is not read)."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


class VideoHeader(NamedTuple):
    """Properties of a video from its header.

    Attributes:
        size: (height, width) of the frames that `read_clip` returns, in pixels.
        duration: in seconds; 0 if it is not stated.
        fps: frames per second; 0 if it is not stated.
    """

    size: Size
    duration: float
    fps: float


def video_header(path: str | os.PathLike[str], side: int = SIDE) -> VideoHeader:
    """Size, duration and frame rate of a video, from its header and its first frame.

    Args:
        path: the file.
        side: as for `read_clip`.

    Raises:
        InputError: as for `read_clip`.
    """
    with open_video(path) as (container, stream):
        rate = stream.average_rate
        height, width = _size((stream.height, stream.width), side)
        first = next(decoded_frames(container, stream, path), None)  # states the rotation
        if first is None:
            raise InputError(f"the video {path} has no frames; {REPLACE}")
        size = (width, height) if _turns(first) % 2 else (height, width)
        return VideoHeader(size, stated_duration(container, stream), float(rate) if rate else 0.0)


def read_clip(
    path: str | os.PathLike[str],
    channels: int | None = 3,
    *,
    rate: float = RATE,
    most: int = MOST,
    side: int = SIDE,
) -> Clip:
    """Read a video file: its frames at a fixed rate.

    The first frame at or after each of the moments 0, 1 / rate, 2 / rate, … is kept; a video with fewer frames per
    second keeps all of them. If that were more than `most` frames, the rate is lower. Rotation is applied.

    Args:
        path: a video file that PyAV can read.
        channels: 3 (or None) for RGB, 1 for grey with the luma weights of ITU-R BT.601.
        rate: frames to keep per second.
        most: maximum number of frames.
        side: maximum length of the longer side in pixels; larger frames are resized.

    Returns:
        The frames [C, T, H, W] uint8 with their times.

    Raises:
        InputError: PyAV is not installed, or the file is missing, is not a video, is damaged, has a damaged frame, is
            truncated, or has no frames.
    """
    if channels not in (1, 3, None):
        raise InputError(f"{path} is a video with 3 channels, but the model takes {channels}; give images instead")
    if not rate > 0 or most < 1 or side < 1:
        raise InputError(f"rate is {rate}, most {most} and side {side}, but all must be above 0")
    frames: list[np.ndarray] = []
    times: list[float] = []
    with open_video(path) as (container, stream):
        stated = stated_duration(container, stream)
        step = max(1 / rate, stated / most)
        size = _size((stream.height, stream.width), side)
        begin, last, lasted, following = None, 0.0, 0.0, 0.0
        for frame in decoded_frames(container, stream, path):
            moment = last + lasted if frame.time is None else float(frame.time)
            if frame.is_corrupt:  # decoders conceal what is missing
                raise InputError(f"the video {path} has a damaged frame at {moment:.1f} s; {REPLACE}")
            begin = moment if begin is None else begin
            lasted = moment - begin - last if moment - begin > last else lasted
            last = moment - begin
            if last < following - 1e-3:
                continue
            frames.append(frame_pixels(frame, size))
            times.append(last)
            following = (np.floor(last / step + 1e-3) + 1) * step
            if len(frames) > most:  # the duration was not stated, or is wrong
                del frames[1::2], times[1::2]
                step *= 2
                following = (np.floor(times[-1] / step + 1e-3) + 1) * step
    if not frames:
        raise InputError(f"the video {path} has no frames; {REPLACE}")
    end = last + (lasted or 1 / rate)
    if wrong := truncated(os.fspath(path), stated, end):
        raise InputError(wrong)
    pixels = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).contiguous()
    if channels == 1:
        grey = (pixels * pixels.new_tensor(_LUMA, dtype=torch.float32)[:, None, None, None]).sum(0, keepdim=True)
        pixels = grey.round().to(torch.uint8)
    unique = [i for i, time in enumerate(times) if i == 0 or time > times[i - 1]]
    return Clip(pixels[:, unique], [times[i] for i in unique], max(stated, end, times[-1]))


def write_video(path: str | os.PathLike[str], frames: np.ndarray, fps: float) -> None:
    """Write frames as an H.264 video; the suffix decides the container.

    Args:
        path: a new file, such as video.mp4.
        frames: [T, H, W, 3] uint8, RGB.
        fps: frames per second.

    Raises:
        InputError: PyAV is not installed, there are no frames, or the file cannot be written.
    """
    require("av", "PyAV", "video", "writing videos")
    import av

    if frames.ndim != 4 or 0 in frames.shape or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise InputError(f"frames are {list(frames.shape)} of {frames.dtype}, but must be [T, H, W, 3] of uint8")
    height, width = frames.shape[1:3]
    try:
        with av.open(os.fspath(path), "w") as container:
            stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = height, width
            # players expect half the colour resolution, which needs even sides
            stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
            stream.options = {"crf": "12"}  # close to lossless
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"the video {path} cannot be written: {error}; choose another path") from error


@contextmanager
def open_video(path: str | os.PathLike[str], threads: bool = False) -> Iterator[tuple[Any, Any]]:
    """The container and the video stream of a file.

    Args:
        path: the file.
        threads: decode in several threads. For short videos, starting them takes longer than decoding.

    Raises:
        InputError: as for `read_clip`.
    """
    require("av", "PyAV", "video", f"reading the video {path}")
    import av

    if not os.path.exists(path):
        raise InputError(f"there is no video {path}; correct the path, or remove its label")
    with reading.open_binary(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise InputError(f"cannot read the video {path}: the file is empty; {REPLACE}")
        damaged = f"cannot read the video {path}: it is damaged, truncated or no video; {REPLACE}"
        try:
            container = av.open(file, options={"format_whitelist": _CONTAINERS})
        except (av.FFmpegError, OSError, ValueError):
            raise InputError(damaged) from None
        with container:
            if not container.streams:
                raise InputError(damaged)
            if not container.streams.video:
                raise InputError(f"the video {path} has no pictures, only sound or data; {REPLACE}")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise InputError(
                    f"cannot read the video {path}: its codec is unknown, or it is damaged; convert it to H.264, or "
                    f"{REPLACE}"
                )
            if not stream.height or not stream.width:
                raise InputError(f"the video {path} has no frames; {REPLACE}")
            stream.thread_type = "AUTO" if threads else "NONE"
            yield container, stream


def decoded_frames(container: Any, stream: Any, path: str | os.PathLike[str]) -> Iterator[Any]:
    """The decoded frames of a stream, as PyAV has them; an error names the file and the time that was reached."""
    import av

    last = 0.0
    try:
        for frame in container.decode(stream):
            last = last if frame.time is None else float(frame.time)
            yield frame
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"cannot read the video {path} after {last:.1f} s: it is damaged ({_reason(error)}); {REPLACE}"
        ) from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def stated_duration(container: Any, stream: Any) -> float:
    """The duration in seconds from the header; 0 if it has none."""
    import av

    if stream.duration is not None and stream.time_base is not None:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, float(container.duration / av.time_base)) if container.duration else 0.0


def truncated(name: str, stated: float, end: float) -> str | None:
    """A sentence if the frames of a video end much before its stated duration, both in seconds; else None."""
    if stated - end <= max(1.0, _MISSING * stated):
        return None
    return (
        f"the video {name} is truncated: its frames end at {end:.1f} s, but it should be {stated:.1f} s long; "
        + REPLACE
    )


def _size(size: Size, side: int) -> Size:
    """(height, width) of a frame after limiting the longer side."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that bring a frame upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def frame_pixels(frame: Any, size: Size) -> np.ndarray:
    """The pixels of a decoded frame, [H, W, 3] uint8, upright.

    Args:
        frame: as PyAV has it.
        size: (height, width) of the stored frame after resizing.
    """
    own = frame.to_ndarray(format="rgb24", height=size[0], width=size[1])
    turns = _turns(frame)
    return np.rot90(own, turns) if turns else own
