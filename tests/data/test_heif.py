"""HEIC and AVIF: pixels, size and orientation as those of the same picture in PNG; a sentence without the extra."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from sightline.data import heif
from sightline.data.formats import open_dataset
from sightline.data.images import image_size, is_image, read_image
from sightline.errors import InputError

from .formats.helpers import rows, text

ORIENTATION = 274
SCENE = np.zeros((32, 64, 3), np.uint8)
SCENE[:16, :32] = (200, 30, 30)  # red where it stands top left
SCENE[16:, 32:] = (30, 30, 200)


def saved(path: Path, orientation: int = 1) -> Path:
    """The scene stored so that it stands upright with that orientation."""
    pillow_heif = pytest.importorskip("pillow_heif")
    stored = {1: SCENE, 3: SCENE[::-1, ::-1], 6: np.rot90(SCENE, 1), 8: np.rot90(SCENE, -1)}[orientation]
    picture = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pillow_heif.register_heif_opener()
    picture.save(path, "AVIF" if path.suffix == ".avif" else "HEIF", quality=90, exif=exif.tobytes())
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".avif"])
def test_upright_as_a_person_sees_it(tmp_path: Path, suffix: str, orientation: int):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = saved(tmp_path / f"a{suffix}", orientation)
    assert is_image(path)
    assert image_size(path) == (32, 64)
    pixels = read_image(path).numpy().transpose(1, 2, 0).astype(int)
    assert pixels.shape == SCENE.shape
    assert np.abs(pixels - SCENE).mean() < 4


def test_by_content_not_by_name(tmp_path: Path):
    path = shutil.copyfile(saved(tmp_path / "a.heic"), tmp_path / "a.jpg")
    assert image_size(path) == (32, 64)
    assert read_image(path).shape == (3, 32, 64)


def test_in_a_dataset(tmp_path: Path):
    saved(tmp_path / "photo.heic", 6)
    text(tmp_path / "labels.csv", "filename,class,xmin,ymin,xmax,ymax\nphoto.heic,dog,.0,.0,.5,.5\n")
    assert rows(open_dataset(tmp_path), 0) == [("dog", 0, 0, 32, 16)]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr(heif, "_registered", False)
    monkeypatch.setattr("sightline.runtime.optional.find_spec", lambda name: None)
    for read in (image_size, read_image):
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value) == (
            f"{path} is a HEIC image, which needs pillow-heif, which is not installed: pip install 'sightline[heif]'"
        )


def test_damaged(tmp_path: Path):
    path = tmp_path / "a.heic"
    saved(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot read the image"):
        read_image(path)
