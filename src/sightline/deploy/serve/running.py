"""Run the server: its socket, its signals, and clients that are slow to send or to read."""

from __future__ import annotations

import logging
import math
import signal
import socket
import threading
from asyncio import Transport
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightline.deploy.serve.settings import ServerSettings
from sightline.errors import InputError
from sightline.runtime.values import require_whole

_GRACE = 5.0
"""Seconds beyond the time of a request that a shutdown may take."""
_KEPT = 5
"""Seconds that a connection may be idle between requests."""
_LATE = b'{"error":"the request did not arrive in time; send it again"}'


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also ends connections of clients that do not send or read.

    uvicorn ends idle connections between requests, but waits for ever for the first request, for the rest of a
    request's headers, for the rest of a body that was refused, and for a client that does not read its answer.

    Args:
        limit: seconds that each of these may take.
    """

    def __init__(self, *args: Any, limit: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._limit = limit
        self._late: Any = None
        self._stuck: Any = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._late, self._stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            if self._late is not None:
                self._late.cancel()
                self._late = None
        elif self._late is None:
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self._limit, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _answering(self) -> bool:
        """Whether the application is working on a request; it limits the time of the body itself."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        self._late = self.loop.call_later(self._limit, self._end)

    def _end(self) -> None:
        self._late = None
        if self._answering() or self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE:
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(_LATE))),
                ("connection", "close"),
            ]
            for event in (h11.Response(status_code=408, headers=headers), h11.Data(data=_LATE), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        InputError: the address is not one of this machine, the port is out of range or in use.
    """
    require_whole("port", port, 0, 65535, "give another port")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"the server cannot listen at {host}, port {port} ({_reason(error)}); give another host or port"
        ) from None


def _reason(error: OSError) -> str:
    """The system's words, without the address that `create_server` adds to them."""
    return str(error.strerror or error).partition(" (while attempting")[0]


def run(
    app: FastAPI, settings: ServerSettings, listener: socket.socket, on_hangup: Callable[[], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; then answer the requests that have arrived, and return.

    Args:
        app: the application.
        settings: the limits.
        listener: a listening socket.
        on_hangup: called in a thread upon SIGHUP; None to leave that signal alone.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # mistakes of clients are no news
    config = uvicorn.Config(
        app,
        http=partial(TimedProtocol, limit=settings.timeout),  # type: ignore[arg-type]
        ws="none",
        loop="auto",
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        timeout_keep_alive=math.ceil(min(_KEPT, settings.timeout)),
        timeout_graceful_shutdown=int(settings.timeout + _GRACE),
    )
    server = uvicorn.Server(config)
    with _signals(on_hangup), suppress(KeyboardInterrupt):  # which uvicorn raises again after the shutdown
        server.run(sockets=[listener])


@contextmanager
def _signals(on_hangup: Callable[[], None] | None) -> Iterator[None]:
    """SIGHUP calls a function in a thread; SIGTERM, which uvicorn sends again after the shutdown, does nothing then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {signal.SIGTERM: lambda *_: None}
    if on_hangup is not None and hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = lambda *_: threading.Thread(target=on_hangup, daemon=True).start()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
