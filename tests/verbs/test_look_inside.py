"""Look inside a model through the verbs and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from sightline.data.scenes import write_scenes
from tests.test_cli import done, sightline

pytest.importorskip("sklearn")
LAYER = "backbone.features.0.5"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved detector, and rendered scenes."""
    folder = tmp_path_factory.mktemp("inside")
    data = write_scenes(folder / "scenes", 4, 2, 0, size=64, progress=False)
    model = sl.create_model("ssdlite320_mobilenet_v2", sl.open_dataset(data).classes, image_size=96)
    sl.save(model, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("what", "words", "files"),
    [
        ("activations", ("scenes/val", "--layer", LAYER, "--channels", "0,3"), ("png", "json")),
        ("filters", (), ("png", "json")),
        ("patches", ("scenes", "--layer", LAYER, "--channels", "2", "--split", "val"), ("png", "json")),
        ("latent", ("scenes", "--layer", LAYER, "--method", "pca"), ("png", "json", "html")),
    ],
)
def test_pictures_are_written_to_a_new_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, what: str, words: tuple[str, ...], files: tuple[str, ...]
) -> None:
    monkeypatch.chdir(place)
    outcome = done("inside", "model.safetensors", *words, "--what", what, "--out", f"out_{what}", "--quiet")
    assert outcome.out.splitlines() == [f"out_{what}/{what}.{suffix}" for suffix in files]
    Image.open(place / f"out_{what}" / f"{what}.png").verify()
    values = json.loads((place / f"out_{what}" / f"{what}.json").read_text(encoding="utf-8"))
    if what == "patches":
        assert list(values["channels"]) == ["2"]
        assert values["images"] == 2
    assert values["layer"] == ("backbone.features.0.0.0" if what == "filters" else LAYER)


def test_each_call_without_a_folder_gets_its_own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        outcome = done("inside", place / "model.safetensors", "--what", "filters")
        assert outcome.out.splitlines() == [f"inside/filters{number}/filters.{suffix}" for suffix in ("png", "json")]
    assert sightline("inside", place / "model.safetensors", "--what", "patches", "--layer", "none").code == 2
    assert not (tmp_path / "inside" / "patches1").exists()


def test_mistakes_are_answered_in_one_sentence(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    model = place / "model.safetensors"
    for words, sentence in (
        (("--what", "filter"), "did you mean 'filters'?"),
        ((), "give the path of an image"),
        (("scenes/val", "--format", "coco"), "format belongs to the data of patches and latent, not to activations"),
        (
            ("--what", "filters", "--classes", "ring"),
            "belongs to the data of patches and latent, not to filters",
        ),
        (("--what", "latent", "--full-scale", "4095"), "full_scale can be given only together with the path of the"),
        (("scenes", "--what", "patches", "--channels", "a"), "must be numbers separated by commas"),
        (("scenes", "--what", "latent", "--layer", "backbone.feature"), "has no layer 'backbone.feature'"),
    ):
        outcome = sightline("inside", model, *words, "--out", tmp_path / "out", "--quiet")
        assert outcome.code == 2
        assert sentence in outcome.err
        assert not (tmp_path / "out").exists()


def test_images_of_more_than_8_bits_are_divided_by_the_full_scale(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/0.png", "b/1.png", "b/2.png")):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 1000, (40, 40), dtype=np.uint16)
        Image.fromarray(pixels).save(tmp_path / "data" / name)

    model = sl.load(place / "model.safetensors")

    def values(what: str, image: str, full_scale: int | None) -> dict[str, Any]:
        out = tmp_path / f"{what}{full_scale}"
        sl.look_inside(model, image, what, out, layer=LAYER, channels=[0], full_scale=full_scale, progress=False)
        found: dict[str, Any] = json.loads((out / f"{what}.json").read_text(encoding="utf-8"))
        return found

    for what, image in (("activations", "data/a/0.png"), ("patches", "data")):
        assert values(what, image, None) != values(what, image, 2047)
    words = ("--layer", LAYER, "--classes", "a=first,b=second", "--format", "folders", "--full-scale", "4095")
    done("inside", place / "model.safetensors", "data", "--what", "latent", *words, "-q", "--out", "latent")
    shown = json.loads((tmp_path / "latent" / "latent.json").read_text(encoding="utf-8"))
    assert [point["class"] for point in shown["points"]] == ["first", "second", "second"]
