"""Small models for export, with results that differ from place to place, as after training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

import sightline as sl
from sightline.models.model import Model

NAMES = ["circle", "square", "star"]


SHIFT = 2.0
"""The shift of norms: rectifiers then cut off few values. Without it, each norm and rectifier of an untrained network
enlarges small differences by √(π / (π − 1)) = 1.21, forty of them by 2000; with it, by 1.01 and 1.4."""
LARGEST = 6.0
"""The largest logit: with larger ones, the best scores are 1, so that the last bit of a number orders them."""
LARGEST_OFFSET = 1.0
"""The largest offset of a proposal from its anchor, and of a cuboid, whose exponential is a side.

Untrained layers give up to 20, and boxes of thousands of pixels, cut off at the image: the last bit of an offset then
moves an edge by a tenth of a pixel, and the scores of the region by 1e-3.
"""


def lively(
    name: str,
    seed: int = 0,
    classes: Sequence[str] = NAMES,
    fitted: Sequence[torch.Tensor] | None = None,
    **arguments: Any,
) -> Model:
    """An untrained model whose scores are spread: norms that fit the images, wide weights in the layers of the classes.

    Without them all places have nearly the same scores, and the last bit of a number decides which box is kept. On
    images that norms do not fit, numbers may grow from layer to layer, and differences of the last bit with them.

    Args:
        name: of the catalog.
        seed: of the weights.
        classes: names of the classes.
        fitted: images that norms are fitted to, [3, H, W] uint8 each; by default those of `batches`.
        arguments: of the model.
    """
    torch.manual_seed(seed)
    model = sl.create_model(name, classes, **arguments)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # layers that start at zero hide what is before them
            parameter.data.normal_(0, 0.5 * parameter[0].numel() ** -0.5)
    norms = [(m, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for norm, _ in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        if norm.bias is not None:
            norm.bias.data.fill_(SHIFT)
    given = fitted or [image for batch in batches() for image in batch]
    with torch.no_grad():
        model.train()(given)
    for norm, momentum in norms:
        norm.momentum = momentum
    layers = "|".join(filter(None, [model.class_layers, r"rpn\.head\.cls_logits\."]))  # which proposals are kept, too
    limits: dict[nn.Module, float] = {}
    largest: dict[nn.Module, float] = {}

    def scale(layer: nn.Module, factor: float) -> None:
        for parameter in layer.parameters(recurse=False):
            parameter.data *= factor

    def measure(layer: nn.Module, _: Any, found: torch.Tensor) -> torch.Tensor:
        factor = 1.0 if layer in largest else limits[layer] / float(found.abs().max())  # at its first call
        scale(layer, factor)
        largest[layer] = max(largest.get(layer, 0.0), factor * float(found.abs().max()))
        return factor * found

    hooks = []
    for key, module in model.named_modules():
        named = module.named_parameters(recurse=False)
        own = [parameter for part, parameter in named if re.search(layers, f"{key}.{part}")]
        for parameter in own:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2)
        is_offset = key.endswith(("rpn.head.bbox_pred", "cuboid_pred"))
        if own or is_offset:
            limits[module] = LARGEST_OFFSET if is_offset else LARGEST
            hooks.append(module.register_forward_hook(measure))
    with torch.no_grad():
        model.eval()(given)
    for hook in hooks:
        hook.remove()
    for layer, value in largest.items():
        scale(layer, limits[layer] / value)
    return model


def batches() -> Iterator[list[torch.Tensor]]:
    """The images that exported models are compared on: two batch sizes, each at three image sizes."""
    for count in (1, 3):
        for size in ((120, 170), (96, 96), (203, 110)):
            yield images(count, size, count)


def images(count: int, size: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """Random images [3, H, W] uint8: noise of a few pixels, enlarged, and fine noise, so that scores differ."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, 5, 7, generator=generator)
    large = nn.functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
    large = (large + 0.2 * torch.rand(large.shape, generator=generator)) / 1.2
    return list((large * 255).round().to(torch.uint8))
