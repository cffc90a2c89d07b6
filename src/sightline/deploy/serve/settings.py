"""The limits of a server, checked before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.errors import InputError
from sightline.runtime.values import require_number, require_whole

MEGABYTE = 2**20
_READ_AHEAD = 4
"""Requests that may be read at once, as a multiple of those that may wait: slow clients must not fill the queue."""
_BODIES = 16
"""Bytes of bodies that may be held at once, as a multiple of the largest body."""
_IMAGES = 8
"""Pixels that may be held at once, as a multiple of the largest image."""


@dataclass(frozen=True)
class ServerSettings:
    """The limits of a server.

    Attributes:
        api_key: the key that clients must send; None for a server without a key.
        max_batch: maximum number of images per batch.
        max_wait_ms: how long a batch waits, in milliseconds, for images that are still being decoded.
        max_queue: maximum number of images per model that are decoded, wait, or are predicted; more get status 503.
        max_pixels: maximum number of pixels of an image, by its header.
        max_body_mb: maximum size of a request's body, in units of 2^20 bytes.
        timeout: seconds in which a request must arrive, and in which it is answered after that.

    Raises:
        InputError: a value is out of range, or the key is empty or has characters that headers cannot hold.
    """

    api_key: str | None = None
    max_batch: int = 8
    max_wait_ms: float = 5.0
    max_queue: int = 64
    max_pixels: int = 50_000_000
    max_body_mb: float = 32.0
    timeout: float = 30.0

    def __post_init__(self) -> None:
        require_whole("max_batch", self.max_batch, 1, "batch_size", "give 8 if in doubt")
        require_number("max_wait_ms", self.max_wait_ms, 0, 10_000, "give 5 milliseconds if in doubt")
        require_whole("max_queue", self.max_queue, 1, "count", "give 64 if in doubt")
        require_whole("max_pixels", self.max_pixels, 1, "image_pixels", "give 50000000 if in doubt")
        require_number("max_body_mb", self.max_body_mb, 0.001, 2**20, "give 32 if in doubt", "a size in megabytes")
        require_number("timeout", self.timeout, 0.01, 86_400, "give 30 seconds if in doubt", "a number of seconds")
        key = self.api_key
        if key is not None and not (
            isinstance(key, str) and key.strip() == key and key.isascii() and key.isprintable()
        ):
            raise InputError("the API key must be printable ASCII without spaces around it; choose another one")
        if key == "":
            raise InputError("the API key is empty; choose one, or leave it out for a server that anyone can use")

    @property
    def body_bytes(self) -> int:
        """Maximum size of a body in bytes."""
        return int(self.max_body_mb * MEGABYTE)

    @property
    def held_bytes(self) -> int:
        """Maximum size in bytes of all bodies that are held at once."""
        return _BODIES * self.body_bytes

    @property
    def held_pixels(self) -> int:
        """Maximum number of pixels of all images of a model that are held at once."""
        return _IMAGES * self.max_pixels

    @property
    def max_reading(self) -> int:
        """Maximum number of requests that are read at once."""
        return _READ_AHEAD * self.max_queue
