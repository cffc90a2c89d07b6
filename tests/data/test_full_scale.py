"""Samples of more than 8 bits: one full scale for a whole dataset, for its check, its model and later images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.data.facts import data_facts, full_scale_of, with_training_full_scale
from sightline.data.full_scale import scale_samples, usual_full_scale
from sightline.data.images import max_sample, read_image
from sightline.deploy.predict import predict
from sightline.errors import InputError
from sightline.evaluation import DetectionMeasure, evaluate
from sightline.structures import Classes, Instances
from sightline.training.loop import fit
from sightline.training.recipe import Recipe


def folder(root: Path, tops: list[int], kind: str = "png") -> Path:
    """A YOLO folder of grey images whose brightest pixel is one of `tops`; all have a pixel of 0."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for i, top in enumerate(tops):
        values = np.linspace(0, top, 8 * 10).round().reshape(8, 10)
        if kind == "npy":
            np.save(root / "images" / f"{i}.npy", values.astype(np.int64))
        else:
            Image.fromarray(values.astype(np.uint16)).save(root / "images" / f"{i}.{kind}")
        (root / "labels" / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    (root / "classes.txt").write_text("a\n")
    return root


@pytest.mark.parametrize(("highest", "scale"), [(0, 255), (255, 255), (256, 1023), (4095, 4095), (4096, 16383)])
def test_the_smallest_scale_that_holds_all(highest, scale):
    assert usual_full_scale(highest) == scale


@pytest.mark.parametrize("kind", ["png", "tif", "npy"])
def test_twelve_bits_are_not_black_and_all_images_share_the_scale(tmp_path, kind):
    data = sl.open_dataset(folder(tmp_path / "d", [900, 4000, 2000], kind))
    assert data.full_scale == 4095
    brightest = [float(data.image(i).max()) for i in range(3)]
    assert brightest == pytest.approx([900 / 4095, 4000 / 4095, 2000 / 4095])
    assert data[[0]].full_scale == 4095  # views share what was found from all images
    (note,) = [p for p in sl.check(data, progress=False).problems if p.rule == "full-scale"]
    assert "divided by 4095 (the largest value in a sample of the images is 4000)" in note.message
    assert note.level == "note"


def test_a_stated_scale_is_taken_and_values_above_it_are_refused(tmp_path):
    data = sl.open_dataset(folder(tmp_path / "d", [3000, 900]))
    assert float(data.with_full_scale(65535).image(0).max()) == pytest.approx(3000 / 65535)
    with pytest.raises(InputError, match=r"0\.png has samples of up to 3000, but the full scale .* is 1023"):
        data.with_full_scale(1023).image(0)
    for wrong in (0, 70000, 1.5, True):
        with pytest.raises(InputError, match="full_scale is"):
            data.with_full_scale(wrong)


def test_eight_bit_images_need_none(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (10, 8), (200, 10, 10)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels" / "a.txt").write_text("")
    (tmp_path / "classes.txt").write_text("a\n")
    data = sl.open_dataset(tmp_path)
    assert data.full_scale is None
    assert data_facts(data) == {}
    assert max_sample(tmp_path / "images" / "a.jpg") is None
    assert not [p for p in sl.check(data, progress=False).problems if p.rule == "full-scale"]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"])
def test_arrays_in_memory_of_every_whole_type(dtype):
    bright = np.zeros((1, 4, 4), dtype)
    bright[0, 0, 0] = 1 if dtype == "bool" else 100
    target = Instances((4, 4), boxes=[[0, 0, 2, 2]], labels=[0])
    data = Dataset.from_instances([bright], [target], ["a"])
    assert data.image(0).dtype == torch.uint8  # as if it had been uint8
    assert int(data.image(0).max()) == (255 if dtype == "bool" else 100)
    if np.dtype(dtype).itemsize > 1:
        wide = (bright.astype(np.int64) * 30).astype(dtype)  # up to 3000
        data = Dataset.from_instances([bright, wide], [target, target], ["a"])
        assert float(data.image(1).max()) == pytest.approx(3000 / 4095)
        assert float(data.image(0).max()) == pytest.approx(100 / 4095)  # one scale for both
        assert float(Dataset.from_labels([wide], [0], ["a"], full_scale=6000).image(0).max()) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("value", "words"), [(-1, "from -1 to 0"), (70000, "from 0 to 70000, but samples must fit 8 or 16 bits")]
)
def test_values_of_no_range_are_refused(value, words):
    array = np.zeros((1, 2, 2), np.int64)
    array[0, 0, 0] = value
    with pytest.raises(InputError, match=words):
        Dataset.from_labels([array], [0], ["a"])
    with pytest.raises(InputError, match=words):
        predict(Bright(), array[0])


def test_floats_above_one_stay_refused():
    with pytest.raises(InputError, match=r"image 0 has values from 0 to 255, but floats must lie in \[0, 1\]"):
        Dataset.from_labels([np.array([[[0.0, 255.0]]])], [0], ["a"])
    with pytest.raises(InputError, match="range is unknown; give full_scale"):
        scale_samples(np.array([3], np.int32), None, "x")


class Bright(torch.nn.Module):
    """Finds one object whose score is the image's largest value."""

    in_channels = 3
    classes = Classes(["a"])

    def forward(self, images):
        peaks = [i.max().item() / (255 if i.dtype == torch.uint8 else 1) for i in images]
        return [
            Instances(tuple(i.shape[1:]), boxes=[[0, 0, 1, 1]], labels=[0], scores=[min(p, 1.0)], classes=self.classes)
            for i, p in zip(images, peaks, strict=True)
        ]


def peaks(model, source, **options) -> list[float]:
    found = predict(model, source, threshold=0.0, **options)
    return [round(float(r.scores[0]), 4) for r in (found if isinstance(found, list) else [found])]


def test_prediction_takes_the_scale_of_the_training_images(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "sightline")
    images = folder(tmp_path / "d", [900, 4000]) / "images"
    expected = [round(900 / 4095, 4), round(4000 / 4095, 4)]
    model = Bright()
    assert peaks(model, images) == expected  # found from these images, and said
    assert ["up to 4000" in r.message and "divided by 4095" in r.message for r in caplog.records] == [True]
    model.metadata = {"full_scale": 4095}
    caplog.clear()
    assert peaks(model, images / "0.png") == expected[:1]  # alone it would be taken for 10 bits
    for source in (np.array(Image.open(images / "0.png")), torch.tensor(read_raw(images / "0.png"))):
        assert peaks(model, source) == expected[:1]
    assert peaks(model, Image.open(images / "0.png")) == expected[:1]
    assert not caplog.records
    assert peaks(model, images / "0.png", full_scale=1800) == [0.5]
    assert peaks(model, np.full((4, 4, 3), 51, np.uint8)) == [0.2]  # 8 bits are 8 bits
    model.metadata = {"full_scale": "much"}
    with pytest.raises(InputError, match="the full scale saved with the model is 'much'"):
        full_scale_of(model)


def read_raw(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int32)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.uint16])
def test_whole_numbers_of_eight_bits_are_seen_as_uint8(dtype):
    image = torch.full((3, 4, 4), 51).to(dtype)
    assert peaks(Bright(), image) == [0.2]
    assert peaks(Bright(), image.to(torch.int32).numpy()[0]) == [0.2]


