"""How a stored picture is turned upright: the EXIF orientation (EXIF 2.32, tag 274)."""

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
"""How the stored rows and columns [H, W, …] are turned upright, by EXIF orientation (EXIF 2.32, tag 274)."""
_XMP = frozenset(["XML:com.adobe.xmp", "xmp"])  # where Pillow looks for an orientation that EXIF does not state


def stated_orientation(image: Image.Image) -> int:
    """The EXIF orientation 1 … 8 of an opened image; 1, upright, where it states none or none of these."""
    block = image.info.get("exif")
    if isinstance(block, bytes):
        found = orientation_in(block)
        if found is not None or _XMP.isdisjoint(image.info):
            return known_orientation(found)
    try:
        # The base class's method looks at the header only; that of PNG would decode the image to look behind it.
        return known_orientation(Image.Image.getexif(image).get(_ORIENTATION))
    except Exception:  # a damaged block raises errors of every kind: ValueError, struct.error, SyntaxError
        return 1


def orientation_in(block: bytes) -> int | None:
    """The orientation in an EXIF block, a small TIFF file; None where it holds none, or is damaged."""
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
    """`value` where it is one of EXIF's orientations 1 … 8 (EXIF 2.32, tag 274), else 1."""
    return value if type(value) is int and 1 <= value <= 8 else 1
