"""The size of an image or a feature map."""

from __future__ import annotations

from typing import Any

from sightline.errors import InputError

Size = tuple[int, int]
"""(height, width) in pixels."""


def as_size(value: Any) -> Size:
    """A size from two whole numbers of any type.

    Raises:
        InputError: they are not two whole numbers, or one is negative.
    """
    try:
        height, width = value
        size = (int(height), int(width))
        if size == (height, width) and min(size) >= 0 and not isinstance(value, str):
            return size
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise InputError(
        f"the size of an image must be (height, width), two whole numbers of pixels, not {str(value)[:60]}"
    )
