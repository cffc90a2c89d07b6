"""Reading images: files of all common formats are returned as tensors [C, H, W].

Pixels are uint8 in 0 … 255, or float32 in [0, 1] if the file has more than 8 bits per sample. The EXIF orientation is
applied, so images are always upright and their size is that of the displayed image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sightline.data import heif, png, tiff, videos
from sightline.data.full_scale import Scale, max_sample_of, scale_samples
from sightline.data.orientation import STANDING, known_orientation, orientation_in, stated_orientation
from sightline.data.room import require_memory
from sightline.errors import REPLACE, InputError
from sightline.runtime import reading
from sightline.runtime.limits import VARIABLE, Limits, limits
from sightline.structures import Size

SUFFIXES = frozenset(
    "." + ending
    for line in (
        "jpg jpeg jpe jfif mpo png bmp dib gif tif tiff webp",
        "ppm pgm pbm pnm tga jp2 avif heic heif hif npy",
    )
    for ending in line.split()
)
"""Suffixes (lower case) of files that are treated as images."""

_WIDE_PNG = "sightline: 16 bits per sample, of which Pillow kept 8"  # in the info of an image
_TIFF = (".tif", ".tiff")
_ANIMATED = (".gif", ".webp", ".png", ".avif")
"""Suffixes of files that may be animations. JPEGs of phones (MPO) hold previews and depth besides the photograph."""
# Pillow reads the EXIF data of a JPEG for its resolution, and warns about damaged blocks, which do not affect pixels.
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
_Result = TypeVar("_Result")


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the file's suffix is one of `SUFFIXES` (the file is not read)."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def read_image(
    path: str | os.PathLike[str],
    channels: int | None = 3,
    draft: Size | None = None,
    full_scale: Scale = None,
) -> Tensor:
    """Read an image file.

    Args:
        path: an image that Pillow can read, a TIFF with any number of channels (samples of one page, or one page per
            channel), or a NumPy array file: [H, W], [H, W, C] or [C, H, W]. In the last two cases, the shorter of the
            first and last axis is the channel axis (the last one if they are equal).
        channels: number of channels to return. 3: RGB; grey is repeated, palettes are looked up, alpha is dropped. 1:
            grey, with the luma weights of ITU-R BT.601. None: the channels of the file (a palette as RGB, or RGBA if it
            has transparency). Any other number must be that of the file.
        draft: decode a JPEG only as finely as needed: the result is 1, 1/2, 1/4 or 1/8 of the full size, whichever is
            the smallest that is not below this (height, width). Other files are returned at full size. Boxes must then
            be scaled by the caller.
        full_scale: for more than 8 bits per sample, the value that becomes 1.0, such as 4095 for a 12-bit camera.
            None: 65535 for uint16; other integer types raise an error. (A dataset determines its own; see
            `sightline.data.full_scale`.)

    Returns:
        Tensor [C, H, W]: uint8, or float32 in [0, 1] if the file has 16-bit or float samples. A video file, by its
        suffix, is returned as a `Clip` [C, T, H, W] (`sightline.data.videos.read_clip`).

    Raises:
        InputError: the file is missing, truncated or not an image, has invalid values, or has other channels than
            requested.
    """
    path = os.fspath(path)
    if videos.is_video(path):
        return videos.read_clip(path, channels)
    if channels is not None and channels < 1:
        raise InputError(f"channels is {channels}, but must be at least 1; give 3 for RGB, 1 for grey")
    array = _guarded(path, lambda: _samples(path, channels, draft))
    return _finish(array, channels, path, full_scale)


def max_sample(path: str | os.PathLike[str]) -> int | None:
    """The largest sample of an image file with more than 8 bits; None for other and for unreadable files."""
    path = os.fspath(path)
    try:
        wide = read_header(path).wide
        return max_sample_of(_guarded(path, lambda: _samples(path, None, None))) if wide else None
    except InputError:
        return None


def read_map(path: str | os.PathLike[str]) -> Tensor:
    """Read a map of integers, such as a mask PNG: palette indices and 16-bit values are returned as stored.

    Alpha is dropped, and colours whose parts are all equal are grey.

    Returns:
        [H, W] int64.

    Raises:
        InputError: the file is missing, unreadable, or has more than one channel.
    """
    path = os.fspath(path)
    array = _guarded(path, lambda: _stored(path))
    if array.ndim == 3 and array.shape[2] in (2, 3, 4):  # grey and alpha, RGB, RGBA
        grey, others = array[..., 0], array[..., 1:3] if array.shape[2] > 2 else array[..., :1]
        array = grey if (others == grey[..., None]).all() else array
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise InputError(
            f"{path} holds an array {list(array.shape)} of {array.dtype}, but a class map has one whole number "
            "per pixel; save it as an 8- or 16-bit grey or palette PNG"
        )
    return torch.from_numpy(array.astype(np.int64))


def read_depth(path: str | os.PathLike[str]) -> Tensor:
    """Read a depth map, such as a 16-bit PNG: values are returned as stored.

    Returns:
        [H, W] int32, or float32 if the file has float samples.

    Raises:
        InputError: the file is missing, unreadable, or has more than one channel.
    """
    path = os.fspath(path)
    array = _guarded(path, lambda: _stored(path))
    if array.ndim != 2 or array.dtype.kind not in "uif":
        raise InputError(
            f"{path} holds an array {list(array.shape)} of {array.dtype}, but a depth map has one number per pixel; "
            "save it as a 16-bit grey PNG"
        )
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int32))


class Header(NamedTuple):
    """Properties of an image from its file header.

    Attributes:
        size: (height, width) in pixels, after EXIF rotation.
        orientation: EXIF orientation, 1 to 8.
        wide: True if samples are integers with more than 8 bits.
    """

    size: Size
    orientation: int = 1
    wide: bool = False


def read_header(path: str | os.PathLike[str]) -> Header:
    """Size and orientation of the image that `read_image` returns, from the file's header only.

    Raises:
        InputError: the file is missing or is not an image.
    """
    path = os.fspath(path)
    if videos.is_video(path):
        return Header(videos.video_header(path).size)
    return _guarded(path, lambda: _header(path))


def image_size(path: str | os.PathLike[str]) -> Size:
    """The (height, width) in pixels of the image that `read_image` returns, from the file's header only.

    Raises:
        InputError: the file is missing or is not an image.
    """
    return read_header(path).size


def orientation(path: str | os.PathLike[str]) -> int:
    """The EXIF orientation of the file, 1 to 8, from its header only; 1 (upright) if the file states none."""
    return read_header(path).orientation


def from_pil(image: Image.Image, channels: int | None = 3, full_scale: Scale = None) -> Tensor:
    """Convert a Pillow image like `read_image`; its EXIF orientation is applied."""
    return _finish(pil_samples(image, channels), channels, "the image", full_scale)


def pil_samples(image: Image.Image, channels: int | None = 3) -> np.ndarray:
    """The unscaled samples of a Pillow image, after EXIF rotation: [H, W] or [H, W, C]."""
    wide = is_wide_image(image)
    if not wide:
        image.load()  # Pillow rotates a TIFF when loading it, and then drops the orientation
    turn = STANDING.get(stated_orientation(image))
    path: str = getattr(image, "filename", "")
    array = png.read_wide(reading.read_bytes(path)) if wide else _pixels(_prepared(image, channels))
    return turn(array) if turn else array


def is_wide_image(image: Image.Image) -> bool:
    """Whether a Pillow image is an undecoded 16-bit PNG of which Pillow would keep 8 bits."""
    path = getattr(image, "filename", "")
    if image.format != "PNG" or not getattr(image, "tile", None) or not os.path.isfile(path or ""):
        return False
    with reading.open_binary(path) as file:
        return _is_wide_png(file)


def to_pil(image: Tensor | np.ndarray) -> Image.Image:
    """Convert a tensor [C, H, W] or [H, W] (uint8, bool, float in [0, 1]) to a Pillow image; C is 1, 2 (LA), 3 or 4."""
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 2, 3, 4):
        raise InputError(
            f"an image of shape {list(array.shape)} cannot be shown; give [C, H, W] with 1, 2, 3 or 4 channels "
            "(select some: image[:3])"
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
    """Run `action`, converting all errors caused by the file to one message that names it."""
    if not os.path.exists(path):
        raise InputError(f"there is no image {path}; correct the path, or remove its label")
    if Limits.pixels == Image.MAX_IMAGE_PIXELS:  # Pillow's limit follows ours, unless the user has changed it
        Image.MAX_IMAGE_PIXELS = limits().pixels
    try:
        return action()
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"cannot read the image {path}: it does not fit into memory; make it smaller") from None
    except UnidentifiedImageError:
        empty = os.path.getsize(path) == 0
        reason = "the file is empty" if empty else "its format is unknown"
        raise InputError(f"cannot read the image {path}: {reason}; {REPLACE}") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"the image {path} has more pixels than are decoded at once; predict it by tiles (tile=512, --tile 512), "
            f"crop it, or raise all limits with {VARIABLE}=10"
        ) from None
    except (
        Exception
    ) as error:  # decoders raise many types of errors for damaged files: OSError, SyntaxError, struct.error
        raise InputError(f"cannot read the image {path}: {error}; {REPLACE}") from error


def unread_pages(path: str | os.PathLike[str]) -> int:
    """Number of further pages or frames of a file, of which only the first is read.

    These are images of the same size in a TIFF file, whose pages of one sample each are the channels of one image, and
    the frames of an animation (GIF, WebP, PNG, AVIF). 0 for all other files.

    Raises:
        InputError: as for `read_header`.
    """
    name = os.fspath(path)
    if name.lower().endswith(_TIFF):
        return _guarded(name, lambda: tiff.unread_pages(name))
    return _guarded(name, lambda: _frames(name)) - 1 if name.lower().endswith(_ANIMATED) else 0


def part_name(path: str | os.PathLike[str]) -> str:
    """What the file's parts counted by `unread_pages` are called: page, or frame of an animation."""
    return "page" if os.fspath(path).lower().endswith(_TIFF) else "frame"


