"""The hole algorithm: what a strided network sees is every second cell of what the dilated one sees."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sightline.nn.backbones.dilation import dilate
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet import resnet18, resnet50


@pytest.mark.parametrize(
    "layers",
    [resnet18().layer4, resnet50().layer4, nn.Sequential(*list(mobilenet_v2().features)[14:18])],
    ids=["basic", "bottleneck", "inverted residual"],
)
def test_the_dilated_map_holds_the_strided_one(layers: nn.Module) -> None:
    channels = next(m.in_channels for m in layers.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(1, channels, 12, 16)
    layers.eval()
    with torch.inference_mode():
        coarse = layers(x)
        fine = dilate(copy.deepcopy(layers))(x)
    assert fine.shape[-2:] == (12, 16)
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, atol=1e-4, rtol=1e-4)


def test_two_strides_spread_the_last_kernel_four_times() -> None:
    convs = nn.Sequential(*(nn.Conv2d(1, 1, 3, stride, 1) for stride in (2, 2, 1)))
    dilate(convs)
    assert [c.dilation for c in convs] == [(1, 1), (2, 2), (4, 4)]
    assert [c.padding for c in convs] == [(1, 1), (2, 2), (4, 4)]
    assert convs(torch.rand(1, 1, 9, 7)).shape[-2:] == (9, 7)
