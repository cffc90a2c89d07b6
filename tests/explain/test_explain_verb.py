"""The verb `sl.explain_images` and the command `sightline explain`."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline import cli
from sightline.errors import InputError
from sightline.explain import target
from sightline.explain.explanation import Explanation
from sightline.explain.methods import METHODS
from sightline.explain.occlusion import Occlusion
from sightline.models.model import Model
from sightline.report import draw_explanation
from sightline.verbs.explain import ExplainedFolder

NAMES = ["cat", "dog"]


@pytest.fixture(scope="session")
def classifier() -> Model:
    torch.manual_seed(0)
    model = sl.create_model("mobilenet_v2", classes=NAMES, image_size=32)
    with torch.no_grad():  # random weights alone give both classes the same score, to the last digit
        model.network.classifier[1].bias.copy_(torch.tensor([0.0, 1e-4]))
    return model


@pytest.fixture
def place(tmp_path: Path, classifier: Model, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a saved model and a folder of two photographs and a file that is none."""
    sl.save(classifier, tmp_path / "net.safetensors")
    (tmp_path / "photos").mkdir()
    for number, size in enumerate([(60, 40), (50, 50)]):
        noise = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_explanation_per_image_and_method(place: Path, classifier: Model) -> None:
    found = sl.explain_images(classifier, "photos", methods=["grad_cam", "occlusion"], target="dog")
    assert [(Path(str(own.source)).name, own.method) for own in found] == [
        ("0.png", "grad_cam"),
        ("0.png", "occlusion"),
        ("1.png", "grad_cam"),
        ("1.png", "occlusion"),
    ]
    assert {own.target for own in found} == {"class dog"}
    assert [own.image_size for own in found] == [(40, 60), (40, 60), (50, 50), (50, 50)]
    (best,) = sl.explain_images(classifier, "photos/0.png", methods=Occlusion(window=30))
    classes = sl.predict(classifier, "photos/0.png").top(1)
    assert best.target == f"class {classes[0][0]}"
    assert classifier.training


def test_the_default_method_is_layer_cam_for_detectors(classifier: Model) -> None:
    detector = sl.create_model("sightline_n", NAMES, image_size=64)
    for model, name in ((detector, "layer_cam"), (classifier, "grad_cam")):
        (found,) = sl.explain_images(model, torch.rand(3, 40, 40))
        assert found.method == name


def test_methods_are_named_in_a_list_or_in_one_text(place: Path, classifier: Model) -> None:
    image = torch.rand(3, 40, 40)
    for methods in (["grad_cam", "layer_cam"], "grad_cam,layer_cam", "grad_cam, layer_cam,"):
        found = sl.explain_images(classifier, image, methods=methods)
        assert [own.method for own in found] == ["grad_cam", "layer_cam"]


def test_settings_reach_the_methods_that_have_them(classifier: Model) -> None:
    image = torch.rand(3, 40, 40)
    few, other, seed = (
        sl.explain_images(classifier, image, methods=["rise", "layer_cam"], samples=samples, seed=seed)[0].heat
        for samples, seed in ((4, 0), (5, 0), (4, 1))
    )
    assert not torch.equal(few, other)
    assert not torch.equal(few, seed)
    with pytest.raises(InputError, match=r"samples is 5, but only score_cam, rise, d_rise, lime, integrated_gradients"):
        sl.explain_images(classifier, image, methods="occlusion", samples=5)
    with pytest.raises(InputError, match=r"methods is \[\], but must be one or several of cam"):
        sl.explain_images(classifier, image, methods=[])


def test_images_that_cannot_be_read_are_left_out(place: Path, classifier: Model) -> None:
    (place / "photos" / "bad.png").write_text("no image")
    with pytest.warns(UserWarning, match=r"1 of 3 images are left out: .*bad\.png"):
        assert len(sl.explain_images(classifier, "photos")) == 2
    with pytest.raises(InputError, match=r"bad\.png"):
        sl.explain_images(classifier, "photos/bad.png")