def _frames(path: str) -> int:
    with _open_image(path) as (_, image):
        return int(getattr(image, "n_frames", 1))


def _samples(path: str, channels: int | None, draft: Size | None) -> np.ndarray:
    """The file's unscaled samples after EXIF rotation: [H, W] or [H, W, C]."""
    array = _array_file(path)
    if array is not None:
        return channels_last(array, path) if path.lower().endswith(".npy") else array
    image = _opened(path, draft, channels)
    if image.info.get(_WIDE_PNG):
        array = png.read_wide(reading.read_bytes(path))
        turn = STANDING.get(stated_orientation(image))
        return turn(array) if turn else array
    turn = STANDING.get(stated_orientation(image))
    array = _pixels(_prepared(image, channels))
    return turn(array) if turn else array


def _stored(path: str) -> np.ndarray:
    """Like `_samples`, but palette indices are kept, and files that Pillow reads are not rotated."""
    array = _array_file(path)
    array = _pixels(_opened(path, draft=None, channels=None)) if array is None else array
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _array_file(path: str) -> np.ndarray | None:
    """The samples of a file that is read without Pillow (TIFF: after rotation); None for all other files."""
    if path.lower().endswith(".npy"):
        return reading.read_array(path)
    if path.lower().endswith(_TIFF):
        return tiff.read(path)
    return None


