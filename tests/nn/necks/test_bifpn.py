"""BiFPN: its fusion against numbers by hand, its paths against loops over cells."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.layers import fuse
from sightline.nn.necks.bifpn import BiFPN, BiFPNLayer, FusionNode, WeightedFusion, halved


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


def constant(value: float, side: int) -> Tensor:
    return torch.full((1, 1, side, side), value)


def passing(layer: BiFPNLayer) -> BiFPNLayer:
    """Its convolutions hand each cell on unchanged, so that what the nodes fuse can be followed by hand."""
    for module in layer.modules():
        if isinstance(module, FusionNode):
            depthwise, pointwise = module.conv[0], module.conv[1]
            nn.init.zeros_(depthwise.weight)
            nn.init.zeros_(pointwise.bias)
            with torch.no_grad():
                depthwise.weight[..., 1, 1] = 1
                pointwise.weight.copy_(torch.eye(len(pointwise.weight))[..., None, None])
    return layer


def identity_norm(channels: int) -> nn.Module:
    return nn.Identity()


@pytest.mark.parametrize(
    ("weights", "fused"),
    [
        ([1.0, 1.0], 3 / 2.0001),
        ([3.0, 1.0], 5 / 4.0001),
        ([-1.0, 0.5], 1 / 0.5001),  # a negative weight counts 0
        ([0.0, 0.0], 0.0),
    ],
)
def test_fast_normalized_fusion(weights: list[float], fused: float) -> None:
    """1 and 2 by hand: (w₁ + 2·w₂) / (w₁ + w₂ + 0.0001)."""
    layer = WeightedFusion(2)
    layer.weights.data = torch.tensor(weights)
    assert layer([constant(1.0, 2), constant(2.0, 2)]).mean().item() == pytest.approx(fused, rel=1e-6)


def test_without_weights_it_is_the_sum() -> None:
    layer = WeightedFusion(3, weighted=False)
    assert not list(layer.parameters())
    assert float(layer([constant(1.0, 2), constant(2.0, 2), constant(4.0, 2)])[0, 0, 0, 0]) == 7


def test_weights_start_equal_and_learn() -> None:
    layer = WeightedFusion(2)
    layer([constant(1.0, 2), constant(2.0, 2)]).sum().backward()
    assert layer.weights.tolist() == [1, 1]
    # of 4 cells (w₁ + 2·w₂) / (w₁ + w₂): the derivatives are ∓ 1 / (w₁ + w₂)²
    assert layer.weights.grad.tolist() == pytest.approx([-1.0, 1.0], rel=1e-3)


def test_one_layer_by_hand() -> None:
    """Three levels of constants 1, 2 and 4, each node with weights of its own (equations of section 3.3)."""
    layer = passing(BiFPNLayer([1, 1, 1], 1, identity_norm))
    for node, weights in zip(
        [*layer.top_down, *layer.bottom_up], [[1, 1], [1, 3], [1, 2, 5], [2, 2]], strict=True
    ):  # to the finest, to the middle; to the middle, to the coarsest
        node.fusion.weights.data = torch.tensor(weights, dtype=torch.float32)
    middle = silu((1 * 2 + 3 * 4) / 4.0001)
    finest = silu((1 * 1 + 1 * middle) / 2.0001)
    middle_out = silu((1 * 2 + 2 * middle + 5 * finest) / 8.0001)
    coarsest = silu((2 * 4 + 2 * middle_out) / 4.0001)
    out = layer([constant(1.0, 8), constant(2.0, 4), constant(4.0, 2)])
    assert [x.shape[-1] for x in out] == [8, 4, 2]
    for x, wanted in zip(out, [finest, middle_out, coarsest], strict=True):
        assert x.min().item() == pytest.approx(wanted, rel=1e-5)
        assert x.max().item() == pytest.approx(wanted, rel=1e-5)
    assert round(finest, 3) == 1.979


def test_maps_go_up_by_the_nearest_cell_and_down_by_the_maximum_of_nine() -> None:
    """Two levels of unequal cells; a node of two gives silu((x + y) / 2.0001)."""
    torch.manual_seed(0)
    layer = passing(BiFPNLayer([2, 2], 2, identity_norm))
    fine, coarse = torch.rand(1, 2, 6, 4), torch.rand(1, 2, 3, 2)
    first, second = (x.detach() for x in layer([fine, coarse]))
    for c in range(2):
        for row in range(6):
            for column in range(4):
                both = float(fine[0, c, row, column] + coarse[0, c, row // 2, column // 2])
                assert float(first[0, c, row, column]) == pytest.approx(silu(both / 2.0001), rel=1e-5)
        for row in range(3):
            for column in range(2):
                around = first[0, c, max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * column - 1) : 2 * column + 2]
                both = float(coarse[0, c, row, column] + around.max())
                assert float(second[0, c, row, column]) == pytest.approx(silu(both / 2.0001), rel=1e-5)


def test_parameters_of_a_layer_and_of_its_resampling() -> None:
    """Width 64: each of 8 nodes has 9·64 + 64·64 + 64 + 2·64 of them, and 5 have two weights, 3 have three."""
    node = 9 * 64 + 64 * 64 + 64 + 2 * 64
    plain = BiFPNLayer([64] * 5, 64, nn.BatchNorm2d)
    assert sum(p.numel() for p in plain.parameters()) == 8 * node + 5 * 2 + 3 * 3 == 38_931
    # of B0's maps P3 enters one node, P4 and P5 two each, and P6 comes from P5, each by a convolution of its own
    neck = BiFPN([40, 112, 320], 64, 3)
    resampling = sum(n * (c * 64 + 64 + 2 * 64) for c, n in ((40, 1), (112, 2), (320, 3)))
    assert sum(p.numel() for p in neck.parameters()) == 3 * 38_931 + resampling
    assert neck.to_next[0].bias is not None


def test_levels_beyond_the_backbone_s_are_pooled() -> None:
    torch.manual_seed(0)
    neck = BiFPN([3, 5], 4, 2, levels=4).eval()
    seen: list[list[Tensor]] = []
    neck.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    maps = [torch.rand(2, 3, 16, 12), torch.rand(2, 5, 8, 6)]
    out = neck(maps)
    assert [tuple(x.shape) for x in out] == [(2, 4, 16, 12), (2, 4, 8, 6), (2, 4, 4, 3), (2, 4, 2, 2)]
    torch.testing.assert_close(seen[0][2], halved(neck.to_next(maps[1])))
    torch.testing.assert_close(seen[0][3], halved(seen[0][2]))
    assert BiFPN([4, 4], 4, 1, levels=2)([torch.rand(2, 4, 8, 8), torch.rand(2, 4, 4, 4)])[1].shape == (2, 4, 4, 4)


def test_every_parameter_learns_and_norms_fold() -> None:
    torch.manual_seed(0)
    neck = BiFPN([3, 5], 8, 2, levels=3)
    maps = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
    sum(x.square().sum() for x in neck(maps)).backward()
    assert [n for n, p in neck.named_parameters() if p.grad is None or not p.grad.any()] == []
    fused = fuse(neck.eval())
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    for a, b in zip(neck(maps), fused(maps), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("repeats", "levels"), [(0, 5), (1, 2)])
def test_values_that_no_bifpn_can_have(repeats: int, levels: int) -> None:
    with pytest.raises(InputError, match=f"repeats is {repeats} and levels {levels}, but a BiFPN of 3 maps needs"):
        BiFPN([4, 4, 4], 4, repeats, levels=levels)
