"""Concatenation of maps whose gradients lie in memory as the maps do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps [N, C_i, H, W] along the channels: `torch.cat(maps, 1)`, with contiguous gradients.

    PyTorch's gradient of each map is a view of the gradient of all. In channels-last format that has gaps, and with
    gaps some kernels are not vectorised: the gradient of SiLU then takes 4 times as long in float32, 8 times in bf16.
    """
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in maps)
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if learning and not traced and all(x.is_contiguous(memory_format=torch.channels_last) for x in maps):
        return _Concatenation.apply(*maps)  # type: ignore[no-untyped-call]
    return torch.cat(list(maps), 1)


class _Concatenation(torch.autograd.Function):
    """`torch.cat` of maps in channels-last format."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.parts = [(x.shape[1], x.dtype) for x in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        gaps = grad.split([channels for channels, _ in ctx.parts], 1)
        return tuple(
            part.to(dtype).contiguous(memory_format=torch.channels_last)
            for part, (_, dtype) in zip(gaps, ctx.parts, strict=True)
        )
