"""Running statistics of batch normalisation that are right after few steps as well."""

from __future__ import annotations

from torch import nn

from sightline.training.freezing import NORMS

FASTEST = 0.1
"""PyTorch's default momentum; norms whose own is at least that, or 0 so that they learn nothing, are left alone."""


class NormWarmup:
    """Raises the momentum of running statistics in the first steps of a training run.

    Networks that were published with long trainings have a small momentum, EfficientNet-Lite one of 0.01: after 90
    steps 40 % of its statistics are still the zeros and ones that they began with, and a network that has learnt
    answers as if it had not. Before step t the momentum is therefore at least min(0.1, 10 / (t + 1)), so that the
    statistics average over about the last tenth of all steps; from step 10 / momentum on it is the network's own.

    Args:
        model: its norms' `momentum` is set, and set back by `end`.
    """

    def __init__(self, model: nn.Module):
        norms = [module for module in model.modules() if isinstance(module, NORMS)]
        self._own = {norm: norm.momentum for norm in norms if norm.momentum is not None and 0 < norm.momentum < FASTEST}

    def begin_step(self, step: int) -> None:
        """Set the momentum for a step, counted from 0."""
        for norm, own in self._own.items():
            norm.momentum = max(own, min(FASTEST, 10 / (step + 1)))

    def end(self) -> None:
        """Set the momentum of all norms back to their own."""
        for norm, own in self._own.items():
            norm.momentum = own
