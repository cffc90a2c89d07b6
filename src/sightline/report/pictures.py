"""Convert any kind of image to an RGB image to draw on."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Clip, Size

PictureLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A path; a Pillow image; an array [H, W] or [H, W, C]; a tensor [H, W] or [C, H, W]; a `Clip`, whose picture is its
film, all frames side by side."""


def as_picture(image: PictureLike, stretch: bool | None = None) -> Image.Image:
    """Return a new RGB image; `image` itself is not modified.

    Of two channels the first is shown as grey, of more than three the first three. Floats are expected in [0, 1]. Other
    ranges and 16-bit values are stretched between their 0.5th and 99.5th percentiles, because most 16-bit images use a
    small part of their range and would look black.

    Args:
        image: see `PictureLike`. EXIF orientation is applied.
        stretch: True always stretches, False never; None as described above.

    Raises:
        InputError: the file cannot be read, or the array does not have the shape of an image.
    """
    if isinstance(image, str | os.PathLike):
        from sightline.data.images import read_image

        tensor = read_image(image, channels=None, full_scale=65535)  # stretched below
        tensor = tensor.film() if isinstance(tensor, Clip) else tensor
        # The reader returns floats only for files of more than 8 bits.
        return _shown(tensor.numpy(), tensor.is_floating_point() if stretch is None else stretch)
    if isinstance(image, Image.Image):
        from sightline.data.images import from_pil

        tensor = from_pil(image, channels=None, full_scale=65535)
        return _shown(tensor.numpy(), tensor.is_floating_point() if stretch is None else stretch)
    if isinstance(image, Tensor):
        tensor = (image.film() if isinstance(image, Clip) else image).detach().cpu()
        array = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
        return _shown(_channels_first(array, "tensor [C, H, W]"), stretch)
    if isinstance(image, np.ndarray):
        # As in NumPy files: the shorter of the first and the last axis is that of the channels.
        last = image.ndim == 3 and image.shape[0] >= image.shape[2]
        return _shown(_channels_first(image.transpose(2, 0, 1) if last else image, "array [H, W, C]"), stretch)
    raise InputError(
        f"cannot draw on a {type(image).__name__}; give a path, a Pillow image, an array or a tensor [C, H, W]"
    )


def loaded(image: PictureLike) -> PictureLike:
    """The clip of a video file; other images are returned unchanged."""
    if isinstance(image, str | os.PathLike):
        from sightline.data.videos import is_video, read_clip

        return read_clip(image) if is_video(image) else image
    return image


def picture_for(image: PictureLike, size: Size) -> tuple[Image.Image, list[Size]]:
    """The picture of an image that a result of `size` (height, width) is drawn on, and the sizes that fit it.

    A result for a clip has the size of a frame, or that of a film with any number of its frames.
    """
    if not isinstance(image, Clip):
        picture = as_picture(image)
        return picture, [(picture.height, picture.width)]
    height, width = image.image_size
    other = size[0] == height and size[1] % width == 0 and size[1] > width
    picture = as_picture(image.film(size[1] // width) if other else image)
    return picture, [(picture.height, picture.width), (height, width)]


def scaled_to(picture: Image.Image, size: int | None) -> Image.Image:
    """Resize an image so that its longer side has `size` pixels; small images are enlarged without blurring."""
    if size is None or max(picture.size) == size:
        return picture
    factor = size / max(picture.size)
    target = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    how = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    return picture.resize(target, Image.Resampling.NEAREST if factor >= 4 else how)


def _channels_first(array: np.ndarray, wanted: str) -> np.ndarray:
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"cannot draw on an array of shape {list(array.shape)}; give a {wanted} or [H, W]")
    return array


def _shown(array: np.ndarray, stretch: bool | None) -> Image.Image:
    """Convert [C, H, W] of any type to RGB."""
    channels = array[:3] if len(array) >= 3 else array[:1]
    if channels.dtype == bool:
        channels = channels.astype(np.uint8) * 255
    elif channels.dtype != np.uint8 or stretch:
        values = np.nan_to_num(channels.astype(np.float32))
        if stretch is None:
            stretch = channels.dtype.kind != "f" or bool(values.min() < -0.01 or values.max() > 1.01)
        if stretch:
            low, high = np.percentile(values, (0.5, 99.5))
            if high <= low:
                low, high = float(values.min()), float(values.max())
            values = (values - low) / (high - low) if high > low else np.zeros_like(values)
        channels = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    rgb = np.broadcast_to(channels, (3, *channels.shape[1:]))
    return Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0)))
