"""Grad-CAM++ (Chattopadhay et al., "Grad-CAM++: generalized gradient-based visual explanations for deep convolutional
networks", 2018, section 3).

With g = ∂S/∂A and Y = exp(S): α = g² / (2 g² + Σ_ab A_ab g³), w_k = Σ_ij α_kij ReLU(g_kij), L = ReLU(Σ_k w_k A_k).

Departure: the factor exp(S) of ∂Y/∂A, which is the same for all pixels and may overflow, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.explain.method import LayerMethod


@dataclass(frozen=True)
class GradCAMPlusPlus(LayerMethod):
    """Maps weighted by sums of their positive gradients, of which each pixel has its own share."""

    name = "grad_cam_pp"

    def heat(self, maps: Tensor, gradients: Tensor) -> Tensor:
        largest = gradients.abs().amax().clamp(min=torch.finfo(gradients.dtype).tiny)
        g = gradients / largest  # powers of small gradients would underflow; α does not change
        below = 2 * g**2 + maps.sum((2, 3), keepdim=True) * g**3 * largest
        shares = torch.where(below != 0, g**2 / torch.where(below != 0, below, 1), 0)
        weights = (shares * gradients.relu()).sum((2, 3), keepdim=True)
        return (weights * maps).sum(1).relu()
