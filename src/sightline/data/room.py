"""Limits on the memory used by one image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from PIL import Image

from sightline.runtime.limits import Limits, limits

MOST_BYTES = 1 << 29
"""The maximum size in bytes of the tensor of one image whose file is small, unless `unlimited_size`: 512 MiB."""
_DENSEST = 100
"""The maximum compression ratio of a useful image; decompression bombs have a ratio of a thousand or more."""


_guard_aside = 0
_guard_lock = Lock()
_guard_limit: int | None = None


@contextmanager
def unlimited_size() -> Iterator[None]:
    """Disable Pillow's limit of 179 million pixels, for callers that deliberately open a very large image."""
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


def require_memory(pixels: int, channels: int, itemsize: int, file_bytes: int) -> None:
    """Refuse an image before decoding if it would fill the memory, unless `unlimited_size`.

    Raises:
        DecompressionBombError: it has more than twice Pillow's `MAX_IMAGE_PIXELS`; or a small file claims a tensor
            larger than `MOST_BYTES`.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return
    size = pixels * channels * (1 if itemsize == 1 else 4)
    most = MOST_BYTES * limits().pixels / Limits.pixels
    if pixels > 2 * limit or (size > most and size > _DENSEST * file_bytes):
        raise Image.DecompressionBombError
