"""Batch normalisation, trainable or frozen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError

NormLayer = Callable[[int], nn.Module]
"""Function from a number of channels to a normalisation layer, such as `nn.BatchNorm2d`."""


def batch_norm(eps: float = 1e-5, momentum: float = 0.1) -> NormLayer:
    """A `NormLayer` that creates `nn.BatchNorm2d` with this ε and momentum."""
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


def local_response_norm() -> nn.LocalResponseNorm:
    """AlexNet's normalisation over five neighbouring channels: aᵢ / (2 + 10⁻⁴ Σ aⱼ²)^0.75.

    Krizhevsky et al. 2012, section 3.3. PyTorch's `alpha` multiplies the mean of the squares instead of their sum.
    """
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


Norm = Literal["batch", "frozen"]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) with fixed statistics, scale and shift, which are buffers.

    Detectors are often trained with few images per batch, whose statistics are too noisy, so they keep the statistics
    of the pretrained backbone. Input and output are [N, C, H, W].

    Args:
        channels: number of channels C.
        eps: ε, added to the variance. The first published ResNet-50 detectors were trained with 0.
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

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The factor [C] and the summand [C] that the layer applies to each channel."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def norm_maker(norm: Norm, eps: float | None = None, own: NormLayer = nn.BatchNorm2d) -> NormLayer:
    """The normalisation layer for "batch" or "frozen".

    Args:
        norm: "batch" for trainable batch normalisation, "frozen" for fixed statistics, scale and shift.
        eps: ε, added to the variance; None for that of `own`.
        own: default normalisation layer of the network.
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
