"""No batch norm stays that could be folded, in blocks of every kind and whole networks."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sightline.models.catalog import ENTRIES
from sightline.models.creation import create_model
from sightline.models.segmentation.deeplab_v3 import ImagePooling
from sightline.nn.backbones.darknet import DarkStage, darknet53
from sightline.nn.backbones.densenet import DenseNet
from sightline.nn.backbones.features import Network
from sightline.nn.backbones.frames import MomentBlock
from sightline.nn.backbones.inception_v3 import inception_v3
from sightline.nn.backbones.nasnet import NORMAL, REDUCTION, Cell, NASNet
from sightline.nn.backbones.resnet_vd import resnet18_vd
from sightline.nn.backbones.senet import SENet154
from sightline.nn.backbones.vgg import vgg11_bn
from sightline.nn.backbones.xception import Module, SeparableConv, xception
from sightline.nn.layers import ConvNormAct, CoordConv, DeformConv2d, FrozenBatchNorm2d, fuse
from sightline.nn.layers.conv_act import ConvAct
from sightline.runtime.shapes import shapes_only
from tests.nn.folding import foldable_norms, norms
from tests.nn.test_fuse import trained

NORM = nn.BatchNorm2d
BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "darknet": lambda: DarkStage("stage0", 4, 8, 2, 2, NORM, 0.1),
    "xception": lambda: Module(4, 6, 2, 2, NORM),
    "cell": lambda: _AfterReduction(Cell(NORMAL, 6, 4, 4, "halved", NORM)),
    "frozen cell": lambda: _AfterReduction(Cell(REDUCTION, 6, 4, 4, "halved", FrozenBatchNorm2d)),
    "coordinates": lambda: CoordConv(4, 6, 3),
    "pooling": lambda: ImagePooling(4, 6),
    "moments": lambda: _Moments(4),
    "deformable": lambda: nn.Sequential(DeformConv2d(4, 6, 3, bias=False), NORM(6), nn.ReLU()),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), NORM(6), nn.ReLU(inplace=True)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Identity()), nn.Dropout(), NORM(6)),
    "separable": lambda: nn.Sequential(SeparableConv(4, 6), NORM(6), nn.ReLU(), NORM(6)),
    "two norms": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), NORM(6), NORM(6), nn.LeakyReLU(0.3)),
}


class _Moments(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.block = MomentBlock(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x, 3)


class _AfterReduction(nn.Module):
    """A cell whose previous input is twice as large as its input."""

    def __init__(self, cell: Cell):
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell((x[..., ::2, ::2].clone(), x))[0]


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_folds_and_equals_itself(kind: str) -> None:
    torch.manual_seed(0)
    module = trained(nn.Sequential(BLOCKS[kind]()))
    for layer in module.modules():
        if isinstance(layer, DeformConv2d):
            nn.init.normal_(layer.offset.weight, 0, 0.3)
    one, x = fuse(module), torch.randn(3, 4, 9, 11)
    assert norms(module)
    assert len(norms(one)) == (kind == "separable")  # ReLU is between it and the convolution
    assert not foldable_norms(lambda: one(x))
    assert foldable_norms(lambda: module(x)) or kind == "deformable"  # made in pieces, which are joined
    with torch.inference_mode():
        torch.testing.assert_close(one(x.clone()), module(x.clone()), atol=1e-5, rtol=1e-5)


NETWORKS: dict[str, Callable[[], Network]] = {
    "darknet53": darknet53,
    "xception": xception,
    "nasnet": lambda: NASNet(1, 96, 32),
    "senet154": lambda: SENet154(depths=(1, 1, 1, 1)),
    "resnet18_vd": resnet18_vd,
    "resnet18_vd, deformable": lambda: resnet18_vd(deformable=True),
    "inception_v3": inception_v3,
    "vgg11_bn": vgg11_bn,
    "densenet": lambda: DenseNet(4, (1, 2, 2, 1)),
}


DENSE = r"(denseblock\d\.denselayer\d+\.norm1|transition\d[._]norm|norm5)"
"""Norms of DenseNet that read the maps of several layers; a ReLU follows them, and a convolution only then."""


@pytest.mark.parametrize("maps", [False, True], ids=["classifier", "maps"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_norm_stays_in_a_network_that_could_be_folded(name: str, maps: bool) -> None:
    with shapes_only():
        network = NETWORKS[name]()
        one, x = fuse(network.maps([8, 16, 32]) if maps else network), torch.empty(1, 3, 128, 128)
        assert not foldable_norms(lambda: one(x))
    assert [norm for norm in norms(one) if name != "densenet" or not re.fullmatch(rf"(features\.)?{DENSE}", norm)] == []


def test_what_two_layers_read_is_not_folded() -> None:
    """A sequence that stands in two places keeps its last layer: another norm follows it in each."""
    torch.manual_seed(0)
    shared = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))
    module = trained(nn.Sequential(nn.Sequential(shared, NORM(4)), nn.Sequential(shared, NORM(4))))
    one, x = fuse(module), torch.randn(2, 4, 6, 7)
    assert len(norms(one)) == 2
    with torch.inference_mode():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


def test_a_layer_in_two_places_is_found_in_both() -> None:
    """The second place of the ReLU is between a convolution and a norm, which must not be folded."""
    torch.manual_seed(0)
    relu = nn.ReLU()
    module = trained(nn.Sequential(nn.Conv2d(4, 4, 1), relu, nn.Conv2d(4, 4, 1), relu, NORM(4)))
    one, x = fuse(module), torch.randn(2, 4, 6, 7)
    assert norms(one) == ["4"]
    assert isinstance(one[2], ConvAct)
    with torch.inference_mode():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


def test_an_order_that_is_stated_in_part() -> None:
    class Two(nn.Module):
        in_order = (("b", "norm"),)

        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(4, 4, 1), NORM(4), ConvNormAct(4, 4, 1, norm=None, act=None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.norm(self.b(x))

    torch.manual_seed(0)
    module, x = trained(nn.Sequential(Two())), torch.randn(2, 4, 6, 7)
    one = fuse(module)
    assert not norms(one)
    assert isinstance(one[0].norm, nn.Identity)
    with torch.inference_mode():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_no_norm_stays_in_any_model(name: str) -> None:
    """Except for those of DenseNet that read the maps of several layers."""
    with shapes_only():
        model = create_model(name, ["a", "b"])
    assert [norm for norm in norms(fuse(model)) if not re.fullmatch(rf"network\.features\.{DENSE}", norm)] == []
