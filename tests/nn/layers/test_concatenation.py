"""Concatenated maps: the values and gradients of `torch.cat`, without gaps in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.nn.layers.concatenation import concatenate


def maps(layout: torch.memory_format, *dtypes: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    made = [torch.randn(2, channels, 4, 5).contiguous(memory_format=layout) for channels in (3, 1, 4)]
    return [x.to(dtype).requires_grad_() for x, dtype in zip(made, dtypes or [torch.float32] * 3, strict=True)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_cat(layout: torch.memory_format) -> None:
    parts = maps(layout)
    grad = torch.randn(2, 8, 4, 5).contiguous(memory_format=layout)
    found, wanted = concatenate(parts), torch.cat(parts, 1)
    assert torch.equal(found, wanted)
    own = torch.autograd.grad(found, parts, grad)
    assert all(map(torch.equal, own, torch.autograd.grad(wanted, parts, grad)))
    assert all(part.is_contiguous(memory_format=layout) for part in own) or layout == torch.contiguous_format


def test_gradients_have_the_dtypes_of_the_maps() -> None:
    parts = maps(torch.channels_last, torch.float32, torch.bfloat16, torch.float32)
    found = concatenate(parts)
    assert found.dtype == torch.float32
    found.sum().backward()
    assert [part.grad.dtype for part in parts if part.grad is not None] == [x.dtype for x in parts]


def test_only_some_maps_learn() -> None:
    fixed, learnt, other = (x.detach() for x in maps(torch.channels_last))
    learnt.requires_grad_()
    F.silu(concatenate([fixed, learnt, other])).sum().backward()
    assert learnt.grad is not None
    assert fixed.grad is None
    with torch.no_grad():
        assert not concatenate([learnt, other]).requires_grad
