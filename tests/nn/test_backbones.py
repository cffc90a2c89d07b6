"""Backbones: published parameter counts, torchvision's keys and outputs, maps at their strides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.nn.backbones.alexnet import alexnet
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from sightline.nn.backbones.resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from sightline.nn.backbones.resnext import resnext50_32x4d, wide_resnet50_2
from sightline.nn.backbones.senet import seresnet50
from sightline.nn.backbones.vgg import vgg16, vgg16_bn, vgg19, vgg19_bn
from sightline.nn.layers import ConvNormAct, FrozenBatchNorm2d, SqueezeExcitation, freeze_norms, make_divisible
from sightline.runtime.shapes import shapes_only
from tests.models import parity

COUNTS: dict[Callable[..., nn.Module], int] = {
    resnet18: 11_689_512,
    resnet34: 21_797_672,
    resnet50: 25_557_032,
    resnet101: 44_549_160,
    resnet152: 60_192_808,
    alexnet: 61_100_840,
    vgg16: 138_357_544,
    vgg16_bn: 138_365_992,
    vgg19: 143_667_240,
    vgg19_bn: 143_678_248,
    mobilenet_v2: 3_504_872,
    mobilenet_v3_large: 5_483_032,
    mobilenet_v3_small: 2_542_856,
}
SMALL = [resnet18, resnet50, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small]


@pytest.mark.parametrize("build", COUNTS, ids=lambda b: b.__name__)
def test_parameter_counts_are_the_published_ones(build: Callable[..., nn.Module]) -> None:
    with shapes_only():
        assert sum(p.numel() for p in build().parameters()) == COUNTS[build]


@pytest.mark.parametrize("build", [*SMALL, resnet101, alexnet, seresnet50], ids=lambda b: b.__name__)
def test_logits_equal_the_reference(build: Callable[..., nn.Module], shared: Path) -> None:
    name = build.__name__
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        net = build()
    parity.fill(net, shared, name)
    with torch.inference_mode():
        logits = net(
            parity.recipe(shared).batch([1, 2], *meta["input"][-2:] if isinstance(meta["input"], list) else (224, 224))
        )
    parity.close(logits, ref["logits"], 20 * meta["float64_max_abs_diff"] + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("build", [vgg16, vgg16_bn, vgg19, wide_resnet50_2, resnext50_32x4d], ids=lambda b: b.__name__)
def test_large_networks_logits_equal_the_reference(build: Callable[..., nn.Module], shared: Path) -> None:
    test_logits_equal_the_reference(build, shared)


@pytest.mark.parametrize("build", [vgg16, vgg16_bn, vgg19, wide_resnet50_2, resnext50_32x4d], ids=lambda b: b.__name__)
def test_keys_of_the_large_networks_are_the_published_ones(build: Callable[..., nn.Module], shared: Path) -> None:
    with shapes_only():
        state = build().state_dict()
    wanted = [(key, shape) for key, shape, _, _ in parity.manifest(shared, build.__name__)["state_dict"]]
    assert [(key, list(value.shape)) for key, value in state.items()] == wanted


def test_vgg_gives_the_map_of_the_worked_fact() -> None:
    net = vgg16(hidden=8).eval()
    with torch.inference_mode():
        maps = FeatureMaps(net.layers(), net.stages[-2:])(torch.rand(1, 3, 480, 640))
    assert [tuple(x.shape) for x in maps.values()] == [(1, 512, 30, 40), (1, 512, 15, 20)]


def test_alexnet_gives_maps_of_about_the_strides_it_says() -> None:
    net = alexnet(hidden=8).eval()
    with torch.inference_mode():
        maps = FeatureMaps(net.layers(), net.stages)(torch.rand(1, 3, 224, 224))
    assert [x.shape[1:] for x in maps.values()] == [(64, 55, 55), (192, 27, 27), (256, 13, 13), (256, 6, 6)]
    assert [stage.channels for stage in net.stages] == [64, 192, 256, 256]


@pytest.mark.parametrize("build", SMALL, ids=lambda b: b.__name__)
@pytest.mark.parametrize("channels", [1, 4])
def test_maps_have_the_channels_and_strides_they_say(build: Callable[..., nn.Module], channels: int) -> None:
    net = build(in_channels=channels).eval()
    maps = FeatureMaps(net.layers(), net.stages)
    with torch.inference_mode():
        out = maps(torch.rand(2, channels, 96, 64))
    assert list(out) == [stage.layer for stage in net.stages]
    for x, stage in zip(out.values(), net.stages, strict=True):
        assert x.shape == (2, stage.channels, 96 // stage.stride, 64 // stage.stride)


def test_maps_are_the_network_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    net = resnet18().eval()
    seen: dict[str, torch.Tensor] = {}
    net.layer2.register_forward_hook(lambda *a: seen.update(layer2=a[2].clone()))
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        net(x)
        expected = seen["layer2"]
        out = FeatureMaps(net.layers(), net.stages[:2])(x)
    assert torch.equal(out["layer2"], expected)
    assert list(FeatureMaps(net.layers(), net.stages[:2])) == ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2"]


def test_freezing_stops_only_what_is_before() -> None:
    net = resnet18()
    maps = FeatureMaps(net.layers(), net.stages)
    maps.train_last(3, net.parts)
    learning = {name.split(".")[0] for name, p in maps.named_parameters() if p.requires_grad}
    assert learning == {"layer2", "layer3", "layer4"}


def test_a_frozen_norm_computes_what_a_norm_in_evaluation_does() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, eps=1e-3)
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(value, 0.5, 2)
    x = torch.randn(2, 5, 4, 3)
    wanted = norm.eval()(x)
    holder = freeze_norms(nn.Sequential(norm))
    assert isinstance(holder[0], FrozenBatchNorm2d)
    torch.testing.assert_close(holder.train()(x), wanted)
    mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
    by_hand = (x - mean) / (var + 1e-3).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(holder(x), by_hand)
    assert not list(holder.parameters())


def test_a_frozen_norm_reads_a_learning_one_s_state() -> None:
    frozen = FrozenBatchNorm2d(3)
    frozen.load_state_dict(nn.BatchNorm2d(3).state_dict())
    assert "num_batches_tracked" not in frozen.state_dict()


@pytest.mark.parametrize(
    ("value", "rounded"), [(32 * 0.75, 24), (33, 32), (3, 8), (24 * 1.4, 32), (18, 24), (17.7, 16)]
)
def test_channels_are_rounded_as_published(value: float, rounded: int) -> None:
    assert make_divisible(value) == rounded


def test_squeeze_and_excitation_scales_each_channel_by_one_factor() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 8, 5, 5) + 0.1
    factor = SqueezeExcitation(8, 2)(x) / x
    torch.testing.assert_close(factor, factor[:, :, :1, :1].expand_as(factor))
    assert ((factor > 0) & (factor < 1)).all()


def test_a_block_has_a_bias_only_without_a_norm() -> None:
    assert ConvNormAct(2, 3)[0].bias is None
    assert ConvNormAct(2, 3, norm=None)[0].bias is not None
    assert [type(m).__name__ for m in ConvNormAct(2, 3, act=None)] == ["Conv2d", "BatchNorm2d"]
