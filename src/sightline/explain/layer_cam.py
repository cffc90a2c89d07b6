"""Layer-CAM (Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", 2021,
section III-B): w_kij = ReLU(∂y/∂A_kij) and L = ReLU(Σ_k w_k A_k), also for early layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sightline.explain.method import LayerMethod


@dataclass(frozen=True)
class LayerCAM(LayerMethod):
    """Every pixel of the maps weighted by its own positive gradient."""

    name = "layer_cam"

    def heat(self, maps: Tensor, gradients: Tensor) -> Tensor:
        return (gradients.relu() * maps).sum(1).relu()
