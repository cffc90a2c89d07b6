"""Classifiers with auxiliary heads: their losses, and what happens to the heads elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sightline
from sightline.errors import InputError
from sightline.models.backbone_parts import backbone_parts
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.models.trunk import find_trunk
from sightline.runtime.shapes import shapes_only
from sightline.structures import ClassScores, ImageBatch, Instances

NAMES = ["circle", "square", "star"]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return create_model("googlenet", NAMES, image_size=64)


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 70, 90, generator=generator), torch.rand(3, 64, 64, generator=generator)]


def targets(model: Model) -> list[ClassScores]:
    return [
        ClassScores((70, 90), label=2, classes=model.classes),
        ClassScores((64, 64), label=0, classes=model.classes),
    ]


def test_each_head_gives_a_loss_of_weight_three_tenths_in_both_modes(model: Model) -> None:
    model.eval()  # without dropout, so that both calls see the same
    with torch.no_grad():
        losses = model(images(), targets(model))
        batch, _ = model.prepare(images(), None)
        outputs = model.network.outputs(batch.tensor)
    truth = torch.tensor([2, 0])
    by_hand = {name: F.cross_entropy(o, truth, label_smoothing=0.1) for name, o in outputs.items()}
    assert losses.keys() == {"loss_classification", "loss_aux1", "loss_aux2"}
    torch.testing.assert_close(losses["loss_classification"], by_hand["out"])
    torch.testing.assert_close(losses["loss_aux1"], 0.3 * by_hand["aux1"])
    torch.testing.assert_close(losses["loss_aux2"], 0.3 * by_hand["aux2"])


def test_a_prediction_does_not_compute_the_heads(model: Model) -> None:
    called: list[int] = []
    hooks = [
        head.register_forward_hook(lambda *_: called.append(1)) for head in (model.network.aux1, model.network.aux2)
    ]
    with torch.no_grad():
        model.eval()(images())
        assert not called
        model(images(), targets(model))
    assert len(called) == 2
    for hook in hooks:
        hook.remove()


def test_heads_are_class_layers(model: Model, tmp_path: Path) -> None:
    """With other classes, each head keeps the outputs of the classes that both have."""
    file = sightline.save(model, tmp_path / "model.safetensors")
    other = create_model("googlenet", ["star", "hexagon"], file, image_size=64)
    for head in ("aux1.fc2", "aux2.fc2", "fc"):
        ours, theirs = other.network.get_submodule(head), model.network.get_submodule(head)
        assert torch.equal(ours.weight[0], theirs.weight[2])
        assert not torch.equal(ours.weight[1], theirs.weight[1])
    assert torch.equal(other.network.aux1.fc1.weight, model.network.aux1.fc1.weight)


def test_the_heads_are_a_choice() -> None:
    with shapes_only():
        plain = create_model("inception_v3", NAMES, aux_heads=False)
        weighted = create_model("inception_v3", NAMES, aux_loss_weight=0.4)
    assert not any("AuxLogits" in key for key in plain.state_dict())
    assert (plain.crop, plain.preprocess.min_size, weighted.aux_loss_weight) == (299, 342, 0.4)
    with pytest.raises(InputError, match="aux_loss_weight is -1, but it must be a number of at least 0; 0 disables"):
        create_model("googlenet", NAMES, aux_loss_weight=-1)
    with pytest.raises(InputError, match="resnet18 has no argument 'aux_heads'"):
        create_model("resnet18", NAMES, aux_heads=False)


@pytest.mark.parametrize("parts", [2, None])
def test_cached_features_train_without_the_heads(parts: int | None) -> None:
    """Of a network that is frozen up to a part, which includes the first head's map or not, or altogether."""
    torch.manual_seed(0)
    model = create_model("googlenet", NAMES, image_size=32).eval()
    frozen = {key for part in backbone_parts(model)[:parts] for key in part.keys}
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key not in frozen)
    trunk = find_trunk(model)
    batch, labels = model.prepare(images(), targets(model))
    with torch.no_grad():
        with trunk.recorded(model) as values:
            whole = model.batch_losses(batch, labels)
        with trunk.replaced(model, values):
            cached = model.batch_losses(ImageBatch(0 * batch.tensor, batch.sizes, batch.original_sizes), labels)
        again = model.batch_losses(batch, labels)
    assert cached.keys() == {"loss_classification"}
    torch.testing.assert_close(cached["loss_classification"], whole["loss_classification"])
    assert again == whole


DETECTORS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"min_size": 64, "max_size": 96, "channels": 16, "hidden": 16},
    "sliding_window": {"min_size": 48, "max_size": 64},
}


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_have_no_auxiliary_heads(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, NAMES, backbone="googlenet", **DETECTORS[name])
    assert not any("aux" in key for key in model.state_dict())
    unused = {key for key, place in model.backbone_keys.items() if place is None}
    assert {"aux1.fc2.weight", "aux2.conv.bn.running_var"} <= unused  # published files have them
    found = Instances((64, 64), boxes=[[8, 8, 50, 60]], labels=[1], classes=model.classes)
    sum(model([images()[1]] * 2, [found] * 2).values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_segmenter_runs_on_padded_inception() -> None:
    torch.manual_seed(0)
    model = create_model("unet", NAMES, encoder="inception_v3", channels=[8, 8, 8, 8, 8], image_size=64).eval()
    with torch.no_grad():
        (result,) = model([torch.rand(3, 64, 80)])
    assert result.labels.shape == (64, 80)
