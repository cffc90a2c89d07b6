"""TIFF of many channels: against files put together byte by byte from the standard's tables."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.images import image_size, read_image, unread_pages
from sightline.errors import InputError


def tiff(array: np.ndarray, order: str = "<", planar: bool = False, deflate: bool = False, rows: int = 3,
         tile: int | None = None, predictor: int = 1, extra: int = 0, orientation: int = 1) -> bytes:  # fmt: skip
    """A TIFF of [H, W, C] samples written down tag by tag, as TIFF 6.0 describes it."""
    height, width, samples = array.shape
    array = array.astype(array.dtype.newbyteorder(order))
    planes = [array[:, :, c : c + 1] for c in range(samples)] if planar else [array]
    chunks = []
    for plane in planes:
        if tile:
            padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, plane.shape[2]), array.dtype)
            padded[:height, :width] = plane
            pieces = [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
        else:
            pieces = [plane[y : y + rows] for y in range(0, height, rows)]
        for piece in pieces:
            if predictor == 2:
                piece = np.concatenate([piece[:, :1], np.diff(piece, axis=1)], axis=1).astype(array.dtype)
            data = piece.tobytes()
            if predictor == 3:
                size = array.dtype.itemsize
                big = piece.astype(piece.dtype.newbyteorder(">"))
                lanes = np.frombuffer(big.tobytes(), np.uint8).reshape(piece.shape[0], -1, size)
                lanes = np.ascontiguousarray(lanes.swapaxes(1, 2)).reshape(piece.shape[0], -1, piece.shape[2])
                data = np.concatenate([lanes[:, :1], np.diff(lanes, axis=1)], axis=1).astype(np.uint8).tobytes()
            chunks.append(zlib.compress(data) if deflate else data)
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    starts = list(np.cumsum([8, *map(len, chunks)])[:-1])
    tags = {256: [width], 257: [height], 258: [array.dtype.itemsize * 8] * samples, 259: [8 if deflate else 1]}
    tags |= {262: [1], 274: [orientation], 277: [samples], 284: [2 if planar else 1], 317: [predictor]}
    tags |= {339: [kind] * samples} | ({338: [extra] * (samples - 1)} if samples > 1 else {})
    counts = [len(chunk) for chunk in chunks]
    tags |= {322: [tile], 323: [tile], 324: starts, 325: counts} if tile else {273: starts, 278: [rows], 279: counts}
    body = b"".join(chunks)
    at = 8 + len(body)
    beyond, entries = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *map(int, values))
        if len(values) > 1:
            packed, beyond = struct.pack(f"{order}I", at + 2 + 12 * len(tags) + 4 + len(beyond)), beyond + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, at)
    return header + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond


class TestTiff:
    def test_pages_are_channels(self, tmp_path: Path):
        pages = np.random.default_rng(0).integers(0, 256, (5, 6, 8), dtype=np.uint8)
        first, *rest = [Image.fromarray(page) for page in pages]
        first.save(tmp_path / "a.tif", save_all=True, append_images=rest, compression="tiff_lzw")
        image = read_image(tmp_path / "a.tif", None)
        assert np.array_equal(image.numpy(), pages)
        assert torch.equal(read_image(tmp_path / "a.tif", 5), image)
        assert image_size(tmp_path / "a.tif") == (6, 8)
        with pytest.raises(InputError, match=r"a\.tif has 5 channels, but 3 are requested"):
            read_image(tmp_path / "a.tif")

    def test_16_bit_pages(self, tmp_path: Path):
        pages = np.random.default_rng(0).integers(0, 65536, (2, 6, 8), dtype=np.uint16)
        Image.fromarray(pages[0]).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(pages[1])])
        assert torch.allclose(read_image(tmp_path / "a.tif", None), torch.from_numpy(pages / np.float32(65535)))

    def test_a_thumbnail_is_no_channel(self, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
        small = Image.fromarray(noise[:3, :3])
        Image.fromarray(noise).save(tmp_path / "a.tif", save_all=True, append_images=[small])
        assert torch.equal(read_image(tmp_path / "a.tif", None), torch.from_numpy(noise).permute(2, 0, 1))

    def test_pages_of_colours_are_counted(self, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (3, 7, 11, 3), dtype=np.uint8)
        first, *rest = [Image.fromarray(page) for page in noise]
        small = first.resize((3, 3))
        for name, colours, others, expected in (
            ("one", first, [], 0),
            ("three", first, [*rest, small], 2),
            ("channels", first.convert("L"), [one.convert("L") for one in rest], 0),
        ):
            colours.save(tmp_path / f"{name}.tif", save_all=True, append_images=others)
            assert unread_pages(tmp_path / f"{name}.tif") == expected
        data = sl.Dataset.from_labels([tmp_path / "one.tif", tmp_path / "three.tif"], [0, 1], ["a", "b"])
        (note,) = [problem for problem in sl.check(data, progress=False).problems if problem.rule == "pages-unread"]
        assert (Path(note.file).name, note.value, note.level) == ("three.tif", "it has 3 pages", "note")

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    @pytest.mark.parametrize("samples", [2, 4, 6])
    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"order": ">"},
            {"planar": True},
            {"deflate": True},
            {"tile": 16},
            {"deflate": True, "predictor": 2},
            {"planar": True, "order": ">", "deflate": True, "predictor": 2},
            {"tile": 16, "predictor": 2, "deflate": True},
            {"orientation": 6},
            {"planar": True, "tile": 16, "order": ">"},
        ],
        ids=str,
    )
    def test_many_samples(self, tmp_path: Path, dtype: str, samples: int, form: dict):
        top = 256 ** np.dtype(dtype).itemsize
        array = np.random.default_rng(0).integers(0, top, (20, 22, samples)).astype(dtype)
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(array, **form))
        image = read_image(path, None)
        expected = np.rot90(array, -1) if form.get("orientation") == 6 else array
        scale = 1 if dtype == "u1" else 65535
        assert image.dtype == (torch.uint8 if dtype == "u1" else torch.float32)
        assert torch.allclose(image.double(), torch.from_numpy(expected.transpose(2, 0, 1) / scale), atol=1e-7)
        assert image_size(path) == expected.shape[:2]

    @pytest.mark.parametrize("form", [{}, {"order": ">"}, {"predictor": 3, "deflate": True}, {"planar": True}], ids=str)
    def test_float_samples(self, tmp_path: Path, form: dict):
        array = np.random.default_rng(0).random((9, 8, 3)).astype(np.float32)
        (tmp_path / "a.tif").write_bytes(tiff(array, **form))
        assert np.array_equal(read_image(tmp_path / "a.tif").numpy(), array.transpose(2, 0, 1))

    def test_what_is_not_read_is_said(self, tmp_path: Path):
        array = np.zeros((4, 4, 3), np.int32)
        array[0, 0, 0] = -5
        (tmp_path / "a.tif").write_bytes(tiff(array))
        with pytest.raises(InputError, match=r"a\.tif has whole numbers from -5 to 0"):
            read_image(tmp_path / "a.tif")

    def test_truncated(self, tmp_path: Path):
        data = tiff(np.random.default_rng(0).integers(0, 256, (20, 20, 6)).astype(np.uint8), deflate=True)
        for size in (0, 3, 9, 100, len(data) // 2, len(data) - 200, len(data) - 10):
            (tmp_path / "a.tif").write_bytes(data[:size])
            with pytest.raises(InputError, match=r"a\.tif"):
                read_image(tmp_path / "a.tif", None)
