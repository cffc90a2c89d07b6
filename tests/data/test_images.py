"""The image reader: against Pillow's own decoding, NumPy, and TIFF files put together byte by byte."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sightline as sl
from sightline.data.images import (
    from_pil,
    image_size,
    is_image,
    max_sample,
    orientation,
    read_image,
    read_map,
    to_pil,
    unread_pages,
)
from sightline.data.room import unlimited_size
from sightline.errors import InputError


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def chw(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array if array.ndim == 2 else array.transpose(2, 0, 1)))


class TestKinds:
    def test_rgb(self, tmp_path: Path, noise: np.ndarray):
        Image.fromarray(noise).save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png")
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert torch.equal(image, chw(noise))
        assert image_size(tmp_path / "a.png") == (7, 11)

    def test_jpeg_is_what_pillow_decodes(self, tmp_path: Path, noise: np.ndarray):
        Image.fromarray(noise).resize((64, 48)).save(tmp_path / "a.jpg")
        assert torch.equal(read_image(tmp_path / "a.jpg"), chw(np.asarray(Image.open(tmp_path / "a.jpg"))))

    @pytest.mark.parametrize(
        ("mode", "channels", "shape"),
        [
            ("L", 3, 3),
            ("L", 1, 1),
            ("L", None, 1),
            ("LA", None, 2),
            ("LA", 1, 1),
            ("LA", 3, 3),
            ("RGBA", 3, 3),
            ("RGBA", None, 4),
            ("RGBA", 4, 4),
            ("RGBA", 1, 1),
            ("RGB", 1, 1),
            ("1", 3, 3),
            ("1", None, 1),
            ("P", None, 3),
        ],
    )
    def test_channels(self, tmp_path: Path, noise: np.ndarray, mode: str, channels: int | None, shape: int):
        source = Image.fromarray(noise).convert(mode)
        source.save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png", channels)
        assert image.shape == (shape, 7, 11)
        reference = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[shape]
        assert torch.equal(image, chw(np.asarray(source.convert(reference))).reshape(shape, 7, 11))

    def test_palette_and_transparent_palette(self, tmp_path: Path, noise: np.ndarray):
        palette = Image.fromarray(noise).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
        palette.save(tmp_path / "a.png")
        assert torch.equal(read_image(tmp_path / "a.png"), chw(np.asarray(palette.convert("RGB"))))
        palette.save(tmp_path / "b.png", transparency=0)
        assert read_image(tmp_path / "b.png", None).shape[0] == 4
        assert read_image(tmp_path / "b.png").shape[0] == 3

    def test_cmyk_jpeg_becomes_rgb(self, tmp_path: Path, noise: np.ndarray):
        Image.fromarray(noise).convert("CMYK").save(tmp_path / "a.jpg")
        assert read_image(tmp_path / "a.jpg", None).shape == (3, 7, 11)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey(self, tmp_path: Path, suffix: str):
        values = np.array([[0, 1, 256], [32768, 65534, 65535]], np.uint16)
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        image = read_image(tmp_path / f"a.{suffix}", 1)
        assert image.dtype == torch.float32
        assert torch.allclose(image[0], torch.from_numpy(values / np.float32(65535)), atol=1e-7)
        assert torch.equal(read_image(tmp_path / f"a.{suffix}", 3)[2], image[0])

    def test_other_channels_are_refused(self, tmp_path: Path, noise: np.ndarray):
        Image.fromarray(noise).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"a\.png has 3 channels, but 5 are requested.*in_channels=3"):
            read_image(tmp_path / "a.png", 5)
        with pytest.raises(InputError, match="channels is 0"):
            read_image(tmp_path / "a.png", 0)


class TestOrientation:
    @pytest.mark.parametrize("number", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    def test_all_eight(self, tmp_path: Path, number: int, suffix: str):
        """A dark corner must come to rest where the EXIF standard says; Pillow's own turning agrees."""
        from PIL import ImageOps

        picture = np.full((32, 48, 3), 255, np.uint8)
        picture[:8, :8] = 0
        exif = Image.Exif()
        exif[0x0112] = number
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(picture).save(path, exif=exif)
        image = read_image(path)
        corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[number]
        size = (32, 48) if number < 5 else (48, 32)
        assert image.shape == (3, *size) == (3, *image_size(path))
        assert image[:, -4 if corner[0] else 4, -4 if corner[1] else 4].max() < 60
        dark = (image.float().mean(0) < 128).sum()
        assert dark == 64
        with Image.open(path) as opened:
            assert torch.equal(image, chw(np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))))
            assert torch.equal(image, from_pil(Image.open(path)))
        if suffix != "tif":  # Pillow turns TIFF itself
            assert orientation(path) == number


