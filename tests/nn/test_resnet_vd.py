"""ResNet-vd: counts, shortcuts that average, odd sizes, deformable convolution in the last stage."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.resnet_vd import resnet18_vd, resnet50_vd
from sightline.nn.layers.deform import DeformConv2d
from sightline.runtime.shapes import shapes_only


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters() -> None:
    with shapes_only():
        assert parameters(resnet50_vd()) == 25_576_264  # as published for ResNet-50-D
        assert parameters(resnet18_vd()) == 11_708_744
        # each 3×3 of the last stage gets a convolution of 27 outputs with bias
        assert parameters(resnet50_vd(deformable=True)) == 25_576_264 + 3 * (9 * 512 * 27 + 27)


def test_the_shortcut_averages() -> None:
    torch.manual_seed(0)
    block = resnet18_vd().eval().get_submodule("layer2.0")
    x = torch.randn(1, 64, 6, 7)
    shortcut = block.downsample(x)
    assert shortcut.shape == (1, 128, 3, 4)
    weight = block.downsample[1].weight
    means = torch.stack([x[..., i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2, 4) for j in (0, 2, 4, 6)], 2)
    expected = F.conv2d(means.view(1, 64, 3, 4), weight) / (1 + 1e-5) ** 0.5  # fresh running statistics
    torch.testing.assert_close(shortcut, expected, atol=1e-5, rtol=1e-5)
    assert block(x).shape == shortcut.shape


@pytest.mark.parametrize("deformable", [False, True])
def test_maps(deformable: bool) -> None:
    net = resnet18_vd(5, in_channels=2, deformable=deformable)
    body = FeatureMaps(net.layers(), net.stages).eval()
    maps = body(torch.randn(1, 2, 65, 33))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [(64, 17, 9), (128, 9, 5), (256, 5, 3), (512, 3, 2)]
    assert net(torch.randn(2, 2, 64, 64)).shape == (2, 5)
    moving = [name for name, m in net.named_modules() if isinstance(m, DeformConv2d)]
    assert moving == (["layer4.0.conv2", "layer4.1.conv2"] if deformable else [])


def test_keys_are_the_usual_ones() -> None:
    with shapes_only():
        state = resnet50_vd().state_dict()
    assert [key for key in state if key.startswith("conv1") and key.endswith("weight")] == [
        f"conv1.{i}.weight" for i in (0, 1, 3, 4, 6)
    ]
    assert state["layer2.0.downsample.1.weight"].shape == (512, 256, 1, 1)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
