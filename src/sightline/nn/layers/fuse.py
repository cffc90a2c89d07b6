"""Batch normalisation folded into the convolution before it: the same outputs by fewer passes over memory.

In evaluation a batch norm is y = γ (x − μ) / √(σ² + ε) + β with everything fixed, and what comes before it is linear:
both are one convolution of weights γ w / √(σ² + ε) and bias (b − μ) γ / √(σ² + ε) + β (Ioffe and Szegedy 2015,
section 3.1). An activation that follows is computed together with the convolution, see `ConvAct`.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from sightline.nn.layers.conv import ConvNormAct
from sightline.nn.layers.conv_act import ConvAct
from sightline.nn.layers.norm import FrozenBatchNorm2d

_Module = TypeVar("_Module", bound=nn.Module)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, FrozenBatchNorm2d)


def fuse(model: _Module) -> _Module:
    """A copy of a model for inference: in evaluation mode, without gradients, its batch norms folded where they can be.

    Folded are norms that follow a convolution or a linear layer inside an `nn.Sequential` (every `ConvNormAct`), and
    what a module folds itself by a method `fused()`, which gives its replacement. All other norms stay, so that the
    outputs are always the model's own, but for rounding. Activations that follow such a convolution join it, too.
    A convolution without an activation, in a sequence or in a list such as the last ones of a head, becomes a `ConvAct`
    as well: its weights are rearranged once, and one thread does not take PyTorch's own, slower convolution.

    Returns:
        The copy. It has other parameters than the model and is neither to be trained nor to be saved as its weights.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    _fuse_children(fused)
    fused.norms_folded = True  # type: ignore[assignment]  # so that it is not saved as what it no longer is
    for parameter in fused.parameters():
        if parameter.ndim == 4:  # same memory format as the batches: 5 % faster on a CPU
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return fused


def folded(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A convolution or linear layer that equals `layer` followed by `norm` in evaluation mode; both stay as they are.

    Args:
        layer: `nn.Conv1d`, `nn.Conv2d` or `nn.Linear`, with or without bias.
        norm: a batch norm of its output channels, with or without scale and shift of its own.
    """
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
    assert isinstance(norm, _NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            factor = factor * norm.weight
        shift = -norm.running_mean * factor
        if norm.bias is not None:
            shift = shift + norm.bias
        if layer.bias is not None:
            shift = shift + layer.bias * factor
        result = copy.deepcopy(layer)
        weight = layer.weight.double() * factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
        result.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
        result.bias = nn.Parameter(shift.to(layer.weight.dtype), requires_grad=False)
    return result


def _fuse_children(module: nn.Module) -> None:
    in_order = isinstance(module, nn.Sequential) and type(module).forward in (
        nn.Sequential.forward,
        ConvNormAct.forward,
    )
    previous = ""  # by name, not by position: a slice of a Sequential keeps its names
    for name, child in list(module.named_children()):
        own = getattr(child, "fused", None)
        if callable(own):
            setattr(module, name, own())
        elif _is_a_norm(child) and in_order:
            before = module._modules.get(previous)
            if isinstance(before, nn.Conv1d | nn.Conv2d | nn.Linear):
                setattr(module, previous, folded(before, child))
                setattr(module, name, nn.Identity())
                continue  # an activation may follow
        elif isinstance(child, _ACTIVATIONS) and in_order:
            before = module._modules.get(previous)
            if isinstance(before, nn.Conv2d):
                setattr(module, previous, ConvAct(before, child))
                setattr(module, name, nn.Identity())
        else:
            _fuse_children(child)
        previous = name
    if in_order or isinstance(module, nn.ModuleList):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(module, name, ConvAct(child, nn.Identity()))


def _is_a_norm(module: nn.Module) -> bool:
    return isinstance(module, _NORMS) and module.running_mean is not None
