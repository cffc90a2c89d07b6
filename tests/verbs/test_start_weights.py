"""What a training starts from if it names no weights: installed ImageNet weights of the backbone, or random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sightline as sl
from sightline import api
from sightline.models import creation
from sightline.models.published import find_published
from sightline.models.weight_files import local_file
from sightline.training.run import run_facts

LITE = "sightline_lite0"
SMALL: dict[str, Any] = {"arguments": {"image_size": 64}}
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 2, "workers": 0, "warmup_steps": 1, "augmentation": "none"}


@pytest.fixture(scope="module")
def scenes() -> Any:
    return sl.scenes(6, 64)


def prepared(model: str | None, data: Any, **given: Any) -> api.Prepared:
    return api.prepare(model, data, **{**SMALL, **given})


def expansion(model: torch.nn.Module) -> torch.Tensor:
    """The first 1×1 convolution of EfficientNet-Lite, whose published values nothing changes."""
    return model.get_parameter("backbone.2.0.block.0.0.weight")


@pytest.fixture(scope="module")
def published() -> torch.Tensor:
    checkpoint = find_published("efficientnet_lite0", "imagenet")
    assert checkpoint is not None
    file = local_file("imagenet", checkpoint)
    return torch.load(file, weights_only=True)["_blocks.1._expand_conv.weight"]


def test_installed_weights_are_the_start_and_one_sentence_says_so(scenes, published):
    ready = prepared(LITE, scenes)
    assert torch.equal(expansion(ready.model), published)
    assert ready.model.weights_given == "imagenet"
    said = [sentence for sentence in ready.messages if "starts from" in sentence]
    assert said == [
        "sightline_lite0 starts from the installed ImageNet weights of efficientnet_lite0 (top-1 75.1 %); "
        "weights 'none' starts from random numbers"
    ]


def test_weights_none_are_random_numbers(scenes, published):
    ready = prepared(LITE, scenes, weights="none")
    assert not torch.equal(expansion(ready.model), published)
    assert ready.model.weights_given is None
    assert not any("starts from" in sentence for sentence in ready.messages)
    torch.manual_seed(3)
    explicit = sl.create_model(LITE, ["a"], "none")
    torch.manual_seed(3)
    implicit = sl.create_model(LITE, ["a"])
    assert torch.equal(expansion(explicit), expansion(implicit))
    assert (explicit.weights_given, explicit.weights_report) == (None, None)


def test_create_model_stays_explicit(published):
    assert not torch.equal(expansion(sl.create_model(LITE, ["a"])), published)


def test_a_backbone_given_as_an_argument(scenes, published):
    ready = prepared("sightline_n", scenes, arguments={"image_size": 64, "backbone": "resnet18"})
    assert (ready.model.weights_given, [s for s in ready.messages if "starts" in s]) == (None, [])
    assert creation.installed_start("faster_rcnn", {"backbone": "efficientnet_lite0"}) is not None
    assert creation.installed_start("faster_rcnn", {"backbone": "resnet50"}) is None
    assert creation.installed_start("efficientnet_lite0", {}) == find_published("efficientnet_lite0", "imagenet")


def test_without_the_package_the_start_is_random(scenes, published, monkeypatch):
    monkeypatch.setattr(creation, "is_installed", lambda _: False)
    ready = prepared(LITE, scenes)
    assert ready.model.weights_given is None
    assert not torch.equal(expansion(ready.model), published)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_get_an_adapted_first_layer(tmp_path: Path, channels: int, published):
    data = sl.scenes(6, 64)
    images = [(torch.rand(channels, 64, 64), target) for _, target in data]
    ready = api.prepare(LITE, images, classes=list(data.classes), arguments={"image_size": 64, "in_channels": channels})
    assert torch.equal(expansion(ready.model), published)
    report = ready.model.weights_report
    assert report is not None
    assert report.adapted == ["features.0.0.weight"]
    first = ready.model.get_parameter("backbone.0.0.weight")
    assert first.shape[1] == channels
    assert torch.equal(first[:, :1].expand_as(first), first)


def test_a_resumed_run_begins_as_it_did(scenes, tmp_path: Path):
    common: dict[str, Any] = {"runs": tmp_path, "report": False, "progress": False, "device": "cpu"} | SMALL
    for name, weights in (("installed", None), ("random", "none")):
        sl.train(LITE, scenes, name=name, weights=weights, **common, **QUICK)
    facts = {name: run_facts(tmp_path / name) for name in ("installed", "random")}
    assert {name: known.weights for name, known in facts.items()} == {"installed": "imagenet", "random": None}
    for name, known in facts.items():
        again = prepared(LITE, scenes, name=name, runs=tmp_path, resume=True, settings={"epochs": 2})
        assert again.model.weights_given == known.weights
        assert not any("starts from" in sentence for sentence in again.messages)  # it starts from its last epoch
    run = sl.train(data=scenes, name="random", resume=True, epochs=2, **common | {"arguments": None})
    assert (len(run.metrics), run_facts(run.folder).weights) == (2, None)


@pytest.mark.parametrize("model", [LITE, "sightline_n"])
def test_a_model_made_before_the_training_is_planned_with_its_own_arguments(scenes, model):
    made = sl.create_model(model, scenes.classes)
    ready = api.prepare(made, scenes, settings={"epochs": 1})
    assert ready.model is made
    chosen = {choice.name for choice in ready.plan.choices}
    assert {"batch_size", "ema", "augmentation"} <= chosen
    assert not {"image_size", "norm", "trainable_layers"} & chosen


def test_a_training_without_a_named_model_names_those_that_learn_more(scenes):
    ready = prepared(None, scenes)
    said = "the labels also have masks, which the default model does not learn; the model sightline_lite0_mask does"
    assert said in ready.messages
    assert said not in prepared(LITE, scenes).messages


def test_expected_weights_are_reported_in_one_line(scenes, caplog):
    with caplog.at_level("INFO", "sightline"):
        prepared(LITE, scenes)
    told = [record.getMessage() for record in caplog.records if "are loaded (" in record.getMessage()]
    assert len(told) == 1
    assert "all layers that these weights belong to are loaded (240 entries); the model's other layers (" in told[0]
    assert told[0].endswith("are new and start from random numbers, as they should")


def test_the_small_detector_starts_from_made_up_images_unless_an_argument_changes_its_layers(scenes):
    ready = prepared("sightline_n", scenes)
    assert ready.model.weights_given == "clutter"
    assert [sentence for sentence in ready.messages if "starts from" in sentence] == [
        "sightline_n starts from the installed clutter weights of sightline_n (256 made-up classes); "
        "weights 'none' starts from random numbers"
    ]
    for name, arguments, expected in (
        ("sightline_n", {"image_size": 64, "head_depth": 1}, None),
        ("sightline_n", {"image_size": 64, "in_channels": 1}, "clutter"),
        ("sightline_n", {"image_size": 1280, "settings": {"nms_iou": 0.5}, "multi_scale": 0.1}, "clutter"),
        ("sightline_s", {"image_size": 64}, None),
    ):
        found = creation.installed_start(name, arguments)
        assert (found and found.data) == expected


@pytest.mark.parametrize("weights", [None, "none"])
def test_a_resumed_run_of_the_small_detector_keeps_its_start(scenes, tmp_path, weights):
    run = sl.train("sightline_n", scenes, runs=tmp_path, name="a", weights=weights, report=False, **SMALL, **QUICK)
    assert run_facts(run.folder).weights == ("clutter" if weights is None else None)
    again = sl.train(None, scenes, runs=tmp_path, name="a", resume=True, report=False)
    assert run_facts(again.folder).weights == ("clutter" if weights is None else None)