class TestArrays:
    @pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3), (3, 5, 6), (5, 6, 7), (12, 20, 30)])
    def test_layouts(self, tmp_path: Path, shape: tuple[int, ...]):
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        np.save(tmp_path / "a.npy", array)
        image = read_image(tmp_path / "a.npy", None)
        expected = array[None] if array.ndim == 2 else array if shape[0] < shape[2] else array.transpose(2, 0, 1)
        assert np.array_equal(image.numpy(), expected)
        assert image_size(tmp_path / "a.npy") == tuple(image.shape[1:])

    def test_16_bit_float_and_bool(self, tmp_path: Path):
        np.save(tmp_path / "a.npy", np.array([[0, 65535]], np.uint16))
        assert read_image(tmp_path / "a.npy", None).tolist() == [[[0, 1]]]
        np.save(tmp_path / "b.npy", np.array([[0.25, 1.0]]))
        assert read_image(tmp_path / "b.npy", 3).tolist() == [[[0.25, 1]]] * 3
        np.save(tmp_path / "c.npy", np.array([[False, True]]))
        assert read_image(tmp_path / "c.npy", 1).tolist() == [[[0, 255]]]

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.array([[0.0, 255.0]]), r"float samples from 0 to 255, but they must lie in \[0, 1\]; divide"),
            (np.array([[0.0, np.nan]]), "samples that are NaN; replace them"),
            (np.zeros((2, 2), np.int64), "type int64, whose range is unknown; give full_scale"),
            (np.zeros((2, 2, 2, 2)), r"array \[2, 2, 2, 2\], but an image is"),
            (np.zeros((0, 4)), r"array \[0, 4\]"),
            (np.zeros((2, 2), complex), "samples of type complex128"),
        ],
    )
    def test_unsuitable(self, tmp_path: Path, array: np.ndarray, words: str):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=words):
            read_image(tmp_path / "a.npy", None)

    def test_objects_are_not_unpickled(self, tmp_path: Path):
        np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match=r"a\.npy holds Python objects"):
            read_image(tmp_path / "a.npy")


