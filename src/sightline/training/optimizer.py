"""The optimizer of a recipe; parameters are grouped by learning rate and weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.backbone_parts import backbone_parts
from sightline.training.recipe import Recipe


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Group the trainable parameters: by the learning rate of their part, with or without weight decay.

    With `layer_decay` d, the last part of the backbone learns at d times the rate of what follows it, the one before it
    at d² times that rate, and so on. `backbone_lr_factor` multiplies the rate of all parts. With AdamW, vectors
    (biases, and the scale and shift of normalisation layers) have no weight decay.

    Raises:
        InputError: no parameter is trainable.
    """
    assert recipe.lr is not None
    assert recipe.weight_decay is not None
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    parts, decay = backbone_parts(model), recipe.layer_decay or 1.0
    factors = {
        key: recipe.backbone_lr_factor * decay ** (len(parts) - i) for i, part in enumerate(parts) for key in part.keys
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = recipe.lr * factors.get(name, 1.0)
            decayed = recipe.optimizer == "sgd" or parameter.ndim > 1
            groups.setdefault((lr, recipe.weight_decay if decayed else 0.0), []).append(parameter)
    if not groups:
        if getattr(model, "norms_folded", False):
            raise InputError(
                "this model's norms were folded into its convolutions by fuse() or optimize(), so it cannot be "
                "trained; train the model that it was made from"
            )
        raise InputError("the model has no trainable parameter; set requires_grad on the parameters to train")
    return [
        {"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with momentum (Sutskever et al. 2013) or AdamW (Loshchilov & Hutter 2019) over `parameter_groups`."""
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum)
    on_cpu = all(parameter.is_cpu for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, fused=on_cpu or None)  # a quarter of the time there; elsewhere as PyTorch chooses
