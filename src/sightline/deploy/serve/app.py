"""The application: what each address answers."""

from __future__ import annotations

import asyncio
import difflib
import hmac
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from os import cpu_count
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from sightline.deploy.serve import texts
from sightline.deploy.serve.answers import kept, png, prediction_json
from sightline.deploy.serve.batching import Job
from sightline.deploy.serve.bodies import BodyReader
from sightline.deploy.serve.gate import Gate
from sightline.deploy.serve.metrics import CONTENT_TYPE, Metrics
from sightline.deploy.serve.received import Upload, opened
from sightline.deploy.serve.refusal import Refusal, busy
from sightline.deploy.serve.served import Loaded, Served, ServedModels
from sightline.deploy.serve.settings import ServerSettings
from sightline.errors import InputError

_T = TypeVar("_T")
_UPLOADS = (400, 401, 404, 408, 413, 415, 422, 503)
_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page loads nothing from elsewhere, and cannot be shown inside another page."""


_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="The key that the server was started with.")
_Model = Annotated[str | None, Query(max_length=200, description="The name of a model; by default the first one.")]
_Threshold = Annotated[
    float | None,
    Query(ge=0, le=1, description="The minimum score of objects; by default that of the model."),
]


def make_app(models: ServedModels, settings: ServerSettings, metrics: Metrics, page: str) -> FastAPI:
    """The application that serves models.

    Args:
        models: the models; the first one answers requests that name none.
        settings: the limits.
        metrics: what /metrics shows.
        page: HTML of the page at /.
    """
    server = _Server(models, settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.close)

    app = FastAPI(
        title=texts.TITLE,
        summary=texts.SUMMARY,
        description=texts.description(settings),
        version=_version(),
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Gate, metrics=metrics)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    _add_routes(app, server, page)
    return app


class _Server:
    """What the routes share."""

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


def _add_routes(app: FastAPI, server: _Server, page: str) -> None:
    models, settings = server.models, server.settings

    async def require_key(key: Annotated[str | None, Security(_KEY)]) -> None:
        if settings.api_key is None or hmac.compare_digest((key or "").encode(), settings.api_key.encode()):
            return
        raise Refusal(
            401, "the API key is missing or wrong; send it in the header X-API-Key", {"WWW-Authenticate": "ApiKey"}
        )

    key = [] if settings.api_key is None else [Security(require_key)]
    keyed: dict[str, Any] = {"dependencies": key} if key else {}
    images: dict[str, Any] = {"dependencies": [*key, Depends(_known_parameters)]}

    @app.get("/", response_class=HTMLResponse, summary="A page to try the models on", tags=["page"])
    async def show_page() -> HTMLResponse:
        """A page to drop an image on. It loads nothing from elsewhere."""
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})

    @app.post(
        "/predict",
        summary="Predict an image",
        tags=["images"],
        response_class=Response,
        responses={200: texts.PREDICTION, **texts.refusals(*_UPLOADS)},
        openapi_extra=texts.body(),
        **images,
    )
    async def predict(
        request: Request,
        model: _Model = None,
        threshold: _Threshold = None,
        files: Annotated[
            bool, Query(description="Also return the task's other files, such as class maps and meshes, as base64.")
        ] = False,
    ) -> Response:
        """What is in an image, and where. Images of several requests are predicted together."""

        def finish(served: Served, job: Job, name: str, result: Any) -> bytes:
            lowest = _loaded(job).threshold if threshold is None else threshold
            size = (int(job.image.shape[-2]), int(job.image.shape[-1]))
            result = kept(result, lowest, name)
            return prediction_json(_loaded(job), served.name, result, lowest, size, name, files)

        return Response(await server.answer(request, model, finish), media_type="application/json")

    @app.post(
        "/draw",
        summary="Draw the prediction on the image",
        tags=["images"],
        response_class=Response,
        responses={200: texts.PICTURE, **texts.refusals(*_UPLOADS)},
        openapi_extra=texts.body(),
        **images,
    )
    async def draw(request: Request, model: _Model = None, threshold: _Threshold = None) -> Response:
        """The image with what the model found drawn on it, as a PNG."""

        def finish(served: Served, job: Job, name: str, result: Any) -> bytes:
            lowest = _loaded(job).threshold if threshold is None else threshold
            return png(_loaded(job).draw(job.image, kept(result, lowest, name)))

        return Response(await server.answer(request, model, finish), media_type="image/png")

    @app.post(
        "/explain",
        summary="Explain a prediction",
        tags=["images"],
        response_class=Response,
        responses={200: texts.PICTURE, **texts.refusals(*_UPLOADS), 404: texts.NOT_EXPLAINED},
        openapi_extra=texts.body(),
        **images,
    )
    async def explain(
        request: Request,
        model: _Model = None,
        target: Annotated[
            str | None,
            Query(
                max_length=200,
                description='What is explained: a class such as "dog", "box:0" for the object of the highest score, '
                '"mask:0", "class:road"; by default the best class or object.',
            ),
        ] = None,
        method: Annotated[
            str | None,
            Query(max_length=40, description="One of the methods that /models lists; by default that of the task."),
        ] = None,
        layer: Annotated[
            str | None, Query(max_length=200, description="The path of a layer; by default the last feature map.")
        ] = None,
    ) -> Response:
        """Why the model thinks so: a heat map over the image, as a PNG."""

        def call(loaded: Loaded) -> Callable[[Any], Any]:
            function = loaded.explain
            if function is None:
                raise Refusal(404, f"{loaded.model.title} cannot be explained; serve the model that it was made from")
            if method is not None and method not in loaded.methods:
                raise Refusal(404, f"method is {method!r}, but must be one of {', '.join(loaded.methods)}")

            def explained(image: Any) -> Any:
                try:
                    return function(loaded.model, image, method, target, layer)
                except InputError as error:  # the image has been read, so the model lacks the target or the layer
                    raise Refusal(404, str(error)) from None

            return explained

        def finish(served: Served, job: Job, name: str, result: Any) -> bytes:
            server.metrics.add("sightline_images_total", model=served.name)
            return png(result)

        return Response(await server.answer(request, model, finish, call), media_type="image/png")

    @app.get(
        "/models",
        summary="The models",
        tags=["models"],
        responses={200: _json({"type": "array", "items": texts.MODELS}), **texts.refusals(*([401] if keyed else []))},
        **keyed,
    )
    async def list_models() -> JSONResponse:
        """The models with their tasks, classes and thresholds; the first one is the default."""
        return JSONResponse([model.facts() for model in models.values()])

    @app.post(
        "/models/{name}/reload",
        summary="Load a model again",
        tags=["models"],
        responses={200: _json(texts.MODELS), **texts.refusals(*([401] if keyed else []), 404, 409, 422)},
        **keyed,
    )
    async def reload(name: Annotated[str, Path(description="The name of the model.")]) -> JSONResponse:
        """Load a model again from its file or run. Requests that have arrived are answered by the model in use, later
        ones by the new one; none is lost."""
        served = models.named(name)
        await asyncio.to_thread(served.reload)
        return JSONResponse(served.facts())

    @app.get(
        "/health",
        summary="Whether the server is ready",
        tags=["server"],
        responses={
            200: _json({"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}),
            **texts.refusals(503),
        },
    )
    async def health() -> JSONResponse:
        """For load balancers: 200 while the server takes requests. It needs no key."""
        if server.closing:
            raise busy("the server is shutting down")
        return JSONResponse({"status": "ok"})

    @app.get(
        "/metrics",
        summary="Counters for Prometheus",
        tags=["server"],
        response_class=Response,
        responses={
            200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **texts.refusals(*([401] if keyed else [])),
        },
        **keyed,
    )
    async def show_metrics() -> Response:
        """Requests by path and status, their duration, batch sizes, queues and memory."""
        return Response(server.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _loaded(job: Job) -> Loaded:
    assert isinstance(job.loaded, Loaded)
    return job.loaded


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "JSON.", "content": {"application/json": {"schema": schema}}}


def _version() -> str:
    from sightline import __version__

    return __version__


def _known_parameters(request: Request) -> None:
    """Refuse parameters that an address does not have, or that are given twice: they would be ignored."""
    known = [str(field.alias) for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise Refusal(422, f"there is no parameter {name[:50]!r}{meant}")
        values = request.query_params.getlist(name)
        if len(values) > 1:
            raise Refusal(422, f"the parameter {name} is given {len(values)} times; give it once")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse({"error": error.sentence}, error.status, error.headers)


async def _wrong_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return JSONResponse({"error": f"the parameter {name} is wrong: {_lower(str(first['msg']))}"}, 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    sentences = {
        404: f"there is nothing at {path!r}; /openapi.json lists what there is",
        405: f"{path!r} does not take {request.method[:20]} requests",
    }
    return JSONResponse(
        {"error": sentences.get(error.status_code, str(error.detail))}, error.status_code, error.headers
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
