"""Deformable convolution against a naive loop, numeric gradients, plain convolution and torchvision's values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import InputError
from sightline.ops import deform_conv
from sightline.ops.deform_conv import deform_conv2d


def numbers(*shape: int, seed: int = 0, scale: float = 1.0, dtype: Any = torch.float32) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def cell(plane: Tensor, y: int, x: int) -> float:
    return float(plane[y, x]) if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1] else 0.0


def naive(
    x: Tensor, offset: Tensor, weight: Tensor, stride: tuple[int, int], padding: int, dilation: int, mask: Tensor | None
) -> Tensor:
    """Equation 1 of Deformable ConvNets v2, number by number; bilinear, 0 outside."""
    images, channels, _, _ = x.shape
    outputs, inner, kh, kw = weight.shape
    groups, offset_groups = channels // inner, offset.shape[1] // (2 * kh * kw)
    height, width = offset.shape[2:]
    out = torch.zeros(images, outputs, height, width)
    for n, k, i, j, c in np.ndindex(images, outputs, height, width, inner):
        channel = k // (outputs // groups) * inner + c
        first = channel // (channels // offset_groups) * kh * kw
        for a, b in np.ndindex(kh, kw):
            tap = first + a * kw + b
            y = i * stride[0] - padding + a * dilation + float(offset[n, 2 * tap, i, j])
            z = j * stride[1] - padding + b * dilation + float(offset[n, 2 * tap + 1, i, j])
            y0, z0 = int(np.floor(y)), int(np.floor(z))
            dy, dz = y - y0, z - z0
            plane = x[n, channel]
            value = (1 - dy) * ((1 - dz) * cell(plane, y0, z0) + dz * cell(plane, y0, z0 + 1))
            value += dy * ((1 - dz) * cell(plane, y0 + 1, z0) + dz * cell(plane, y0 + 1, z0 + 1))
            factor = 1.0 if mask is None else float(mask[n, tap, i, j])
            out[n, k, i, j] += float(weight[k, c, a, b]) * factor * value
    return out


@pytest.mark.parametrize(
    ("groups", "offset_groups", "stride", "padding", "dilation", "masked"),
    [(1, 1, (1, 1), 1, 1, False), (2, 1, (2, 1), 1, 1, True), (1, 2, (1, 2), 2, 2, True), (2, 4, (1, 1), 0, 1, False)],
)
def test_a_naive_loop(
    groups: int,
    offset_groups: int,
    stride: tuple[int, int],
    padding: int,
    dilation: int,
    masked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deform_conv, "_NUMBERS", 200)  # several pieces
    x, weight = numbers(2, 4, 5, 6), numbers(2, 4 // groups, 3, 2, seed=1)
    size = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = numbers(2, offset_groups * 12, *size, seed=2, scale=2.0)
    mask = numbers(2, offset_groups * 6, *size, seed=3).sigmoid() if masked else None
    result = deform_conv2d(x, offset, weight, None, stride, padding, dilation, mask)
    torch.testing.assert_close(result, naive(x, offset, weight, stride, padding, dilation, mask), atol=1e-5, rtol=1e-5)


def test_a_tap_worked_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    weight = torch.full((1, 1, 1, 1), 10.0)
    offset = torch.zeros(1, 2, 2, 2)
    offset[0, :, 0, 0] = torch.tensor([0.5, 0.25])  # half a cell down, a quarter to the right
    offset[0, :, 0, 1] = torch.tensor([0.0, 0.5])  # half of it is outside
    offset[0, :, 1, 0] = torch.tensor([-3.0, 0.0])  # far outside
    # (1·0.75 + 2·0.25 + 4·0.75 + 8·0.25) / 2 = 3.125
    assert deform_conv2d(x, offset, weight)[0, 0].tolist() == [[31.25, 10.0], [0.0, 80.0]]
    assert deform_conv2d(x, offset, weight, torch.tensor([1.0]), mask=torch.full((1, 1, 2, 2), 0.5))[0, 0].tolist() == [
        [16.625, 6.0],
        [1.0, 41.0],
    ]


@pytest.mark.parametrize(("groups", "stride", "padding", "dilation"), [(1, 1, 1, 1), (3, 2, 2, 2), (1, 2, 0, 1)])
def test_without_offsets_it_is_the_plain_convolution(groups: int, stride: int, padding: int, dilation: int) -> None:
    x, weight, bias = numbers(2, 6, 11, 9), numbers(9, 6 // groups, 3, 3, seed=1), numbers(9, seed=2)
    expected = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    offset = torch.zeros(2, 18, *expected.shape[2:])
    result = deform_conv2d(x, offset, weight, bias, stride, padding, dilation)
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=1e-5)
    moved = deform_conv2d(x, offset + 1, weight, bias, stride, padding, dilation)[..., :-1, :-1]
    shifted = F.conv2d(F.pad(x, (0, 1, 0, 1))[..., 1:, 1:], weight, bias, stride, padding, dilation, groups)
    inner = slice(1 if padding else 0, -2)
    torch.testing.assert_close(
        moved[..., inner, inner], shifted[..., :-1, :-1][..., inner, inner], atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("groups", "offset_groups", "masked"), [(1, 1, True), (2, 2, True), (1, 2, False)])
def test_numeric_gradients(groups: int, offset_groups: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deform_conv, "_NUMBERS", 100)
    x, weight = numbers(1, 4, 4, 4, dtype=torch.float64), numbers(2, 4 // groups, 2, 2, seed=1, dtype=torch.float64)
    # a quarter off whole cells, where the slope of the interpolation jumps
    offset = numbers(1, offset_groups * 8, 3, 3, seed=2, scale=2.0, dtype=torch.float64)
    offset = offset.floor() + 0.25 + (offset - offset.floor()) / 2
    mask = numbers(1, offset_groups * 4, 3, 3, seed=3, dtype=torch.float64).sigmoid()
    inputs = [t.requires_grad_() for t in ([x, offset, weight, mask] if masked else [x, offset, weight])]
    assert torch.autograd.gradcheck(
        lambda x, offset, weight, mask=None: deform_conv2d(x, offset, weight, mask=mask), inputs, fast_mode=False
    )


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the taps read is never there at once: pieces of it give the same values and gradients."""
    x, offset, weight = numbers(2, 4, 8, 8), numbers(2, 18, 8, 8, seed=1), numbers(3, 4, 3, 3, seed=2)
    bag, sizes, results = F.embedding_bag, [], []

    def spy(rows: Tensor, table: Tensor, *a: Any, **k: Any) -> Tensor:
        out = bag(rows, table, *a, **k)
        sizes.append(out.numel() if rows.ndim == 2 else 0)
        return out

    monkeypatch.setattr(F, "embedding_bag", spy)
    for limit, largest in ((1 << 20, 2 * 64 * 36), (36 * 5, 36 * 5)):
        monkeypatch.setattr(deform_conv, "_NUMBERS", limit)
        sizes.clear()
        inputs = [t.clone().requires_grad_() for t in (x, offset, weight)]
        out = deform_conv2d(*inputs, padding=1)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
        assert max(sizes) == largest
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_half_precision_empty_batches_and_numbers_that_are_none() -> None:
    x, offset, weight = numbers(1, 4, 6, 6), numbers(1, 18, 4, 4, seed=1), numbers(2, 4, 3, 3, seed=2)
    half = deform_conv2d(x.bfloat16(), offset.bfloat16(), weight.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), deform_conv2d(x, offset, weight), atol=0.6, rtol=0.1)
    none = deform_conv2d(x[:0], offset[:0], weight.requires_grad_())
    assert none.shape == (0, 2, 4, 4)
    none.sum().backward()
    assert not weight.grad.any()
    weight.requires_grad_(False)
    offset[0, 0, 0, 0], offset[0, 1, 1, 1], offset[0, 2, 2, 2] = torch.nan, torch.inf, -1e30
    result = deform_conv2d(x, offset, weight)
    assert result[0, :, 3].isfinite().all()  # no row of the table is read that is not there


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": (4, 6, 6)}, r"x \[4, 6, 6\], offset \[1, 18, 4, 4\] and weight \[2, 4, 3, 3\] must each have 4 dim"),
        ({"weight": (2, 3, 3, 3)}, r"weight of shape \[2, 3, 3, 3\] does not fit 4 channels"),
        ({"weight": (3, 2, 3, 3)}, r"weight of shape \[3, 2, 3, 3\] does not fit 4 channels"),
        (
            {"offset": (1, 18, 6, 6)},
            r"offset has shape \[1, 18, 6, 6\].*must be \[1, D·18, 4, 4\], where D",
        ),
        ({"offset": (1, 54, 4, 4)}, r"offset has shape \[1, 54, 4, 4\]"),
        ({"mask": (1, 18, 4, 4)}, r"mask has shape \[1, 18, 4, 4\], but the offset asks for \[1, 9, 4, 4\]"),
        ({"bias": (3,)}, r"bias has shape \[3\], but there are 2 outputs"),
    ],
)
def test_shapes_that_do_not_fit(change: dict[str, tuple[int, ...]], words: str) -> None:
    shapes = {"x": (1, 4, 6, 6), "offset": (1, 18, 4, 4), "weight": (2, 4, 3, 3), **change}
    with pytest.raises(InputError, match=words):
        deform_conv2d(**{name: torch.zeros(shape) for name, shape in shapes.items()})


def test_reference_values(shared: Path) -> None:
    reference = np.load(shared / "parity" / "ops" / "deform_conv2d.npz")
    for case in json.loads(str(reference["meta"]))["cases"]:
        key = case["key"]
        names = [n for n in ("x", "offset", "weight", "bias", "mask") if f"{key}/{n}" in reference]
        inputs = {name: torch.from_numpy(reference[f"{key}/{name}"]).requires_grad_() for name in names}
        numbers = {name: case[name] for name in ("stride", "padding", "dilation")}
        out = deform_conv2d(**inputs, **numbers)
        torch.testing.assert_close(out.detach(), torch.from_numpy(reference[f"{key}/output"]), atol=1e-5, rtol=1e-5)
        gradients = torch.autograd.grad(out, list(inputs.values()), torch.from_numpy(reference[f"{key}/grad_output"]))
        for name, gradient in zip(names, gradients, strict=True):
            expected = torch.from_numpy(reference[f"{key}/grad_{name}"])
            text = f"{key} {name}"
            torch.testing.assert_close(gradient, expected, atol=2e-5, rtol=1e-5, msg=lambda m, t=text: f"{t}: {m}")
