"""Darknet-19 and Darknet-53, and the reordering of maps, against tables, a loop, and the reference pack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.nn.backbones.darknet import darknet19, darknet53
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.layers import DarknetReorg, SpaceToDepth
from sightline.runtime.shapes import shapes_only
from tests.models import parity

# (filters, size) of table 6, without the poolings
TABLE = [
    *[(32, 3), (64, 3), (128, 3), (64, 1), (128, 3), (256, 3), (128, 1), (256, 3)],
    *[(512, 3), (256, 1), (512, 3), (256, 1), (512, 3)],
    *[(1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)],
]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_of_the_tables() -> None:
    weights, channels = 0, 3
    for filters, size in TABLE:
        weights += filters * channels * size**2 + 2 * filters
        channels = filters
    with shapes_only():
        assert parameters(darknet19()) == weights + 1024 * 1000 + 1000 == 20_842_376
        assert parameters(darknet53()) == 41_609_928


@pytest.mark.parametrize(("build", "sides"), [(darknet19, [64, 32, 16, 8, 4, 2]), (darknet53, [32, 16, 8, 4, 2])])
def test_maps_are_as_the_stages_say(build, sides: list[int]) -> None:
    net = build().eval()
    body = FeatureMaps(net.layers(), list(net.stages))
    with torch.inference_mode():
        maps = body(torch.rand(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps.values()] == sides
    assert [64 // s for s in body.strides] == sides
    assert [m.shape[1] for m in maps.values()] == body.channels
    assert net.last_channels == body.channels[-1] == 1024


def test_average_pooling_and_the_last_layer_may_change_places() -> None:
    net = darknet19(7).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        as_convolution = nn.functional.conv2d(
            net.features(images), net.classifier.weight[..., None, None], net.classifier.bias
        )
        torch.testing.assert_close(net(images), as_convolution.mean((2, 3)), atol=1e-5, rtol=1e-5)


def test_darknet53_equals_the_reference(shared: Path) -> None:
    ref, meta = parity.outputs(shared, "darknet53")
    with parity.undrawn():
        net = darknet53(slope=0.01)
    parity.fill(net, shared, "darknet53")
    with torch.inference_mode():
        logits = net(parity.recipe(shared).batch([1, 2], 256, 256))
    parity.close(logits, ref["logits"], 20 * meta["float64_max_abs_diff"] + 1e-6)


def test_space_to_depth_by_a_loop() -> None:
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    out = SpaceToDepth(2)(x)
    assert out.shape == (2, 12, 2, 3)
    for c in range(3):
        for i in range(2):
            for j in range(2):
                assert torch.equal(out[:, c * 4 + i * 2 + j], x[:, c, i::2, j::2])


def test_darknet_s_order_by_a_loop() -> None:
    s, c, h, w = 2, 8, 4, 6
    x = torch.randperm(2 * c * h * w).reshape(2, c, h, w)
    out = DarknetReorg(s)(x)
    assert out.shape == (2, c * s * s, h // s, w // s)
    for image, found in zip(x.flatten(1).tolist(), out.flatten(1).tolist(), strict=True):
        few = c // s**2  # channels of the map that the numbers are read as, of h·s × w·s cells
        wanted = []
        for k in range(c):
            at, channel = divmod(k, few)
            for row in range(h):
                for column in range(w):
                    y, x_ = row * s + at // s, column * s + at % s
                    wanted.append(image[x_ + w * s * (y + h * s * channel)])
        assert found == wanted


def test_maps_that_cannot_be_reordered_are_refused() -> None:
    with pytest.raises(InputError, match=r"a map of \[5, 4\] cells has no blocks of 2 × 2"):
        SpaceToDepth(2)(torch.zeros(1, 4, 5, 4))
    with pytest.raises(InputError, match="a map of 6 channels cannot be reordered by 2: give a multiple of 4"):
        DarknetReorg(2)(torch.zeros(1, 6, 4, 4))
