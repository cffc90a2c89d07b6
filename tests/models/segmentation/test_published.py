"""Segmenters with published weights: the reference's keys and outputs, and what their builders take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.published import class_names
from sightline.models.saving import load, save
from sightline.models.segmentation.deeplab_v3 import AtrousPyramid, PooledNorm
from sightline.nn.backbones.dilation import dilate, dilated_maps
from sightline.nn.backbones.resnet import resnet50
from sightline.ops.pixel_losses import PixelLosses, soft_dice
from sightline.runtime.shapes import shapes_only
from sightline.structures import ClassMap
from tests.models import parity

NAMES = ["ground", "road", "roof"]
LITE = "lraspp_mobilenet_v3_large"


def voc(name: str) -> nn.Module:
    return create_model(name, class_names("voc"))


LARGE = pytest.param("fcn_resnet101", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [LITE, "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_resnet50", LARGE])
def test_outputs_are_the_reference_s(name: str, shared: Path) -> None:
    with parity.undrawn():
        network = voc(name).network
    parity.fill(network, shared, name)
    expected, meta = parity.outputs(shared, name)
    with torch.inference_mode():
        found = network(parity.recipe(shared).batch([3, 4], 160, 192))
    for key, logits in (found if isinstance(found, dict) else {"out": found}).items():
        parity.close(logits[:, :, ::4, ::4], expected[key], meta["tolerance"])
        parity.close(logits.mean((0, 2, 3)), expected[f"stats/{key}"][:, 0], meta["tolerance"])
    assert isinstance(found, dict) == ("aux" in expected)
    classes = (found["out"] if isinstance(found, dict) else found).argmax(1)[:, ::2, ::2]
    clear = torch.from_numpy(expected["argmax_stride2"] != 255)  # elsewhere two classes are as good as equal
    assert clear.float().mean() > 0.9
    assert torch.equal(classes[clear], torch.from_numpy(expected["argmax_stride2"]).long()[clear])


def test_keys_of_the_deepest_are_the_reference_s(shared: Path) -> None:
    with shapes_only():
        state = voc("fcn_resnet101").network.state_dict()
    expected = {key: shape for key, shape, _, _ in parity.manifest(shared, "fcn_resnet101")["state_dict"]}
    assert {key: list(value.shape) for key, value in state.items()} == expected


def test_the_classes_are_the_reference_s(shared: Path) -> None:
    assert class_names("voc")[1:] == parity.manifest(shared, "_categories")["voc21"][1:]
    assert class_names("voc")[0] == "background"


# Weights


def test_a_published_file_brings_its_classes_and_size(tmp_path: Path) -> None:
    donor = voc(LITE)
    state = donor.network.state_dict()
    torch.save(state, file := tmp_path / "lraspp.pth")
    model = create_model(LITE, weights=file)
    assert list(model.classes) == class_names("voc")
    assert model.preprocess.resized((260, 300)) == (520, 600)
    assert model.weights_report.left_out == []
    assert all(torch.equal(value, state[key]) for key, value in model.network.state_dict().items())
    other = create_model(LITE, NAMES, weights=file, min_size=64)
    assert all("classifier" in entry and "of other classes" in entry for entry in other.weights_report.left_out)
    assert len(other.weights_report.left_out) == 4
    assert torch.equal(other.network.classifier.cbr[0].weight, donor.network.classifier.cbr[0].weight)
    assert other.preprocess.resized((260, 300)) == (64, 73)


def test_weights_of_another_task_are_named() -> None:
    with pytest.raises(InputError, match=f"there are no 'coco' weights for {LITE}; there are imagenet, imagenet_v2"):
        create_model(LITE, NAMES, weights="coco")


# Arguments


def test_losses_are_saved_with_the_model(tmp_path: Path) -> None:
    losses = PixelLosses(0.5, dice=2.0, class_weights=(1.0, 2.0, 3.0))
    model = create_model(LITE, NAMES, losses=losses)
    assert load(save(model, tmp_path / "a.safetensors")).loss == losses
    assert create_model(LITE, NAMES, losses={"class_weights": [1, 2, 3], "dice": 2}).loss.class_weights == (1, 2, 3)
    image, target = torch.rand(3, 40, 48), ClassMap(torch.arange(40 * 48).reshape(40, 48) % 3)
    found = model.eval()([image], [target])["loss_pixels"]
    logits = model.network(model.preprocess([image])[0].tensor)
    torch.testing.assert_close(found, losses(logits, target.labels[None]))
    with pytest.raises(InputError, match="has no setting 'dise'; did you mean 'dice'"):
        create_model(LITE, NAMES, losses={"dise": 1})
    with pytest.raises(InputError, match="there are 2 class weights but 3 classes"):
        create_model(LITE, NAMES, losses={"class_weights": [1, 2]})([image], [target])
    model.loss = soft_dice  # any function of logits and labels
    assert model([image], [target])["loss_pixels"] < 1


def test_the_auxiliary_head_is_a_choice() -> None:
    image, target = torch.rand(3, 48, 48), ClassMap(torch.ones(48, 48, dtype=torch.int64))
    model = create_model("deeplabv3_mobilenet_v2", NAMES, width=16, aux=True).eval()
    losses = model([image], [target])
    assert losses.keys() == {"loss_pixels", "loss_aux"}
    aux = model.network(model.preprocess([image])[0].tensor)["aux"]
    torch.testing.assert_close(losses["loss_aux"], 0.5 * model.loss(aux, target.labels[None]))
    model = create_model("deeplabv3_mobilenet_v2", NAMES, width=16).train()
    losses = model([image], [target])  # one image is no statistics of the pooled values
    assert losses.keys() == {"loss_pixels"}
    losses["loss_pixels"].backward()
    assert all(p.grad is not None for p in model.parameters())


# Parts


def test_kernels_are_spread_by_what_was_skipped() -> None:
    with shapes_only():
        net = resnet50()
        body = dilated_maps(net, 8, 16)
        maps = body(torch.zeros(1, 3, 65, 80))
    spaced = {n: [b.conv2.dilation[0] for b in net.get_submodule(n)] for n in ("layer2", "layer3", "layer4")}
    assert spaced == {"layer2": [1] * 4, "layer3": [1, 2, 2, 2, 2, 2], "layer4": [2, 4, 4]}
    assert [list(m.shape) for m in maps.values()] == [[1, 1024, 9, 10], [1, 2048, 9, 10]]
    assert body.strides == [8, 8]
    layers = dilate(nn.Sequential(nn.Conv2d(1, 1, 5, 2, 2), nn.Conv2d(1, 1, 1, 2), nn.Conv2d(1, 1, 3, 1, 1)), rate=2)
    assert [(c.stride[0], c.dilation[0], c.padding[0]) for c in layers] == [(1, 2, 4), (1, 1, 0), (1, 2, 2)]


def test_values_pooled_over_one_image_are_normalised_as_in_evaluation() -> None:
    norm = PooledNorm(3)
    nn.init.uniform_(norm.running_var, 1, 2)
    x = torch.rand(1, 3, 1, 1)
    torch.testing.assert_close(norm.train()(x), norm.eval()(x))
    x = torch.rand(2, 3, 1, 1)
    torch.testing.assert_close(norm.train()(x), nn.BatchNorm2d(3)(x))


def test_the_pyramid_s_branches_see_the_map_at_their_spacings() -> None:
    pyramid = AtrousPyramid(1, (2, 3), 1).eval()
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    for branch, rate in zip(list(pyramid.convs)[1:3], (2, 3), strict=True):
        touched = branch[0](x)[0, 0].nonzero().tolist()
        assert touched == [[4 + i * rate, 4 + j * rate] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    everywhere = pyramid.convs[3](x)
    assert everywhere.shape == x.shape
    assert len(everywhere.unique()) == 1
    assert pyramid(x).shape == x.shape
