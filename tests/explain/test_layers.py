"""The default layer of every model of the catalog."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.explain.hooks import as_map
from sightline.explain.layers import default_layer, layer_named
from sightline.explain.target import Target, prepared
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.runtime.shapes import shapes_only
from tests.models.test_contract import ALL, UNTESTED, build, image

QUICK = (
    *("faster_rcnn_mobilenet_v2_fpn", "r_fcn_mobilenet_v2", "sightline_n", "sightline_mobilenet_v2", "ssd300_vgg16"),
    *("efficientdet_d0", "pp_yolo_mobilenet_v2", "darknet", "yolo_v2_mobilenet_v2", "mobilenet_v2", "alexnet"),
    *("unet_small", "fcn8s_vgg16", "overfeat_mobilenet_v2", "sliding_segmentation"),
)


def fast(names: list[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@cache
def model_of(name: str) -> Model:
    model = build(name).eval()
    assert isinstance(model, Model)
    return model


def outputs(model: Model, picture: Tensor) -> dict[nn.Module, list[Tensor]]:
    """What each of the default layers returns."""
    found: dict[nn.Module, list[Tensor]] = {}
    hooks = [
        layer.register_forward_hook(lambda module, _, out: found.setdefault(module, []).append(out))
        for layer in model.map_layers()
    ]
    with torch.inference_mode():
        model([picture])
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", fast(ALL))
def test_every_model_has_layers_that_return_maps(name: str) -> None:
    model = model_of(name)
    picture = image(90, 120)
    found = outputs(model, picture)
    assert default_layer(model)
    batch = prepared(model, picture)
    size = (int(batch.tensor.shape[-2]), int(batch.tensor.shape[-1]))
    for layer in model.map_layers():
        assert layer_named(model, default_layer(model)) in model.map_layers()
        assert any(layer is module for module in model.modules())
        values = found[layer]
        assert values, "the layer does not run in prediction"
        assert all(as_map(own, size).ndim == 4 for own in values)
    if model.task in ("classification", "segmentation") and name != "inception_v3":  # 1×1 in the small image
        (own,) = found[model.map_layers()[0]]
        assert min(as_map(own, size).shape[-2:]) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTESTED)
def test_models_that_differ_from_others_in_size_have_layers_too(name: str) -> None:
    with shapes_only():
        model = create_model(name, ["a"])
    assert layer_named(model, default_layer(model)) is model.map_layers()[0]


@pytest.mark.parametrize(
    "name", fast(["sightline_n", "sightline_mobilenet_v2", "ssd300_vgg16", "efficientdet_d0", "pp_yolo_mobilenet_v2"])
)
def test_a_level_is_that_of_its_candidates(name: str) -> None:
    """The maps are ordered as `Candidates.levels`: each level has a whole number of boxes per cell of its map."""
    model: Any = model_of(name)
    picture = image(90, 120)
    found = outputs(model, picture)
    with torch.inference_mode():
        (own,) = model.candidates(prepared(model, picture))
    counts = own.levels.bincount().tolist()
    layers = model.map_layers()
    assert len(counts) == len(layers)
    cells = [found[layer][0].shape[-2] * found[layer][0].shape[-1] for layer in layers]
    assert cells == sorted(cells, reverse=True)
    assert all(count % cell == 0 and count // cell <= 9 for count, cell in zip(counts, cells, strict=True))


def test_the_layer_of_a_target_is_that_of_its_level() -> None:
    model = model_of("sightline_n")

    class Coarse(Target):
        level = 2

    assert default_layer(model) == "neck.top_down.1"
    assert default_layer(model, Coarse()) == "neck.bottom_up.1"
    assert default_layer(model_of("sightline_mobilenet_v2"), Coarse()) == "neck.maps.2"


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    model = model_of("mobilenet_v2")
    assert layer_named(model, "network.features.18") is model.map_layers()[0]
    with pytest.raises(InputError, match=r"no layer 'network.feature.18'; the nearest are 'network.features.18'"):
        layer_named(model, "network.feature.18")
    with pytest.raises(InputError, match=r"no layer 'classifier.1'; the nearest are 'network.classifier.1'$"):
        layer_named(model, "classifier.1")
    with pytest.raises(InputError, match="the nearest are 'network"):
        layer_named(model, "")


def test_a_model_that_does_not_know_its_maps() -> None:
    class Own(Model):
        def __init__(self) -> None:
            super().__init__(["a"], Preprocess())
            self.body = nn.Conv2d(3, 4, 3)

    with pytest.raises(InputError, match="name one of its 2 layers, such as 'body'"):
        default_layer(Own())
