"""Small models for export, with results that differ from place to place, as after training."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

import sightline as sl
from sightline.models.model import Model

NAMES = ["circle", "square", "star"]


def lively(name: str, seed: int = 0, **arguments: Any) -> Model:
    """An untrained model whose scores are spread, by wide weights in the layers of the classes."""
    torch.manual_seed(seed)
    model = sl.create_model(name, NAMES, **arguments)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.8, 1.2)
    for key, parameter in model.named_parameters():
        if model.class_layers and re.search(model.class_layers, key):
            wide = 4.0 / max(1, parameter[0].numel()) ** 0.5
            parameter.data.normal_(0, wide if parameter.ndim > 1 else 0.5)
    return model.eval()


def images(count: int, size: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """Smooth random images [3, H, W] uint8: noise of a few pixels, enlarged."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, 5, 7, generator=generator)
    large = nn.functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
    return list((large * 255).round().to(torch.uint8))
