"""TIFF files with any number of channels, read with Pillow's decoder even if Pillow alone cannot read them.

A page with N samples of B bytes is passed to Pillow's TIFF decoder as a grey 8-bit page that is N·B times as wide: the
compressed bytes stay in place, and a new directory is appended. The decoded bytes are then interpreted by NumPy. This
way, every compression supported by Pillow works with any number of samples of any type.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from sightline.data.orientation import STANDING, known_orientation
from sightline.data.room import require_memory
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

# Tags of TIFF 6.0 (1992), section 8 and later
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_COUNTS, _EXTRA, _FORMAT = 317, 322, 323, 324, 325, 338, 339
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_KINDS = {1: "u", 2: "i", 3: "f"}

_LONGEST = 1 << 28
"""Maximum number of bytes of one tag's values: more strips than any file has."""

Tags = dict[int, tuple[int, ...]]


def read(path: str) -> np.ndarray | None:
    """The samples of a TIFF that Pillow alone would not read completely: [H, W, C], or [H, W]; None for ordinary files.

    Several pages with one size and one sample each are the channels of one image; other additional pages (thumbnails,
    lower resolutions) are ignored.

    Raises:
        InputError: the sample type or compression is not supported.
    """
    data = reading.read_bytes(path)
    pages, order = _directories(data)
    if not pages:
        return None
    first = pages[0]
    if _are_channels(pages):
        height, width = _shape(first)
        require_memory(height * width, len(pages), max(first.get(_BITS, (1,))) // 8, len(data))
        return np.stack([_page(data, page, order, path)[:, :, 0] for page in pages], axis=2)
    return None if _ordinary(first) else _page(data, first, order, path)


def header(path: str) -> tuple[Size, int, bool] | None:
    """(height, width) after rotation, orientation, and whether samples are integers above 8 bits, for files of `read`.

    None for ordinary files.
    """
    with reading.open_binary(path) as file:
        pages, _ = _directories(file)
    if not pages or (len(pages) == 1 and _ordinary(pages[0])):
        return None
    height, width = _shape(pages[0])
    how = known_orientation(_one(pages[0], _ORIENTATION, 1))
    wide = max(pages[0].get(_BITS, (1,))) > 8 and _one(pages[0], _FORMAT, 1) != 3
    return ((width, height) if how >= 5 else (height, width)), how, wide


def unread_pages(path: str) -> int:
    """Number of further pages of the first one's size, which `read` ignores: pages of a document, frames of a film."""
    with reading.open_binary(path) as file:
        pages, _ = _directories(file)
    return 0 if _are_channels(pages) else sum(_shape(page) == _shape(pages[0]) for page in pages[1:])


def _are_channels(pages: list[Tags]) -> bool:
    """Whether each page is one channel of one image."""
    return len(pages) > 1 and all(_shape(p) == _shape(pages[0]) and _one(p, _SAMPLES, 1) == 1 for p in pages)


def _ordinary(tags: Tags) -> bool:
    """Whether Pillow alone reads all samples at full depth."""
    samples, bits, kind = _one(tags, _SAMPLES, 1), max(tags.get(_BITS, (1,))), _one(tags, _FORMAT, 1)
    if samples == 1:
        return bits < 8 or (bits in (8, 16) and kind in (1, 4)) or (bits == 32 and kind == 3)
    colours = {3: (2, 6, 8), 4: (2, 5)}.get(samples, ())
    meaning = _one(tags, _PHOTOMETRIC, 1)
    alpha_known = samples == 3 or meaning == 5 or _one(tags, _EXTRA, 0) in (1, 2)
    return bits == 8 and kind in (1, 4) and meaning in colours and alpha_known


def _page(data: bytes, tags: Tags, order: str, path: str) -> np.ndarray:
    """One page's samples [H, W, C], after rotation."""
    bits, kind = set(tags.get(_BITS, (1,))), _one(tags, _FORMAT, 1)
    samples = _one(tags, _SAMPLES, 1)
    if len(bits) > 1 or bits - {8, 16, 32, 64} or kind not in _KINDS or (kind == 3 and bits == {8}):
        raise InputError(
            f"{path} has {samples} samples per pixel with {'/'.join(map(str, sorted(bits)))} bits and sample format "
            f"{kind}, which is not supported; save it with 8, 16 or 32 bits per sample, or as .npy"
        )
    if _one(tags, _COMPRESSION, 1) in (6, 7):
        raise InputError(
            f"{path} has {samples} JPEG-compressed samples per pixel, which is not supported; save it with deflate"
        )
    dtype = np.dtype(f"{order}{_KINDS[kind]}{bits.pop() // 8}")
    planar = _one(tags, _PLANAR, 1) == 2 and samples > 1
    planes, each = (samples, 1) if planar else (1, samples)
    array = np.concatenate([_plane(data, tags, order, dtype, each, k, planes) for k in range(planes)], axis=2)
    turn = STANDING.get(_one(tags, _ORIENTATION, 1))
    return turn(array) if turn else array


def _plane(data: bytes, tags: Tags, order: str, dtype: np.dtype, samples: int, k: int, planes: int) -> np.ndarray:
    """Plane `k` of `planes`, [H, W, samples], in the machine's byte order."""
    height, width = _shape(tags)
    wide = samples * dtype.itemsize
    new: Tags = {_LENGTH: (height,), _BITS: (8,), _COMPRESSION: tags.get(_COMPRESSION, (1,)), _PHOTOMETRIC: (1,)}
    new |= {_SAMPLES: (1,), _PLANAR: (1,)}
    padded = width
    if _TILES in tags:
        tile = _one(tags, _TILE_WIDTH, width)
        padded = -(-width // tile) * tile  # tiles extend beyond the border, and so must the widened ones
        new |= {_TILE_WIDTH: (tile * wide,), _TILE_LENGTH: tags[_TILE_LENGTH]}
    else:
        tile = width
        new |= {_ROWS: tags.get(_ROWS, (height,))}
    for starts, counts in ((_STRIPS, _COUNTS), (_TILES, _TILE_COUNTS)):
        if starts in tags:
            share = len(tags[starts]) // planes
            new |= {
                starts: tags[starts][k * share : (k + 1) * share],
                counts: tags[counts][k * share : (k + 1) * share],
            }
    require_memory(height * padded, samples * planes, dtype.itemsize, len(data))
    new[_WIDTH] = (padded * wide,)
    file = io.BytesIO(_with_directory(data, new, order))
    decoded = np.asarray(TiffImagePlugin.TiffImageFile(file))  # Image.open would refuse the widened page as a bomb
    predictor = _one(tags, _PREDICTOR, 1)
    cells = decoded.reshape(height, padded // tile, tile * wide)
    if predictor == 3:  # Adobe's TIFF Technical Note 3: differences of bytes, each row's highest bytes first
        lanes = cells.reshape(*cells.shape[:2], -1, samples)
        summed = np.cumsum(lanes, axis=2, dtype=np.uint8).reshape(*cells.shape[:2], dtype.itemsize, -1)
        values = np.ascontiguousarray(summed.swapaxes(2, 3)).view(dtype.newbyteorder(">"))
    else:
        values = cells.view(dtype)
    values = values.reshape(height, padded // tile, tile, samples).astype(dtype.newbyteorder("="))
    if predictor == 2:  # section 14: each sample is the difference to that of the previous pixel
        values = np.cumsum(values, axis=2, dtype=values.dtype)
    return values.reshape(height, padded, samples)[:, :width]


def _with_directory(data: bytes, tags: Tags, order: str) -> bytes:
    """The file with one directory, containing `tags`, appended."""
    start = len(data) + len(data) % 2
    entries, beyond = [], b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, beyond = struct.pack(f"{order}I", after + len(beyond)), beyond + packed
        entries.append(struct.pack(f"{order}HHI", tag, 4, len(values)) + packed)
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4) + beyond
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return header + data[8:] + bytes(len(data) % 2) + directory


def _directories(data: bytes | BinaryIO) -> tuple[list[Tags], str]:
    """The integer tags of every page, and the byte order; no pages if the file cannot be parsed."""
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "")
    if not order:
        return [], ""
    pages: list[Tags] = []
    try:
        (version,) = struct.unpack(f"{order}H", file.read(2))
        big = version == 43  # BigTIFF: 8-byte offsets
        if big:
            file.read(4)
        count, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
        (position,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
        seen = set()
        while position and position not in seen:
            seen.add(position)
            file.seek(position)
            (entries,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
            size = struct.calcsize(order + entry) + struct.calcsize(offset)
            block = file.read(entries * size)
            (position,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
            pages.append(_tags(file, block, size, order, entry, offset))
    except (struct.error, MemoryError, OverflowError):
        return [], ""  # damaged: Pillow reports the error
    return [page for page in pages if _WIDTH in page and _LENGTH in page], order


def _tags(file: BinaryIO, block: bytes, size: int, order: str, entry: str, offset: str) -> Tags:
    tags: Tags = {}
    for start in range(0, len(block), size):
        tag, kind, count = struct.unpack_from(order + entry, block, start)
        if kind not in _TYPES:
            continue
        form = f"{order}{count}{_TYPES[kind]}"
        place = start + size - struct.calcsize(order + offset)
        if struct.calcsize(form) > _LONGEST:
            raise struct.error(f"tag {tag} has {count} values")
        if struct.calcsize(form) <= struct.calcsize(order + offset):
            tags[tag] = struct.unpack_from(form, block, place)
        else:
            file.seek(*struct.unpack_from(order + offset, block, place))
            tags[tag] = struct.unpack(form, file.read(struct.calcsize(form)))
    return tags


def _one(tags: Tags, tag: int, default: int) -> int:
    values = tags.get(tag) or (default,)
    return values[0]


def _shape(tags: Tags) -> Size:
    return tags[_LENGTH][0], tags[_WIDTH][0]
