"""Layers that PP-YOLO brought: deformable convolution, CoordConv, spatial pyramid pooling, DropBlock."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.errors import InputError
from sightline.nn.layers import DarknetReorg, SpaceToDepth
from sightline.nn.layers.coordinates import CoordConv, with_coordinates
from sightline.nn.layers.deform import DeformConv2d
from sightline.nn.layers.drop_block import DropBlock
from sightline.nn.layers.spatial_pyramid import SpatialPyramidPooling


@pytest.mark.parametrize(("modulated", "factor"), [(False, 1.0), (True, 0.5)])
def test_deformable_convolution_starts_as_the_plain_one(modulated: bool, factor: float) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 8, 3, 2, 1, groups=2, bias=False)
    moving = DeformConv2d(6, 8, 3, 2, 1, groups=2, bias=False, offset_groups=3, modulated=modulated)
    report = moving.load_state_dict(plain.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert report.missing_keys == ["offset.weight", "offset.bias"]
    x = torch.randn(2, 6, 9, 7)
    torch.testing.assert_close(moving(x), factor * plain(x), atol=1e-5, rtol=1e-5)
    moving(x).square().sum().backward()
    for name, parameter in moving.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name


def test_deformable_convolution_learns_to_look_elsewhere() -> None:
    """The wanted output is the map half a cell further: only offsets can say so."""
    torch.manual_seed(0)
    layer = DeformConv2d(1, 1, 1, bias=False, modulated=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    layer.weight.requires_grad_(False)
    x = torch.arange(8.0).square().expand(1, 1, 8, 8).contiguous()
    wanted = (x[..., :-1] + x[..., 1:]) / 2
    optimizer = torch.optim.Adam([layer.offset.bias], 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        (layer(x)[..., :-1] - wanted).abs().mean().backward()
        optimizer.step()
    assert layer.offset.bias.tolist() == pytest.approx([0.0, 0.5], abs=0.06)


def test_deformable_convolution_refuses_groups_that_do_not_divide() -> None:
    with pytest.raises(InputError, match=r"offset_groups is 4, but it must divide the 6 → 8 channels"):
        DeformConv2d(6, 8, offset_groups=4)
    with pytest.raises(InputError, match=r"groups is 3, but it must divide the 6 → 8 channels"):
        DeformConv2d(6, 8, groups=3)


def test_coordinates() -> None:
    x = torch.randn(2, 3, 2, 5)
    seen = with_coordinates(x)
    assert torch.equal(seen[:, :3], x)
    assert seen[1, 3].tolist() == [[-1.0, -0.5, 0.0, 0.5, 1.0]] * 2
    assert seen[1, 4].tolist() == [[-1.0] * 5, [1.0] * 5]
    assert with_coordinates(torch.zeros(1, 1, 1, 1))[0, 1:].flatten().tolist() == [0.0, 0.0]
    layer = CoordConv(3, 4, 3, 2, norm=None, act=None)
    conv = layer[0]
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.shape == (4, 5, 3, 3)
    torch.testing.assert_close(layer(x), F.conv2d(seen, conv.weight, conv.bias, 2, 1))


@pytest.mark.parametrize("sides", [(5, 9, 13), (3,), (7, 3, 5)])
def test_spatial_pyramid_pooling(sides: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 6, 17)
    layer = SpatialPyramidPooling(sides)
    out = layer(x)
    assert layer.factor == len(sides) + 1
    assert out.shape == (2, 3 * layer.factor, 6, 17)
    assert torch.equal(out[:, :3], x)
    for i, side in enumerate(sides):
        half = side // 2
        for row, column in ((0, 0), (2, 8), (5, 16)):
            window = x[:, :, max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
            assert torch.equal(out[:, 3 * (i + 1) : 3 * (i + 2), row, column], window.amax((2, 3)))
    with pytest.raises(InputError, match=r"sides are \[4\], but must be odd"):
        SpatialPyramidPooling((4,))


def test_drop_block_drops_blocks_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropBlock(0.2, 3).train()
    x = torch.ones(8, 16, 20, 20)
    out = layer(x)
    assert float(out.mean()) == pytest.approx(1, abs=1e-4)
    dropped = out == 0
    # Overlapping blocks drop a little less than the share asked for (section 3.1).
    assert 0.15 < float(dropped.float().mean()) < 0.21
    # Every dropped cell lies in a whole dropped block.
    whole = -F.max_pool2d(-dropped.float(), 3, 1)  # upper left cells of wholly dropped blocks
    assert torch.equal(F.max_pool2d(F.pad(whole, [2] * 4), 3, 1) > 0, dropped)
    assert len(out[~dropped].unique()) == 1
    assert not torch.equal(dropped[:, 0], dropped[:, 1])


def test_drop_block_is_the_identity_otherwise() -> None:
    x = torch.randn(1, 2, 5, 5)
    layer = DropBlock(0.5, 3)
    assert layer.eval()(x) is x
    layer.train().prob = 0.0  # a schedule may change it
    assert layer(x) is x
    layer.prob = 0.9
    assert layer(torch.randn(4, 2, 1, 2)).shape == (4, 2, 1, 2)  # smaller than a block
    for prob, size in ((-0.1, 3), (1.0, 3), (0.1, 0)):
        with pytest.raises(InputError, match=f"prob is {prob} and size {size}, but 0 ≤ prob < 1 and size ≥ 1"):
            DropBlock(prob, size)


@pytest.mark.parametrize("layer", [SpaceToDepth, DarknetReorg])
@pytest.mark.parametrize("size", [(4, 3), (3, 4), (5, 5)])
def test_maps_without_whole_blocks_are_refused(layer: type[SpaceToDepth], size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"a map of \[{size[0]}, {size[1]}\] cells has no blocks of 2 × 2"):
        layer(2)(torch.zeros(1, 4, *size))
    with pytest.raises(InputError, match="a map of 6 channels cannot be reordered by 2: give a multiple of 4"):
        DarknetReorg(2)(torch.zeros(1, 6, 4, 4))


def test_space_to_depth_by_a_loop_and_darknet_s_order_by_its_program() -> None:
    x = torch.arange(2 * 4 * 4 * 6.0).reshape(2, 4, 4, 6)
    plain, theirs = SpaceToDepth(2)(x), DarknetReorg(2)(x)
    assert plain.shape == theirs.shape == (2, 16, 2, 3)
    for n, c, row, column in itertools.product(range(2), range(4), range(4), range(6)):
        assert plain[n, 4 * c + 2 * (row % 2) + column % 2, row // 2, column // 2] == x[n, c, row, column]
    # reorg_cpu of darknet, "forward" with its arguments: out[in_index] = x[out_index], both flat
    flat, out = x.reshape(2, -1), torch.zeros(2, x[0].numel())
    for n, k, j, i in itertools.product(range(2), range(4), range(4), range(6)):
        channel, offset = k % 1, k  # out_c = c / s² = 1
        out[n, i + 6 * (j + 4 * k)] = flat[n, i * 2 + offset % 2 + 12 * (j * 2 + offset // 2 + 8 * channel)]
    assert torch.equal(theirs.reshape(2, -1), out)
