"""The one image reader: files of any common kind in, tensors [C, H, W] out.

Pixels are uint8 in 0 … 255, or float32 in [0, 1] where the file holds more than 8 bits a sample. The EXIF orientation
is applied, so an image always stands upright and its size is the one a person sees.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size

SUFFIXES = frozenset(
    "." + ending
    for line in ("jpg jpeg jpe jfif mpo png bmp dib gif tif tiff webp", "ppm pgm pbm pnm tga jp2 avif npy")
    for ending in line.split()
)
"""Endings (lower case) of the files taken for images."""

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
_TIFF = (".tif", ".tiff")
_Result = TypeVar("_Result")


_guard_aside = 0
_guard_lock = Lock()
_guard_limit: int | None = None


@contextmanager
def of_any_size() -> Iterator[None]:
    """Pillow's limit of 179 million pixels put aside, for who asks for a huge picture on purpose."""
    global _guard_aside, _guard_limit
    with _guard_lock:
        if not _guard_aside:
            _guard_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _guard_aside += 1
    try:
        yield
    finally:
        with _guard_lock:
            _guard_aside -= 1
            if not _guard_aside:
                Image.MAX_IMAGE_PIXELS = _guard_limit


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the file's ending is one of `SUFFIXES` (the file is not looked at)."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def read_image(path: str | os.PathLike[str], channels: int | None = 3, draft: Size | None = None) -> Tensor:
    """Read an image file.

    Args:
        path: an image Pillow reads, a TIFF of any number of channels (samples of one page, or one page a channel), or a
            NumPy array file: [H, W], [H, W, C] or [C, H, W]. Of the last two, the shorter of the first and the last
            axis is taken for the channels (the last one if they are equal).
        channels: how many channels to return. 3: RGB; grey is repeated, a palette looked up, alpha dropped. 1: grey,
            by the luma weights of ITU-R BT.601. None: what the file holds (a palette as RGB, or RGBA where it has
            transparency). Any other number must be what the file holds.
        draft: decode a JPEG only as finely as needed: the result is 1, 1/2, 1/4 or 1/8 of the full size, whichever is
            the smallest not below this (height, width). Other files come at full size. Boxes must then be scaled by the
            caller.

    Returns:
        [C, H, W]: uint8, or float32 in [0, 1] where the file holds 16-bit or float samples. (Pillow reduces 16-bit RGB
        PNG to 8 bits.)

    Raises:
        InputError: the file is missing, truncated, not an image, of unsuitable values, or of other channels than asked.
    """
    path = os.fspath(path)
    if channels is not None and channels < 1:
        raise InputError(f"channels is {channels}, but an image has at least 1; give 3 for RGB, 1 for grey")
    if path.lower().endswith(".npy"):
        array = channels_last(_guarded(path, lambda: np.load(path, allow_pickle=False)), path)
        if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"{path} has samples of type {array.dtype}, whose range is not known; save it as uint8 or uint16"
            )
    else:
        array = _guarded(path, lambda: _decode(path, channels, draft))
    return _finish(array, channels, path)


def read_map(path: str | os.PathLike[str]) -> Tensor:
    """Read a map of whole numbers, such as a mask PNG: palette indices and 16-bit values come as they are stored.

    Returns:
        [H, W] int64.

    Raises:
        InputError: the file is missing, unreadable, or has more than one channel.
    """
    path = os.fspath(path)
    if path.lower().endswith(".npy"):
        array = _guarded(path, lambda: np.load(path, allow_pickle=False))
    else:
        array = _guarded(path, lambda: _pixels(_upright_open(path, draft=None)))
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise InputError(
            f"{path} holds an array {list(array.shape)} of {array.dtype}, but a class map has one whole number "
            "a pixel; save it as an 8- or 16-bit grey or palette PNG"
        )
    return torch.from_numpy(array.astype(np.int64))


def image_size(path: str | os.PathLike[str]) -> Size:
    """The (height, width) in pixels that `read_image` would give, from the file's header alone.

    Raises:
        InputError: the file is missing or is not an image.
    """
    path = os.fspath(path)
    if path.lower().endswith(".npy"):
        array = channels_last(_guarded(path, lambda: np.load(path, mmap_mode="r", allow_pickle=False)), path)
        return int(array.shape[0]), int(array.shape[1])
    return _guarded(path, lambda: _header_size(path))


def orientation(path: str | os.PathLike[str]) -> int:
    """The EXIF orientation 1 … 8 the file states (1, upright, where it states none), from its header alone."""
    path = os.fspath(path)
    if path.lower().endswith(".npy"):
        return 1

    def look() -> int:
        with Image.open(path) as image:
            return _stated_orientation(image)

    return _guarded(path, look)


def from_pil(image: Image.Image, channels: int | None = 3) -> Tensor:
    """A Pillow image as `read_image` would give it; its EXIF orientation is applied."""
    image.load()  # Pillow turns a TIFF itself when loading it, and then forgets the orientation
    turn = STANDING.get(_stated_orientation(image))
    array = _pixels(_prepared(image, channels))
    return _finish(turn(array) if turn else array, channels, "the image")


def to_pil(image: Tensor | np.ndarray) -> Image.Image:
    """A tensor [C, H, W] or [H, W] (uint8, bool, or float in [0, 1]) as a Pillow image; C must be 1, 2 (LA), 3 or 4."""
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 2, 3, 4):
        raise InputError(
            f"an image of shape {list(array.shape)} cannot be shown; give [C, H, W] with 1, 2, 3 or 4 channels "
            "(choose some: image[:3])"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        array = np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(f"an image of dtype {array.dtype} cannot be shown; give uint8, or float in [0, 1]")
    array = np.ascontiguousarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0))
    return Image.fromarray(array)


