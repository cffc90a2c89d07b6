"""What happens around every request: it is counted and timed, and slow readers are cut off."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.deploy.serve.metrics import Metrics
from sightline.deploy.serve.settings import ServerSettings

log = logging.getLogger("sightline")


class Gate:
    """An ASGI middleware that counts requests by their path and status, and ends those that last too long.

    Args:
        app: the application.
        metrics: where requests are counted.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: ServerSettings):
        self.app, self.metrics, self.settings = app, metrics, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            async with asyncio.timeout(self.settings.timeout):  # of a client that does not read its answer
                await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            path = _path_of(scope)
            self.metrics.add("sightline_requests_total", path=path, status=str(status or 500))
            self.metrics.observe("sightline_request_seconds", time.perf_counter() - began, path=path)


def _path_of(scope: dict[str, Any] | Scope) -> str:
    """The path of the route, such as "/models/{name}/reload"; "other" for what is no route: labels must be few."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
