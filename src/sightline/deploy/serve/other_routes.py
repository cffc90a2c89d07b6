"""The addresses that take no image: the page, /models, /health and /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.params import Depends as Dependency
from fastapi.responses import HTMLResponse, JSONResponse, Response

from sightline.deploy.serve import texts
from sightline.deploy.serve.answering import Server
from sightline.deploy.serve.metrics import CONTENT_TYPE
from sightline.deploy.serve.refusal import busy

_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page loads nothing from elsewhere, and cannot be shown inside another page."""


def page_route(page: str) -> APIRouter:
    """The address of the page.

    Args:
        page: its HTML.
    """
    router = APIRouter(tags=["page"])

    @router.get("/", response_class=HTMLResponse, summary="A page to try the models on")
    async def show_page() -> HTMLResponse:
        """A page to drop an image on. It loads nothing from elsewhere."""
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})

    return router


def model_routes(server: Server, key: Sequence[Dependency]) -> APIRouter:
    """/models, and the address that loads a model again.

    Args:
        server: the models.
        key: what checks the API key; empty without one.
    """
    router = APIRouter(tags=["models"], dependencies=list(key))
    models, refused = server.models, [401] if key else []

    @router.get(
        "/models",
        summary="The models",
        responses={200: _json({"type": "array", "items": texts.MODELS}), **texts.refusals(*refused)},
    )
    async def list_models() -> JSONResponse:
        """The models with their tasks, classes and thresholds; the first one is the default."""
        return JSONResponse([model.facts() for model in models.values()])

    @router.post(
        "/models/{name}/reload",
        summary="Load a model again",
        responses={200: _json(texts.MODELS), **texts.refusals(*refused, 404, 409, 422)},
    )
    async def reload(name: Annotated[str, Path(description="The name of the model.")]) -> JSONResponse:
        """Load a model again from its file or run. Requests that have arrived are answered by the model in use, later
        ones by the new one; none is lost."""
        served = models.named(name)
        await asyncio.to_thread(served.reload)
        return JSONResponse(served.facts())

    return router


def state_routes(server: Server, key: Sequence[Dependency]) -> APIRouter:
    """/health and /metrics.

    Args:
        server: the server.
        key: what checks the API key for /metrics; empty without one.
    """
    router = APIRouter(tags=["server"])

    @router.get(
        "/health",
        summary="Whether the server is ready",
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

    @router.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=Response,
        responses={
            200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **texts.refusals(*([401] if key else [])),
        },
        dependencies=list(key),
    )
    async def show_metrics() -> Response:
        """Requests by path and status, their duration, batch sizes, queues and memory."""
        return Response(server.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "JSON.", "content": {"application/json": {"schema": schema}}}