def _opened(path: str, draft: Size | None, channels: int | None) -> Image.Image:
    """Open and decode the first image of a file (the orientation must still be applied, except for TIFF)."""
    with _open_image(path) as (file, image):
        if draft is not None and image.format in ("JPEG", "MPO"):
            height, width = draft if stated_orientation(image) < 5 else draft[::-1]
            image.draft(None, (width, height))  # None keeps the colour mode
        wide = image.format == "PNG" and _is_wide_png(file)
        bands = max(channels or 1, len(image.getbands()))
        itemsize = 4 if wide or image.mode[0] in "IF" else 1
        require_memory(image.width * image.height, bands, itemsize, os.fstat(file.fileno()).st_size)
        image.load()
        image.info[_WIDE_PNG] = wide
        if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16-bit samples, which Pillow stores in 32 bits
            return Image.fromarray(np.asarray(image).astype(np.uint16))
        return image


@contextmanager
def _open_image(path: str) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """Open a file with Pillow; yields the file and the image, of which only the header is read."""
    with reading.open_binary(path) as file:
        heif.prepare(path, file)
        with Image.open(file) as image:
            yield file, image


def _is_wide_png(file: BinaryIO) -> bool:
    """Whether an open PNG has several 16-bit channels, which Pillow cannot read; the file position is not changed."""
    place = file.tell()
    file.seek(0)
    head = file.read(26)
    file.seek(place)
    return png.is_wide(head)


