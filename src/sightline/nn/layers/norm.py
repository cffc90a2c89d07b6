"""Batch normalisation, learning or frozen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError

NormLayer = Callable[[int], nn.Module]
"""Makes a normalisation layer for a number of channels."""


def batch_norm(eps: float = 1e-5, momentum: float = 0.1) -> NormLayer:
    """A maker of `nn.BatchNorm2d` with these numbers."""
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


Norm = Literal["batch", "frozen"]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) with everything fixed: statistics, scale and shift are buffers.

    Detectors train with few images a batch, whose statistics are too noisy to normalise with; they keep those of the
    pretrained backbone. Input and output are [N, C, H, W].

    Args:
        channels: C.
        eps: added to the variance. 0 is what the first published ResNet-50 detectors were trained with.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(
            prefix + "num_batches_tracked", None
        )  # a learning layer counts its batches; a frozen one has none
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def norm_maker(norm: Norm, eps: float | None = None, own: NormLayer = nn.BatchNorm2d) -> NormLayer:
    """What "batch" and "frozen" stand for.

    Args:
        norm: "batch" learns, "frozen" keeps the pretrained statistics, scale and shift.
        eps: added to the variance; None for `own`'s.
        own: the maker that a network has by default.
    """
    if norm not in ("batch", "frozen"):
        raise InputError(
            f"norm is {norm!r}, but must be 'batch' (learns) or 'frozen' (keeps the pretrained statistics)"
        )
    if norm == "frozen":
        return partial(FrozenBatchNorm2d, eps=float(getattr(own(1), "eps", 1e-5)) if eps is None else eps)
    return own if eps is None else batch_norm(eps)


def freeze_norms(module: nn.Module) -> nn.Module:
    """Replace every `nn.BatchNorm2d` inside `module` by a frozen one of the same values; returns the module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            freeze_norms(child)
    return module
