"""Predict the frames of videos, cameras and streams with models of images."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.data.arrays import image_tensor
from sightline.data.facts import full_scale_of
from sightline.data.frames import Frame, VideoSource, is_live, read_frames
from sightline.data.videos import is_video
from sightline.deploy.predictions import are_objects, filter_prediction, with_source
from sightline.deploy.sources import Item
from sightline.deploy.thresholds import class_ids, score_threshold
from sightline.deploy.tracking import LOW, Tracker
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.models.scene.clips import ClipPreprocess
from sightline.runtime.devices import running
from sightline.runtime.values import require_whole


class PredictedFrame(NamedTuple):
    """A frame of a video and its prediction.

    Attributes:
        time: in seconds from the first frame.
        frame: [3, H, W] uint8, RGB.
        result: the model's result, on the CPU.
        number: number of the frame in the video, from 0.
    """

    time: float
    frame: Tensor
    result: Any
    number: int


def takes_videos(model: nn.Module) -> bool:
    """Whether a model predicts whole videos instead of images."""
    return isinstance(getattr(model, "preprocess", None), ClipPreprocess)


def require_images(model: Model, items: Iterable[Item]) -> None:
    """Refuse videos for a model of images.

    Raises:
        InputError: one of the items is a video file; the message names it.
    """
    for item in () if takes_videos(model) else items:
        if isinstance(item.image, Path) and is_video(item.image):
            raise InputError(f"{item.name} is a video, but {model.title} takes images; give one of its frames")


def predict_video(
    model: nn.Module,
    source: VideoSource,
    *,
    every: int = 1,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    track: bool = False,
    batch_size: int = 8,
    device: torch.device | str | None = None,
) -> Generator[PredictedFrame, None, None]:
    """Predict a video, a camera or a stream frame by frame.

    A file is decoded in a thread while the model runs; a few batches of frames are in memory. Frames of cameras and
    streams are predicted one by one, and those that arrive while the model is busy are skipped.

    Args:
        model: a model of images.
        source: a video file; the number of a camera, from 0; or an address such as "rtsp://camera/live".
        every: predict the first of each `every` frames.
        threshold: minimum score of objects, as for `sightline.predict`.
        classes: names of the classes to keep; None for all.
        track: number the objects (`sightline.deploy.tracking`): results have the field `tracks`, and include objects
            with lower scores that continue a track.
        batch_size: frames per batch, for files.
        device: where the model runs; None for the device it is on.

    Yields:
        (time in seconds, frame [3, H, W], result, number of the frame).

    Raises:
        InputError: the source cannot be opened, is not a video or has no frames; after the frames that could be read,
            it is damaged or truncated; or the model predicts whole videos, or no objects that could be tracked.
    """
    model = as_model(model)
    if takes_videos(model):
        raise InputError(f"{model.title} predicts whole videos, not frames; use sightline.predict(model, video)")
    lowest = score_threshold(model, threshold)
    chosen = None if classes is None else class_ids(model, classes)
    tracker = Tracker(lowest) if track else None
    size = 1 if is_live(source) else require_whole("batch_size", batch_size, 1, "batch_size", "give 8 if in doubt")
    require_whole("every", every, 1, "count", "give 1 for every frame, 5 for one of five")
    return _predicted(model, source, every, lowest, chosen, tracker, size, device)


def _predicted(
    model: Model,
    source: VideoSource,
    every: int,
    threshold: float,
    classes: Tensor | None,
    tracker: Tracker | None,
    batch_size: int,
    device: torch.device | str | None,
) -> Generator[PredictedFrame, None, None]:
    name = str(source) if not isinstance(source, int) else f"camera {source}"
    full_scale = full_scale_of(model)
    ahead = _ReadAhead(read_frames(source, every), 1 if is_live(source) else 2 * batch_size, skip=is_live(source))
    with closing(ahead), running(model, device) as place:
        while batch := ahead.batch(batch_size):
            images = [image_tensor(one.image, model.in_channels, name, full_scale).to(place) for one in batch]
            with torch.no_grad():  # not around the yield: it must not affect the caller's code
                results = model(images)
            for one, result in zip(batch, results, strict=True):
                result = result.to("cpu") if hasattr(result, "to") else result
                if tracker is not None:
                    if not are_objects(result) or "scores" not in result:
                        raise InputError(f"{model.title} predicts no objects with scores, which tracking needs")
                    result = filter_prediction(result, min(LOW, threshold), classes)
                    result = tracker.update(result, one.time)
                else:
                    result = filter_prediction(result, threshold, classes)
                yield PredictedFrame(one.time, one.image, with_source(result, f"{name}#{one.number}"), one.number)


class _ReadAhead:
    """Reads frames in a thread; an error of the reader is raised after the frames before it.

    Args:
        frames: what is read.
        most: maximum number of frames that wait.
        skip: drop waiting frames in favour of newer ones, for live sources.
    """

    def __init__(self, frames: Iterator[Frame], most: int, skip: bool):
        self._frames, self._skip = frames, skip
        self._queue: Queue[Frame | BaseException | None] = Queue(most)
        self._stopped = threading.Event()
        self._end: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="frames", daemon=True)
        self._thread.start()

    def batch(self, size: int) -> list[Frame]:
        """The next frames, at most `size`; none at the end."""
        found: list[Frame] = []
        while len(found) < size and not self._ended:
            one = self._queue.get()
            if isinstance(one, Frame):
                found.append(one)
            else:
                self._ended, self._end = True, one
        if self._end is not None and not found:
            raise self._end
        return found

    def close(self) -> None:
        """Stop reading, and close the file."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for frame in self._frames:
                self._put(frame, self._skip)
                if self._stopped.is_set():
                    break
        except BaseException as error:  # raised by the thread that asks for frames
            last = error
        finally:
            self._frames.close()  # type: ignore[attr-defined]  # a generator: its file is closed by this thread
            self._put(last, False)

    def _put(self, one: Frame | BaseException | None, skip: bool) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(one, timeout=0.001 if skip else 0.1)
                return
            except Full:
                if skip:
                    with suppress(Empty):
                        self._queue.get_nowait()
