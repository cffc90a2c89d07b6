"""The server of the labelling page. It listens on this machine only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from sightline.data.images import image_size, orientation, read_image, to_pil
from sightline.errors import InputError
from sightline.labelling.label_file import LabelFile, Shape
from sightline.labelling.page import labelling_page
from sightline.runtime.reading import shown

HOST = "127.0.0.1"
_MEDIA = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}
"""Files that browsers show; others are sent as PNG."""
_MAX_BODY = 16 << 20
"""Maximum size of a request in bytes."""
_OF_IMAGE = re.compile(r"/(image|shapes|suggest)/(\d+)")

Suggest = Callable[[Path], list[Shape]]
"""Finds objects in an image file."""


class LabellingServer(ThreadingHTTPServer):
    """Serves the page, the images and their labels.

    Requests must name this machine as their host, and changes must be JSON, so that pages of other sites that are open
    in the same browser can neither read images nor change labels.

    Args:
        labels: the label file.
        suggest: function that finds objects in an image; None if there is no model.
        port: the port; 0 for any free one.

    Raises:
        InputError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, labels: LabelFile, suggest: Suggest | None = None, port: int = 0):
        self.labels, self.suggest = labels, suggest
        self.lock = Lock()  # of the labels
        self.model_lock = Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"port {port} of this machine cannot be used ({reason}); choose another one, or 0 for any free one"
            ) from None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def overview(self) -> dict[str, Any]:
        """The classes, and for each image its name, whether it has been labelled, and the number of its objects."""
        labels = self.labels
        images = [
            {"name": shown(labels.name(k)), "labelled": labels.is_labelled(k), "objects": labels.count(k)}
            for k in range(len(labels.images))
        ]
        return {
            "classes": labels.classes,
            "images": images,
            "file": shown(str(labels.path)),
            "suggests": self.suggest is not None,
        }


class _Handler(BaseHTTPRequestHandler):
    server: LabellingServer
    timeout = 60

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_PUT(self) -> None:
        self._answered(self._put)

    def do_POST(self) -> None:
        self._answered(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not printed."""

    def _answered(self, action: Callable[[], tuple[str, bytes]]) -> None:
        """Send what an action returns, or its error as a sentence."""
        status = HTTPStatus.OK
        try:
            self._require_local()
            kind, body = action()
        except _NotFoundError as error:
            status, kind, body = HTTPStatus.NOT_FOUND, "application/json", _json({"detail": str(error)})
        except InputError as error:
            status, kind, body = HTTPStatus.UNPROCESSABLE_ENTITY, "application/json", _json({"detail": str(error)})
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def _require_local(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            raise InputError(f"this server answers requests to {HOST} and localhost only; open {self.server.url}")

    def _get(self) -> tuple[str, bytes]:
        server, path = self.server, self.path.partition("?")[0]
        if path == "/":
            return "text/html; charset=utf-8", labelling_page().encode()
        if path == "/overview":
            with server.lock:
                return "application/json", _json(server.overview())
        kind, number = self._of_image(path)
        if kind == "image":
            return _picture(server.labels.images[number])
        if kind == "shapes":
            with server.lock:
                shapes, labelled = server.labels.shapes(number), server.labels.is_labelled(number)
            height, width = image_size(server.labels.images[number])
            answer = {"labelled": labelled, "width": width, "height": height}
            return "application/json", _json(answer | {"shapes": [shape.to_dict() for shape in shapes]})
        if server.suggest is None:
            raise InputError("there is no model; start again with --model")
        with server.model_lock:
            found = server.suggest(server.labels.images[number])
        return "application/json", _json({"shapes": [shape.to_dict() for shape in found]})

    def _put(self) -> tuple[str, bytes]:
        kind, number = self._of_image(self.path)
        if kind != "shapes":
            raise _NotFoundError(f"{self.path} cannot be changed")
        body = self._body()
        size, given = image_size(self.server.labels.images[number]), body.get("shapes")
        if not isinstance(given, list) or not isinstance(body.get("labelled"), bool):
            raise InputError("the request needs shapes, a list, and labelled, true or false")
        shapes = [Shape.of(one, size) for one in given]
        with self.server.lock:
            self.server.labels.replace(number, shapes, body["labelled"])
            stored = self.server.labels.shapes(number)
            return "application/json", _json({"shapes": [one.to_dict() for one in stored]} | self.server.overview())

    def _post(self) -> tuple[str, bytes]:
        if self.path != "/classes":
            raise _NotFoundError(f"there is nothing at {self.path}")
        name = self._body().get("name")
        if not isinstance(name, str):
            raise InputError("the request needs name, the name of the class")
        with self.server.lock:
            self.server.labels.add_class(name)
            return "application/json", _json(self.server.overview())

    def _of_image(self, path: str) -> tuple[str, int]:
        match = _OF_IMAGE.fullmatch(path)
        if match is None:
            raise _NotFoundError(f"there is nothing at {path}")
        number = int(match[2][:9])
        if number >= len(self.server.labels.images):
            raise _NotFoundError(f"there is no image {number}; there are {len(self.server.labels.images)}")
        return match[1], number

    def _body(self) -> Mapping[str, Any]:
        """The JSON object of the request. Browsers ask before they send JSON to another site, and get no answer."""
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise InputError("the request must be JSON; set its Content-Type to application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MAX_BODY:
            raise InputError(f"the request needs a Content-Length of at most {_MAX_BODY} bytes")
        try:
            value = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise InputError(f"the request is not JSON ({error})") from None
        if not isinstance(value, dict):
            raise InputError("the request is not a JSON object")
        return value


class _NotFoundError(InputError):
    """There is nothing at a path."""


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _picture(path: Path) -> tuple[str, bytes]:
    """The media type and the bytes of an image, upright as `read_image` reads it."""
    kind = _MEDIA.get(path.suffix.lower())
    if kind is not None and orientation(path) == 1:
        return kind, path.read_bytes()
    from io import BytesIO

    out = BytesIO()
    to_pil(read_image(path)).save(out, "PNG", compress_level=1)
    return "image/png", out.getvalue()
