"""Small models for export, with results that differ from place to place, as after training."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

import sightline as sl
from sightline.models.model import Model

NAMES = ["circle", "square", "star"]


FITTED = {"efficientdet_d0": 16}
"""Number of images that norms are fitted to, if not 4: with 4, scores of one image of the tests are exactly 1 at more
places than are kept, so that chance decides which."""


def lively(name: str, seed: int = 0, **arguments: Any) -> Model:
    """An untrained model whose scores are spread: norms that fit the images, wide weights in the layers of the classes.

    Without them all places have nearly the same scores, and the last bit of a number decides which box is kept.
    """
    torch.manual_seed(seed)
    model = sl.create_model(name, NAMES, **arguments)
    norms = [(m, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for norm, _ in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        model.train()(images(FITTED.get(name, 4), (128, 128), seed + 100))
    for norm, momentum in norms:
        norm.momentum = momentum
    layers = "|".join(filter(None, [model.class_layers, r"rpn\.head\.cls_logits\."]))  # which proposals are kept, too
    for key, parameter in model.named_parameters():
        if re.search(layers, key):
            wide = 1.0 / max(1, parameter[0].numel()) ** 0.5
            parameter.data.normal_(0, wide if parameter.ndim > 1 else 0.2)
    return model.eval()


def images(count: int, size: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """Random images [3, H, W] uint8: noise of a few pixels, enlarged, and fine noise, so that scores differ."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, 5, 7, generator=generator)
    large = nn.functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
    large = (large + 0.2 * torch.rand(large.shape, generator=generator)) / 1.2
    return list((large * 255).round().to(torch.uint8))
