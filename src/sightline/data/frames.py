"""Read the frames of videos, cameras and network streams one by one, so that they are never all in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.data.videos import decoded_frames, frame_pixels, open_video, stated_duration, truncated
from sightline.errors import REPLACE, InputError
from sightline.runtime.optional import require
from sightline.runtime.values import require_whole

VideoSource = str | os.PathLike[str] | int
"""A video file; the number of a camera, from 0; or the address of a stream, such as "rtsp://camera/live"."""
TIMEOUT = 15.0
"""Seconds to wait for a stream to open or to send."""


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: its number in the video, from 0; frames that are left out are counted.
        time: in seconds from the first frame.
        image: [3, H, W] uint8, RGB, upright.
    """

    number: int
    time: float
    image: Tensor


def is_live(source: VideoSource) -> bool:
    """Whether a source is a camera or an address, not a file."""
    return isinstance(source, int) or "://" in os.fspath(source)


def read_frames(source: VideoSource, every: int = 1) -> Iterator[Frame]:
    """Yield the frames of a video, camera or stream.

    Args:
        source: see `VideoSource`.
        every: yield the first of each `every` frames.

    Raises:
        InputError: PyAV is not installed; the source cannot be opened, is not a video, has no frames; or, after the
            frames that could be read, it is damaged or truncated.
    """
    every = require_whole("every", every, 1, "count", "give 1 for every frame, 5 for one of five")
    begin, last, number, lasted = None, 0.0, -1, 0.0
    with _opened(source) as (container, stream):
        stated = 0.0 if is_live(source) else stated_duration(container, stream)
        for number, frame in enumerate(decoded_frames(container, stream, _name(source))):
            moment = last + lasted if frame.time is None else float(frame.time) - (begin or 0.0)
            if begin is None:
                begin, moment = (0.0 if frame.time is None else float(frame.time)), 0.0
            if number and moment <= last:  # stamps of streams repeat and jump
                moment = last + (lasted or 1e-3)
            lasted, last = (moment - last, moment) if number else (0.0, moment)
            if number % every == 0:
                pixels = frame_pixels(frame, (frame.height, frame.width))
                yield Frame(number, moment, torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous())
    if number < 0:
        raise InputError(f"the video {_name(source)} has no frames; {REPLACE}")
    if wrong := truncated(_name(source), stated, last + lasted):
        raise InputError(wrong)


class Pace(NamedTuple):
    """What the header of a video file states.

    Attributes:
        fps: frames per second; 25 if it is not stated.
        frames: number of frames; None if it is not stated.
    """

    fps: float
    frames: int | None


def pace_of(path: str | os.PathLike[str]) -> Pace:
    """The frame rate and the number of frames of a video file, from its header.

    Raises:
        InputError: as for `read_frames`.
    """
    with open_video(path) as (container, stream):
        fps = float(stream.average_rate or 0) or 25.0
        return Pace(fps, int(stream.frames or round(stated_duration(container, stream) * fps)) or None)


def _name(source: VideoSource) -> str:
    return f"camera {source}" if isinstance(source, int) else os.fspath(source)


@contextmanager
def _opened(source: VideoSource) -> Iterator[tuple[Any, Any]]:
    if not is_live(source):
        with open_video(source, threads=True) as opened:  # type: ignore[arg-type]
            yield opened
        return
    require("av", "PyAV", "video", f"reading {_name(source)}")
    import av

    file, form = _camera(source) if isinstance(source, int) else (os.fspath(source), None)
    try:
        container: Any = av.open(file, format=form, timeout=TIMEOUT)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot open {_name(source)}: {reason}; check the number or the address") from None
    with container:
        if not container.streams.video:
            raise InputError(f"{_name(source)} sends no pictures; check the address")
        yield container, container.streams.video[0]


def _camera(number: int) -> tuple[str, str]:
    """The file and the format by which FFmpeg opens a camera."""
    if number < 0:
        raise InputError(f"there is no camera {number}; cameras are numbered from 0")
    if sys.platform == "darwin":
        return str(number), "avfoundation"
    if sys.platform == "win32":
        raise InputError(
            "Windows names its cameras instead of numbering them, which is not supported; give the address of a stream"
        )
    return f"/dev/video{number}", "v4l2"
