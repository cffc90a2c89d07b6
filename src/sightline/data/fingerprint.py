"""Fingerprints of images: 48-bit hashes of their content, path and name.

A run stores the fingerprints of its training and validation images. They are then recognised even if the data is opened
later by another path, as a copy, renamed, in another format, or with more images.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sightline.data.dataset import Dataset
from sightline.errors import InputError

_BYTES = 6
_BLOCK = 1 << 14
"""Of a large file, only the first, middle and last 16 kB and its size are hashed."""


@dataclass(frozen=True)
class ImageKeys:
    """Fingerprints of n images; 0 means none.

    Attributes:
        contents: [n] uint64, of the file's bytes, or of the pixels of an image in memory.
        places: [n] uint64, of the file's absolute path.
        names: [n] uint64, of the file name without folder and extension.
    """

    contents: np.ndarray
    places: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.contents)

    @classmethod
    def empty(cls) -> ImageKeys:
        return cls(*(np.zeros(0, np.uint64) for _ in range(3)))

    @classmethod
    def of(cls, data: Dataset) -> ImageKeys:
        """The fingerprints of a dataset's images, in its order. At most 48 kB of each file are read."""
        count = len(data)
        keys = cls(*(np.zeros(count, np.uint64) for _ in range(3)))
        root = None if data.root is None else os.path.realpath(data.root)
        for i in range(count):
            name = data.name(i)
            keys.names[i] = _key(Path(name).stem.encode("utf-8", "surrogateescape"))
            if root is None:
                keys.contents[i] = _of_pixels(data.image(i))
            else:
                place = os.path.join(root, name)
                keys.places[i] = _key(place.encode("utf-8", "surrogateescape"))
                keys.contents[i] = _of_file(place)
        return keys

    def joined(self, other: ImageKeys) -> ImageKeys:
        """Concatenate two sets of fingerprints."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("contents", "places", "names"))
        return ImageKeys(*(np.concatenate(pair) for pair in pairs))

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: the number of images, and each fingerprint as base64 with 6 bytes per image."""
        packed = {name: _packed(getattr(self, name)) for name in ("contents", "places", "names")}
        return {"images": len(self), **packed}

    @classmethod
    def from_dict(cls, values: Any) -> ImageKeys:
        """Create from the output of `to_dict`.

        Raises:
            InputError: the values are invalid.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"the keys of its images are a {type(values).__name__}, not a table")
        arrays = [_unpacked(values.get(name), name) for name in ("contents", "places", "names")]
        if len({len(array) for array in arrays}) != 1:
            raise InputError("the keys of its images have different lengths")
        return cls(*arrays)


def labels_key(data: Dataset) -> str:
    """A hexadecimal fingerprint of a dataset's labels. It changes if any label changes.

    It covers boxes, classes, crowd flags, outlines, keypoints and image classes; for class maps it covers the files.
    """
    columns, total = data.columns, hashlib.blake2b(digest_size=_BYTES)
    arrays = (columns.offsets, columns.boxes.astype(np.float32), columns.labels, columns.crowd)
    blobs = (columns.segmentations.data, columns.segmentations.offsets - columns.segmentations.offsets[:1])
    for array in (*arrays, *blobs, columns.keypoints, columns.image_labels):
        total.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    for name in columns.maps or ():
        place = os.path.join(os.fsencode(data.root or ""), name)
        total.update(_of_file(os.fsdecode(place)).to_bytes(8, "little"))
    return total.hexdigest()


def _key(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=_BYTES).digest(), "little") or 1


def _of_file(path: str) -> int:
    """0 if the file cannot be read; the error is reported where the image is used."""
    try:
        if not os.path.isfile(path):
            return 0
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            starts = (0,) if size <= 3 * _BLOCK else (0, (size - _BLOCK) // 2, size - _BLOCK)
            parts = [str(size).encode()]
            for start in starts:
                file.seek(start)
                parts.append(file.read(3 * _BLOCK if len(starts) == 1 else _BLOCK))
    except OSError:
        return 0
    return _key(b"".join(parts))


def _of_pixels(image: Tensor) -> int:
    return _key(str((image.dtype, tuple(image.shape))).encode() + image.contiguous().cpu().numpy().tobytes())


def _packed(keys: np.ndarray) -> str:
    low = keys.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :_BYTES]
    return base64.b64encode(np.ascontiguousarray(low).tobytes()).decode("ascii")


def _unpacked(text: Any, name: str) -> np.ndarray:
    if not isinstance(text, str):
        raise InputError(f"the {name} of its images are a {type(text).__name__}, not a string")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"the {name} of its images are not valid base64") from None
    if len(data) % _BYTES:
        raise InputError(f"the {name} of its images are truncated")
    wide = np.zeros((len(data) // _BYTES, 8), np.uint8)
    wide[:, :_BYTES] = np.frombuffer(data, np.uint8).reshape(-1, _BYTES)
    return wide.reshape(-1).view("<u8").astype(np.uint64)


def found_in(keys: np.ndarray, among: Sequence[int] | np.ndarray) -> np.ndarray:
    """bool [n]: which keys are contained in `among`; 0 is never contained."""
    return np.isin(keys, among) & (keys != 0)
