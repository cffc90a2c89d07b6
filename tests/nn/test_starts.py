"""How weights start: deviations that the papers and He et al. (2015) name, by each layer's own fan-in or fan-out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sightline.models.detection.light_head_rcnn import LargeSeparableConv
from sightline.models.detection.overfeat import _start as overfeat_start
from sightline.models.detection.ssd import init_normal
from sightline.models.segmentation.deconvnet import he_start
from sightline.nn.heads.box import ConvHead
from sightline.nn.heads.decoupled import DecoupledHead
from sightline.nn.heads.efficientdet import EfficientDetHead
from sightline.nn.heads.fcos import FCOSHead
from sightline.nn.heads.mask import init_for_relu
from sightline.nn.heads.position_sensitive import ScoreMaps
from sightline.nn.heads.retinanet import RetinaNetHead
from sightline.nn.heads.rpn import RPNHead
from sightline.nn.heads.yolo_v1 import GridHead
from sightline.nn.heads.yolo_v2 import YOLOv2Head
from sightline.nn.heads.yolo_v3 import YOLOv3Head
from sightline.nn.necks.bifpn import BiFPN
from sightline.nn.necks.fpn import FeaturePyramid
from sightline.nn.necks.last_levels import LastLevelP6P7
from sightline.nn.necks.yolo_v3 import YOLOv3Neck


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def fan(layer: nn.Conv2d | nn.ConvTranspose2d, inward: bool = True) -> int:
    """Products that an output is a sum of, by the layer's own numbers; outward, those that an input goes into."""
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    return (layer.in_channels if inward else layer.out_channels) * kernel // layer.groups


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def spread(layer: nn.Module, wanted: float, mean: float = 0.0) -> None:
    weight = layer.weight.detach()
    few = 4 / math.sqrt(weight.numel())  # about four standard errors of a deviation
    assert float(weight.std()) == pytest.approx(wanted, rel=few), layer
    assert abs(float(weight.mean()) - mean) < 1.5 * few * wanted
    if layer.bias is not None and mean == 0.0:
        assert not layer.bias.detach().any(), layer


def test_pyramids_start_uniform_by_the_fan_in() -> None:
    """Detectron's `c2_xavier_fill`: uniform within ±√(3 / fan-in), whose deviation is √(1 / fan-in)."""
    for module in (FeaturePyramid([32, 64], 32), LastLevelP6P7(48, 32)):
        for layer in convolutions(module):
            spread(layer, math.sqrt(1 / fan(layer)))
            assert float(layer.weight.detach().abs().max()) <= math.sqrt(3 / fan(layer))


def test_linear_layers_start_by_the_fan_in() -> None:
    """√(1 / fan-in): no ReLU follows."""
    for layer in convolutions(BiFPN([16, 24, 32], 32, 1)):
        spread(layer, math.sqrt(1 / fan(layer)))
    for layer in convolutions(LargeSeparableConv(32, 24, 16)):
        spread(layer, math.sqrt(1 / fan(layer)))


def test_layers_before_a_relu_start_by_he() -> None:
    for layer in convolutions(ConvHead((16, 3, 3), (32, 32), 8)):
        spread(layer, math.sqrt(2 / fan(layer, inward=False)))
    other = nn.Sequential(nn.Conv2d(16, 48, 3), nn.ConvTranspose2d(24, 48, 2, 2))
    init_for_relu(other)
    spread(other[0], math.sqrt(2 / (48 * 9)))
    spread(other[1], math.sqrt(2 / (24 * 4)))  # of a transposed one PyTorch counts the inputs as the fan-out
    he_start(other)
    spread(other[0], math.sqrt(2 / (16 * 9)))
    spread(other[1], math.sqrt(2 / (24 * 4)))


def test_layers_before_a_leaky_relu_start_by_he() -> None:
    """Slope 0.1: √(2 / (1.01 · fan-in)), which the tolerance tells from 0.2 only in the large ones."""
    for layer in convolutions(YOLOv3Neck([16, 24, 32], width=64)):
        spread(layer, math.sqrt(2 / (1.01 * fan(layer))))


def test_heads_start_with_a_deviation_of_a_hundredth() -> None:
    """Fast R-CNN, section 2.3; Faster R-CNN, section 3.1.3; RetinaNet, section 4.1."""
    heads: list[nn.Module] = [RPNHead(32, 3), RetinaNetHead(32, 9, 20, depth=1), FCOSHead(32, 20, 1)]
    heads += [ScoreMaps(32, 5, 3)]
    for head in heads:
        for layer in convolutions(head):
            few = 4 / math.sqrt(layer.weight.numel())
            assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=few)
    spread(YOLOv2Head(16, 32, 5, 20, width=64, passed=8).last, 0.01, mean=1e-9)


def test_scores_start_at_one_in_a_hundred() -> None:
    """Focal loss, section 3.3: the bias −log((1 − π) / π), π = 0.01; log 99 = 4.59512."""
    assert math.log(99) == pytest.approx(4.59512, abs=1e-5)
    retina, fcos = RetinaNetHead(32, 9, 20, depth=1), FCOSHead(32, 20, 1)
    for head in (retina, fcos):
        biases = [p for name, p in head.named_parameters() if name.endswith("bias") and len(p) in (180, 20)]
        assert any(torch.allclose(b, torch.full_like(b, -4.59512)) for b in biases), type(head)
    efficient = EfficientDetHead(16, 9, 20, 1)
    scores = [p for name, p in efficient.named_parameters() if name.endswith("bias") and len(p) == 180]
    assert any(torch.allclose(b, torch.full_like(b, -4.59512)) for b in scores)
    for layer in YOLOv3Head([32], [3], 20).predictors:
        spread(layer, 0.01, mean=1e-9)
        bias = layer.bias.detach().view(3, 25)
        assert bias[:, 4].tolist() == pytest.approx([-4.59512] * 3, abs=1e-4)
        assert not bias[:, :4].any()
        assert not bias[:, 5:].any()


def test_sides_start_near() -> None:
    """The softmax of −0.3·n over 16 bins: a side's mean is near 2.6 cells, so that boxes begin about 5 cells wide."""
    head = DecoupledHead(16, 4, 1)
    bias = head.sides[0].bias.detach().view(4, 16)
    powers = [math.exp(-0.3 * n) for n in range(16)]
    mean = sum(n * p for n, p in enumerate(powers)) / sum(powers)
    assert mean == pytest.approx(2.72, abs=0.01)
    for side in bias:
        assert float((side.softmax(0) * torch.arange(16)).sum()) == pytest.approx(mean, rel=1e-5)


def test_yolo_v1_s_boxes_start_in_the_middle_of_their_cell() -> None:
    head = GridHead(8, 2, 2, 3, width=8)
    bias = head.last.bias.detach()
    assert bias.tolist() == [0.5] * 4 + [0] + [0.5] * 4 + [0] + [0] * 3


def test_ssd_s_and_overfeat_s_new_layers() -> None:
    layer = nn.Conv2d(32, 64, 3)
    init_normal(layer)
    spread(layer, 0.03)
    layers = nn.Sequential()
    layers.add_module("hidden", nn.Conv2d(16, 64, 3))
    layers.add_module("score", nn.Conv2d(64, 64, 1))
    overfeat_start(layers)
    spread(layers[0], math.sqrt(2 / (16 * 9)))
    spread(layers[1], 0.01)
