"""The application: its addresses, and the answers to requests that are refused."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from sightline.deploy.serve import texts
from sightline.deploy.serve.answering import Server
from sightline.deploy.serve.gate import Gate
from sightline.deploy.serve.image_routes import image_routes
from sightline.deploy.serve.metrics import Metrics
from sightline.deploy.serve.other_routes import model_routes, page_route, state_routes
from sightline.deploy.serve.refusal import Refusal
from sightline.deploy.serve.served import ServedModels
from sightline.deploy.serve.settings import ServerSettings

_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="The key that the server was started with.")


def make_app(models: ServedModels, settings: ServerSettings, metrics: Metrics, page: str) -> FastAPI:
    """The application that serves models.

    Args:
        models: the models; the first one answers requests that name none.
        settings: the limits.
        metrics: what /metrics shows.
        page: HTML of the page at /.
    """
    server = Server(models, settings, metrics)

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
    key = _key_check(settings.api_key)
    for router in (page_route(page), image_routes(server, key), model_routes(server, key), state_routes(server, key)):
        app.include_router(router)
    return app


def _key_check(expected: str | None) -> list[Dependency]:
    """What checks the API key of a request; empty if the server has no key."""
    if expected is None:
        return []

    async def require_key(key: Annotated[str | None, Security(_KEY)]) -> None:
        if not hmac.compare_digest((key or "").encode(), expected.encode()):
            raise Refusal(
                401, "the API key is missing or wrong; send it in the header X-API-Key", {"WWW-Authenticate": "ApiKey"}
            )

    return [Security(require_key)]


def _version() -> str:
    from sightline import __version__

    return __version__


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
