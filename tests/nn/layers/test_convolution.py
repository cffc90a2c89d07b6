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


LAYERS = [
    ("usual", 1, 1, 1, nn.ReLU6()),
    ("usual", 1, 1, 1, nn.SiLU()),
    ("usual", 1, 2, 1, nn.ReLU()),
    ("usual", 3, 2, 1, nn.ReLU6()),
    ("usual", 3, 1, 8, nn.ReLU()),
    ("usual", 3, 2, 8, nn.Identity()),
    ("usual", 5, 1, 8, nn.ReLU6()),
    ("usual", 5, 2, 8, nn.Hardswish()),
    ("usual", 7, 1, 8, nn.Identity()),
    ("same", 3, 2, 1, nn.ReLU6()),
    ("same", 3, 2, 8, nn.ReLU6()),
    ("same", 5, 2, 8, nn.ReLU()),
]


@pytest.mark.parametrize(
    ("kind", "kernel", "stride", "groups", "act"),
    [*LAYERS, ("usual", 1, 1, 1, nn.LeakyReLU()), ("usual", 1, 1, 2, nn.Identity())],
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


@pytest.mark.skipif(not convolution.BF16, reason="oneDNN does not compute in bf16 on this processor")
@pytest.mark.parametrize(("kind", "kernel", "stride", "groups", "act"), LAYERS)
def test_in_bf16_only_rounding_differs(kind: str, kernel: int, stride: int, groups: int, act: nn.Module) -> None:
    """Maps and kernels are rounded to 8 bits before and after, so that single values differ by up to 2⁻⁸ of the sum."""
    torch.manual_seed(0)
    for (height, width), bias in itertools.product([(12, 12), (7, 10), (3, 2)], [True, False]):
        own = layer(kind, kernel, stride, groups, bias)
        own.weight.data = own.weight.data.bfloat16().float()
        x = (2 * torch.randn(3, 8, height, width)).bfloat16().contiguous(memory_format=torch.channels_last)
        x = x.float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            made = own.with_act(x, own.weight, own.bias, act)  # type: ignore[operator]
            with torch.no_grad():
                without = own.with_act(x, own.weight, own.bias, act)  # type: ignore[operator]
        assert made.dtype == without.dtype == torch.bfloat16
        wanted = expected(own, x, act)
        close_in_bf16(made, wanted)
        close_in_bf16(without, wanted)
        grad, inputs = torch.randn_like(made), [x, *own.parameters()]
        found = torch.autograd.grad(made, inputs, grad)
        for one, other in zip(found, torch.autograd.grad(wanted, inputs, grad.double()), strict=True):
            assert one.dtype == torch.float32
            close_in_bf16(one, other)


def close_in_bf16(found: Tensor, wanted: Tensor) -> None:
    """Nearly equal as a whole; a single gradient of a clipped activation may be 0 where rounding moves its value."""
    found, wanted = found.detach().double(), wanted.detach()
    assert float((found - wanted).norm()) <= 0.02 * float(wanted.norm())


@pytest.mark.skipif(not convolution.BF16, reason="oneDNN does not compute in bf16 on this processor")
@pytest.mark.parametrize(
    ("own", "half"),
    [
        (Conv2d(8, 8, 5, padding=2, groups=8), True),
        (Conv2d(8, 8, 3, 2, 1, groups=8), True),
        (Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), False),
        (Conv2d(8, 8, 9, padding=4), False),
        (Conv2d(8, 8, 3, 3), False),
    ],
)
def test_what_one_dnn_computes_incorrectly_in_bf16_is_left_to_pytorch(
    own: nn.Conv2d, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`training.half` sees the calls of PyTorch's function, and computes them in float32."""
    x = torch.randn(2, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    for context in (torch.enable_grad(), torch.no_grad()):
        called: list[int] = []
        by_pytorch = F.conv2d
        with monkeypatch.context() as patch, context, torch.autocast("cpu", torch.bfloat16):
            patch.setattr(F, "conv2d", lambda *args: (called.append(1), by_pytorch(*args))[1])  # noqa: B023
            own(x)
        assert not called if half else called


def test_autocast_leaves_double_precision_as_it_is() -> None:
    own = Conv2d(8, 8, 1).double()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert own(x).dtype == torch.float64


@pytest.mark.skipif(not convolution.BF16, reason="oneDNN does not compute in bf16 on this processor")
def test_gradients_of_strided_depthwise_maps_are_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 they take more than ten times as long."""
    dtypes: list[tuple[torch.dtype, bool, bool]] = []
    own = convolution._gradients

    def noted(grad: Tensor, x: Tensor, weight: Tensor, how: Any, x_wanted: bool, weight_wanted: bool) -> Any:
        dtypes.append((grad.dtype, x_wanted, weight_wanted))
        return own(grad, x, weight, how, x_wanted, weight_wanted)

    monkeypatch.setattr(convolution, "_gradients", noted)
    x = torch.randn(2, 8, 12, 12).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = Conv2d(8, 8, 3, 2, 1, groups=8)(x)
    made.sum().backward()
    assert dtypes[1:] == [(torch.float32, True, False), (torch.bfloat16, False, True)]


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
