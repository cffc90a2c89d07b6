"""Limits on the memory that one image may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from PIL import Image

from sightline.runtime.limits import Limits, limits

MOST_BYTES = 1 << 29
"""What the tensor of one image may take if its file is small, unless `of_any_size`: 512 MiB."""
_DENSEST = 100
"""By how much a picture worth looking at is compressed, at most; a bomb is by a thousand and more."""


_guard_aside = 0
_guard_lock = Lock()
_guard_limit: int | None = None


@contextmanager
def of_any_size() -> Iterator[None]:
    """Pillow's limit of 179 million pixels put aside, for who asks for a huge picture on purpose."""
    global _guard_aside, _guard_limit
    with _guard_lock:
        if not _guard_aside:
            _guard_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _guard_aside += 1
    try:
        yield
    finally:
        with _guard_lock:
            _guard_aside -= 1
            if not _guard_aside:
                Image.MAX_IMAGE_PIXELS = _guard_limit


def require_room(pixels: int, channels: int, itemsize: int, file_bytes: int) -> None:
    """Refuse an image before it is decoded that would fill the memory, unless `of_any_size`.

    Raises:
        DecompressionBombError: it has more than twice Pillow's `MAX_IMAGE_PIXELS`; or a small file speaks of a tensor
            of over `MOST_BYTES`.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return
    size = pixels * channels * (1 if itemsize == 1 else 4)
    most = MOST_BYTES * limits().pixels / Limits.pixels
    if pixels > 2 * limit or (size > most and size > _DENSEST * file_bytes):
        raise Image.DecompressionBombError