def test_one_file_alone_is_read_by_its_type(tmp_path):
    path = folder(tmp_path / "d", [4000]) / "images" / "0.png"
    assert float(read_image(path).max()) == pytest.approx(4000 / 65535)
    assert float(read_image(path, full_scale=4095).max()) == pytest.approx(4000 / 4095)
    assert max_sample(path) == 4000


class Learner(Bright):
    """Learns one number; keeps the largest value of each batch it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[float] = []

    def forward(self, images, targets=None):
        self.seen.append(round(max(float(image.max()) for image in images), 4))
        return super().forward(images) if targets is None else {"loss": self.weight**2}


def test_training_saves_the_scale_and_validation_and_evaluation_take_it(tmp_path):
    """A validation set of darker images, taken alone, would be scaled by 1023."""
    train = sl.open_dataset(folder(tmp_path / "train", [4000, 3000]))
    dark = sl.open_dataset(folder(tmp_path / "dark", [900, 800]))
    assert dark.full_scale == 1023
    model, saved = Learner(), []
    recipe = Recipe(epochs=1, batch_size=2, workers=0, ema=None)
    fit(
        model, train, recipe, tmp_path / "run", validation=dark, progress=False, device="cpu",
        save=lambda *arguments: (Path(arguments[1]).touch(), saved.append(arguments[2])),
    )  # fmt: skip
    assert model.seen == [round(4000 / 4095, 4), round(900 / 4095, 4)]
    assert [metadata["full_scale"] for metadata in saved] == [4095, 4095]  # last and best
    assert model.metadata["full_scale"] == 4095
    model.seen.clear()
    evaluate(model, dark, DetectionMeasure, progress=False)
    predict(model, tmp_path / "dark" / "images" / "0.png")
    assert model.seen == [round(900 / 4095, 4)] * 2
    stated = with_training_full_scale(model, dark.with_full_scale(65535))
    assert float(stated.image(0).max()) == pytest.approx(900 / 65535)
