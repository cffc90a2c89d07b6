"""The run-length code of Label Studio's brush.

The code is a bit stream, most significant bit first. The header holds the number of values (32 bits), the bits per
value minus one (5), and four count lengths minus one (4 bits each). Then follow runs: one bit says whether the run
repeats one value, two bits select the count length, then come the count minus one and the value or values. The values
are the bytes of an RGBA image, row by row; the fourth byte of each pixel is the opacity. Source: the published code of
`label-studio-converter` (brush.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle

_OPAQUE = 128
"""The minimum opacity of a pixel inside the mask: edges of strokes may be antialiased."""


class _Bits:
    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def read(self, count: int) -> int:
        """The next `count` bits as an integer."""
        first, end = self.at // 8, (self.at + count + 7) // 8
        if end > len(self.data):
            raise ValueError("the code ends too soon")
        whole = int.from_bytes(self.data[first:end], "big")
        self.at += count
        return whole >> (end * 8 - self.at) & ((1 << count) - 1)


def decode_brush(code: Sequence[Any], size: Sequence[Any], where: str) -> dict[str, Any]:
    """Decode a brush mask to a COCO RLE.

    Args:
        code: integers from 0 to 255.
        size: (height, width) of the image as stated in the result.
        where: file and object, for messages.

    Raises:
        InputError: the size is missing, or the code is damaged or has another size.
    """
    if not all(isinstance(side, int) and 0 < side < 2**15 for side in size):
        raise InputError(f"{where} is a brush without original_width and original_height; export it again")
    height, width = size
    total = 4 * height * width
    try:
        bits = _Bits(bytes(code))
        count = bits.read(32)
        if count != total:
            raise ValueError(f"it has {count} values, but {height} × {width} pixels have {total}")
        word = bits.read(5) + 1
        if word != 8:
            raise ValueError(f"its values have {word} bits, not 8")
        lengths = [bits.read(4) + 1 for _ in range(4)]
        values = np.zeros(total, np.uint8)
        at = 0
        while at < total:
            repeated = bits.read(1)
            end = at + 1 + bits.read(lengths[bits.read(2)])
            if end > total:
                raise ValueError("a run extends beyond the image")
            if repeated:
                values[at:end] = bits.read(word)
            else:
                values[at:end] = [bits.read(word) for _ in range(end - at)]
            at = end
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is a brush whose code is damaged ({error}); export it again or remove it") from None
    return mask_to_rle(values.reshape(height, width, 4)[:, :, 3] >= _OPAQUE)
