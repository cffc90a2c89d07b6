"""The filters of a convolution, by default the first, which sees the pixels (Krizhevsky et al. 2012, figure 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.explain.layers import layer_named
from sightline.models.model import Model


@dataclass(frozen=True)
class Filters:
    """The weights of a convolution.

    Attributes:
        layer: path of the convolution in the model.
        weights: [O, C, h, w] float, on the CPU: O filters of C channels each.
        of_pixels: whether the C channels are those of the image, so that three of them are red, green and blue.
    """

    layer: str
    weights: Tensor
    of_pixels: bool

    def to_dict(self) -> dict[str, Any]:
        """The shape, and the norm of each filter, as JSON values."""
        norms = self.weights.flatten(1).norm(dim=1)
        return {"layer": self.layer, "shape": list(self.weights.shape), "norms": norms.tolist()}


def first_filters(model: Model, layer: str | None = None) -> Filters:
    """The filters of a convolution.

    Args:
        model: any model.
        layer: path of the convolution, or of a module that holds exactly one; by default the first convolution of the
            model that takes as many channels as an image has, else the first one.

    Raises:
        InputError: there is no such layer, or it is no convolution.
    """
    if layer is not None:
        name, found = _only_convolution(layer, layer_named(model, layer))
    else:
        every = _convolutions(model)
        if not every:
            raise InputError(f"{model.title} has no convolution, so it has no filters to show")
        fitting = [(name, conv) for name, conv in every if conv.in_channels == model.in_channels]
        name, found = (fitting or every)[0]
    weights = found.weight.detach().float().cpu()
    return Filters(name, weights, int(weights.shape[1]) == model.in_channels)


def _only_convolution(path: str, module: nn.Module) -> tuple[str, nn.Conv2d]:
    inside = _convolutions(module)
    if len(inside) != 1:
        shown = ", ".join(f"{path}.{name}" for name, _ in inside[:3])
        number = f"{len(inside)} convolutions ({shown}, …)" if inside else "no convolution"
        raise InputError(f"the layer {path!r} holds {number}, but filters are those of one; name the convolution")
    name, conv = inside[0]
    return f"{path}.{name}" if name else path, conv


def _convolutions(module: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]