def _header(path: str) -> Header:
    if path.lower().endswith(".npy"):
        array = channels_last(reading.read_array(path, mapped=True), path)
        return Header((int(array.shape[0]), int(array.shape[1])), 1, array.dtype.kind in "ui" and array.itemsize > 1)
    if path.lower().endswith(_TIFF):
        stated = tiff.header(path)
        if stated is not None:
            return Header(*stated)
    with _open_image(path) as (file, image):
        width, height = image.size
        how = stated_orientation(image)
        if image.format == "PNG" and how == 1 and "exif" not in image.info:
            how = _orientation_at_the_end(file)
        turned = how >= 5
        if image.format == "TIFF" and turned:  # some versions of Pillow swap the size already, some do not
            tags = getattr(image, "tag_v2", {})
            turned = (width, height) == (tags.get(256), tags.get(257))
        wide = image.mode.startswith("I") or (image.format == "PNG" and _is_wide_png(file))
    return Header((width, height) if turned else (height, width), how, wide)


def _orientation_at_the_end(file: BinaryIO) -> int:
    """The EXIF orientation that a PNG stores after its pixels, where Pillow reads it only when decoding."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"eXIf":
            return known_orientation(orientation_in(file.read(min(length, 1 << 20))))
        if kind == b"IEND":
            break
        file.seek(length + 4, os.SEEK_CUR)
    return 1


def _prepared(image: Image.Image, channels: int | None) -> Image.Image:
    """Convert the image to a mode that NumPy can represent: L, LA, RGB, RGBA, I;16, I or F."""
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
        raise InputError(f"{path} has an array {list(array.shape)}, but an image is [H, W], [H, W, C] or [C, H, W]")
    return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] < array.shape[2] else array


def _finish(array: np.ndarray, channels: int | None, path: str, full_scale: Scale = None) -> Tensor:
    """[H, W] or [H, W, C] samples as a contiguous tensor [channels, H, W] with the documented types."""
    if array.ndim not in (2, 3):
        raise InputError(f"{path} has an array {list(array.shape)}, but an image is [H, W], [H, W, C] or [C, H, W]")
    array = scale_samples(array, full_scale, path)
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
                f"{path} has {have} channels, but {channels} are requested; "
                f"read it with channels={have} (or None) and use a model with in_channels={have}"
            )
    out = np.empty((len(planes), *array.shape[:2]), np.uint8 if array.dtype == np.uint8 else np.float32)
    for slot, plane in zip(out, planes, strict=True):  # copying per channel is several times faster than a transpose
        np.rint(plane, out=plane) if out.dtype == np.uint8 and plane.dtype != np.uint8 else None
        slot[...] = plane
    return torch.from_numpy(out)
