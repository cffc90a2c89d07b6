"""A residual neck and head start as the identity, so that pretrained features reach the outputs unchanged."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from sightline.nn.heads.decoupled import DecoupledHead, SharedBranch
from sightline.nn.layers import batch_norm
from sightline.nn.layers.fuse import fuse
from sightline.nn.necks.pan import PathAggregation


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def maps(channels: tuple[int, ...] = (6, 8, 10)) -> list[Tensor]:
    return [torch.randn(2, c, 16 >> i, 12 >> i) for i, c in enumerate(channels)]


def closing_norms(neck: PathAggregation) -> list[nn.BatchNorm2d]:
    """The last normalisation layer of each block that fuses two maps."""
    return [cast(nn.BatchNorm2d, block.join[1]) for block in [*neck.top_down, *neck.bottom_up]]


def wakened(module: nn.Module) -> nn.Module:
    """The module with other scales, shifts and statistics of all normalisation layers, in evaluation mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.running_var):
                nn.init.uniform_(cast(Tensor, values), 0.5, 1.5)
            for values in (norm.bias, norm.running_mean):
                nn.init.normal_(cast(Tensor, values), std=0.3)
    return module.eval()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("separable", [True, False])
def test_a_residual_neck_starts_as_its_lateral_convolutions(training: bool, separable: bool) -> None:
    neck = PathAggregation((6, 8, 10), 16, residual=True, separable=separable).train(training)
    x = maps()
    with torch.no_grad():
        for out, lateral, given in zip(neck(x), neck.laterals, x, strict=True):
            torch.testing.assert_close(out, lateral(given))
        plain = PathAggregation((6, 8, 10), 16).train(training)
        for out, lateral, given in zip(plain(x), plain.laterals, x, strict=True):
            assert not torch.allclose(out, lateral(given))


def test_a_residual_neck_adds_its_blocks_to_the_lateral_maps() -> None:
    """Against the two paths written out, once its blocks no longer give zero."""
    neck = cast(PathAggregation, wakened(PathAggregation((6, 8, 10), 16, residual=True)))
    x = maps()
    with torch.no_grad():
        a, b, c = (lateral(m) for lateral, m in zip(neck.laterals, x, strict=True))
        twice = nn.Upsample(scale_factor=2)
        b = b + neck.top_down[0](torch.cat([b, twice(c)], 1))
        a = a + neck.top_down[1](torch.cat([a, twice(b)], 1))
        b = b + neck.bottom_up[0](torch.cat([neck.down[0](a), b], 1))
        c = c + neck.bottom_up[1](torch.cat([neck.down[1](b), c], 1))
        for out, expected in zip(neck(x), (a, b, c), strict=True):
            torch.testing.assert_close(out, expected)


def test_a_separable_neck_has_a_depthwise_convolution_for_each_of_three_by_three() -> None:
    neck = PathAggregation((6, 8, 10), 16, blocks=2, separable=True)
    square = [m for m in neck.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(square) == 2 + 4 * 2 * 2  # two that halve the map; two in each of two pairs of four blocks
    assert all(m.groups == m.in_channels == m.out_channels for m in square)
    assert [tuple(m.shape) for m in neck(maps())] == [tuple(m.shape) for m in PathAggregation((6, 8, 10), 16)(maps())]


def test_gradients_reach_lateral_convolutions_and_scales_that_start_at_zero() -> None:
    neck = PathAggregation((6, 8, 10), 16, residual=True).train()
    torch.stack([(out * torch.randn_like(out)).sum() for out in neck(maps())]).sum().backward()
    for lateral in neck.laterals:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lateral.parameters())
    norms = closing_norms(neck)
    assert len(norms) == 4
    for norm in norms:
        assert not norm.weight.any()
        assert norm.weight.grad is not None
        assert (norm.weight.grad != 0).any()


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_residual_branch_starts_as_the_identity(separable: bool, training: bool) -> None:
    branch = SharedBranch(8, 3, 2, separable, batch_norm(), residual=True).train(training)
    x = torch.randn(2, 8, 6, 5)
    with torch.no_grad():
        for level in range(3):
            torch.testing.assert_close(branch(x.clone(), level), x, rtol=0, atol=0)
        assert not torch.allclose(SharedBranch(8, 3, 2, separable, batch_norm()).train(training)(x, 0), x)


@pytest.mark.parametrize("separable", [True, False])
def test_a_residual_branch_adds_each_convolution_to_its_input(separable: bool) -> None:
    branch = cast(SharedBranch, wakened(SharedBranch(8, 3, 2, separable, batch_norm(), residual=True)))
    x = expected = torch.randn(2, 8, 6, 5)
    convolutions, norms = list(branch.convolutions), list(cast(nn.ModuleList, branch.norms[1]))
    each = 2 if separable else 1
    with torch.no_grad():
        for start in (0, each):
            y = expected
            for convolution, norm in zip(convolutions[start : start + each], norms[start : start + each], strict=True):
                y = norm(convolution(y))
                y = y * torch.sigmoid(y)
            expected = expected + y
        before = x.clone()
        torch.testing.assert_close(branch(x, 1), expected)
        assert torch.equal(x, before)  # the box branch reads the same map


def test_gradients_reach_the_input_of_a_branch_and_its_scales() -> None:
    branch = SharedBranch(8, 2, 2, True, batch_norm(), residual=True).train()
    x = torch.randn(2, 8, 6, 5, requires_grad=True)
    (branch(x, 1) * torch.randn(2, 8, 6, 5)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    for number, norm in enumerate(cast(nn.ModuleList, branch.norms[1])):
        assert bool(norm.weight.any()) == (number % 2 == 0)  # the last one of each pair starts at zero
        assert number % 2 == 0 or (norm.weight.grad != 0).any()


@pytest.mark.parametrize("residual", [True, False])
def test_folded_normalisation_layers_give_the_same(residual: bool) -> None:
    neck = wakened(PathAggregation((6, 8, 10), 16, residual=residual))
    head = wakened(DecoupledHead(16, 3, residual=residual))
    model = nn.Sequential(neck, head)
    x = maps()
    with torch.no_grad():
        expected = model(x)
        folded = fuse(model)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        for out, wanted in zip(folded(x), expected, strict=True):
            torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)
