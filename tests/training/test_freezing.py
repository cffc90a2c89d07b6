"""Frozen parts, frozen batch normalisation, layer-wise learning rates and gradual unfreezing, for every task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.errors import InputError
from sightline.models.backbone_parts import backbone_parts, find_body
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.training.freezing import Freezing, backbone_norms, described
from sightline.training.loop import fit
from sightline.training.optimizer import make_optimizer, parameter_groups
from sightline.training.recipe import Recipe
from sightline.verbs.prepare import prepare, recipe_for
from tests.models.test_contract import SMALL, image, target

MODELS = (
    *("resnet18", "vgg16", "mobilenet_v3_small", "efficientnet_lite0"),
    *("sightline_n", "sightline_mobilenet_v2", "ssd300_vgg16", "ssdlite320_mobilenet_v2"),
    *("faster_rcnn_mobilenet_v2_fpn", "yolo_v2_mobilenet_v2", "localiser_mobilenet_v2"),
    *("unet_resnet18", "lraspp_mobilenet_v3_large", "fcn8s_mobilenet_v2"),
)
NAMES = ["circle", "square", "star"]


def model_of(name: str, **further: Any) -> Model:
    torch.manual_seed(0)
    arguments = next((values for prefix, values in SMALL.items() if name.startswith(prefix)), {})
    arguments = {"image_size" if key == "crop" else key: value for key, value in arguments.items()}
    return create_model(name, NAMES, **{**arguments, **further})


def losses(model: Model) -> Tensor:
    size = (64, 64)
    return sum(model([image(*size), image(*size, seed=1)], [target(model, size)] * 2).values())


def step(model: Model, recipe: Recipe) -> None:
    """One step as the training loop does it."""
    freezing = Freezing(model, recipe)
    optimizer = make_optimizer(model, recipe)
    model.train()
    freezing.begin(0)
    losses(model).backward()
    optimizer.step()


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_the_whole_backbone_in_its_order(name: str) -> None:
    model = model_of(name)
    parts = backbone_parts(model)
    keys = [key for part in parts for key in part.keys]
    assert len(parts) >= 2
    assert len(keys) == len(set(keys))
    assert set(keys) == {key for key, _ in model.named_parameters() if re.search(model.backbone_layers, key)}
    first = model.get_parameter(parts[0].keys[0])
    assert first.shape[1] == 3
    assert all(part.keys for part in parts)


@pytest.mark.parametrize("name", MODELS)
def test_a_frozen_backbone_keeps_everything_and_the_rest_learns(name: str) -> None:
    model = model_of(name)
    keys = {key for part in backbone_parts(model) for key in part.keys}
    layers = {key.rpartition(".")[0] for key in keys}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(model, Recipe(freeze="all", lr=0.1, weight_decay=0.5))
    assert all(model.get_parameter(key).grad is None for key in keys)
    assert not any(model.get_submodule(layer).training for layer in layers)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not {key for key in changed if key.rpartition(".")[0] in layers}  # neither weights nor statistics
    assert changed & {key for key, _ in model.named_parameters()}


@pytest.mark.parametrize("name", ["resnet18", "sightline_mobilenet_v2", "unet_resnet18"])
def test_nothing_is_computed_for_gradients_below_the_lowest_part_that_learns(name: str) -> None:
    model = model_of(name)
    body = find_body(model)
    needs = {}
    for first, layers in body.part_layers().items():
        layers[-1].register_forward_hook(lambda _, given, out, first=first: needs.update({first: out.requires_grad}))
    freezing = Freezing(model, Recipe(freeze=2))
    model.train()
    freezing.begin(0)
    losses(model)
    assert list(needs.values())[:2] == [False, False]
    assert all(list(needs.values())[2:])
    frozen = {key for part in backbone_parts(model)[:2] for key in part.keys}
    assert {key for key, p in model.named_parameters() if not p.requires_grad} == frozen
    freezing.end()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_setting_of_the_recipe_goes_before_the_model_s_own() -> None:
    model = model_of("resnet18", trainable_layers=1)
    frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {key for part in backbone_parts(model)[:4] for key in part.keys}
    for freeze, expected in ((None, 4), ("none", 0), (2, 2), ("3", 3), ("all", 5)):
        freezing = Freezing(model, Recipe(freeze=freeze))
        found = {key for key, p in model.named_parameters() if not p.requires_grad}
        assert found == {key for part in backbone_parts(model)[:expected] for key in part.keys}
        freezing.end()
    assert {key for key, p in model.named_parameters() if not p.requires_grad} == frozen


def test_the_model_s_own_frozen_parts_are_in_eval_mode_too() -> None:
    model = model_of("resnet18", trainable_layers=1)
    before = model.network.layer3[0].bn1.running_mean.clone()
    step(model, Recipe())
    assert torch.equal(model.network.layer3[0].bn1.running_mean, before)
    assert model.network.layer4[0].bn1.running_mean.any()


@pytest.mark.parametrize("name", ["resnet18", "faster_rcnn_mobilenet_v2_fpn", "unet_resnet18"])
def test_frozen_batch_norm(name: str) -> None:
    model = model_of(name)
    norms = backbone_norms(model)
    others = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)} - set(norms)
    body = find_body(model)
    assert sum(isinstance(m, nn.BatchNorm2d) for layer in body.layers().values() for m in layer.modules()) == len(norms)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(model, Recipe(freeze_norm=True, lr=0.1))
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in after if key.rpartition(".")[0] in norms)
    assert all(model.get_submodule(layer).training for layer in others)
    learnt = next(key for part in backbone_parts(model) for key in part.keys if key.rpartition(".")[0] not in norms)
    assert not torch.equal(after[learnt], before[learnt])


@pytest.mark.parametrize("name", MODELS)
def test_layer_wise_rates(name: str) -> None:
    model = model_of(name)
    groups = parameter_groups(model, Recipe(lr=0.5, layer_decay=0.5, backbone_lr_factor=0.1, weight_decay=0.0))
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    parts = backbone_parts(model)
    expected, rate = {}, 0.5 * 0.1
    for part in reversed(parts):
        rate *= 0.5
        expected |= dict.fromkeys(part.keys, rate)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(expected.get(key, 0.5)), key


def test_one_more_part_learns_after_each_so_many_epochs() -> None:
    model = model_of("resnet18")
    parts = [set(part.keys) for part in backbone_parts(model)]
    freezing = Freezing(model, Recipe(unfreeze_every=2, freeze=1))
    told = []
    for epoch, opened in enumerate([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]):
        model.train()
        told += freezing.begin(epoch)
        found = {key for key, p in model.named_parameters() if p.requires_grad and key not in ("network.fc.weight",)}
        assert found == set().union({"network.fc.bias"}, *parts[5 - opened :])
        assert model.network.layer4.training == (opened > 0)
        assert not model.network.conv1.training
    assert told == [
        "the head learns alone for 2 epochs; then more parts follow",
        "from epoch 3 on, part 5 of 5 of the backbone also learns",
        "from epoch 5 on, part 4 of 5 of the backbone also learns",
        "from epoch 7 on, part 3 of 5 of the backbone also learns",
        "from epoch 9 on, part 2 of 5 of the backbone also learns",
    ]


def test_a_resumed_run_unfreezes_as_before(tmp_path: Path) -> None:
    data = sl.scenes(4, 32, kind="class_scores")

    def run(folder: Path, epochs: int, resume: bool = False) -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = create_model("mobilenet_v3_small", data.classes, image_size=32)
        recipe = Recipe(
            epochs=epochs, batch_size=2, unfreeze_every=1, schedule="constant", warmup_steps=0, lr=0.01, ema=None
        )
        fit(model, data, recipe, folder, progress=False, resume=resume, device="cpu")
        return {key: value.clone() for key, value in model.state_dict().items()}

    run(tmp_path / "parts", 2)
    resumed, whole = run(tmp_path / "parts", 4, resume=True), run(tmp_path / "whole", 4)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    torch.manual_seed(3)
    start = create_model("mobilenet_v3_small", data.classes, image_size=32).state_dict()
    same = {key for key in whole if torch.equal(whole[key], start[key])}
    assert "network.features.2.block.0.0.weight" in same  # three of six parts have been opened: the last starts at 4
    assert "network.features.2.block.0.1.running_mean" in same
    assert "network.features.4.block.0.0.weight" not in same


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("resnet18", {"freeze": 6}, r"freeze is 6, but the backbone of resnet18 has 5 parts \(conv1, layer1, .*up to"),
        ("unet", {"freeze": "all"}, "freeze is all, but unet has no backbone; leave freeze out"),
        ("unet", {"unfreeze_every": 1}, "unfreeze_every is 1, but unet has no backbone"),
        ("unet", {"layer_decay": 0.5}, "layer_decay is 0.5, but unet has no backbone"),
    ],
)
def test_what_cannot_be_frozen_is_refused(name: str, values: dict[str, Any], sentence: str) -> None:
    model = model_of(name)
    with pytest.raises(InputError, match=sentence):
        described(model, Recipe(**values))
    with pytest.raises(InputError, match=sentence):
        Freezing(model, Recipe(**values))


def test_a_training_says_what_it_freezes_and_a_setting_goes_before_a_plan(tmp_path: Path) -> None:
    data = sl.scenes(8, 64, kind="class_scores")
    weights = tmp_path / "start.safetensors"
    start = create_model("efficientnet_lite0", data.classes, image_size=64)
    sl.save(start, weights)

    def prepared(**settings: Any) -> Any:
        settings |= {"epochs": 1}
        arguments = {"image_size": 64}
        return prepare("efficientnet_lite0", data[:], data[4:], weights=weights, arguments=arguments, settings=settings)

    own = prepared()
    assert own.plan.arguments == {"norm": "frozen", "trainable_layers": 2}
    chosen = prepared(freeze="none", layer_decay=0.7, freeze_norm=False)
    assert chosen.plan.arguments == {}
    assert any(m.startswith("freeze none: 0 of the backbone's 5 parts keep") for m in chosen.messages)
    slowest = "layer_decay 0.7: the first of 5 parts of the backbone learns at 0.17 of the head's rate"
    assert slowest in chosen.messages
    assert chosen.recipe.backbone_lr_factor == 1  # layer_decay is given in its place
    assert recipe_for(chosen.model, {}, "the test").backbone_lr_factor == 0.3
    text = prepared(freeze="all").messages[-1]
    assert re.fullmatch(
        r"freeze all: 5 of the backbone's 5 parts keep .*, 3,\d\d\d,\d\d\d of 3,\d\d\d,\d\d\d param.*", text
    )
