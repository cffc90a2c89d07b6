"""Images that clients send: recognised by their first bytes, measured by their header, and only then decoded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image
from torch import Tensor

from sightline.data.facts import full_scale_of
from sightline.data.images import from_pil, read_header, read_image
from sightline.data.room import unlimited_size
from sightline.data.videos import MOST, is_video
from sightline.deploy.serve.refusal import Refusal
from sightline.deploy.sources import Item, as_file, common_scale
from sightline.errors import REPLACE, InputError
from sightline.models.model import Model
from sightline.structures import Size

KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF, HEIC, PNM, NumPy arrays and, for models of videos, MP4, WebM"
_MARKS: tuple[tuple[int, bytes], ...] = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (8, b"WEBP"),
    (0, b"GIF8"),
    (0, b"BM"),
    *((0, mark) for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((0, mark) for mark in (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")),
    (4, b"ftyp"),
    *((0, b"P%d" % kind) for kind in range(1, 7)),
    (0, b"\x93NUMPY"),
    (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "),
)
"""Place and bytes by which the formats are known. Decoders of other formats, some of which run other programs, are
never tried on what a client sends."""


@dataclass(frozen=True)
class Upload:
    """What a client sent.

    Attributes:
        data: the bytes of the file.
        name: the name of the file, without folders; "upload" if it has none.
    """

    data: bytes
    name: str = "upload"


def plain_name(name: str | None) -> str:
    """The last part of a file name that a client sent, at most 200 characters; "upload" if there is none."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return "".join(letter if letter.isprintable() else "_" for letter in last)[-200:] or "upload"


@dataclass(frozen=True)
class Opened:
    """An upload whose header has been read.

    Attributes:
        upload: the upload.
        size: (height, width) in pixels.
        pixels: number of pixels; of a video, of all frames that are kept at most.
        jpeg: a JPEG that has been opened in memory; None for other formats.
    """

    upload: Upload
    size: Size
    pixels: int
    jpeg: Image.Image | None = None

    def read(self, model: Model) -> Tensor:
        """Decode it for a model: [C, H, W], uint8 or float in [0, 1], or a `Clip`.

        Raises:
            InputError: it is damaged, or has other channels than the model takes.
        """
        if self.jpeg is not None:
            with suppress(Exception):  # what is wrong is said below
                return from_pil(self.jpeg, model.in_channels)
        with _as_file(self.upload) as path:
            scale = common_scale([Item(None, Path(path))], full_scale_of(model))
            return read_image(path, model.in_channels, full_scale=scale)


def opened(upload: Upload, max_pixels: int) -> Opened:
    """Read the header of an upload.

    Raises:
        Refusal: 415, the bytes are not those of an image; 413, the image has too many pixels.
        InputError: the header is damaged.
    """
    data = upload.data
    if not any(data[place : place + len(mark)] == mark for place, mark in _MARKS):
        raise Refusal(415, f"the body is not an image of a known format; send the bytes of a file: {KINDS}")
    jpeg, frames = _jpeg(data), 1
    if jpeg is not None:
        size = (jpeg.height, jpeg.width)
    else:
        with _as_file(upload) as path, unlimited_size():  # the limit is that of this server
            size, frames = read_header(path).size, MOST if is_video(path) else 1
    pixels = size[0] * size[1] * frames
    if pixels > max_pixels:
        films = f" in up to {frames} frames" if frames > 1 else ""
        raise Refusal(
            413,
            f"{upload.name} has {size[1]}×{size[0]} pixels{films}, but this server takes at most {max_pixels}; send a "
            "smaller image",
        )
    return Opened(upload, size, pixels, jpeg)


@contextmanager
def _as_file(upload: Upload) -> Iterator[str]:
    """Context that provides an upload as a file for the reader; errors ask the client for another one."""
    try:
        with as_file(upload.data, upload.name) as path:
            yield path
    except InputError as error:
        raise InputError(str(error).replace(REPLACE, "send another file")) from None


def _jpeg(data: bytes) -> Image.Image | None:
    """A JPEG, of which only the header is read; None for other formats, and for what Pillow does not open.

    Most images are JPEGs, and what is opened once in memory costs half of what a temporary file does.
    """
    if data.startswith(_MARKS[0][1]):
        with suppress(Exception):
            return Image.open(io.BytesIO(data), formats=["JPEG"])
    return None
