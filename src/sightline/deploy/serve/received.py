"""Images that clients send: recognised by their first bytes, measured by their header, and only then decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from sightline.data.facts import full_scale_of
from sightline.data.images import read_header, read_image
from sightline.data.room import unlimited_size
from sightline.data.videos import MOST, is_video
from sightline.deploy.serve.refusal import Refusal
from sightline.deploy.sources import Item, as_file, common_scale
from sightline.errors import InputError
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
        path: its temporary file.
        size: (height, width) in pixels.
        pixels: number of pixels; of a video, of all frames that are kept at most.
    """

    path: Path
    size: Size
    pixels: int

    def read(self, model: Model) -> Tensor:
        """Decode it for a model: [C, H, W], uint8 or float in [0, 1], or a `Clip`.

        Raises:
            InputError: it is damaged, or has other channels than the model takes.
        """
        scale = common_scale([Item(None, self.path)], full_scale_of(model))
        return read_image(self.path, model.in_channels, full_scale=scale)


@contextmanager
def opened(upload: Upload, max_pixels: int) -> Iterator[Opened]:
    """Context in which the header of an upload has been read.

    Raises:
        Refusal: 415, the bytes are not those of an image; 413, the image has too many pixels; 422, its header, or what
            is decoded within the context, is damaged.
    """
    data = upload.data
    if not any(data[place : place + len(mark)] == mark for place, mark in _MARKS):
        raise Refusal(415, f"the body is not an image of a known format; send the bytes of a file: {KINDS}")
    try:
        with as_file(data, upload.name) as name:
            with unlimited_size():  # the limit is that of this server
                size = read_header(name).size
            pixels = size[0] * size[1] * (MOST if is_video(name) else 1)
            if pixels > max_pixels:
                frames = f" in up to {MOST} frames" if is_video(name) else ""
                raise Refusal(
                    413,
                    f"{upload.name} has {size[1]}×{size[0]} pixels{frames}, but this server takes at most "
                    f"{max_pixels}; send a smaller image",
                )
            yield Opened(Path(name), size, pixels)
    except InputError as error:
        raise Refusal(422, str(error)) from None
