"""SE-ResNet and SENet-154: counts, what the block adds, what SENet-154 changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sightline.models.creation import create_model
from sightline.nn.backbones.resnet import BasicBlock, Bottleneck, ResNet, resnet18
from sightline.nn.backbones.resnet_vd import resnet18_vd
from sightline.nn.backbones.resnext import (
    resnext50_32x4d,
    resnext101_32x8d,
    resnext101_64x4d,
    wide_resnet50_2,
    wide_resnet101_2,
)
from sightline.nn.backbones.senet import HalvedBottleneck, SENet154, senet154, seresnet50
from sightline.nn.layers import SqueezeExcitation
from sightline.runtime.shapes import shapes_only
from sightline.structures import ClassScores

COUNTS: dict[Callable[..., ResNet], int] = {
    resnext50_32x4d: 25_028_904,
    resnext101_32x8d: 88_791_336,
    resnext101_64x4d: 83_455_272,
    wide_resnet50_2: 68_883_240,
    wide_resnet101_2: 126_886_696,
    seresnet50: 28_088_024,
    senet154: 115_088_984,
}


@pytest.mark.parametrize("build", COUNTS, ids=lambda b: b.__name__)
def test_parameter_counts_are_the_published_ones(build: Callable[..., ResNet]) -> None:
    with shapes_only():
        net = build()
    assert sum(p.numel() for p in net.parameters()) == COUNTS[build]
    assert [stage.channels for stage in net.stages] == [256, 512, 1024, 2048]


def test_each_bottleneck_of_seresnet_has_a_block_of_ratio_16() -> None:
    """Equation 4 of the paper, and a bias for each output of the two layers."""
    more = sum(n * (2 * c * c // 16 + c // 16 + c) for n, c in ((3, 256), (4, 512), (6, 1024), (3, 2048)))
    assert COUNTS[seresnet50] == 25_557_032 + more


@pytest.mark.parametrize(("block", "channels"), [(BasicBlock, 64), (Bottleneck, 256)])
def test_attention_scales_the_residual_branch_before_the_shortcut(
    block: type[BasicBlock | Bottleneck], channels: int
) -> None:
    torch.manual_seed(0)
    net = ResNet(block, (2, 1, 1, 1), 1, attention=SqueezeExcitation)
    layer = net.get_submodule("layer1.1").eval()
    assert isinstance(layer, block)
    branch: list[torch.Tensor] = []
    norm = layer.bn2 if isinstance(layer, BasicBlock) else layer.bn3
    norm.register_forward_hook(lambda *a: branch.append(a[2].clone()))
    x = torch.randn(2, channels, 4, 4)
    with torch.inference_mode():
        found = layer(x)
        assert layer.se is not None
        pooled = branch[0].mean((2, 3))  # the paper's two dense layers by hand
        first, second = layer.se.fc1, layer.se.fc2
        hidden = (pooled @ first.weight.flatten(1).T + first.bias).relu()
        factors = (hidden @ second.weight.flatten(1).T + second.bias).sigmoid()[:, :, None, None]
    torch.testing.assert_close(found, (x + factors * branch[0]).relu(), rtol=1e-4, atol=1e-5)


def test_any_resnet_takes_the_block() -> None:
    with shapes_only():
        nets = [resnet18(attention=SqueezeExcitation), resnext50_32x4d(attention=SqueezeExcitation)]
        counts = [sum(isinstance(m, SqueezeExcitation) for m in net.modules()) for net in nets]
        vd = type(resnet18_vd())(BasicBlock, (2, 2, 2, 2), attention=SqueezeExcitation)
    assert [*counts, sum(isinstance(m, SqueezeExcitation) for m in vd.modules())] == [8, 16, 8]


def test_a_halved_bottleneck_has_half_the_channels_and_a_3x3_shortcut() -> None:
    with shapes_only():
        layer = HalvedBottleneck(256, 128, 2, nn.BatchNorm2d, groups=64, width=4)
        plain = HalvedBottleneck(512, 128, 1, nn.BatchNorm2d, groups=64, width=4)
    assert (layer.conv1.out_channels, layer.conv2.out_channels, layer.conv3.out_channels) == (256, 512, 512)
    assert layer.downsample is not None
    assert layer.downsample[0].kernel_size == (3, 3)  # type: ignore[index]
    assert plain.downsample is None
    small = HalvedBottleneck(16, 8, 2, nn.BatchNorm2d, groups=2, width=32)
    assert small(torch.rand(2, 16, 6, 6)).shape == (2, 32, 3, 3)


def test_a_small_senet_learns_and_gives_its_maps() -> None:
    torch.manual_seed(0)
    net = SENet154(3, in_channels=4, depths=(1, 1, 1, 1))
    net(torch.rand(2, 4, 64, 64)).sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]
    with torch.inference_mode():
        maps = net.eval().maps((2, 4, 8, 16, 32))(torch.rand(1, 4, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps.values()] == [
        *((128, 32, 48), (256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)),
    ]


@pytest.mark.slow
def test_senet_154_as_a_model() -> None:
    torch.manual_seed(0)
    model = create_model("senet154", ["a", "b"], image_size=64)
    targets = [ClassScores((64, 64), label=i, classes=model.classes) for i in range(2)]
    sum(model([torch.rand(3, 64, 64)] * 2, targets).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert len(model.eval()([torch.rand(3, 70, 90)])) == 1
