"""Measures of faithfulness: does a heat map show what a score depends on?

Two kinds of measures. The first compare a heat map with where the object is: the pointing game and the energy inside.
They need labels, and a faithful map of a model that looks at something else fails them. The second compare it with what
the score does when pixels are removed, and need no labels: deletion, insertion, average drop and increase.

All functions work in the pixels of one network batch. Their chance levels are measured with maps that know nothing of
the model: `random_heat`, and `centre_heat`, since photographers put objects in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.explain.method import Function, image_size
from sightline.explain.perturbation import BASELINES
from sightline.progress import progress_bar
from sightline.runtime.values import require_seed, require_whole
from sightline.structures import Size
from sightline.words import did_you_mean


def pointing_game(heat: Tensor, inside: Tensor, tolerance: int = 0) -> float:
    """Whether the peak of a heat map lies on the object: 1 or 0.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", 2018, section 4.3 (there with a tolerance
    of 15 pixels). Departure: if several pixels share the maximum, the fraction of them on the object; a map that is the
    same everywhere thus scores at chance, not by what lies in its first pixel.

    Args:
        heat: [H, W].
        inside: [H, W] bool, the object.
        tolerance: the object is enlarged by this many pixels in all eight directions.
    """
    heat, inside = _pair(heat, inside)
    require_whole("tolerance", tolerance, 0, "image_side", "give 0 for none")
    if tolerance:
        side = 2 * tolerance + 1
        inside = F.max_pool2d(inside[None, None].float(), side, stride=1, padding=tolerance)[0, 0] > 0
    return float(inside[heat == heat.max()].float().mean())


def energy_inside(heat: Tensor, inside: Tensor) -> float | None:
    """The fraction of a heat map's positive values that lies on the object; None if it has no positive value.

    Its chance level is the fraction of the image that the object covers.

    Source: Wang et al., "Score-CAM", 2020, section 4.3 (energy-based pointing game).

    Args:
        heat: [H, W].
        inside: [H, W] bool, the object.
    """
    heat, inside = _pair(heat, inside)
    positive = heat.clamp(min=0)
    total = float(positive.sum())
    return float(positive[inside].sum()) / total if total > 0 else None


def inside_box(box: Sequence[float], size: Size) -> Tensor:
    """The pixels whose centre lies in a box (x1, y1, x2, y2), and at least the one at its middle: [H, W] bool."""
    x1, y1, x2, y2 = box
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    found = ((rows >= y1) & (rows <= y2))[:, None] & ((columns >= x1) & (columns <= x2))
    middle = [
        min(max(int((low + high) / 2), 0), side - 1) for low, high, side in ((y1, y2, size[0]), (x1, x2, size[1]))
    ]
    found[middle[0], middle[1]] = True
    return found


def deletion_curve(
    function: Function,
    inputs: Tensor,
    heat: Tensor,
    *,
    baseline: str = "zero",
    steps: int = 50,
    valid: Tensor | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """The score while the hottest pixels are removed first. A faithful map makes it fall early: a small `area`.

    Source: Petsiuk et al., "RISE", 2018, section 4.1. Pixels of equal heat are removed in random order, because many
    maps are 0 over large parts of the image.

    Args:
        function: see `sightline.explain.method.Function`.
        inputs: [1, C, H, W] float.
        heat: [H, W].
        baseline: what replaces removed pixels: "zero", "mean" or "blur"; see `sightline.explain.perturbation`.
        steps: number of steps of equally many pixels.
        valid: [H, W] bool, the pixels of the image; the others, such as padding, are never removed. None for all.
        batch_size: changed copies per batch.
        seed: seed of the order of pixels of equal heat.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        [steps + 1] scores: of the whole image, then after each step; the last has no pixel left.

    Raises:
        InputError: the shapes do not fit, or a value is invalid.
    """
    removed = _removed(baseline, inputs)
    ranks, count = _ranks(heat, inputs, steps, valid, seed)

    def changed(step: int) -> Tensor:
        return torch.where(ranks < step * count / steps, removed, inputs)

    return _scores(function, changed, steps + 1, batch_size, "deletion", progress)


def insertion_curve(
    function: Function,
    inputs: Tensor,
    heat: Tensor,
    *,
    baseline: str = "blur",
    steps: int = 50,
    valid: Tensor | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """The score while the hottest pixels are inserted first. A faithful map makes it rise early: a large `area`.

    Source and arguments as for `deletion_curve`; the image begins as its blur, as in the paper.

    Returns:
        [steps + 1] scores: of the image without any pixel, then after each step; the last is that of the whole image.
    """
    removed = _removed(baseline, inputs)
    ranks, count = _ranks(heat, inputs, steps, valid, seed)

    def changed(step: int) -> Tensor:
        # a pixel outside of the valid ones has an infinite rank in both curves, and is always shown
        return torch.where((ranks < step * count / steps) | ranks.isinf(), inputs, removed)

    return _scores(function, changed, steps + 1, batch_size, "insertion", progress)


def area(curve: Tensor) -> float:
    """The area below a curve of equally wide steps from 0 to 1, by the trapezoidal rule."""
    return float(torch.trapezoid(curve.double(), dx=1 / (len(curve) - 1)))


def relative(curve: Tensor, whole: float, empty: float) -> Tensor | None:
    """Scores on a scale where the image without any pixel has 0 and the whole image has 1, so that scores before the
    sigmoid or softmax can be averaged over images; None if the score does not rise with the image.

    Args:
        curve: scores.
        whole, empty: the scores of the whole image, and of the image without any pixel.
    """
    return (curve - empty) / (whole - empty) if whole - empty > 1e-6 * max(abs(whole), abs(empty), 1e-6) else None


def kept_score(function: Function, inputs: Tensor, heat: Tensor, baseline: str = "zero") -> float:
    """The score of the image multiplied by its heat map, which `average_drop` and `increase` compare.

    Source: Chattopadhay et al., "Grad-CAM++", 2018, section 5.1. The map is scaled to [0, 1] after negative values are
    set to 0; with the baseline "zero" this is the product of the paper, otherwise the rest of a pixel is the baseline.

    Args:
        function, inputs, heat, baseline: as for `deletion_curve`.
    """
    _require_heat(heat, inputs)
    weight = heat.to(inputs).clamp(min=0)
    weight = weight / weight.max().clamp(min=torch.finfo(weight.dtype).tiny)
    with torch.no_grad():
        return float(function(torch.lerp(_removed(baseline, inputs), inputs, weight))[0])


def average_drop(before: Sequence[float], kept: Sequence[float]) -> float:
    """The mean relative fall of the score when only what the map shows is kept, in percent; lower is better.

    Mean over the images of max(0, before − kept) / before · 100.

    Source: Chattopadhay et al., "Grad-CAM++", 2018, section 5.1.1.

    Args:
        before: positive score of each image.
        kept: `kept_score` of each image.

    Raises:
        InputError: the numbers differ, there are none, or a score is not positive.
    """
    own, other = _scores_of(before, kept)
    if bool((own <= 0).any()):
        raise InputError(f"the score {float(own.min()):.4g} is not positive, so it has no relative fall")
    return float(((own - other).clamp(min=0) / own).mean() * 100)


def increase(before: Sequence[float], kept: Sequence[float]) -> float:
    """The percentage of images whose score rises when only what the map shows is kept; higher is better.

    Source: Chattopadhay et al., "Grad-CAM++", 2018, section 5.1.2. Arguments as for `average_drop`.
    """
    own, other = _scores_of(before, kept)
    return float((other > own).double().mean() * 100)


def random_heat(size: Size, seed: int = 0) -> Tensor:
    """A map of independent random values, [H, W] in [0, 1]: what a map reaches that knows neither model nor image."""
    require_seed(seed)
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def centre_heat(size: Size) -> Tensor:
    """A Gaussian in the middle of the image, [H, W] in [0, 1]: what a map reaches that only knows photographers."""
    rows, columns = ((torch.arange(side) + 0.5 - side / 2) / side for side in size)
    return torch.exp(-8 * (rows[:, None] ** 2 + columns**2))


def _pair(heat: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    if heat.ndim != 2 or heat.shape != inside.shape or not heat.numel():
        raise InputError(
            f"the heat map has shape {list(heat.shape)} and the object {list(inside.shape)}, but both must be [H, W]"
        )
    if not bool(heat.isfinite().all()):
        raise InputError("the heat map has values that are not finite; explain the image again")
    return heat.detach().cpu(), inside.detach().cpu().bool()


def _require_heat(heat: Tensor, inputs: Tensor) -> None:
    if tuple(heat.shape) != image_size(inputs):
        raise InputError(
            f"the heat map has shape {list(heat.shape)}, but the image {list(inputs.shape)}; give a map in pixels of "
            "the batch"
        )


def _removed(baseline: str, inputs: Tensor) -> Tensor:
    if baseline not in BASELINES:
        hint = did_you_mean(baseline, BASELINES, f"choose one of {', '.join(BASELINES)}")
        raise InputError(f"there is no baseline {baseline!r}; {hint}")
    return BASELINES[baseline](inputs)


def _ranks(heat: Tensor, inputs: Tensor, steps: int, valid: Tensor | None, seed: int) -> tuple[Tensor, int]:
    """The position of each pixel from the hottest, [H, W]; infinite for those that are not valid. And their number."""
    _require_heat(heat, inputs)
    require_whole("steps", steps, 1, "count", "give 50 if in doubt")
    values = heat.detach().cpu().double().flatten()
    if valid is not None:
        values = values.masked_fill(~valid.cpu().bool().flatten(), -torch.inf)
    shuffled = torch.randperm(len(values), generator=torch.Generator().manual_seed(require_seed(seed)))
    order = shuffled[values[shuffled].argsort(descending=True, stable=True)]
    ranks = torch.empty(len(values))
    ranks[order] = torch.arange(len(values), dtype=torch.float32)
    count = len(values)
    if valid is not None:
        ranks[values.isneginf()] = torch.inf
        count = int(valid.sum())
    return ranks.reshape(heat.shape).to(inputs.device), count


def _scores(
    function: Function, changed: Callable[[int], Tensor], count: int, batch_size: int, what: str, progress: bool
) -> Tensor:
    require_whole("batch_size", batch_size, 1, "batch_size", "give 16 changed copies per batch if in doubt")
    found = []
    with torch.no_grad(), progress_bar(count, f"{what}: changed copies", progress) as advance:
        for start in range(0, count, batch_size):
            steps = range(start, min(start + batch_size, count))
            found.append(function(torch.cat([changed(step) for step in steps])).float().cpu())
            advance(len(steps))
    return torch.cat(found)


def _scores_of(before: Sequence[float], kept: Sequence[float]) -> tuple[Tensor, Tensor]:
    if len(before) != len(kept) or not len(before):
        raise InputError(
            f"there are {len(before)} scores before and {len(kept)} after; give one of each for one image or more"
        )
    return torch.tensor(before, dtype=torch.float64), torch.tensor(kept, dtype=torch.float64)
