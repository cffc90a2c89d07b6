"""Read the body of a request within limits of size and time: the bytes of an image, alone or in a form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from sightline.deploy.serve.received import Upload, plain_name
from sightline.deploy.serve.refusal import Refusal, busy
from sightline.deploy.serve.settings import ServerSettings

FIELD = "image"
"""The field of a form that holds the image."""
_FIELDS = 16


class BodyReader:
    """Reads bodies, and keeps count of the requests and bytes that are held at once.

    It is used from the event loop only.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: ServerSettings):
        self._settings = settings
        self._requests = self._bytes = 0

    @contextmanager
    def place(self) -> Iterator[_Held]:
        """Context of one request, whose bytes count until it ends.

        Raises:
            Refusal: 503, too many requests are being read.
        """
        if self._requests >= self._settings.max_reading:
            raise busy(f"{self._requests} requests are being read; send the image again later")
        self._requests += 1
        held = _Held(self)
        try:
            yield held
        finally:
            self._requests -= 1
            self._bytes -= held.bytes

    async def read(self, request: Request, held: _Held) -> Upload:
        """Read the image of a request.

        Raises:
            Refusal: 400, there is no body, or a form without the image; 408, the body did not arrive in time; 413, it
                is too large; 503, too many bytes are held.
        """
        try:
            async with asyncio.timeout(self._settings.timeout):
                body = await self._body(request, held)
        except TimeoutError:
            raise Refusal(
                408, f"the body did not arrive within {self._settings.timeout:g} seconds; send the image again"
            ) from None
        except ClientDisconnect:
            raise Refusal(400, "the connection was closed before the whole body had arrived") from None
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await _of_form(request, body)
        if not body:
            raise Refusal(400, "the request has no body; send the bytes of an image file, or a form with one")
        return Upload(body)

    async def _body(self, request: Request, held: _Held) -> bytes:
        most = self._settings.body_bytes
        stated = request.headers.get("content-length", "")
        if stated.isascii() and stated.isdigit() and (len(stated) > 18 or int(stated) > most):
            raise self._too_large()
        parts: list[bytes] = []
        async for part in request.stream():
            held.add(len(part))
            if held.bytes > most:
                raise self._too_large()
            if self._bytes > self._settings.held_bytes:
                raise busy("the server holds too many large bodies; send the image again later")
            parts.append(part)
        return b"".join(parts)

    def _too_large(self) -> Refusal:
        return Refusal(
            413, f"the body is larger than {self._settings.max_body_mb:g} MB; send a smaller or more compressed image"
        )

    def _add(self, count: int) -> None:
        self._bytes += count


class _Held:
    """The bytes of one request."""

    def __init__(self, reader: BodyReader):
        self._reader, self.bytes = reader, 0

    def add(self, count: int) -> None:
        self.bytes += count
        self._reader._add(count)


async def _of_form(request: Request, body: bytes) -> Upload:
    """The image in the field "image" of a form, or its only file."""
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_files=_FIELDS, max_fields=_FIELDS) as form:
            files = [(name, value) for name, value in form.multi_items() if not isinstance(value, str)]
            texts = [name for name, value in form.multi_items() if isinstance(value, str) and name != FIELD]
            if texts:
                raise Refusal(
                    400,
                    f"the form has the text field {texts[0][:40]!r}, which is not read; give parameters in the "
                    "address, such as /predict?threshold=0.3",
                )
            if not files:
                raise Refusal(400, f"the form has no file; send the image as a file in the field {FIELD!r}")
            if len(files) > 1:
                raise Refusal(400, f"the form has {len(files)} files; send one image per request")
            file = files[0][1]
            data = await file.read()
            if not data:
                raise Refusal(400, f"the file in the field {files[0][0][:40]!r} is empty; send an image")
            return Upload(data, plain_name(file.filename))
    except (HTTPException, MultiPartException, ClientDisconnect, LookupError, ValueError) as error:
        why = getattr(error, "detail", None) or getattr(error, "message", None) or type(error).__name__
        raise Refusal(400, f"the form cannot be read ({str(why).rstrip('.')}); send multipart/form-data") from None
