"""HEIC and HEIF, the pictures of telephones: read by Pillow once the package pillow-heif is registered with it.

Pictures come upright: the turns that the file states as properties (irot, imir) are applied when it is decoded, and
its EXIF orientation is then 1, as the standard wants (ISO/IEC 23008-12). Samples of 10 and 12 bits come as 8. AVIF is
read by Pillow itself.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from sightline.runtime.optional import require

SUFFIXES = (".heic", ".heif", ".hif")
_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
_registered = False


def prepare(path: str | os.PathLike[str], file: BinaryIO) -> None:
    """Make Pillow able to read `file`, where it is HEIF by its first bytes; its position stays where it is.

    Args:
        path: for the message.
        file: opened for reading.

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