def run(words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["sightline", *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_writes_a_picture_per_image(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos" / "bad.png").write_text("no image")
    assert run("explain net.safetensors photos --method grad_cam,rise --samples 4 --for dog -o out", monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "out: 2 pictures and explanations.json" in shown
    assert re.search(r"0\.png: rise for class dog: peak at x \d+, y \d+", shown)
    # the layer's map has one cell
    assert "1.png: grad_cam for class dog, layer network.features.18: the same everywhere; try another layer" in shown
    assert "left out: cannot read the image photos/bad.png" in shown
    written = json.loads((place / "out" / "explanations.json").read_text())["explanations"]
    assert [(own["file_name"], own["method"]) for own in written] == [
        ("0.png", "grad_cam"),
        ("0.png", "rise"),
        ("1.png", "grad_cam"),
        ("1.png", "rise"),
    ]
    assert written[0]["peak"] is None
    y, x = written[1]["peak"]
    assert 0 <= y < 40
    assert 0 <= x < 60
    with Image.open(place / "out" / "0.png") as picture:
        assert picture.width >= 3 * 480  # the image and two methods
    assert sorted(path.name for path in (place / "out").iterdir()) == ["0.png", "1.png", "explanations.json"]


def test_a_long_list_is_cut_short() -> None:
    own = {"file_name": "a.png", "method": "grad_cam", "target": "class dog", "layer": None, "peak": [1, 2]}
    lines = str(ExplainedFolder(Path("out"), [own] * 23, ["a.png"] * 23, {"b.png": "it is empty"})).splitlines()
    assert len(lines) == 1 + 20 + 2
    assert lines[20] == "a.png: grad_cam for class dog: peak at x 2, y 1"
    assert lines[21:] == ["and 3 more, see explanations.json", "left out: it is empty"]


def test_every_target_says_what_its_number_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caption of a picture names a logit as a logit: beside the probability of a box, "score -2" would mislead."""
    for module in Path(target.__file__).parent.glob("*_targets.py"):
        importlib.import_module(f"sightline.explain.{module.stem}")
    own = [kind for kind in target.Target.__subclasses__() if kind.__module__.startswith("sightline.")]
    own = [kind for parent in own for kind in (parent.__subclasses__() or [parent])]
    assert len(own) > 10
    assert [kind.__name__ for kind in own if kind.quantity == "score"] == []
    words: list[str] = []
    monkeypatch.setattr(draw_explanation, "drawable", lambda text: words.append(text) or text)
    explained = Explanation(torch.eye(40), "net", "rise", "box 0: dog (0.12)", -1.99, quantity="logit")
    sl.draw(torch.zeros(3, 40, 40), explained)
    assert "box 0: dog (0.12), logit -1.99" in words
    assert explained.to_dict()["quantity"] == "logit"


def test_a_flat_heat_map_has_no_peak() -> None:
    flat = Explanation(torch.zeros(4, 6), "net", "grad_cam", "box 0: dog", 0.5, layer="neck.maps.0")
    own = {"file_name": "a.png", **flat.to_dict()}
    assert own["peak"] is None
    line = str(ExplainedFolder(Path("out"), [own], ["a.png"])).splitlines()[1]
    assert line.endswith("for box 0: dog, layer neck.maps.0: the same everywhere; try another layer or method")
    assert replace(flat, heat=torch.tensor([[0.0, 0.0], [0.0, 1.0]])).to_dict()["peak"] == [1, 1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--method grad_kam", "there is no method 'grad_kam'; did you mean 'grad_cam'?"),
        ("--method ,", "--method ',' has no names"),
        (
            "--layer network.feature.18",
            "the model has no layer 'network.feature.18'; the nearest are 'network.features.18'",
        ),
        ("--for dgo", "did you mean 'dog'?"),
        ("--for box:0", "has no target 'box:0'"),
        ("--method d_rise", "d_rise explains a detected box, such as box:0"),
        ("--method cam --layer network.features.3", "use grad_cam"),
        ("--samples 0 --method lime", "samples is 0"),
        ("--layer network.features.3 --method rise", "layer is 'network.features.3', but only cam, grad_cam"),
        ("--baseline grey --method rise", "baseline is 'grey'"),
        ("-o photos", "the folder photos exists and is not empty"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(
    words: str, sentence: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"explain net.safetensors photos/0.png {words}", monkeypatch) == 2
    shown = capsys.readouterr().err.strip()
    assert sentence in shown
    assert "\n" not in shown
    assert not (place / "explanations").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"methods": 3}, "methods is 3, but must be one or several of cam, grad_cam"),
        ({"methods": []}, r"methods is \[\], but must be one or several of"),
        ({"methods": ["rise", 3]}, r"methods is \['rise', 3\], but must be"),
        ({"target": 3}, "target is 3, but must be words such as 'box:0'"),
    ],
)
def test_values_of_other_types_are_refused(settings: dict[str, Any], sentence: str, classifier: Model) -> None:
    with pytest.raises(InputError, match=sentence):
        sl.explain_images(classifier, torch.rand(3, 40, 40), **settings)


def test_the_model_comes_back_if_a_picture_cannot_be_drawn(
    place: Path, classifier: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("sightline.report.drawing.draw_explanations", broken)
    with pytest.raises(OSError, match="no space") as kept:
        sl.explain_to_folder(classifier, "photos", "out")
    assert kept.traceback  # which keeps the suspended generator alive
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_the_help_names_all_methods(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("explain --help", monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in METHODS)
