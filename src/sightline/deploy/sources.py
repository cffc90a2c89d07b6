"""Find and read the images that a user gives: paths, folders, patterns, Pillow images, arrays and tensors."""

from __future__ import annotations

import glob
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.data.arrays import image_tensor, whole_numbers
from sightline.data.dataset import Dataset
from sightline.data.full_scale import FullScale, Scale, evenly_spaced, max_sample_of
from sightline.data.images import SUFFIXES, from_pil, is_image, is_wide_image, max_sample, pil_samples, read_image
from sightline.data.videos import is_video
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Camera, Clip, Size, with_camera
from sightline.words import counted, shown

log = logging.getLogger("sightline")

_File = TypeVar("_File", Path, str)
Source = Any
"""The path of an image or video, of a folder (its images, else its videos), or a pattern ("photos/*.jpg"); a Pillow
image; an array [H, W] or [H, W, C]; a tensor [C, H, W] or [H, W]; a `Clip`; a batch of these with an additional first
axis; the bytes of an image file, or a file opened for reading bytes; a dataset; or a sequence of any of these."""


@dataclass(frozen=True)
class Item:
    """One image to predict: a path, or the image itself.

    Attributes:
        name: the path, or a name for an image in memory; None for a single image in memory.
        image: a path, a Pillow image, an array, a tensor, or the bytes of an image file.
        camera: for a file whose camera is known, a function of (height, width) that reads it.
    """

    name: str | None
    image: Path | Image.Image | np.ndarray | Tensor | bytes
    camera: Callable[[Size], Camera | None] | None = None

    def read(self, channels: int = 3, full_scale: Scale = None, with_cameras: bool = False) -> Tensor:
        """Read the image as [channels, H, W], uint8 or float in [0, 1].

        Args:
            channels: number of channels of the result.
            full_scale: value of white for samples of more than 8 bits, as in `read_image`.
            with_cameras: return a `View` if the camera is known.

        Raises:
            InputError: it cannot be read, or has another number of channels.
        """
        image = self._read(channels, full_scale)
        if self.camera is None or not with_cameras:
            return image
        return with_camera(image, self.camera((int(image.shape[1]), int(image.shape[2]))))

    def _read(self, channels: int, full_scale: Scale) -> Tensor:
        if isinstance(self.image, Path):
            return read_image(self.image, channels, full_scale=full_scale)
        if isinstance(self.image, bytes):
            with as_file(self.image, self.name or "given as bytes") as path:
                return read_image(path, channels, full_scale=full_scale)
        if isinstance(self.image, Image.Image):
            return from_pil(self.image, channels, full_scale)
        return image_tensor(self.image, channels, self.name or "the image", full_scale)

    def highest(self) -> int | None:
        """The largest sample if samples are integers of more than 8 bits (or of a type for more); else None."""
        if isinstance(self.image, Path):
            return max_sample(self.image)
        if isinstance(self.image, bytes):
            with as_file(self.image, self.name or "given as bytes") as path:
                return max_sample(path)
        if isinstance(self.image, Image.Image):
            wide = self.image.mode.startswith("I") or is_wide_image(self.image)
            return max_sample_of(pil_samples(self.image, None)) if wide else None
        if isinstance(self.image, np.ndarray):
            return max_sample_of(self.image)
        image = self.image
        wide = not (image.dtype in (torch.uint8, torch.bool) or image.is_floating_point() or image.is_complex())
        return int(whole_numbers(image).max()) if wide and image.numel() else None


def find_images(source: Source, tell: bool = True) -> tuple[list[Item], bool]:
    """Find the images that a user gives, in order (folders and patterns sorted), and whether it is a single one.

    Args:
        source: what the user gives.
        tell: log the videos that are left out of folders and patterns because there are images.

    Raises:
        InputError: no image was found; the message says what was searched.
    """
    if isinstance(source, str | os.PathLike):
        return _find_path(os.fspath(source), tell)
    if isinstance(source, bytes | bytearray | memoryview):
        return [Item(None, bytes(source))], True
    if callable(getattr(source, "read", None)) and not isinstance(source, Image.Image):
        return [_of_file(source)], True
    if isinstance(source, Dataset):
        return [_of_dataset(source, i) for i in range(len(source))], False
    if isinstance(source, Image.Image):
        return [Item(None, source)], True
    if isinstance(source, np.ndarray | Tensor):
        if source.ndim == 4 and not isinstance(source, Clip):
            return _numbered([Item(None, image) for image in source]), False
        return [Item(None, source)], True
    if not isinstance(source, Iterable) or hasattr(source, "image_size"):  # labels or results are not images
        raise InputError(
            f"an image cannot be of type {type(source).__name__}; give a path, a folder, a pattern, a Pillow image, "
            "an array, a tensor, bytes, an open file, or a list of these"
        )
    items = [item for one in source for item in find_images(one, tell)[0]]
    if not items:
        raise InputError("the list of images is empty; give at least one")
    return _numbered(items), False


def common_scale(items: list[Item], full_scale: int | None) -> Scale:
    """The divisor of the samples of all images: the given full scale, or one that is estimated when it is needed.

    An estimated value is logged once. See `sightline.data.full_scale`.

    Raises:
        InputError: the given value is not an integer from 1 to 65535.
    """
    scale = FullScale(full_scale)

    def value() -> int | None:
        return scale.value(lambda: (item.highest() for item in evenly_spaced(items)), log_scale)

    def log_scale(highest: int, found: int) -> None:
        log.warning(
            "images have integer samples of up to %d, of more than 8 bits or of a type that can hold more: they are "
            "divided by %d; give full_scale if they have another range",
            highest,
            found,
        )

    return value


