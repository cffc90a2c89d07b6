"""Grad-CAM (Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
2017, section 3).

α_k = (1/Z) Σ_ij ∂y/∂A_kij and L = ReLU(Σ_k α_k A_k), with the score y before the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sightline.explain.method import LayerMethod


@dataclass(frozen=True)
class GradCAM(LayerMethod):
    """Maps weighted by their mean gradients; negative sums are set to 0."""

    name = "grad_cam"

    def heat(self, maps: Tensor, gradients: Tensor) -> Tensor:
        weights = gradients.mean((2, 3), keepdim=True)
        return (weights * maps).sum(1).relu()
