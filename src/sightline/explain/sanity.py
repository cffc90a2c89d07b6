"""The randomised-weights sanity check: does a heat map change when the model no longer knows what it has learned?

Source: Adebayo et al., "Sanity checks for saliency maps", 2018, section 3. A method whose maps stay the same when the
weights are random shows the image, not the model.

Departure: weights are not drawn from the distribution of their initialisation, which a model does not record; the
values of each parameter are shuffled instead. This keeps their scale, so that scores stay finite, and works for every
layer. The moving averages of normalisation layers are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.runtime.values import require_seed, require_whole


@contextmanager
def randomised(model: nn.Module, share: float = 1.0, seed: int = 0) -> Iterator[list[str]]:
    """Context in which the parameters of a model are shuffled; afterwards they are as before, also after an exception.

    Args:
        model: the model.
        share: fraction of its layers, counted from the output (the end of `named_modules`).
        seed: seed of the random order.

    Yields:
        The names of the shuffled layers.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share is {share}, but it must be a fraction of the layers, from 0 to 1")
    layers = [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters(False))]
    chosen = layers[len(layers) - round(share * len(layers)) :]
    # shared parameters are shuffled once
    parameters = {id(p): p for _, module in chosen for p in module.parameters(recurse=False)}
    before = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(require_seed(seed))
    try:
        with torch.no_grad():
            for parameter in parameters.values():
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
        yield [name for name, _ in chosen]
    finally:
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(before[key])


def cascade(model: nn.Module, heat: Callable[[], Tensor], steps: int = 4, seed: int = 0) -> list[float | None]:
    """How similar heat maps stay while the layers are randomised from the output to the input.

    Args:
        model: the model.
        heat: function that explains the model as it is now: [H, W].
        steps: number of steps; 1 randomises all layers at once.
        seed: seed of the random order.

    Returns:
        After each step, the rank correlation with the map of the trained model. Near 0 in the last step: the map
        depends on what the model has learned. None if a map is the same everywhere.
    """
    require_whole("steps", steps, 1, "count", "give 1 to randomise all layers at once")
    trained = heat()
    found = []
    for step in range(1, steps + 1):
        with randomised(model, step / steps, seed):
            found.append(rank_correlation(trained, heat()))
    return found


def rank_correlation(first: Tensor, second: Tensor) -> float | None:
    """Spearman's rank correlation of the values of two maps, in [−1, 1]; None if one is the same everywhere.

    Equal values have the mean of their ranks.

    Args:
        first, second: [H, W].
    """
    if first.shape != second.shape:
        raise InputError(f"the maps have shapes {list(first.shape)} and {list(second.shape)}; give maps of one size")
    a, b = (_ranks(values.detach().cpu().double().flatten()) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else None


def _ranks(values: Tensor) -> Tensor:
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts - 1) / 2)[place]
