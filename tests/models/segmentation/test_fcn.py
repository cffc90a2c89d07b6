"""FCN: published numbers, alignment by arithmetic, and stages that go on where the last one stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.models.creation import create_model
from sightline.models.saving import save
from sightline.models.segmentation.fcn import ConvolutionalVGG, dense_as_convolutions, fcn_vgg16
from sightline.models.weights import load_weights
from sightline.nn.backbones.vgg import vgg16
from sightline.ops.upsampling import upsample_bilinear
from sightline.runtime.shapes import shapes_only

NAMES = ["ground", "circle", "square"]
SMALL = {"hidden": 8, "width": 2}


def scatter(model: nn.Module) -> nn.Module:
    """Random scores in the place of the zeros that they start with."""
    torch.manual_seed(1)
    for score in model.network.scores:
        nn.init.normal_(score.weight)
    return model


def test_fcn8s_has_the_published_parameters() -> None:
    with shapes_only():
        model = create_model("fcn8s_vgg16", [str(i) for i in range(21)])
    assert sum(p.numel() for p in model.parameters()) == 134_489_759


@pytest.mark.parametrize(("maps", "wanted"), [(1, [19]), (2, [5, 27]), (3, [5, 9, 31])])
def test_cells_lie_over_the_pixels_that_they_are_of(maps: int, wanted: list[int]) -> None:
    """The offsets of the published models; they follow from where each map's cells are centred in the image."""
    strides = [32, 16, 8][: len(wanted)]
    # stride s: (s − 1) / 2 into the first cell, 99 pixels of padding before; the 7×7 kernel's centre is 3 cells on
    centre = {s: (s - 1) / 2 - 99 for s in strides} | {32: 3 * 32 + 15.5 - 99}
    start, offsets = centre[32], []
    for stride in strides[1:]:
        # a kernel of 4 and stride 2 puts the old cell's centre at 1.5 of the new ones
        start = start - 1.5 * stride
        offsets.append((start - centre[stride]) / stride)
    offsets.append((2 * strides[-1] - 1) / 2 - start)
    assert offsets == wanted
    assert fcn_vgg16(NAMES, maps=maps, **SMALL).network.offsets == wanted


@pytest.mark.parametrize("size", [(1, 1), (31, 65)])
def test_any_size_gives_logits_of_that_size(size: tuple[int, int]) -> None:
    for maps in (1, 3):
        network = scatter(fcn_vgg16(NAMES, maps=maps, **SMALL)).network.eval()
        with torch.no_grad():
            assert network(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_the_dense_layers_are_the_classifier_s() -> None:
    """On the classifier's own map the converted layers answer as the dense ones do."""
    net = vgg16(5, hidden=8, width=2).eval()
    encoder = ConvolutionalVGG(vgg16(1, hidden=1, width=2), 8).eval()
    state = dense_as_convolutions(net.state_dict(), 8)
    for layer in (0, 3):
        own = encoder.dense[layer]
        own.load_state_dict({kind: state[f"classifier.{layer}.{kind}"] for kind in ("weight", "bias")})
    maps = torch.rand(2, 16, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(encoder.dense(maps).flatten(1), net.classifier[:6](maps.flatten(1)))


def test_classifier_weights_load() -> None:
    model = create_model("fcn8s_vgg16", NAMES, hidden=4, width=2)
    net = vgg16(5, hidden=8, width=2)
    report = load_weights(model, net.state_dict(), "vgg.pth")
    assert report.left_out == [
        "classifier.6.weight (only the classifier uses it)",
        "classifier.6.bias (only the classifier uses it)",
    ]
    assert report.loaded == 30
    encoder = model.network.encoder
    assert torch.equal(encoder.features[0].weight, net.features[0].weight)
    wanted = net.classifier[0].weight.reshape(8, 16, 7, 7)[::2]
    assert torch.equal(encoder.dense[0].weight, wanted)
    assert torch.equal(encoder.dense[3].weight[..., 0, 0], net.classifier[3].weight[::2, ::2])


def test_a_stage_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    stages = [create_model("fcn32s_vgg16", NAMES, **SMALL)]
    scatter(stages[0])
    for name in ("fcn16s_vgg16", "fcn8s_vgg16"):
        file = save(stages[-1], tmp_path / f"{name}.safetensors")
        stages.append(create_model(name, weights=file, **SMALL))  # the file brings the classes
        assert list(stages[-1].classes) == NAMES
        left = stages[-1].weights_report.left_out
        assert len(left) == 1
        assert left[0].startswith("network.last.weight (of other classes: shape")
        nn.init.normal_(stages[-1].network.ups[-1].weight, std=0.1)
        nn.init.normal_(stages[-1].network.scores[-1].weight)
    first, second, third = (stage.network for stage in stages)
    assert torch.equal(first.scores[0].weight, third.scores[0].weight)
    assert torch.equal(second.scores[1].weight, third.scores[1].weight)
    assert torch.equal(second.ups[0].weight, third.ups[0].weight)


def test_a_new_stage_says_at_first_what_the_last_one_said(tmp_path: Path) -> None:
    first = scatter(create_model("fcn32s_mobilenet_v2", NAMES)).eval()
    file = save(first, tmp_path / "32s.safetensors")
    second = create_model("fcn16s_mobilenet_v2", weights=file).eval()
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        a, b = first.network(image), second.network(image)
        inside = (..., slice(32, -32), slice(32, -32))
        coarse = first.network.scores[0](list(first.network.encoder(image).values())[-1])
        torch.testing.assert_close(a[inside], upsample_bilinear(coarse, 32)[inside], atol=1e-3, rtol=1e-3)
        # bilinear twice is nearly bilinear once
        assert (a - b)[inside].abs().mean() < 0.1 * a[inside].std()


def test_the_last_upsampling_is_fixed_and_the_others_learn() -> None:
    model = create_model("fcn16s_vgg16", NAMES, **SMALL)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["network.last.weight"]
    assert not create_model("fcn32s_mobilenet_v2", NAMES).network.last.weight.requires_grad
