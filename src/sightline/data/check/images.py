"""Inspects every image once, in threads: whether it exists, is complete and has the stated size, and its hash."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.data.check.duplicates import THUMBNAIL, difference_hash
from sightline.data.dataset import Dataset
from sightline.data.images import read_header, read_image, unread_pages
from sightline.errors import REPLACE, InputError
from sightline.progress import progress_bar
from sightline.runtime.reading_ahead import read_ahead
from sightline.structures import Clip, Size

_DRAFT = (72, 72)  # JPEGs are decoded only as finely as the hash needs; the whole file is still read


@dataclass
class ImageInspection:
    """What was found in one image.

    Attributes:
        rule: the rule that the image breaks ("image-missing", "image-truncated", "image-unreadable"), or None.
        error: description of the error, if there is one.
        size: (height, width) after EXIF rotation, from the header.
        orientation: EXIF orientation, 1 to 8.
        unread: number of further pages or frames of the file, which are not read.
        digest: digest of the file's (or the tensor's) bytes; None if pixels were not inspected.
        hash: 64-bit difference hash.
        thumbnail: uint8 [16, 16], grey.
        duration: length of a video in seconds; None for images, and if pixels were not inspected.
    """

    rule: str | None = None
    error: str = ""
    size: Size | None = None
    orientation: int = 1
    unread: int = 0
    digest: bytes | None = None
    hash: int = 0
    thumbnail: np.ndarray | None = None
    duration: float | None = None


def inspect_images(dataset: Dataset, pixels: bool, progress: bool) -> list[ImageInspection]:
    """Inspect every image of the dataset.

    Args:
        pixels: decode the pixels as well; otherwise only headers are read.
        progress: show a progress bar.
    """
    workers = min(8, os.cpu_count() or 1)  # decoders release the GIL
    seen = []
    each = read_ahead(lambda i: _look(dataset, i, pixels), range(len(dataset)), workers, 4 * workers)
    with progress_bar(len(dataset), "checking images", progress and len(dataset) >= 50) as advance, closing(each):
        for looks in each:
            seen.append(looks)
            advance(1)
    return seen


def _look(dataset: Dataset, i: int, pixels: bool) -> ImageInspection:
    path = dataset.path(i)
    if path is None:
        return _look_at_tensor(dataset.image(i), pixels)
    if not path.is_file():
        return ImageInspection("image-missing", "the file does not exist")
    looks = ImageInspection()
    try:
        header = read_header(path)
        looks.size, looks.orientation, looks.unread = header.size, header.orientation, unread_pages(path)
        if pixels:
            with open(path, "rb") as file:
                looks.digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
            _describe(read_image(path, dataset.channels, _DRAFT, lambda: dataset.full_scale), looks)
    except (InputError, OSError) as error:
        looks.error = str(error).removesuffix(f"; {REPLACE}")
        for what in ("image", "video"):
            looks.error = looks.error.removeprefix(f"cannot read the {what} {path}: ")
            looks.error = looks.error.replace(f"the {what} {path}", "the file")
        looks.error = looks.error.replace(str(path), "the file")
        looks.rule = "image-truncated" if "truncated" in looks.error else "image-unreadable"
    return looks


def _look_at_tensor(image: Tensor, pixels: bool) -> ImageInspection:
    looks = ImageInspection(size=(int(image.shape[-2]), int(image.shape[-1])))
    if pixels:
        raw = image.contiguous().numpy()
        looks.digest = hashlib.blake2b(repr((raw.shape, raw.dtype)).encode() + raw.tobytes(), digest_size=16).digest()
        _describe(image, looks)
    return looks


def _describe(image: Tensor, looks: ImageInspection) -> None:
    if isinstance(image, Clip):
        looks.duration = image.duration
    if image.ndim == 4:  # the frames of a video, [C, T, H, W]: the mean of all, since videos may begin alike
        image = image.float().mean(1) / (255 if image.dtype == torch.uint8 else 1)
    values = image[:3].float() if image.dtype == torch.uint8 else image[:3].float() * 255
    grey = Image.fromarray(values.mean(0).numpy())
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    looks.hash = difference_hash(small.round())  # rounded, so that noise in plain areas sets no bits
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    looks.thumbnail = np.rint(thumbnail).clip(0, 255).astype(np.uint8)
