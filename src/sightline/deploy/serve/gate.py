"""What happens around every request: it is counted and timed, and an unexpected error becomes a sentence."""

from __future__ import annotations

import logging
import time

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.deploy.serve.metrics import Metrics

log = logging.getLogger("sightline")


class Gate:
    """An ASGI middleware that counts requests by their path and status.

    Args:
        app: the application.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if status:
                raise
            log.error("a request failed", exc_info=error)
            text = " ".join(str(error).split())[:200]
            sentence = f"unexpected {type(error).__name__}: {text} (a bug; the server's log shows where)"
            await JSONResponse({"error": sentence}, 500)(scope, receive, sending)
        finally:
            path = _path_of(scope)
            self.metrics.add("sightline_requests_total", path=path, status=str(status))
            self.metrics.observe("sightline_request_seconds", time.perf_counter() - began, path=path)


def _path_of(scope: Scope) -> str:
    """The path of the route, such as "/models/{name}/reload"; "other" for what is no route: labels must be few."""
    return str(getattr(scope.get("route"), "path", "other"))
