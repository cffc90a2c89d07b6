"""The queue of a model: batches, limits, failures, reloads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sightline.deploy.serve.batching import BatchQueue
from sightline.deploy.serve.refusal import Refusal
from sightline.deploy.serve.settings import ServerSettings
from tests.deploy.serve.toys import Spotter


@pytest.fixture
def model() -> Spotter:
    return Spotter().eval()


@pytest.fixture
def queue() -> Iterator[BatchQueue]:
    made = BatchQueue(ServerSettings(max_batch=4, max_queue=6, max_pixels=100, max_wait_ms=3000), lambda *_: None)
    yield made
    made.close()


def put(queue: BatchQueue, model: Any, first: int = 1, pixels: int = 10, call: Any = None) -> Any:
    image = torch.full((3, 4, 20), first, dtype=torch.uint8)
    return queue.submit(SimpleNamespace(model=model), pixels, lambda: image, call)


def held(queue: BatchQueue, model: Spotter, first: int = 1) -> Any:
    """Submit an image, and wait until the model has it and is held."""
    model.open.clear()
    model.entered.clear()
    job = put(queue, model, first)
    assert model.entered.wait(10)
    return job


def test_images_that_wait_form_batches(queue, model):
    loaded = SimpleNamespace(model=model)
    jobs = [held(queue, model, 1)]
    for first in range(2, 7):
        image = torch.full((3, 4, 10 + first), first, dtype=torch.uint8)
        jobs.append(queue.submit(loaded, 10, lambda image=image: image))
    assert len(queue) == 6
    model.open.set()
    results = [job.future.result(10) for job in jobs]
    assert [float(result.boxes[0, 0]) for result in results] == [1, 2, 3, 4, 5, 6]
    assert [result.image_size[1] for result in results] == [20, 12, 13, 14, 15, 16]
    assert model.batches == [1, 4, 1]
    assert len(queue) == 0


def test_a_lone_image_does_not_wait(queue, model):
    put(queue, model).future.result(10)
    began = time.monotonic()
    put(queue, model).future.result(10)
    assert time.monotonic() - began < 2  # of 3 seconds


def test_a_batch_waits_for_images_that_are_being_decoded(queue, model):
    loaded, image = SimpleNamespace(model=model), torch.zeros(3, 4, 20, dtype=torch.uint8)
    first: list[Any] = []

    def slowly() -> torch.Tensor:
        first.append(queue.submit(loaded, 10, lambda: image))  # arrives while this one is decoded
        time.sleep(0.05)
        return image

    second = queue.submit(loaded, 10, slowly)
    second.future.result(10), first[0].future.result(10)
    assert model.batches == [2]


def test_a_batch_does_not_wait_for_ever(model):
    queue = BatchQueue(ServerSettings(max_wait_ms=20), lambda *_: None)

    def too_slowly() -> torch.Tensor:
        assert put(queue, model).future.result(10)  # is predicted while this one is decoded
        return torch.zeros(3, 4, 20, dtype=torch.uint8)

    queue.submit(SimpleNamespace(model=model), 10, too_slowly).future.result(10)
    queue.close()
    assert model.batches == [1, 1]


def test_the_queue_has_limits_of_images_and_pixels(queue, model):
    held(queue, model)
    jobs = [put(queue, model) for _ in range(5)]
    with pytest.raises(Refusal, match=r"the queue is full \(6 images wait\); send the image again later") as refused:
        put(queue, model)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    model.open.set()
    for job in jobs:
        job.future.result(10)
    held(queue, model)
    put(queue, model, pixels=780)
    with pytest.raises(Refusal, match=r"the queue is full \(790 pixels wait\)"):  # of 8 · 100
        put(queue, model, pixels=11)
    assert len(queue) == 2
    model.open.set()


def test_an_image_that_cannot_be_decoded_leaves_its_place(queue, model):
    def damaged() -> torch.Tensor:
        raise ValueError("damaged")

    for _ in range(10):
        with pytest.raises(ValueError, match="damaged"):
            queue.submit(SimpleNamespace(model=model), 10, damaged)
    assert len(queue) == 0
    began = time.monotonic()
    put(queue, model).future.result(10)
    assert time.monotonic() - began < 2  # nothing is still expected


def test_one_bad_image_does_not_spoil_its_batch(queue, model):
    jobs = [held(queue, model), *(put(queue, model, first) for first in (2, 13, 4))]
    model.open.set()
    assert float(jobs[1].future.result(10).boxes[0, 0]) == 2
    with pytest.raises(RuntimeError, match="unlucky"):
        jobs[2].future.result(10)
    assert float(jobs[3].future.result(10).boxes[0, 0]) == 4


def test_too_little_memory_is_a_refusal(queue):
    def full(images: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    model = Spotter().eval()
    model.forward = full
    with pytest.raises(Refusal, match="not enough memory for this image") as refused:
        put(queue, model).future.result(10)
    assert refused.value.status == 503


def test_images_that_nobody_waits_for_are_skipped(queue, model):
    held(queue, model)
    given_up, wanted = put(queue, model), put(queue, model)
    assert given_up.future.cancel()
    assert len(queue) == 2
    model.open.set()
    wanted.future.result(10)
    assert model.batches == [1, 1]
    with pytest.raises(CancelledError):
        given_up.future.result(1)


def test_each_image_is_predicted_by_the_model_it_was_admitted_with(queue, model):
    old, new = SimpleNamespace(model=model), SimpleNamespace(model=Spotter(shift=0.5).eval())
    image = torch.ones(3, 4, 20, dtype=torch.uint8)
    jobs = [held(queue, model), *(queue.submit(loaded, 10, lambda: image) for loaded in (old, new, new))]
    model.open.set()
    assert [float(job.future.result(10).boxes[0, 0]) for job in jobs] == [1, 1, 1.5, 1.5]
    assert (model.batches, new.model.batches) == ([1, 1], [2])


def test_a_call_has_the_model_for_itself(queue, model):
    jobs = [held(queue, model), put(queue, model), put(queue, model, 7, call=lambda image: float(image[0, 0, 0]))]
    jobs.append(put(queue, model))
    failing = put(queue, model, call=lambda image: 1 / 0)
    model.open.set()
    assert jobs[2].future.result(10) == 7
    with pytest.raises(ZeroDivisionError):
        failing.future.result(10)
    jobs[3].future.result(10)
    assert model.batches == [1, 1, 1]


def test_what_waits_is_finished_when_the_queue_closes(model):
    queue = BatchQueue(ServerSettings(), lambda *_: None)
    jobs = [held(queue, model), put(queue, model)]
    queue._closed = True
    with pytest.raises(Refusal, match="shutting down"):
        put(queue, model)
    model.open.set()
    queue.close()
    assert all(job.future.result(0) for job in jobs)