class TestDamage:
    @pytest.mark.parametrize("progressive", [False, True])
    def test_truncated_jpeg_never_gives_pixels(self, tmp_path: Path, progressive: bool):
        rows, columns = np.mgrid[:120, :160]
        picture = Image.fromarray(np.stack([rows * 2, columns, rows ^ columns], 2).astype(np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", progressive=progressive, quality=90)
        data, path = buffer.getvalue(), tmp_path / "cut.jpg"
        whole = chw(np.asarray(Image.open(io.BytesIO(data))))
        for size in [*range(0, len(data), len(data) // 40), len(data) - 3]:
            path.write_bytes(data[:size])
            with pytest.raises(InputError, match=r"cannot read the image .*cut\.jpg: .*; replace or remove it"):
                read_image(path)
        path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))  # preallocated, but never written
        with pytest.raises(InputError, match=r"cut\.jpg"):
            read_image(path)
        path.write_bytes(data)
        assert torch.equal(read_image(path), whole)

    def test_sentences(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"there is no image .*none\.jpg; correct the path"):
            read_image(tmp_path / "none.jpg")
        with pytest.raises(InputError, match="is a folder, not a file"):
            read_image(tmp_path)
        (tmp_path / "empty.png").touch()
        with pytest.raises(InputError, match=r"empty\.png: the file is empty"):
            read_image(tmp_path / "empty.png")
        (tmp_path / "words.jpg").write_text("no picture")
        for action in (read_image, image_size, orientation):
            with pytest.raises(InputError, match=r"cannot read the image .*words\.jpg: its format is unknown"):
                action(tmp_path / "words.jpg")

    @settings(max_examples=60, deadline=None)
    @given(at=st.integers(0, 2000), value=st.integers(0, 255), kind=st.sampled_from(["png", "tiff", "gif", "bmp"]))
    def test_a_wrong_byte_gives_an_image_or_one_sentence(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, value: int, kind: str
    ):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(buffer, kind)
        data = bytearray(buffer.getvalue())
        data[at % len(data)] = value
        path = tmp_path_factory.mktemp("wrong") / f"a.{kind}"
        path.write_bytes(data)
        message = ""
        with contextlib.suppress(
            Warning
        ):  # an absurd size: Pillow's warning of decompression bombs is an error in tests
            try:
                message = f"{path} has shape {list(read_image(path).shape)}"
            except InputError as error:
                message = str(error)
            assert str(path) in message


def test_draft_reads_smaller_but_not_below(tmp_path: Path):
    rows, columns = np.mgrid[:480, :640]
    Image.fromarray((rows // 4 + columns // 8).astype(np.uint8)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", 1, draft=(240, 320)).shape == (1, 240, 320)
    assert read_image(tmp_path / "a.jpg", 1, draft=(241, 320)).shape == (1, 480, 640)
    assert read_image(tmp_path / "a.jpg", 3, draft=(60, 80)).shape == (3, 60, 80)
    full = read_image(tmp_path / "a.jpg", 1).float()
    half = read_image(tmp_path / "a.jpg", 1, draft=(240, 320)).float()
    assert (torch.nn.functional.avg_pool2d(full, 2) - half).abs().mean() < 1


def test_maps_keep_their_numbers(tmp_path: Path):
    ids = np.array([[0, 1, 2], [255, 3, 0]], np.uint8)
    palette = Image.fromarray(ids).convert("P")
    palette.putdata(ids.ravel().tolist())
    palette.putpalette([k for c in range(256) for k in (c, 255 - c, 7)])
    palette.save(tmp_path / "a.png")
    assert read_map(tmp_path / "a.png").tolist() == ids.tolist()
    wide = np.array([[0, 1000], [65535, 2]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "b.png")
    assert read_map(tmp_path / "b.png").tolist() == wide.tolist()
    grey = np.repeat(ids[..., None], 3, 2)
    Image.fromarray(grey).save(tmp_path / "c.png")
    assert read_map(tmp_path / "c.png").tolist() == ids.tolist()
    grey[1, 1, 2] += 1
    Image.fromarray(grey).save(tmp_path / "c.png")
    with pytest.raises(InputError, match=r"c\.png holds an array \[2, 3, 3\].*one whole number per pixel"):
        read_map(tmp_path / "c.png")


def test_to_pil_and_back(noise: np.ndarray):
    image = chw(noise)
    assert torch.equal(from_pil(to_pil(image)), image)
    assert torch.equal(from_pil(to_pil(image.float() / 255)), image)
    assert torch.equal(from_pil(to_pil(image[:1]), None), image[:1])
    assert to_pil(torch.tensor([[True, False]])).getpixel((0, 0)) == 255
    with pytest.raises(InputError, match=r"\[5, 2, 2\] cannot be shown.*image\[:3\]"):
        to_pil(torch.zeros(5, 2, 2))
    with pytest.raises(InputError, match="dtype int64"):
        to_pil(torch.zeros(3, 2, 2, dtype=torch.int64))


def test_is_image():
    assert is_image("a/b.JPG")
    assert is_image(Path("x.npy"))
    assert not is_image("a.xml")


def jpeg_with(path: Path, block: bytes) -> Path:
    Image.new("RGB", (11, 7)).save(path, exif=block)
    return path


def exif_block(kind: int, count: int, value: bytes, order: str = "II") -> bytes:
    """An EXIF block whose only entry is the orientation, of any type and value."""

    def word(n: int, size: int) -> bytes:
        return n.to_bytes(size, "little" if order == "II" else "big")

    head = order.encode() + word(42, 2) + word(8, 4)
    return b"Exif\0\0" + head + word(1, 2) + word(0x0112, 2) + word(kind, 2) + word(count, 4) + value + word(0, 4)


class TestOrientationsThatSayNothing:
    """A value other than 1 … 8 means upright, for the header, the decoder and Pillow images alike."""

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("value", [0, 9, 255, 65535])
    def test_other_values(self, tmp_path: Path, suffix: str, value: int):
        exif = Image.Exif()
        exif[0x0112] = value
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (11, 7)).save(path, exif=exif)
        assert image_size(path) == (7, 11)
        assert orientation(path) == 1
        assert read_image(path).shape == (3, 7, 11)
        coarse = read_image(path, draft=(2, 3))
        assert coarse.shape[1] < coarse.shape[2]
        with Image.open(path) as image:
            assert from_pil(image).shape == (3, 7, 11)

    @pytest.mark.parametrize(
        "block",
        [
            b"garbage",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0",
            exif_block(2, 2, b"6\0\0\0"),  # a text
            exif_block(5, 1, b"\x08\0\0\0"),  # a fraction
            exif_block(12, 1, b"\x08\0\0\0"),  # a double
            exif_block(3, 1, b"\x06\0\0\0")[:-8],  # cut within the entry
        ],
    )
    def test_damaged_blocks(self, tmp_path: Path, block: bytes):
        path = jpeg_with(tmp_path / "a.jpg", block)
        assert image_size(path) == (7, 11)
        assert orientation(path) == 1
        assert read_image(path).shape == (3, 7, 11)
        with Image.open(path) as image:
            assert from_pil(image).shape == (3, 7, 11)

    @pytest.mark.parametrize("block", [exif_block(3, 1, b"\x06\0\0\0"), exif_block(4, 1, b"\0\0\0\x06", "MM")])
    def test_whole_ones(self, tmp_path: Path, block: bytes):
        path = jpeg_with(tmp_path / "a.jpg", block)
        assert (image_size(path), orientation(path)) == ((11, 7), 6)
        assert read_image(path).shape == (3, 11, 7)

    def test_a_png_that_states_it_behind_its_pixels(self, tmp_path: Path):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (11, 7)).save(buffer, "PNG", exif=exif)
        data = buffer.getvalue()
        chunks, at = [], 8
        while at < len(data):
            length = 12 + int.from_bytes(data[at : at + 4], "big")
            chunks.append(data[at : at + length])
            at += length
        chunks.sort(key=lambda chunk: [b"IHDR", b"IDAT", b"eXIf", b"IEND"].index(chunk[4:8]))
        (tmp_path / "a.png").write_bytes(data[:8] + b"".join(chunks))
        assert image_size(tmp_path / "a.png") == (11, 7)
        assert orientation(tmp_path / "a.png") == 6
        assert read_image(tmp_path / "a.png").shape == (3, 11, 7)


class TestRoom:
    """Headers that promise giant images are refused before the memory is taken."""

    def test_a_tiff_of_few_bytes(self, tmp_path: Path):
        from tests.data.test_tiff import tiff

        data = tiff(np.zeros((4, 4, 4), np.uint16))
        for tag in (256, 257):  # width and length
            entry = struct.pack("<HHI", tag, 4, 1)
            assert data.count(entry + struct.pack("<I", 4)) == 1
            data = data.replace(entry + struct.pack("<I", 4), entry + struct.pack("<I", 60000))
        (tmp_path / "a.tif").write_bytes(data)
        assert image_size(tmp_path / "a.tif") == (60000, 60000)
        with pytest.raises(InputError, match=r"a\.tif has more pixels than are decoded at once"):
            read_image(tmp_path / "a.tif", None)

    def test_a_grey_image_of_16_bits_read_as_three_channels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sightline.data.room.MOST_BYTES", 2999)
        monkeypatch.setattr("sightline.data.room._DENSEST", 1)
        Image.fromarray(np.zeros((10, 25), np.uint16)).save(tmp_path / "a.png")  # 10 · 25 · 4 bytes a channel
        assert read_image(tmp_path / "a.png", 1).shape == (1, 10, 25)
        with pytest.raises(InputError, match="more pixels than are decoded at once"):
            read_image(tmp_path / "a.png", 3)
        with unlimited_size():
            assert read_image(tmp_path / "a.png", 3).shape == (3, 10, 25)

    def test_npy(self, tmp_path: Path):
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 1000000), }".ljust(117) + b"\n"
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(9))
        for read in (read_image, image_size):
            with pytest.raises(InputError, match="100000000000 bytes, but 9 follow"):
                read(tmp_path / "a.npy")


