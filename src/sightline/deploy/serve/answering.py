"""From an image in a request to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count
from typing import Any, TypeVar

from fastapi import Request

from sightline.deploy.serve.batching import Job
from sightline.deploy.serve.bodies import BodyReader
from sightline.deploy.serve.metrics import Metrics
from sightline.deploy.serve.received import Upload, opened
from sightline.deploy.serve.refusal import Refusal, busy
from sightline.deploy.serve.served import Loaded, Served, ServedModels
from sightline.deploy.serve.settings import ServerSettings
from sightline.errors import InputError

_T = TypeVar("_T")


class Server:
    """What all addresses share: the models, the limits, and the threads that open images and write answers."""

    def __init__(self, models: ServedModels, settings: ServerSettings, metrics: Metrics):
        self.models, self.settings, self.metrics = models, settings, metrics
        self.bodies = BodyReader(settings)
        self.pool = ThreadPoolExecutor(min(4, cpu_count() or 1), "sightline-images")
        self.closing = False

    def close(self) -> None:
        """Finish all requests that have been admitted."""
        self.closing = True
        self.models.close()
        self.pool.shutdown()

    async def in_pool(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(function, *args))

    async def answer(
        self,
        request: Request,
        name: str | None,
        finish: Callable[[Served, Job, str, Any], bytes],
        call: Callable[[Loaded], Callable[[Any], Any]] | None = None,
    ) -> bytes:
        """Read an image, predict it (or `call` the loaded model with it), and make the answer.

        Args:
            request: the request.
            name: the name of the model, or None.
            finish: (model, image with its model, name of the image, result) → the body of the answer.
            call: what is computed instead of a prediction, in the thread of the model.

        Raises:
            Refusal: the request cannot be answered.
        """
        served = self.models.named(name)
        with self.bodies.place() as held:
            upload = await self.bodies.read(request, held)
            try:
                async with asyncio.timeout(self.settings.timeout):
                    job = await self.in_pool(self._submit, served, upload, call)
                    file_name = upload.name
                    del upload  # its bytes need not wait
                    result = await asyncio.wrap_future(job.future)
                    return await self.in_pool(finish, served, job, file_name, result)
            except TimeoutError:
                raise busy(
                    f"there was no answer within {self.settings.timeout:g} seconds; send the image again later"
                ) from None
            except InputError as error:
                raise Refusal(422, str(error)) from None

    def _submit(self, served: Served, upload: Upload, call: Callable[[Loaded], Callable[[Any], Any]] | None) -> Job:
        loaded = served.loaded
        try:
            image = opened(upload, self.settings.max_pixels)
            function = None if call is None else call(loaded)
            return served.queue.submit(loaded, image.pixels, partial(image.read, loaded.model), function)
        except InputError as error:
            raise Refusal(422, str(error)) from None
