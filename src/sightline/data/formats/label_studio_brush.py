"""The run-length code of Label Studio's brush.

A stream of bits, most significant first: the number of values (32 bits), the bits of a value less one (5), four lengths
of counts less one (4 each); then runs: one bit that says whether the run is one value repeated, two that choose the
length of the count, the count less one, and the value or values. The values are the bytes of an RGBA picture, row by
row; the last of four is the opacity. The source is the published code of `label-studio-converter` (brush.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle

_OPAQUE = 128
"""The least opacity of a pixel inside: edges of strokes may be antialiased."""


class _Bits:
    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def read(self, count: int) -> int:
        """The next `count` bits as a number."""
        first, end = self.at // 8, (self.at + count + 7) // 8
        if end > len(self.data):
            raise ValueError("the code ends too soon")
        whole = int.from_bytes(self.data[first:end], "big")
        self.at += count
        return whole >> (end * 8 - self.at) & ((1 << count) - 1)


def decode_brush(code: Sequence[Any], size: Sequence[Any], where: str) -> dict[str, Any]:
    """The RLE, as COCO has it, of a brush's code.

    Args:
        code: whole numbers 0 to 255.
        size: (height, width) of the image, as the result states it.
        where: file and object, for messages.

    Raises:
        InputError: the size is not stated, or the code is damaged or of another size.
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
                raise ValueError("a run goes beyond the image")
            if repeated:
                values[at:end] = bits.read(word)
            else:
                values[at:end] = [bits.read(word) for _ in range(end - at)]
            at = end
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is a brush whose code is damaged ({error}); export it again or remove it") from None
    return mask_to_rle(values.reshape(height, width, 4)[:, :, 3] >= _OPAQUE)
