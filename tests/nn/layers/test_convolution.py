"""Convolutions by other ways than PyTorch's usual ones: the same maps and gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.layers import ConvNormAct, FrozenBatchNorm2d, convolution
from sightline.nn.layers.conv import Conv2d, SameConv2d
from sightline.nn.layers.convolution import column_blocks


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def layer(kind: str, kernel: int, stride: int, groups: int, bias: bool) -> nn.Conv2d:
    if kind == "same":
        return SameConv2d(8, 8, kernel, stride, groups=groups, bias=bias)
    return Conv2d(8, 8, kernel, stride, kernel // 2, groups=groups, bias=bias)


def expected(own: nn.Conv2d, x: Tensor, act: nn.Module) -> Tensor:
    """The layer in double precision, by PyTorch's convolution of a padded map."""
    assert isinstance(own.padding, tuple)
    sides = own.sides(x.shape[-2:]) if isinstance(own, SameConv2d) else [own.padding[0]] * 4
    bias = None if own.bias is None else own.bias.double()
    return act(F.conv2d(F.pad(x, sides).double(), own.weight.double(), bias, own.stride, groups=own.groups))


@pytest.mark.parametrize(
    ("kind", "kernel", "stride", "groups", "act"),
    [
        ("usual", 1, 1, 1, nn.ReLU6()),
        ("usual", 1, 1, 1, nn.SiLU()),
        ("usual", 1, 1, 1, nn.LeakyReLU()),
        ("usual", 1, 2, 1, nn.ReLU()),
        ("usual", 1, 1, 2, nn.Identity()),
        ("usual", 3, 2, 1, nn.ReLU6()),
        ("usual", 3, 1, 8, nn.ReLU()),
        ("usual", 5, 1, 8, nn.ReLU6()),
        ("usual", 5, 2, 8, nn.Hardswish()),
        ("usual", 7, 1, 8, nn.Identity()),
        ("same", 3, 2, 1, nn.ReLU6()),
        ("same", 3, 2, 8, nn.ReLU6()),
        ("same", 5, 2, 8, nn.ReLU()),
    ],
)
def test_maps_and_gradients_are_those_of_pytorch(
    kind: str, kernel: int, stride: int, groups: int, act: nn.Module
) -> None:
    torch.manual_seed(0)
    for (height, width), bias in itertools.product([(12, 12), (7, 10), (3, 2), (1, 1)], [True, False]):
        own = layer(kind, kernel, stride, groups, bias)
        x = (2 * torch.randn(3, 8, height, width)).contiguous(memory_format=torch.channels_last).requires_grad_()
        made = own.with_act(x, own.weight, own.bias, act)  # type: ignore[operator]
        wanted = expected(own, x, act)
        torch.testing.assert_close(made.double(), wanted, atol=1e-5, rtol=1e-4)
        grad, inputs = torch.randn_like(made), [x, *own.parameters()]
        found = torch.autograd.grad(made, inputs, grad)
        for one, other in zip(found, torch.autograd.grad(wanted, inputs, grad.double()), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        with torch.no_grad():
            without = own.with_act(x, own.weight, own.bias, act)  # type: ignore[operator]
            torch.testing.assert_close(without.double(), wanted, atol=1e-5, rtol=1e-4)


def test_only_wanted_gradients_are_computed() -> None:
    own = Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    own(x).sum().backward()
    assert own.weight.grad is not None
    own.weight.grad = None
    own.weight.requires_grad_(False)
    own(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert own.weight.grad is None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], int]]:
    """The size of the map and the width of the kernel of each gradient that PyTorch computes."""
    found: list[tuple[tuple[int, ...], int]] = []
    own = convolution._gradients

    def noted(grad: Tensor, x: Tensor, weight: Tensor, *others: Any) -> Any:
        found.append((tuple(x.shape), weight.shape[3]))
        return own(grad, x, weight, *others)

    monkeypatch.setattr(convolution, "_gradients", noted)
    return found


def test_few_images_are_described_as_many(seen: list[tuple[tuple[int, ...], int]]) -> None:
    """With one thread PyTorch would compute the gradients of fewer than 16 images more slowly."""
    x = torch.randn(2, 4, 5, 8).contiguous(memory_format=torch.channels_last)
    Conv2d(4, 6, 1)(x).sum().backward()
    assert seen == [((16, 4, 1, 5), 1)]


@pytest.mark.parametrize("own", [Conv2d(8, 8, 5, padding=2, groups=8), SameConv2d(8, 8, 3, 2, groups=8)])
def test_wide_depthwise_kernels_are_divided(own: nn.Conv2d, seen: list[tuple[tuple[int, ...], int]]) -> None:
    x = torch.randn(2, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    own(x).sum().backward()
    widths = [width for _, width in seen[1:]]  # the first one is the gradient of the map, which is not wanted
    assert len(widths) > 1
    assert max(widths) <= 3


def test_an_activation_with_a_hook_is_called() -> None:
    block = ConvNormAct(2, 3, 1, norm=FrozenBatchNorm2d)
    x = torch.randn(1, 2, 4, 4)
    seen: list[Tensor] = []
    handle = block[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    watched = block(x)
    handle.remove()
    torch.testing.assert_close(watched, block(x))
    assert len(seen) == 1


def gradient_of_columns(x: Tensor, grad: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Naive loop: the gradient of each column of a kernel of one row."""
    found = torch.zeros(kernel)
    for j, (w, g) in itertools.product(range(kernel), enumerate(grad)):
        at = stride * w + j - padding
        if 0 <= at < len(x):
            found[j] += g * x[at]
    return found


@pytest.mark.parametrize("kernel", [4, 5, 6, 7, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_blocks_give_each_column_of_the_kernel(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    taken = 0
    for size, padding, first in itertools.product(range(1, 15), range(kernel // 2 + 1), (0, 1)):
        out = (size + 2 * padding - kernel) // stride + 1
        blocks = column_blocks(kernel, first, stride, padding, size, out) if out > 0 else None
        if blocks is None:
            continue
        x, grad = torch.randn(size), torch.randn(out)
        wanted = gradient_of_columns(x, grad, kernel, stride, padding)
        found: dict[int, Tensor] = {}
        for width, pad, shift, columns, taps in blocks:
            assert width <= 3
            assert pad <= width // 2
            moved = torch.zeros(columns)
            for w, g in enumerate(grad):
                if 0 <= w + shift < columns:
                    moved[w + shift] = g
            part = gradient_of_columns(x, moved, width, stride, pad)
            found |= {tap: part[place] for tap, place in taps.items()}
        assert sorted(found) == list(range(first, kernel))
        torch.testing.assert_close(torch.stack([found[j] for j in range(first, kernel)]), wanted[first:])
        taken += 1
    assert taken > 40
