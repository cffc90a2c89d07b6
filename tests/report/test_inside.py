"""Pictures and the page of a model's inside."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.explain.activations import Activations
from sightline.explain.filters import Filters
from sightline.explain.latent import LatentSpace
from sightline.report.colours import class_colour
from sightline.report.inside import activation_wall, cut_out, filter_wall
from sightline.report.latent import latent_picture
from sightline.report.latent_page import latent_page
from sightline.structures import Classes


def test_a_wall_has_a_map_per_channel_scaled_from_its_minimum_to_its_maximum() -> None:
    maps = torch.zeros(3, 2, 2)
    maps[1, 0, 0], maps[2, 1, 1] = 5, -9
    wall = np.asarray(activation_wall(Activations("x", maps, (20, 20), (0, 0, 20, 20)), size=20, columns=3))
    tiles = [wall[-20:, 26 * i : 26 * i + 20] for i in range(3)]
    yellow, violet = [253, 231, 37], [68, 1, 84]  # the ends of viridis
    assert tiles[0][15, 15].tolist() == violet  # channel 2 is the strongest, at its minimum there
    assert tiles[0][5, 5].tolist() == yellow
    assert tiles[1][5, 5].tolist() == yellow  # channel 1
    assert tiles[2].reshape(-1, 3).max(0).tolist() == violet  # channel 0 has one value
    with pytest.raises(sl.InputError, match="there is no channel 7"):
        activation_wall(Activations("x", maps, (20, 20), (0, 0, 20, 20)), channels=[7])


def test_filters_of_pixels_are_coloured_and_others_grey() -> None:
    weights = torch.zeros(2, 3, 2, 2)
    weights[0, 0] = 1.0
    weights[0, 2] = -1.0
    wall = np.asarray(filter_wall(Filters("x", weights, True), size=8))[-8:]  # below the title
    assert wall.shape == (8, 18, 3)
    assert wall[4, 4].tolist() == [255, 128, 0]
    assert wall[4, 14].tolist() == [128, 128, 128]
    grey = np.asarray(filter_wall(Filters("x", weights, False), size=8))[-18:]
    assert [grey[4, 4].tolist(), grey[4, 14].tolist(), grey[4, 24].tolist()] == [[255] * 3, [128] * 3, [0] * 3]


def test_what_is_outside_of_an_image_is_grey() -> None:
    image = torch.full((3, 10, 10), 200, dtype=torch.uint8)
    cut = np.asarray(cut_out(image, (-10, 0, 10, 20), 20))
    assert cut[5, 15].tolist() == [200] * 3
    assert cut[5, 5].tolist() == cut[15, 15].tolist() == [128] * 3


def space(points: np.ndarray, names: list[str], classes: Classes) -> LatentSpace:
    count = len(points)
    ids = np.arange(count)
    return LatentSpace(
        "x", "pca", points, np.zeros((count, 2), np.float32), ids, names, None, ids % 2, classes, (0.75, 0.2)
    )


@pytest.fixture(scope="module")
def data() -> sl.Dataset:
    images = [torch.full((3, 8, 8), 10 * i, dtype=torch.uint8) for i in range(12)]
    return sl.Dataset.from_labels(images, [i % 2 for i in range(12)], ["a</script>", "b"])


def test_the_picture_shows_thumbnails_in_the_colours_of_their_classes(data: sl.Dataset) -> None:
    found = space(np.array([[0.0, 0.0], [10, 5], [0.1, 0.0]]), ["p", "q", "r"], data.classes)
    picture = np.asarray(latent_picture(found, data, size=200, thumbnail=20))
    assert picture[100 + 24 - 11, 12].tolist() != list(class_colour(0))  # inside the frame there is the image
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert {class_colour(0), class_colour(1), (10, 10, 10)} <= colours
    assert (20, 20, 20) not in colours  # the third thumbnail would cover the first, and is a dot


def test_the_page_needs_nothing_but_itself(data: sl.Dataset) -> None:
    points = np.random.default_rng(0).normal(size=(12, 2))
    text = latent_page(space(points, [f"{i}<b>.png" for i in range(12)], data.classes), data, "T & U")
    assert "http" not in text
    assert re.findall(r'src="(?!data:)', text) == []
    assert "<link" not in text
    assert text.count("<script") == text.count("</script>") == 2
    found = re.search(r'<script type="application/json" id="latent-data">(.*?)</script>', text, re.S)
    assert found
    facts = json.loads(found[1])
    np.testing.assert_allclose(np.stack([facts["x"], facts["y"]], 1), points, rtol=1e-5)
    assert [facts["classes"][i]["name"] for i in facts["label"]] == ["a</script>", "b"] * 6
    assert [facts["names"][i] for i in facts["name"]] == [f"{i}<b>.png" for i in range(12)]
    (sheet,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet))))
    for i in range(12):
        row, column = divmod(i, facts["columns"])
        assert abs(int(pixels[64 * row + 32, 64 * column + 32, 0]) - 10 * i) < 6


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_the_page_hovers_zooms_pans_and_filters_by_class(data: sl.Dataset, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(12, 2))
    (tmp_path / "page.html").write_text(latent_page(space(points, [f"{i}.png" for i in range(12)], data.classes), data))
    script = Path(__file__).with_name("latent_page.js")
    ran = subprocess.run(
        ["node", script, tmp_path / "page.html"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert (seen["start"], seen["dots"], seen["none"], seen["one"]) == (12, 12, 0, 6)
    assert seen["tip"] == [False, "b", "11.png"]
    assert seen["zoomed"] == pytest.approx(seen["at"])  # what is under the pointer stays there
    assert seen["dragged"] == pytest.approx([seen["at"][0] + 30, seen["at"][1] - 20])
