"""Tiles against the whole image, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.api import predict_to_folder
from sightline.data.formats import open_dataset
from sightline.data.images import image_size
from sightline.deploy.predict import predict
from sightline.deploy.tiled import predict_tiled, tile_starts
from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.models.segmentation.segmenter import Segmenter


class AsTheyAre(Preprocess):
    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        return size


@pytest.fixture
def model() -> Segmenter:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2))  # sees 4 away
    return Segmenter(["a", "b", "c"], AsTheyAre(divisor=1), network).train()


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)


@pytest.mark.parametrize(("tile", "overlap"), [(40, 16), (48, 20), (200, 16), (64, 32)])
def test_tiles_equal_the_whole_image(model: Segmenter, picture: np.ndarray, tile: int, overlap: int) -> None:
    whole = predict(model, picture).labels.numpy()
    assert len(np.unique(whole)) == 3
    found = predict_tiled(model, picture, tile, overlap, batch_size=3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, whole)
    assert model.training
    assert np.array_equal(predict(model, picture, tile=tile, overlap=overlap).labels.numpy(), whole)


def test_every_kind_of_image_and_of_output(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    whole = predict_tiled(model, picture, 40, 16)
    np.save(tmp_path / "big.npy", picture)
    assert np.array_equal(predict_tiled(model, tmp_path / "big.npy", 40, 16, out=tmp_path / "ids.npy"), whole)
    assert np.array_equal(np.load(tmp_path / "ids.npy", mmap_mode="r"), whole)
    predict_tiled(model, Image.fromarray(picture), 40, 16, out=tmp_path / "ids.png")
    with Image.open(tmp_path / "ids.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), whole)
    mine = np.zeros(whole.shape, np.uint8)
    assert predict_tiled(model, torch.from_numpy(picture).permute(2, 0, 1), 40, 16, out=mine) is mine
    assert np.array_equal(mine, whole)


def test_what_cannot_be(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    assert tile_starts(100, 40, 10) == [0, 30, 60]
    assert tile_starts(101, 40, 10) == [0, 30, 60, 61]
    assert tile_starts(9, 40, 10) == [0]
    with pytest.raises(InputError, match="tiles of 40 pixels cannot overlap by 30; use at most half"):
        predict_tiled(model, picture, 40, 30)
    with pytest.raises(InputError, match=r"ids\.tif: class maps are written as \.npy or \.png"):
        predict_tiled(model, picture, 40, 10, out=tmp_path / "ids.tif")
    with pytest.raises(InputError, match=r"there is no folder .*none; create it first"):
        predict_tiled(model, picture, 40, 10, out=tmp_path / "none" / "ids.png")
    with pytest.raises(InputError, match=r"out is \[70, 101\] of float32, but \[70, 101\] of uint8 is needed"):
        predict_tiled(model, picture, 40, 10, out=np.zeros((70, 101), np.float32))
    with pytest.raises(InputError, match="blended by the probability of each class at each pixel, which this model"):
        predict_tiled(nn.Identity(), picture)


def test_tiles_are_upright(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    whole = predict(model, tmp_path / "turned.png").labels.numpy()
    assert whole.shape == (101, 70)
    assert np.array_equal(predict_tiled(model, tmp_path / "turned.png", 40, 16), whole)
    with Image.open(tmp_path / "turned.png") as turned:
        assert np.array_equal(predict_tiled(model, turned, 40, 16), whole)


def test_images_of_one_name_have_maps_of_their_own(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "a.jpg", "a.bmp"):
        Image.fromarray(picture).save(tmp_path / "images" / name)
    done = predict_to_folder(model, tmp_path / "images", tmp_path / "out")
    assert "3 class maps in masks/" in str(done)
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3


def test_pictures_and_class_maps_do_not_meet(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.png", "masks/a.png", "masks/a.png.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / name)
    done = predict_to_folder(
        model, tmp_path / "in", tmp_path / "out", draw=lambda image, result: Image.new("RGB", (4, 4))
    )
    assert done.images == done.pictures == 3
    files = list((tmp_path / "out").rglob("*.png"))
    assert len(files) == 6
    sizes = [image_size(path)[::-1] for path in files]
    assert sizes.count((4, 4)) == sizes.count((101, 70)) == 3


def test_masks_beside_images_are_no_images(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    for name in ("images/train/a.png", "masks/train/a.png", "other/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / name)
    assert [Path(one.source).name for one in predict(model, tmp_path)] == ["a.png", "b.png"]
    assert len(predict(model, tmp_path / "masks")) == 1


def test_a_folder_of_class_maps(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.fromarray(picture).save(tmp_path / "images" / f"{name}.png")
    done = predict_to_folder(model, tmp_path / "images", tmp_path / "out", tile=64, overlap=16)
    assert "2 class maps in masks/" in str(done)
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["category"] for entry in results["annotations"]] == ["a", "b", "c"] * 2
    assert sum(entry["area"] for entry in results["annotations"]) == 2 * 70 * 101
    again = open_dataset(tmp_path / "out", images=tmp_path / "images", format="semantic")
    assert np.array_equal(again.target(0).labels.numpy(), predict(model, picture).labels.numpy())


def test_maps_without_pictures_are_those_with(model: Segmenter, picture: np.ndarray, tmp_path: Path) -> None:
    """Without pictures only the ids are held; what is written is the same."""
    Image.fromarray(picture).save(tmp_path / "a.png")
    drawn = {"draw": lambda image, result: Image.new("RGB", (4, 4)), "tile": 40, "overlap": 16}
    predict_to_folder(model, tmp_path / "a.png", tmp_path / "drawn", **drawn)
    predict_to_folder(model, tmp_path / "a.png", tmp_path / "lean", tile=40, overlap=16)
    for name in ("predictions.json", "classes.json", "masks/a.png"):
        assert (tmp_path / "lean" / name).read_bytes() == (tmp_path / "drawn" / name).read_bytes()
    assert not (tmp_path / "lean" / "a.png").exists()
    assert (tmp_path / "drawn" / "a.png").exists()


def test_arrays_with_channels_first_and_pictures_beyond_the_limit(
    model: Segmenter, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict(model, picture).labels.numpy()
    np.save(tmp_path / "first.npy", picture.transpose(2, 0, 1))
    Image.fromarray(picture).save(tmp_path / "huge.png")
    assert np.array_equal(predict_tiled(model, tmp_path / "first.npy", 40, 16), whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many
    with pytest.raises(InputError, match=r"huge\.png has more pixels than are decoded at once; predict it by tiles"):
        predict(model, tmp_path / "huge.png")
    assert np.array_equal(predict_tiled(model, tmp_path / "huge.png", 40, 16), whole)
    assert np.array_equal(predict(model, tmp_path / "huge.png", tile=40, overlap=16).labels.numpy(), whole)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("wrong", [{"threshold": 3}, {"tile": 64, "overlap": 60}, {"batch_size": 0}])
def test_what_is_refused_leaves_no_folder(
    model: Segmenter, picture: np.ndarray, tmp_path: Path, wrong: dict[str, int]
) -> None:
    with pytest.raises(InputError):
        predict_to_folder(model, picture, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
