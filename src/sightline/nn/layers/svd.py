"""Compression of fully connected layers by truncated SVD: Girshick, "Fast R-CNN", ICCV 2015, section 3.1."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from sightline.errors import InputError


@torch.no_grad()
def truncated_svd(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Approximate a linear layer by two linear layers with t units in between: W ≈ U_t (Σ_t V_tᵀ).

    The number of weights changes from u·v to t·(u + v). This is the best approximation of rank t (Eckart and Young
    1936).

    Args:
        layer: linear layer with v inputs and u outputs.
        rank: rank t, from 1 to min(u, v).

    Returns:
        v → t without bias, t → u with the layer's bias; with the dtype and device of the layer.

    Raises:
        InputError: the rank is not between 1 and min(u, v).
    """
    outputs, inputs = layer.weight.shape
    if not 1 <= rank <= min(outputs, inputs):
        raise InputError(
            f"rank is {rank}, but a dense layer of {inputs} inputs and {outputs} outputs has ranks from 1 to "
            f"{min(outputs, inputs)}; give one of these"
        )
    weight = layer.weight if layer.weight.device.type == "mps" else layer.weight.double()
    # U and Σ from the smaller of W Wᵀ and Wᵀ W: for VGG's first dense layer a sixth of the matrix
    if outputs <= inputs:
        basis = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -rank:]
        narrow, wide = basis.T @ weight, basis
    else:
        basis = torch.linalg.eigh(weight.T @ weight).eigenvectors[:, -rank:]
        narrow, wide = basis.T, weight @ basis
    place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    first, second = (
        nn.Linear(inputs, rank, bias=False, **place),
        nn.Linear(rank, outputs, layer.bias is not None, **place),
    )
    first.weight.copy_(narrow)
    second.weight.copy_(wide)
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)


def compress_dense(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """Replace linear layers of a model by their truncated SVD, in place.

    Args:
        model: model to change. Afterwards it cannot be saved as a model of the catalog.
        ranks: rank t by name of the layer, such as {"roi_heads.box_head.fc6": 1024, "roi_heads.box_head.fc7": 256}, the
            paper's values for VGG-16.

    Raises:
        InputError: a name is not that of a linear layer, or a rank does not fit it.
    """
    dense = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for name in ranks:
        if name not in dense:
            raise InputError(f"the model has no dense layer {name!r}; it has {', '.join(dense)}")
    for name, rank in ranks.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, truncated_svd(dense[name], rank))
    return model
