"""Colour PNG files with 16 bits per sample, of which Pillow keeps only the upper eight bits.

Pillow's decoder is told which byte of each pair to use, so it is run twice: first as usual, then for the lower bytes.
16-bit grey with alpha has four bytes per pixel, which are decoded as 8-bit red, green, blue and alpha.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image

_START = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
_GREY_ALPHA, _ALPHA = 4, 6
_LOWER = {2: "RGB;16L", _ALPHA: "RGBA;16L"}
"""By colour type, Pillow's raw mode for byte pairs of which the second byte is used."""


def is_wide(head: bytes) -> bool:
    """Whether a file that begins with these 26 bytes is a PNG with 16 bits per sample and more than one channel."""
    return head.startswith(_START) and len(head) >= 26 and head[24] == 16 and head[25] in (2, _GREY_ALPHA, _ALPHA)


def read_wide(data: bytes) -> np.ndarray:
    """[H, W, C] uint16 samples of a PNG for which `is_wide` is True; its orientation must still be applied."""
    kind = data[25]
    if kind == _GREY_ALPHA:
        header = data[12:24] + bytes([8, _ALPHA]) + data[26:29]
        data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image).view(">u2").astype(np.uint16)
    parts = []
    for rawmode in (None, _LOWER[kind]):
        with Image.open(io.BytesIO(data)) as image:
            if rawmode is not None:
                image.tile = [(*tile[:3], rawmode) for tile in image.tile]  # type: ignore[misc]
            parts.append(np.asarray(image).astype(np.uint16))
    return (parts[0] << 8) | parts[1]
