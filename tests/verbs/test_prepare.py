"""The same words give the same run from the command line and from Python."""

from __future__ import annotations

import ast
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import sightline as sl
from sightline import api
from sightline.cli.app import app
from sightline.data.formats import convert
from sightline.errors import InputError
from sightline.training import devices
from sightline.verbs import planning
from sightline.verbs.prepare import prepare

DETECTOR, SEGMENTER = "ssdlite320_mobilenet_v2", "lraspp_mobilenet_v3_large"
SMALL: dict[str, Any] = {"batch_size": 2, "warmup_steps": 2, "workers": 0, "augmentation": "light", "ema": None}
WORDS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes with outlines, without splits."""
    place = tmp_path_factory.mktemp("prepare")
    convert(sl.scenes(6, 64, fields=["masks"]), place / "scenes", "coco")
    return place / "scenes"


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four grey images of 16 bits, each with a box, without splits."""
    place = tmp_path_factory.mktemp("deep")
    (place / "images").mkdir()
    (place / "labels").mkdir()
    for i, (image, _) in enumerate(sl.scenes(4, 64)):
        samples = image.float().mean(0).mul(16).numpy().astype("uint16")
        Image.fromarray(samples).save(place / "images" / f"{i}.png")
        (place / "labels" / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    (place / "classes.txt").write_text("a\n")
    return place


def shell(*words: Any) -> None:
    given = [str(word) for word in ("train", *words, "--device", "cpu", "-q", "--no-report")]
    outcome = CliRunner().invoke(app, given)
    assert outcome.exit_code == 0, outcome.output


def python(*words: Any, **more: Any) -> None:
    sl.train(*words, device="cpu", progress=False, report=False, **more)


def require_same(one: Path, other: Path) -> None:
    """The same weights, metrics, recipe and record of images."""
    for name in ("last.safetensors", "best.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    texts = [(run / "metrics.jsonl").read_text(encoding="utf-8") for run in (one, other)]
    rows = [[json.loads(line) for line in text.splitlines()] for text in texts]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]
    assert len(rows[0]) >= 1
    recipes = [yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8")) for run in (one, other)]
    assert recipes[0] == recipes[1]
    assert sl.load(one).metadata["trained_on"] == sl.load(other).metadata["trained_on"]


CASES: dict[str, tuple[str, str | None, dict[str, Any], list[str]]] = {
    "classes": (
        "folder",
        DETECTOR,
        {"arguments": {"image_size": 64}, "seed": 3, "classes": {"sphere": "round", "ring": "round", "box": None}},
        ["--seed", "3", "--classes", "sphere=round,ring=round,box="],
    ),
    "objects as class maps": ("folder", SEGMENTER, {"arguments": {"image_size": 64}}, []),
    "full scale": (
        "deep",
        DETECTOR,
        {"arguments": {"image_size": 64, "in_channels": 1}, "open_args": {"full_scale": 4080, "format": "yolo"}},
        ["--full-scale", "4080", "--format", "yolo", "--arg", "in_channels=1"],
    ),
    "the model of the data": ("folder", None, {"arguments": {"image_size": 64}}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_words(case: str, request: pytest.FixtureRequest, tmp_path: Path):
    where, model, keywords, words = CASES[case]
    data = request.getfixturevalue(where)
    named = [] if model is None else ["--model", model]
    size = keywords["arguments"]["image_size"]
    shell(data, *named, "--arg", f"image_size={size}", "--epochs", 1, *words, *WORDS, "--runs", tmp_path, "--name", "a")
    python(model, str(data), epochs=1, runs=tmp_path, name="b", **keywords, **SMALL)
    require_same(tmp_path / "a", tmp_path / "b")


def test_a_resumed_run(folder: Path, tmp_path: Path):
    """Without model and data: the run's own; its images are those that it had."""
    for name in ("a", "b"):
        python(DETECTOR, folder, arguments={"image_size": 64}, epochs=1, seed=5, runs=tmp_path, name=name, **SMALL)
    shell("--resume", "--name", "a", "--runs", tmp_path, "--epochs", 2)
    python(resume=True, name="b", runs=tmp_path, epochs=2)
    require_same(tmp_path / "a", tmp_path / "b")


def test_a_resumed_run_does_not_report_the_weights_it_once_started_from(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    words = {"name": "a", "runs": tmp_path}
    caplog.set_level("INFO", "sightline")
    python("sightline_lite0", folder, arguments={"image_size": 64}, epochs=1, **words, **SMALL)
    assert "all layers that these weights belong to are loaded" in caplog.text
    caplog.clear()
    prepared = api.prepare(None, None, resume=True, **words)
    assert prepared.model.weights_given == "imagenet"
    assert "entries" not in caplog.text
    assert logging.getLogger("sightline").level == logging.INFO


def test_the_number_of_keypoints_is_that_of_the_data(folder: Path):
    prepared = api.prepare("sightline_n_pose", folder, arguments={"image_size": 64}, choose=False)
    count = prepared.train.columns.keypoints.shape[1]
    assert count not in (0, 17)
    assert prepared.model.num_keypoints == prepared.model.arguments["num_keypoints"] == count
    assert f"num_keypoints: {count}, as in the data" in prepared.messages
    given = {"image_size": 64, "num_keypoints": 17}
    prepared = api.prepare("sightline_n_pose", folder, arguments=given, choose=False)
    assert prepared.model.num_keypoints == 17
    assert not any("num_keypoints" in sentence for sentence in prepared.messages)


def test_what_is_prepared(folder: Path):
    prepared = api.prepare(None, folder, settings={"epochs": 2, "augmentation": "none"})
    assert (prepared.model.name, prepared.recipe.epochs, prepared.folder) == ("sightline_lite0", 2, None)
    assert (len(prepared.train), len(prepared.validation)) == (4, 1)
    assert prepared.same_images
    divided, start, *choices, masks, keypoints = prepared.messages
    assert divided == "no splits found: 80 % for training, 10 % for validation, 10 % for testing, with seed 0"
    assert start.startswith("sightline_lite0 starts from the installed ImageNet weights of efficientnet_lite0")
    assert choices == [str(choice) for choice in prepared.plan.choices]
    assert (masks.split()[-2], keypoints.split()[-2]) == ("sightline_lite0_mask", "sightline_lite0_pose")
    assert {"image_size", "norm", "batch_size", "ema"} <= set(prepared.plan.to_dict())
    assert str(prepared).startswith("4 training images, 1 validation image; ")
    assert not Path("runs").exists()
    class_maps = api.prepare(None, sl.scenes(4, 64, kind="class_map"))
    assert class_maps.model.name == "unet_lite0"
    assert (len(class_maps.train), class_maps.validation) == (4, None)


def test_the_words_are_heeded(folder: Path, deep: Path):
    """Against what the parts of the library make of them by themselves."""
    words = {"arguments": {"image_size": 64}, "settings": {"seed": 7}}
    mapped = api.prepare(DETECTOR, folder, classes={"sphere": "round", "ring": "round", "box": None}, **words)
    classes = sl.open_dataset(folder, classes={"sphere": "round", "ring": "round", "box": None}).classes
    assert mapped.train.classes == mapped.model.classes == classes
    torch.manual_seed(7)
    expected = sl.create_model(DETECTOR, classes, image_size=64).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in mapped.model.state_dict().items())
    parts = sl.open_dataset(folder).split(0.8, 0.1, 0.1, seed=7)
    assert [mapped.train.name(i) for i in range(4)] == [parts["train"].name(i) for i in range(4)]
    words["arguments"]["in_channels"] = 1
    grey = api.prepare(DETECTOR, deep, open_args={"full_scale": 4080, "format": "yolo"}, **words)
    assert (grey.train.full_scale, grey.train[0][0].shape[0], grey.model.in_channels) == (4080, 1, 1)
    drawn = api.prepare(SEGMENTER, folder, arguments={"image_size": 64})
    assert (drawn.train.kind, drawn.validation.kind, drawn.model.classes[0]) == ("class_map", "class_map", "background")


def test_broken_labels_are_found_unless_they_were_checked(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "broken")
    (file,) = (tmp_path / "broken").rglob("instances_*.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    for annotation in table["annotations"]:
        annotation["bbox"] = [50, 50, -20, 10]
    file.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(InputError, match=r"the training data has .*error.*`sightline check DATA`"):
        api.prepare(DETECTOR, tmp_path / "broken")
    assert len(api.prepare(DETECTOR, tmp_path / "broken", checked=True).train) == 4


FORBIDDEN = {"open_dataset", "create_model", "load", "manual_seed", "split", "as_class_map", "with_channels", "TASKS"}


@pytest.mark.parametrize("path", sorted((Path(sl.__file__).parent / "cli").glob("*.py")), ids=lambda path: path.name)
def test_commands_leave_the_work_to_the_verbs(path: Path):
    """None of them opens, divides or draws data, makes or loads a model, or seeds."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {call.id if isinstance(call, ast.Name) else call.attr for call in calls if not isinstance(call, ast.Call)}
    assert not names & (FORBIDDEN - {"split"})  # texts are split, too
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not imported & FORBIDDEN


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"open_args": {"format": "coco"}}, "format can be given only together with the path of the data"),
        ({"data": None}, "train needs data: a folder of images and labels"),
        ({"data": 7}, "data is a int; give a path"),
        ({"arguments": {"classes": 3}}, "the classes are those of the data"),
        ({"classes": ["cube"]}, "unknown class 'cube'"),
    ],
)
def test_mistakes(words: dict[str, Any], message: str):
    given = {"data": sl.scenes(4, 64), **words}
    with pytest.raises(InputError, match=message):
        api.prepare(DETECTOR, **given)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "sightline_n0"}, "there is no model 'sightline_n0'"),
        ({"model": DETECTOR, "arguments": {"nosuch": 1}}, "has no argument 'nosuch'"),
        ({"model": DETECTOR, "arguments": {"image_size": "big"}}, "image_size of .* is 'big'"),
        ({"model": DETECTOR, "arguments": {"settings": {"nosuch": 1}}}, "settings of .* has no setting 'nosuch'"),
        ({"model": DETECTOR, "weights": "coco"}, "there are no 'coco' weights for"),
        ({"model": DETECTOR, "weights": "nowhere.safetensors"}, "weights nowhere.safetensors: there is no such file"),
        ({"settings": {"nosuch": 1}}, "unknown entry 'nosuch'"),
        ({"settings": {"augmentation": "nosuch"}}, "unknown augmentation recipe 'nosuch'"),
        ({"name": "taken"}, "the folder .*taken exists and is not empty"),
    ],
)
def test_wrong_options_are_refused_before_the_data_is_read(tmp_path: Path, wrong: dict[str, Any], words: str):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "metrics.jsonl").touch()
    with pytest.raises(InputError, match=words):
        api.prepare(data=tmp_path / "no data", runs=tmp_path, **wrong)


def test_wrong_arguments_of_the_default_model_are_refused_before_the_labels_are_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sightline.verbs.prepare.require_usable", lambda *_: pytest.fail("the labels were checked"))
    for wrong, words in (({"arguments": {"nosuch": 1}}, "has no argument"), ({"weights": "nowhere"}, "no such file")):
        with pytest.raises(InputError, match=words):
            api.prepare(data=folder, **wrong)


def test_only_the_main_process_plans_and_the_others_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the main process plans, the others wait for what it sends; anything else sent meanwhile is taken for it."""
    sent: list[str] = []

    def given_by_main(main: bool, function: Callable[[], Any]) -> Any:
        sent.append("begun")
        result = function()
        sent.append("sent")
        return result

    monkeypatch.setattr(devices, "world_size", lambda: 2)
    monkeypatch.setattr(devices, "joined", lambda device: None)
    monkeypatch.setattr(devices, "given_by_main", given_by_main)
    monkeypatch.setattr(planning._Speed, "_measure", lambda speed, arguments: 0.01)  # seconds per image
    data = sl.scenes(6, 64, seed=0)
    prepared = prepare("sightline_lite0", data, weights="none", settings={"minutes": 3, "seed": 0}, device="cpu")
    assert prepared.plan.choices
    assert sent == ["begun", "sent"]
