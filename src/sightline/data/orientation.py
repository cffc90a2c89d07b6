"""Rotating stored images upright: the EXIF orientation (EXIF 2.32, tag 274)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112
STANDING: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""How stored rows and columns [H, W, …] are made upright, by EXIF orientation (EXIF 2.32, tag 274)."""
_XMP = frozenset(["XML:com.adobe.xmp", "xmp"])  # where Pillow looks for an orientation that is missing in EXIF


def stated_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 to 8; 1 (upright) if it is missing or invalid."""
    block = image.info.get("exif")
    if isinstance(block, bytes):
        found = orientation_in(block)
        if found is not None or _XMP.isdisjoint(image.info):
            return known_orientation(found)
    try:
        # The method of the base class reads only the header; that of PNG would decode the image to read beyond it.
        return known_orientation(Image.Image.getexif(image).get(_ORIENTATION))
    except Exception:  # damaged blocks raise many types of errors: ValueError, struct.error, SyntaxError
        return 1


def orientation_in(block: bytes) -> int | None:
    """The orientation in an EXIF block, a small TIFF file; None if it is missing, or the block is damaged."""
    data = block.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    at = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[at : at + 2], order)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        if int.from_bytes(data[entry : entry + 2], order) == _ORIENTATION:
            size = {1: 1, 3: 2, 4: 4}.get(int.from_bytes(data[entry + 2 : entry + 4], order))  # BYTE, SHORT, LONG
            return size and int.from_bytes(data[entry + 8 : entry + 8 + size], order)
    return None


def known_orientation(value: object) -> int:
    """`value` if it is a valid EXIF orientation from 1 to 8 (EXIF 2.32, tag 274), else 1."""
    return value if type(value) is int and 1 <= value <= 8 else 1
