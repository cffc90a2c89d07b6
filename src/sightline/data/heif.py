"""HEIC and HEIF, the image formats of phones: read by Pillow through the plugin pillow-heif.

Images are upright: the rotation stored in the file's properties (irot, imir) is applied during decoding, and the EXIF
orientation is then 1, as the standard requires (ISO/IEC 23008-12). Samples of 10 and 12 bits are converted to 8. AVIF
is read by Pillow without a plugin.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from sightline.runtime.optional import require

SUFFIXES = (".heic", ".heif", ".hif")
_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
_registered = False


def prepare(path: str | os.PathLike[str], file: BinaryIO) -> None:
    """Register the plugin if the first bytes of `file` are those of HEIF; the file position is not changed.

    Args:
        path: path of the file, for the message.
        file: file opened for reading.

    Raises:
        InputError: it is HEIF, and pillow-heif is not installed.
    """
    start = file.tell()
    head = file.read(12)
    file.seek(start)
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        _register(path)


def _register(path: str | os.PathLike[str]) -> None:
    global _registered
    if _registered:
        return
    require("pillow_heif", "pillow-heif", "heif", f"{os.fspath(path)} is a HEIC image, which")
    from pillow_heif import register_heif_opener

    register_heif_opener()
    _registered = True