def _guarded(path: str, action: Callable[[], _Result]) -> _Result:
    """Run `action`, turning whatever goes wrong with the file into one sentence naming it."""
    try:
        return action()
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"there is no image {path}; correct the path, or remove its label") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not an image") from None
    except Image.UnidentifiedImageError:
        empty = os.path.getsize(path) == 0
        reason = "the file is empty" if empty else "it is of no known kind"
        raise InputError(f"cannot read the image {path}: {reason}; replace or remove it") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"the image {path} has more pixels than are decoded at once; predict it by tiles (tile=512, --tile 512), "
            "cut it, or set PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except (
        Exception
    ) as error:  # decoders of damaged files raise errors of every kind: OSError, SyntaxError, struct.error
        raise InputError(f"cannot read the image {path}: {error}; replace or remove it") from error


def _decode(path: str, channels: int | None, draft: Size | None) -> np.ndarray:
    """The file's samples, upright: [H, W] or [H, W, C]."""
    if path.lower().endswith(_TIFF):
        from sightline.data import tiff

        array = tiff.read(path)
        if array is not None:
            return array
    image = _upright_open(path, draft)
    turn = STANDING.get(_stated_orientation(image))
    array = _pixels(_prepared(image, channels))
    return turn(array) if turn else array


def _upright_open(path: str, draft: Size | None) -> Image.Image:
    """Open and decode the first picture of a file (the orientation is still to be applied, except for TIFF)."""
    with Image.open(path) as image:
        if draft is not None and image.format in ("JPEG", "MPO"):
            height, width = draft if _stated_orientation(image) < 5 else draft[::-1]
            image.draft(None, (width, height))  # None keeps the colour mode
        image.load()
        return image


def _stated_orientation(image: Image.Image) -> int:
    # The base class's method looks at the header only; that of PNG would decode the image to look behind it.
    return int(Image.Image.getexif(image).get(_ORIENTATION, 1) or 1)


def _header_size(path: str) -> Size:
    if path.lower().endswith(_TIFF):
        from sightline.data import tiff

        size = tiff.size(path)
        if size is not None:
            return size
    with Image.open(path) as image:
        width, height = image.size
        turned = _stated_orientation(image) >= 5
        if image.format == "TIFF" and turned:  # some versions of Pillow have turned the size already, some have not
            tags = getattr(image, "tag_v2", {})
            turned = (width, height) == (tags.get(256), tags.get(257))
    return (width, height) if turned else (height, width)


def _prepared(image: Image.Image, channels: int | None) -> Image.Image:
    """The image in a mode whose samples NumPy holds: L, LA, RGB, RGBA, I;16, I or F."""
    mode = image.mode
    if mode in ("P", "PA"):
        see_through = mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if see_through else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    if channels == 1 and image.mode in ("RGB", "RGBA", "LA"):
        image = image.convert("L")  # in C, faster than the same weights in NumPy
    elif channels == 3 and image.mode == "RGBA":
        image = image.convert("RGB")
    return image


def _pixels(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array.astype(np.uint8) if array.dtype == bool else array


def channels_last(array: np.ndarray, path: str) -> np.ndarray:
    """An array [H, W], [H, W, C] or [C, H, W] as one of the first two, without copying."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(f"{path} holds an array {list(array.shape)}, but an image is [H, W], [H, W, C] or [C, H, W]")
    return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] < array.shape[2] else array


def _finish(array: np.ndarray, channels: int | None, path: str) -> Tensor:
    """[H, W] or [H, W, C] samples as a contiguous tensor [channels, H, W] of the documented types."""
    array = _scaled(array, path)
    have = 1 if array.ndim == 2 else array.shape[2]
    planes: Any = [array] if array.ndim == 2 else [array[:, :, c] for c in range(have)]
    if channels is not None and have != channels:
        if channels == 3 and have in (1, 2, 4):
            planes = planes[:3] if have == 4 else planes[:1] * 3
        elif channels == 1 and have in (3, 4):
            planes = [sum(weight * plane for weight, plane in zip((0.299, 0.587, 0.114), planes, strict=False))]
        elif channels == 1 and have == 2:
            planes = planes[:1]
        else:
            raise InputError(
                f"{path} has {have} channels, but {channels} are asked for; "
                f"read it with channels={have} (or None) and use a model of in_channels={have}"
            )
    out = np.empty((len(planes), *array.shape[:2]), np.uint8 if array.dtype == np.uint8 else np.float32)
    for slot, plane in zip(out, planes, strict=True):  # a copy a channel is several times faster than a transposed one
        np.rint(plane, out=plane) if out.dtype == np.uint8 and plane.dtype != np.uint8 else None
        slot[...] = plane
    return torch.from_numpy(out)


def _scaled(array: np.ndarray, path: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "ui":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65535:
            raise InputError(
                f"{path} has whole numbers from {low} to {high}, but samples must fit 8 or 16 bits (0 to 65535); "
                "scale them, or save them as floats in [0, 1]"
            )
        return array.astype(np.float32) * np.float32(1 / 65535)
    if array.dtype.kind == "f":
        low_f, high_f = float(array.min()), float(array.max())
        if not (low_f >= 0 and high_f <= 1):  # also true of NaN
            raise InputError(
                f"{path} has float samples from {low_f:g} to {high_f:g}, but they must lie in [0, 1]; "
                "divide them by their range when saving"
            )
        return array
    raise InputError(f"{path} has samples of type {array.dtype}, but an image has uint8, uint16 or float samples")