def png_of_16_bits(array: np.ndarray, kind: int) -> bytes:
    """A PNG of [H, W, C] uint16 samples, its rows filtered by the five rules in turn (PNG 1.2, section 6)."""
    height, width, channels = array.shape
    step, raw = 2 * channels, array.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    rows = []
    for y in range(height):
        above = raw[y - 1] if y else np.zeros_like(raw[0])
        left, corner = (np.concatenate([np.zeros(step, int), row[:-step]]) for row in (raw[y], above))
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.stack([left, above, corner])[distances.argmin(0), np.arange(len(left))]
        predicted = [0, left, above, (left + above) // 2, paeth][y % 5]
        rows.append(bytes([y % 5]) + ((raw[y] - predicted) % 256).astype(np.uint8).tobytes())

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    )


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_png_of_16_bits_keeps_them_all(tmp_path: Path, kind: int, channels: int):
    array = np.random.default_rng(kind).integers(0, 4096, (7, 9, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_16_bits(array, kind))
    image = read_image(tmp_path / "a.png", None, full_scale=4095)
    assert np.allclose(image.numpy(), array.transpose(2, 0, 1) / 4095, atol=1e-6)
    assert read_image(tmp_path / "a.png", 3, full_scale=4095).shape == (3, 7, 9)
    assert max_sample(tmp_path / "a.png") == int(array.max())
    with Image.open(tmp_path / "a.png") as picture:
        assert torch.equal(from_pil(picture, None, 4095), image)
    grey = read_image(tmp_path / "a.png", 1, full_scale=4095)[0].numpy()
    weights = [0.299, 0.587, 0.114] if channels > 2 else [1]
    assert np.allclose(grey, (array[:, :, : len(weights)] / 4095) @ weights, atol=1e-5)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "jpg"])
def test_frames_of_animations_are_counted(tmp_path: Path, ending: str):
    """`check` says that only the first frame is read; the further images in a phone's JPEG are no frames."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 7, 11, 3), dtype=np.uint8)
    first, *rest = [Image.fromarray(frame) for frame in noise]
    still, moving = tmp_path / f"still.{ending}", tmp_path / f"moving.{ending}"
    first.save(still)
    first.save(moving, format="MPO" if ending == "jpg" else None, save_all=True, append_images=rest)
    assert unread_pages(still) == 0
    assert unread_pages(moving) == (0 if ending == "jpg" else 2)
    data = sl.Dataset.from_labels([still, moving], [0, 1], ["a", "b"])
    found = [problem.value for problem in sl.check(data, progress=False).problems if problem.rule == "pages-unread"]
    assert found == ([] if ending == "jpg" else ["it has 3 frames"])
