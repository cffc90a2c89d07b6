"""Class activation maps (Zhou et al., "Learning deep features for discriminative localization", 2016, section 2).

For a network that ends in global average pooling and one linear layer, y = Σ_k w_k (1/Z) Σ_ij A_kij + b and the map is
M = Σ_k w_k A_k. The weights are read off the gradient, w_k = Z ∂y/∂A_kij, so nothing needs to be known of the network.
Whether it ends in this way is tested: the gradient must be the same at all pixels, and for other maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.explain.method import Frame, Function, LayerMethod, image_size, maps_and_gradients, summed


@dataclass(frozen=True)
class CAM(LayerMethod):
    """Maps of the last layer, weighted by the linear layer that follows the global average pooling.

    Raises:
        InputError: the network does not end in global average pooling and one linear layer after the layer.
    """

    name = "cam"
    signed = True

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        layer, size = self.require_layer(layer), image_size(inputs)
        maps, gradients, places = maps_and_gradients(function, inputs, layer)
        if len(maps) > 1 or maps[0].ndim != 4:
            raise _cannot(layer, "the layer returns several maps or tokens")
        (a,), (g,) = maps, gradients
        weights = g.mean((2, 3), keepdim=True)
        if not _equal(g, weights.expand_as(g)):
            raise _cannot(layer, "the score does not average the layer's maps")
        _, (other,), _ = maps_and_gradients(function, inputs, layer, _other_maps)
        if not _equal(other, g):
            raise _cannot(layer, "the score is not linear in the layer's maps")
        return summed([(a * weights * a[0, 0].numel()).sum(1)], size, places if frame is None else [frame])


def _other_maps(maps: Tensor) -> Tensor:
    """Other values: mirrored over their mean, twice as far from it, and large enough to show a smooth activation."""
    return (3 * maps.mean() - 2 * maps) * (10 / maps.abs().max().clamp(min=1e-12)).clamp(min=1)


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max())))


def _cannot(layer: nn.Module, why: str) -> InputError:
    return InputError(
        f"cam needs a network that ends in global average pooling and one linear layer after the layer "
        f"({type(layer).__name__}), but {why}; use grad_cam, grad_cam_pp, layer_cam or score_cam, which explain any "
        "network, or name the layer before the pooling"
    )
