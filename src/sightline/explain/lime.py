"""LIME (Ribeiro et al., "'Why should I trust you?': explaining the predictions of any classifier", 2016, section 3):
a linear model of which superpixels are visible, fitted to the scores of changed images near the original one.

Sampling and fitting are captum's (`LimeBase` with scikit-learn's ridge regression). As in the authors' code for images,
each superpixel is visible with probability 1/2, and a sample's weight is exp(−d² / w²), where d is the cosine distance
between its vector of visible superpixels and that of the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.explain.method import Frame, Function, Perturbation, image_size
from sightline.explain.superpixels import superpixels
from sightline.progress import progress_bar
from sightline.runtime.optional import require
from sightline.runtime.values import require_number, require_whole


@dataclass(frozen=True)
class LIME(Perturbation):
    """A linear model of superpixels; the heat of a pixel is the weight of its superpixel.

    Args:
        samples: number of changed images.
        segments: approximate number of superpixels.
        ridge: weight of the squared coefficients in the fit.
        kernel_width: width w of the kernel.
    """

    name = "lime"
    signed = True
    samples: int = 1000
    segments: int = 60
    ridge: float = 1.0
    kernel_width: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("samples", self.samples, 2, "count", "give 1000 samples if in doubt")
        require_whole("segments", self.segments, 2, "count", "give 60 superpixels if in doubt")
        require_number("ridge", self.ridge, 0, math.inf, "give 1 if in doubt")
        require_number("kernel_width", self.kernel_width, 1e-6, math.inf, "give 0.25 if in doubt")

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        require("captum", "captum", "explain", "lime")
        require("sklearn", "scikit-learn", "explain", "lime")
        import sklearn.linear_model  # noqa: F401  (captum looks it up as an attribute of sklearn)
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import LimeBase

        image_size(inputs)
        parts, base = superpixels(inputs, self.segments), self.removed(inputs)
        count = int(parts.max()) + 1
        generator = torch.Generator().manual_seed(self.seed)

        def visible(whole: Tensor, **_: Any) -> Iterator[Tensor]:
            yield whole
            while True:
                yield (torch.rand(1, count, generator=generator) < 0.5).float()

        def weight(whole: Tensor, sample: Tensor, same: Tensor, **_: Any) -> Tensor:
            distance = 1 - (sample.sum() / count).sqrt()  # cosine distance of 0s and 1s to all ones
            return torch.exp(-((distance / self.kernel_width) ** 2))

        with progress_bar(self.samples, f"{self.name}: changed copies", self.progress) as advance:

            def scores(samples: Tensor) -> Tensor:
                shown = samples.to(inputs)[:, None, parts]
                values = function(torch.lerp(base, inputs, shown)).float().cpu()
                advance(len(samples))
                return values

            # captum samples vectors of visible superpixels; images are made of them in batches, by `scores`
            fit = LimeBase(scores, SkLearnRidge(alpha=self.ridge), weight, visible, True, lambda s, *_, **__: s, None)
            whole = torch.ones(1, count)
            with torch.random.fork_rng(devices=[]):  # captum's data loader draws from the global generator
                coefficients = fit.attribute(whole, n_samples=self.samples, perturbations_per_eval=self.batch_size)
        return coefficients.reshape(-1).to(inputs.device).float()[parts]
