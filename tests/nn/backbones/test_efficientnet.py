"""EfficientNet: published counts, torchvision's keys and outputs, scaling, stochastic depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.nn.backbones import efficientnet
from sightline.nn.backbones.efficientnet import EfficientNet, MBConv, efficientnet_b0, efficientnet_b6
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.layers import DepthwiseSeparable, StochasticDepth
from sightline.runtime.shapes import shapes_only
from tests.models import parity

COUNTS = (5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704, 66_347_960)
BUILDERS: list[Callable[..., EfficientNet]] = [getattr(efficientnet, f"efficientnet_b{i}") for i in range(8)]


@pytest.mark.parametrize("scale", range(8))
def test_parameter_counts_are_the_published_ones(scale: int) -> None:
    with shapes_only():
        assert sum(p.numel() for p in BUILDERS[scale]().parameters()) == COUNTS[scale]


def test_logits_equal_the_reference(shared: Path) -> None:
    ref, meta = parity.outputs(shared, "efficientnet_b0")
    net = efficientnet_b0()
    parity.fill(net, shared, "efficientnet_b0")
    with torch.inference_mode():
        logits = net(parity.recipe(shared).batch([1, 2], 224, 224))
    parity.close(logits, ref["logits"], 20 * meta["float64_max_abs_diff"] + 1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_maps_have_the_channels_and_strides_they_say(channels: int) -> None:
    net = efficientnet_b0(in_channels=channels).eval()
    with torch.inference_mode():
        out = FeatureMaps(net.layers(), net.stages)(torch.rand(2, channels, 96, 64))
    assert list(out) == ["1", "2", "3", "5", "7"]
    for x, stage in zip(out.values(), net.stages, strict=True):
        assert x.shape == (2, stage.channels, 96 // stage.stride, 64 // stage.stride)


def test_channels_and_repeats_are_scaled_and_rounded() -> None:
    """B3 by hand: 1.2 times the channels to multiples of 8, 1.4 times the repeats rounded up."""
    with shapes_only():
        net = EfficientNet(1.2, 1.4, 0.3)
    assert [len(part) for part in list(net.features)[1:8]] == [2, 3, 3, 5, 5, 6, 2]
    assert [part[-1].block[-1].out_channels for part in list(net.features)[1:8]] == [24, 32, 48, 96, 136, 232, 384]
    assert net.features[0].out_channels == 40
    assert net.last_channels == 1536


def test_stochastic_depth_grows_linearly_from_block_to_block() -> None:
    with shapes_only():
        net = efficientnet_b0()
    probs = [block.stochastic_depth.prob for block in net.modules() if isinstance(block, MBConv)]
    assert probs == pytest.approx([0.2 * i / 16 for i in range(16)])


def test_norms_of_ported_weights_are_the_originals() -> None:
    with shapes_only():
        norms = [m for m in efficientnet_b6().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_stochastic_depth_drops_whole_images_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.25), torch.rand(4000, 2, 3) + 0.5
    factors = layer(x) / x
    kept = factors.amax((1, 2)) > 0
    torch.testing.assert_close(factors, (kept / 0.75)[:, None, None].expand_as(factors))
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.03)
    assert layer.eval()(x) is x
    assert StochasticDepth(0.0)(x) is x
    with pytest.raises(InputError, match="prob is 1, but 0 ≤ prob < 1 must hold"):
        StochasticDepth(1)


def test_a_depthwise_separable_convolution_is_one_of_the_product_s_weights() -> None:
    """9·C weights channel by channel and C·D + D that mix them, equal to one 3×3 convolution of their products."""
    torch.manual_seed(0)
    layer = DepthwiseSeparable(4, 6)
    assert sum(p.numel() for p in layer.parameters()) == 9 * 4 + 4 * 6 + 6
    x = torch.rand(2, 4, 5, 7)
    whole = layer[0].weight[None, :, 0] * layer[1].weight
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, whole, layer[1].bias, padding=1))
    assert isinstance(DepthwiseSeparable(4, 6, norm=nn.BatchNorm2d)[2], nn.BatchNorm2d)


def test_classifiers_see_images_of_their_published_sizes() -> None:
    """The centre crop, and the shorter side of the whole image before it."""
    wanted = ((224, 256), (240, 256), (288, 288), (300, 320), (380, 384), (456, 456), (528, 528), (600, 600))
    with shapes_only():
        models = [create_model(f"efficientnet_b{i}", ["cat", "dog"]) for i in range(8)]
    assert [(model.crop, model.preprocess.min_size) for model in models] == list(wanted)
    assert {(model.preprocess.interpolation, model.preprocess.antialias) for model in models} == {("bicubic", True)}
