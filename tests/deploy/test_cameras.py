"""Cameras that a user gives for images without labels."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.deploy.cameras import with_given_cameras
from sightline.deploy.sources import Item
from sightline.errors import InputError
from sightline.explain.occlusion import Occlusion
from sightline.explain.target import Target
from tests.test_cli import done, sightline

MATRIX = [[90.0, 0, 31], [0, 91, 20], [0, 0, 1]]
OTHER = [[70.0, 0, 30], [0, 70, 20], [0, 0, 1]]


@lru_cache
def model():
    torch.manual_seed(0)
    return sl.create_model("mesh_rcnn_lite0_fpn", ["box"], image_size=64, grid=8, stages=0).eval()


def items(*names: str) -> list[Item]:
    return [Item(name, np.zeros((40, 62, 3), np.uint8)) for name in names]


def seen(given: object, *names: str) -> list[list[list[float]]]:
    """The camera matrix with which each image is read."""
    found = with_given_cameras(items(*names), given, model())
    return [item.read(3, None, with_cameras=True).intrinsics.tolist() for item in found]


def test_a_focal_length_a_matrix_and_files_give_cameras(tmp_path: Path) -> None:
    assert seen("focal=80.5", "a.png") == [[[80.5, 0, 31], [0, 80.5, 20], [0, 0, 1]]]
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    one.write_text(json.dumps({"matrix": MATRIX}))
    several.write_text(json.dumps({"a.png": {"matrix": MATRIX}, "x/a.png": {"matrix": OTHER}, "b.png": OTHER}))
    for given in (MATRIX, np.array(MATRIX), {"matrix": MATRIX}, one, str(one)):
        assert seen(given, "a.png", "b.png") == [MATRIX, MATRIX]
    assert seen(several, "photos/a.png", "photos/x/a.png", "b.png") == [MATRIX, OTHER, OTHER]
    assert with_given_cameras(given := items("a.png"), None, model()) is given


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ("focal=-1", "camera is 'focal=-1', but must be a focal length above 0 in pixels"),
        ("focal=wide", "but must be a focal length above 0"),
        ("none.json", "there is no such file; give a JSON file with a matrix, or a focal length"),
        ({"b.png": MATRIX}, r"camera: there is no camera of a\.png; add it, or leave the image out"),
        ({"a.png": [[0, 0, 0]]}, r"camera: a\.png: the shape is \[1, 3\]"),
        ({"a.png": {"focal": 3}}, r'camera: a\.png: there is no "matrix"'),
        ([[0, 0, 1], [0, 0, 1], [0, 0, 1]], "camera: .* is singular"),
    ],
)
def test_cameras_that_cannot_be_used_are_refused(camera: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        with_given_cameras(items("a.png"), camera, model())


def test_broken_files_and_models_without_cameras(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not a JSON file with cameras"):
        with_given_cameras(items("a.png"), tmp_path / "a.json", model())
    detector = sl.create_model("ssdlite320_mobilenet_v2", ["box"])
    with pytest.raises(InputError, match="does not use the cameras of images; leave camera out"):
        sl.predict(detector, np.zeros((40, 62, 3), np.uint8), camera="focal=50")


def test_predictions_have_the_given_camera(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 62, 3), np.uint8)
    result = sl.predict(model(), image, threshold=0.01, camera=MATRIX)
    torch.testing.assert_close(result.cameras[0], torch.tensor(MATRIX), atol=1e-3, rtol=1e-4)
    (tmp_path / "photos").mkdir()
    Image.fromarray(image).save(tmp_path / "photos" / "a.png")
    sl.save(model(), tmp_path / "m.safetensors")
    options = ("--camera", "focal=180", "--threshold", "0.01", "-q", "--device", "cpu", "--no-pictures")
    done("predict", tmp_path / "m.safetensors", tmp_path / "photos", "-o", tmp_path / "out", *options)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"]
    farther = result.depths * 180 / (90 * 91) ** 0.5  # a longer focal length shows the same size from farther away
    assert [entry["depth"] for entry in found] == pytest.approx(farther.tolist(), rel=1e-3)


class Focal(Target):
    """The focal length with which the model sees the image, in pixels of the batch, and a little of the pixels."""

    def score(self, model, batch):
        return float(batch.cameras[0].intrinsics[0, 0]) + 1e-3 * batch.tensor.mean((1, 2, 3))

    def describe(self, model) -> str:
        return "focal length"


def test_explanations_have_the_given_camera(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 62, 3), np.uint8)
    settings = {"methods": Occlusion(window=40, stride=40), "target": Focal()}
    scores = [
        sl.explain_images(model(), image, camera=camera, **settings)[0].score for camera in ("focal=90", "focal=180")
    ]
    assert scores[1] / scores[0] == pytest.approx(2, rel=1e-3)
    with pytest.raises(InputError, match="camera is 'focal=0', but must be a focal length above 0"):
        sl.explain_images(model(), image, camera="focal=0")
    Image.fromarray(image).save(tmp_path / "a.png")
    sl.save(model(), tmp_path / "m.safetensors")
    command = ("explain", tmp_path / "m.safetensors", tmp_path / "a.png", "-q")
    said = done(*command, "--camera", "focal=90", "-o", tmp_path / "out")
    assert "focal length" not in said.err, "nothing is assumed of the camera"
    assert "--camera is for images without labels" in sightline(*command, "--score", "--camera", "focal=90").err