def _of_dataset(data: Dataset, i: int) -> Item:
    path = data.path(i)
    if path is None:
        return Item(data.name(i), data.image(i))
    return Item(data.name(i), path, lambda size: data.camera(i, size))


def _of_file(file: Any) -> Item:
    """Read the image of an open file, from its current position."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else None
    try:
        data = file.read()
    except UnicodeDecodeError:
        data = ""
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name or 'the file'} cannot be read ({error}); open it again with open(path, 'rb')"
        ) from None
    if not isinstance(data, bytes | bytearray):
        raise InputError(f"{name or 'the file'} is opened as text; open it with open(path, 'rb'), or give its path")
    return Item(name, bytes(data))


_ENDINGS = (
    *((0, mark, ".tif") for mark in (b"II*\0", b"MM\0*", b"II+\0")),
    (0, b"\x93NUMPY", ".npy"),
    (0, b"\x1aE\xdf\xa3", ".mkv"),
    (8, b"AVI ", ".avi"),
    *((4, b"ftyp" + brand, ".mp4") for brand in (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42")),
    *((4, b"ftyp" + brand, ".mp4") for brand in (b"avc1", b"M4V ", b"qt  ", b"3gp4", b"3gp5", b"3gp6")),
)
"""Formats that the reader recognises by their suffix: the place and the bytes by which their files are known."""


@contextmanager
def as_file(data: bytes, name: str) -> Iterator[str]:
    """Context that provides the bytes of an image or video file as a file for the reader.

    Raises:
        InputError: the file could not be read; the message gives the name of the image.
    """
    ending = next((ending for at, mark, ending in _ENDINGS if data[at : at + len(mark)] == mark), ".image")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"image{ending}")
        Path(path).write_bytes(data)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(path, name)) from None


def _numbered(items: list[Item]) -> list[Item]:
    return [replace(item, name=item.name or f"image {i}") for i, item in enumerate(items)]


def _find_path(path: str, tell: bool) -> tuple[list[Item], bool]:
    if "://" in path:
        raise InputError(f"{path} is a web address; download the image and give its path")
    if os.path.isdir(path):
        every = [p for p in _files_below(path) if p.is_file()]
        inside = _one_kind([p for p in every if not (is_image(p) and _is_mask(p, Path(path)))], path, tell)
        if not inside:
            raise InputError(
                f"the folder {path} and its subfolders hold no images; searched for files ending in "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        return [Item(str(p), p) for p in inside], False
    if os.path.exists(path):
        return [Item(path, Path(path))], True
    if not glob.has_magic(path):
        raise InputError(
            f"there is no image or folder {path}; correct the path, or give a pattern of files such as photos/*.jpg"
        )
    matched = [p for p in sorted(_matches(path)) if os.path.isfile(p)]
    images = _one_kind(matched, path, tell)
    if not images:
        others = f"; the {len(matched)} matching files are not images" if matched else ""
        raise InputError(f"no image matches the pattern {path}{others}; correct it, or give a folder")
    return [Item(p, Path(p)) for p in images], False


def _one_kind(files: list[_File], place: str, tell: bool) -> list[_File]:
    """The images among files, else the videos; with `tell`, videos that are left out are logged."""
    images, videos = [p for p in files if is_image(p)], [p for p in files if is_video(p)]
    if images and videos and tell:
        log.warning(
            "%s has %s beside its images, %s left out; name the videos, such as %s, to predict them",
            shown(place),
            counted(len(videos), "video"),
            "which is" if len(videos) == 1 else "which are",
            shown(str(videos[0])),
        )
    return images or videos


def _files_below(folder: str) -> list[Path]:
    """All files below a folder, sorted, without hidden ones; links to folders are followed, but not in circles."""
    found = []
    for at, folders, names in reading.walk(folder):
        folders[:] = [name for name in folders if not reading.is_hidden(name)]
        found += [Path(at, name) for name in names if not reading.is_hidden(name)]
    return sorted(found)


def _matches(pattern: str) -> list[str]:
    """The paths that match a pattern; ** matches folders at any depth; circular links are not followed."""
    start, stars, rest = pattern.partition("**")
    if not stars:
        return glob.glob(pattern)
    found: list[str] = []
    for top in glob.glob(start) if start else ["."]:
        for at, folders, _ in reading.walk(top):
            folders[:] = [name for name in folders if not reading.is_hidden(name)]
            found += glob.glob(os.path.join(glob.escape(at), rest.lstrip("/") or "*"))
    return list(dict.fromkeys(found if start else map(os.path.relpath, found)))


def _is_mask(path: Path, root: Path) -> bool:
    """Whether a file is in a folder of masks next to a folder of images, as in a dataset of class maps."""
    from sightline.data.formats.semantic import IMAGES, MASKS

    inside = path.relative_to(root).parts[:-1]
    return any(
        part in MASKS and any((root.joinpath(*inside[:k]) / name).is_dir() for name in IMAGES)
        for k, part in enumerate(inside)
    )
