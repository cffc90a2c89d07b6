"""Integrated gradients (Sundararajan et al., "Axiomatic attribution for deep networks", 2017, section 3), by captum.

The gradients along the straight line from the baseline to the image are averaged and multiplied by their difference.
The heat of a pixel is the sum over its channels; the sum over all pixels is f(image) − f(baseline) (completeness).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.explain.method import Frame, Function, Perturbation, image_size
from sightline.progress import progress_bar
from sightline.runtime.optional import require
from sightline.runtime.values import require_whole


@dataclass(frozen=True)
class IntegratedGradients(Perturbation):
    """Gradients with respect to the pixels, integrated from the baseline to the image.

    Args:
        samples: steps of the integration (Gauss-Legendre quadrature; the paper: 20 to 300).
    """

    name = "integrated_gradients"
    signed = True
    samples: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("samples", self.samples, 1, "count", "give 50 steps if in doubt")

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        require("captum", "captum", "explain", self.name)
        from captum.attr import IntegratedGradients as Captum

        image_size(inputs)
        with progress_bar(self.samples, f"{self.name}: steps", self.progress) as advance, torch.enable_grad():

            def counted(copies: Tensor) -> Tensor:
                advance(len(copies))
                return function(copies)

            found = Captum(counted).attribute(
                inputs.detach().clone(),
                baselines=self.removed(inputs),
                n_steps=self.samples,
                internal_batch_size=self.batch_size,
            )
        return found.detach().sum(1)[0].float()
