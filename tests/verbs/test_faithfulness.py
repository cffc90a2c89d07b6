"""The table of explanation methods on a classifier whose answer is known to come from a coloured square."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sightline as sl
from sightline.errors import InputError
from sightline.explain.method import Method
from sightline.models.classification.classifier import ImageClassifier
from sightline.structures import Instances
from sightline.verbs.faithfulness import score_explanations
from sightline.verbs.faithfulness_table import Faithfulness
from tests.test_cli import done, refused

SIDE = 32


class Colours(nn.Module):
    """Logits of red and blue: the mean amount of the colour in the image."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Conv2d(3, 2, 1, bias=False)
        self.out = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.colour.weight.copy_(torch.tensor([[2.0, -1, -1], [-1, -1, 2]])[:, :, None, None])
            self.out.weight.copy_(40 * torch.eye(2))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.out(self.colour(batch).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    model = ImageClassifier(["red", "blue"], Colours(), image_size=SIDE, crop_pct=1.0)
    model.preprocess.mean.fill_(0.5)
    model.preprocess.std.fill_(1.0)
    return model.eval()


@pytest.fixture(scope="module")
def squares() -> sl.Dataset:
    """Grey images with a square of 8×8 pixels; the last one's label is wrong."""
    images, labels = [], []
    for position, (x, y) in enumerate(((3, 4), (20, 2), (12, 22), (5, 15), (22, 20))):
        image = torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)
        image[:, y : y + 8, x : x + 8] = torch.tensor([0, 0, 0], dtype=torch.uint8)[:, None, None]
        image[2 * (position % 2), y : y + 8, x : x + 8] = 255
        label = position % 2 if position < 4 else 1
        images.append(image)
        boxes = torch.tensor([[x, y, x + 8.0, y + 8.0]])
        labels.append(Instances((SIDE, SIDE), boxes=boxes, labels=torch.tensor([label])))
    return sl.Dataset.from_instances(images, labels, ["red", "blue"])


@pytest.fixture(scope="module")
def found(model: ImageClassifier, squares: sl.Dataset) -> Faithfulness:
    return score_explanations(
        model, squares[:], methods=["grad_cam", "occlusion"], layer="network.colour", steps=8, progress=False
    )


def test_methods_that_know_the_model_beat_those_that_do_not(found: Faithfulness) -> None:
    rows = {row.method: row for row in found.rows}
    assert list(rows) == ["grad_cam", "occlusion", "random", "centre"]
    assert {row.cases for row in found.rows} == {4}  # the wrong label is left out
    assert found.chance == pytest.approx(64 / SIDE**2)
    cam, chance = rows["grad_cam"], rows["random"]
    assert cam.pointing == 1
    assert cam.energy == pytest.approx(1)
    assert cam.pointing_interval is not None
    assert cam.pointing_interval[0] < 1
    assert rows["occlusion"].pointing == 1
    assert chance.energy == pytest.approx(found.chance, abs=0.03)
    assert cam.insertion is not None
    assert chance.insertion is not None
    assert cam.insertion > 0.9 > chance.insertion
    assert cam.deletion is not None
    assert chance.deletion is not None
    assert cam.deletion < 0.1 < chance.deletion
    assert (cam.drop, cam.increase) == (pytest.approx(0, abs=1), 0)
    assert cam.random_pointing == pytest.approx(found.chance)  # these few weights shuffled see neither colour
    assert chance.random_pointing is None


def test_the_table(found: Faithfulness) -> None:
    text = str(found)
    assert "4 cases" in text
    assert "at chance: 0.06" in text
    assert found.markdown().count("| grad_cam | 4 | 1.00 [0.51, 1.00] |") == 1
    json.dumps(found.to_dict())


class Nothing(Method):
    """A method whose maps are 0 everywhere."""

    name = "nothing"

    def explain(self, function: Any, inputs: torch.Tensor, layer: Any = None, frame: Any = None) -> torch.Tensor:
        return torch.zeros(inputs.shape[-2:])


def test_maps_without_heat_are_scored_at_chance_and_counted(model: ImageClassifier, squares: sl.Dataset) -> None:
    found = score_explanations(model, squares[:3], methods=[Nothing()], steps=4, progress=False)
    row = found.rows[0]
    assert (row.flat, row.cases, row.energy, row.random_weights) == (3, 3, None, None)
    assert row.pointing == pytest.approx(found.chance)
    assert row.drop == pytest.approx(100)
    assert "nothing: 3 of 3 maps are the same everywhere" in str(found)
    assert "random: " not in str(found)


def test_the_model_is_as_before(model: ImageClassifier, squares: sl.Dataset) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    score_explanations(model, squares[:2], layer="network.colour", measure_removal=False, cases=1, progress=False)
    assert model.training
    model.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_classes_are_those_of_the_same_name(model: ImageClassifier, squares: sl.Dataset) -> None:
    """Label ids are not compared: those of the data may be in another order, and unknown classes are refused."""
    images = [squares.image(i) for i in range(4)]
    swapped = sl.Dataset.from_labels(images, [1, 0, 1, 0], ["blue", "red"])
    few: Any = {"methods": ["grad_cam"], "layer": "network.colour", "measure_removal": False, "randomise": False}
    assert score_explanations(model, swapped[:], **few, progress=False).cases == 4
    other = sl.Dataset.from_labels(images, [1, 0, 1, 0], ["blue", "green"])
    with pytest.raises(sl.ClassMismatch, match="the model lacks 'green'"):
        score_explanations(model, other[:], **few, progress=False)
    boxes = squares.with_class_mapping({"red": "green"})  # say where the blue ones are
    assert score_explanations(model, boxes[:], **few, progress=False).cases == 2
    with pytest.raises(sl.ClassMismatch, match="the model lacks 'green', 'grey'"):
        score_explanations(model, boxes.with_class_mapping({"blue": "grey"})[:], **few, progress=False)


def test_bad_arguments(model: ImageClassifier, squares: sl.Dataset) -> None:
    with pytest.raises(InputError, match="right about nothing in 1 image, so"):
        score_explanations(model, squares[4:], progress=False)
    with pytest.raises(InputError, match="cases is 0"):
        score_explanations(model, squares, cases=0)
    with pytest.raises(InputError, match="no method 'grad_cim'"):
        score_explanations(model, squares, methods=["grad_cim"])


def test_the_command_line(
    model: ImageClassifier, squares: sl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = sl.convert(squares, tmp_path / "data", "coco")
    trained = sl.create_model("mobilenet_v1", ["red", "blue"], width=0.25, image_size=SIDE)
    last = [module for module in trained.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.constant_(last.bias, 0)
    with torch.no_grad():
        last.bias[0] = 5  # every image is red
    sl.save(trained, tmp_path / "model.safetensors")
    words = ["explain", tmp_path / "model.safetensors", data, "--score", "--split", "all", "-q", "--device", "cpu"]
    text = done(*words, "--method", "layer_cam,occlusion", "--cases", "2", "--out", tmp_path / "out").out
    assert "occlusion" in text
    assert "| layer_cam | " in (tmp_path / "out" / "faithfulness.md").read_text()
    assert "leave out --for" in refused(*words, "--for", "red")
    assert "belongs to --score" in refused("explain", tmp_path / "model.safetensors", data, "--split", "all")


def test_a_layer_that_does_not_exist_is_refused(model, squares):
    with pytest.raises(InputError, match=r"the model has no layer 'color'; the nearest are .*colour"):
        score_explanations(model, squares, methods=["grad_cam"], layer="color", progress=False)
