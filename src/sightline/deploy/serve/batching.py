"""Dynamic batching: one worker thread per model predicts the images of many requests together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from sightline.deploy.serve.refusal import Refusal, busy
from sightline.deploy.serve.settings import ServerSettings
from sightline.models.model import Model

_CLOSED = "the server is shutting down; send the request to another one"


class HasModel(Protocol):
    """An object that holds a loaded model."""

    @property
    def model(self) -> Model: ...


@dataclass
class Job:
    """An image for the worker thread.

    Attributes:
        loaded: the model that predicts it, also if the model is loaded again meanwhile.
        image: [C, H, W], uint8 or float in [0, 1], or a `Clip`.
        call: what is computed of the image while nothing else uses the model; None to predict it in a batch.
        future: the result.
        since: when it was put into the queue, in seconds of the monotonic clock.
    """

    loaded: HasModel
    image: Tensor
    call: Callable[[Tensor], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class BatchQueue:
    """The queue of one model, and the thread that empties it.

    Images are predicted in the order of their arrival, up to `max_batch` together. A batch that is not full starts at
    once if no admitted image is still being decoded, otherwise after `max_wait_ms`. While a batch is predicted, the
    next one gathers. Every image is predicted by the model that was loaded when it was admitted: a reload loses
    nothing. If a batch fails, its images are predicted one by one, so that one image does not spoil the others.

    Args:
        settings: the limits.
        observe: called after each batch with the number of images and the seconds.
    """

    def __init__(self, settings: ServerSettings, observe: Callable[[int, float], None]):
        self._settings, self._observe = settings, observe
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._held = self._arriving = self._pixels = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """Number of images that are decoded, wait, or are predicted."""
        return self._held

    def submit(
        self, loaded: HasModel, pixels: int, read: Callable[[], Tensor], call: Callable[[Tensor], Any] | None = None
    ) -> Job:
        """Take a place in the queue, decode an image, and put it into the queue. The place is free again when the
        result is there.

        Args:
            loaded: the model that predicts the image.
            pixels: number of pixels of the image.
            read: decodes the image.
            call: as in `Job`.

        Raises:
            Refusal: 503, the queue is full or closed.
        """
        self._enter(pixels)
        try:
            job = Job(loaded, read(), call)
        except BaseException:
            self._arrive(None)
            self._leave(pixels)
            raise
        job.future.add_done_callback(lambda _: self._leave(pixels))
        if not self._arrive(job):
            job.future.set_exception(busy(_CLOSED))
        return job

    def close(self) -> None:
        """Finish what is waiting, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _enter(self, pixels: int) -> None:
        with self._changed:
            if self._closed:
                raise busy(_CLOSED)
            if self._held >= self._settings.max_queue:
                raise busy(f"the queue is full ({self._held} images wait); send the image again later")
            if self._held and self._pixels + pixels > self._settings.held_pixels:
                raise busy(f"the queue is full ({self._pixels} pixels wait); send the image again later")
            self._held += 1
            self._arriving += 1
            self._pixels += pixels

    def _leave(self, pixels: int) -> None:
        with self._changed:
            self._held -= 1
            self._pixels -= pixels

    def _arrive(self, job: Job | None) -> bool:
        """Put a decoded image into the queue, or None for one that could not be decoded; False if it is closed."""
        with self._changed:
            self._arriving -= 1
            self._changed.notify_all()
            if self._closed or job is None:
                return False
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sightline-batches", daemon=True)
                self._thread.start()
            return True

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            began = time.perf_counter()
            live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if not live:
                continue
            if live[0].call is not None:
                _settle(live[0], live[0].call)
            else:
                _predict(live)
            self._observe(len(live), time.perf_counter() - began)

    def _next(self) -> list[Job] | None:
        """The next batch, or the next call on its own; None when the queue is closed and empty."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return None
                self._changed.wait()
            until = self._jobs[0].since + self._settings.max_wait_ms / 1000
            while (count := self._ready()) < self._settings.max_batch and self._arriving and count == len(self._jobs):
                left = until - time.monotonic()
                if left <= 0 or self._closed or self._jobs[0].call is not None:
                    break
                self._changed.wait(left)
            return [self._jobs.popleft() for _ in range(self._ready())]

    def _ready(self) -> int:
        """Number of jobs at the front that run together: images of the same loaded model, or one call."""
        first = self._jobs[0]
        if first.call is not None:
            return 1
        count = 0
        for job in self._jobs:
            if count == self._settings.max_batch or job.call is not None or job.loaded is not first.loaded:
                break
            count += 1
        return count


def _predict(jobs: Sequence[Job]) -> None:
    """Predict the images of jobs as one batch; one by one if the batch fails."""
    try:
        results = predict_images(jobs[0].loaded.model, [job.image for job in jobs])
    except Exception as error:
        if len(jobs) == 1:
            jobs[0].future.set_exception(error)
            return
        for job in jobs:
            _predict([job])
        return
    for job, result in zip(jobs, results, strict=True):
        job.future.set_result(result)


def predict_images(model: Model, images: Sequence[Tensor]) -> list[Any]:
    """One result per image, on the CPU; the model is in eval mode already.

    Raises:
        Refusal: 503, the memory is not sufficient.
    """
    place = next(model.parameters(), torch.empty(0)).device
    try:
        with torch.no_grad():
            results = model([image.to(place) for image in images])
        return [result.to("cpu") if hasattr(result, "to") else result for result in results]
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
            raise Refusal(503, "there is not enough memory for this image; send a smaller one") from error
        raise


def _settle(job: Job, call: Callable[[Tensor], Any]) -> None:
    try:
        job.future.set_result(call(job.image))
    except Exception as error:
        job.future.set_exception(error)
