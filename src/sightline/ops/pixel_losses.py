"""Losses of semantic segmentation: scalars from logits [N, K, H, W] and labels [N, H, W] int64.

Pixels with label `IGNORE` are ignored. Each function of logits and labels can be the `loss` of a `Segmenter`;
`PixelLosses` is a weighted sum of them, which is saved with a model. If all pixels are ignored, a loss is 0 with a
gradient. Half-precision logits are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.ops.boundary_weights import boundary_weights, connected_components
from sightline.ops.boxes import at_least_float32
from sightline.ops.losses import softmax_focal_loss
from sightline.runtime.sharing import batch_count
from sightline.structures import IGNORE

Weights = Sequence[float] | Tensor


def pixel_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Weights | None = None, added: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over all pixels that are not ignored: Σ w · −log p / Σ w.

    Args:
        logits: [N, K, H, W] before the softmax.
        labels: [N, H, W] int64 class ids, or `IGNORE`.
        class_weights: [K] weight of each class; None for 1.
        added: [N, H, W] weight that is added to the class weight of each pixel (see `boundary_weights`).

    Raises:
        InputError: labels or weights do not fit the logits.
    """
    _require_fit(logits, labels)
    losses = F.cross_entropy(at_least_float32(logits), labels, ignore_index=IGNORE, reduction="none")
    counts = labels != IGNORE
    if class_weights is None and added is None:
        return losses.sum() / batch_count(counts.sum())
    weights = torch.ones_like(losses)
    if class_weights is not None:
        weights = _by_class(class_weights, logits)[labels.where(counts, 0)]
    if added is not None:
        weights = weights + added
    weights = weights * counts
    return (weights * losses).sum() / batch_count(weights.sum(), 1e-12)


def pixel_focal(logits: Tensor, labels: Tensor, gamma: float = 2.0, class_weights: Weights | None = None) -> Tensor:
    """Mean focal loss α_c (1 − p_c)^γ · −log p_c over all pixels that are not ignored (see `softmax_focal_loss`).

    Args:
        logits, labels: as for `pixel_cross_entropy`.
        gamma: exponent of the modulating factor; 0 gives cross-entropy.
        class_weights: [K] α of each class; None for 1.

    Raises:
        InputError: labels or weights do not fit the logits.
    """
    _require_fit(logits, labels)
    alpha = None if class_weights is None else _by_class(class_weights, logits)
    return softmax_focal_loss(logits, labels, alpha, gamma, reduction="mean")


def soft_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice loss 1 − 2 Σ p·y / (Σ p + Σ y), averaged over the classes in the labels of the batch.

    Args, Raises: as `pixel_cross_entropy`. Sums go over all pixels of the batch that count.

    Source: Milletari et al., V-Net, 2016, section 3, without its squares in the denominator.
    """
    chance, truth = _regions(logits, labels)
    both, sums = (chance * truth).sum(0), chance.sum(0) + truth.sum(0)
    return _mean_or_zero(1 - 2 * both / sums, logits)


def soft_jaccard(logits: Tensor, labels: Tensor) -> Tensor:
    """Jaccard loss 1 − Σ p·y / (Σ p + Σ y − Σ p·y), averaged over the classes in the labels of the batch.

    Args, Raises: as `pixel_cross_entropy`. Sums go over all pixels of the batch that count.

    Source: Rahman and Wang, Optimizing intersection-over-union in deep neural networks, 2016, equation 2.
    """
    chance, truth = _regions(logits, labels)
    both, sums = (chance * truth).sum(0), chance.sum(0) + truth.sum(0)
    return _mean_or_zero(1 - both / (sums - both), logits)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-softmax loss: the Lovász extension of the Jaccard loss 1 − IoU at the errors |y − p|.

    It is averaged over the classes in the labels of the batch. For hard predictions it is exactly 1 − IoU.

    Args, Raises: as `pixel_cross_entropy`. The batch is one set of pixels.

    Source: Berman et al., The Lovász-softmax loss, 2018, equations 8, 9, 12 and algorithm 1.
    """
    chance, truth = _regions(logits, labels)
    errors, order = (truth - chance).abs().sort(0, descending=True)
    truth = truth.gather(0, order)
    whole = truth.sum(0)
    jaccard = 1 - (whole - truth.cumsum(0)) / (whole + (1 - truth).cumsum(0))  # of the largest 1, 2, … errors
    slopes = jaccard.diff(dim=0, prepend=jaccard.new_zeros(1, jaccard.shape[1]))
    return _mean_or_zero((errors * slopes).sum(0), logits)


@dataclass(frozen=True)
class PixelLosses:
    """A weighted sum of losses of logits [N, K, H, W] and labels [N, H, W].

    Attributes:
        cross_entropy, focal, dice, jaccard, lovasz: weight of each loss; 0 disables it.
        class_weights: weight of each class in the cross-entropy and the focal loss, in the order of the classes.
        gamma: γ of the focal loss.
        boundary: w0 of U-Net's weight map in the cross-entropy, the additional weight of pixels between touching
            objects (10 in the paper); 0 disables it. Objects are the connected components of a class.
        sigma: σ of that weight map, in pixels of the batch.
        background: class whose pixels belong to no object; None if there is none.
    """

    cross_entropy: float = 1.0
    focal: float = 0.0
    dice: float = 0.0
    jaccard: float = 0.0
    lovasz: float = 0.0
    class_weights: tuple[float, ...] | None = None
    gamma: float = 2.0
    boundary: float = 0.0
    sigma: float = 5.0
    background: int | None = 0

    def __post_init__(self) -> None:
        factors = ("cross_entropy", "focal", "dice", "jaccard", "lovasz")
        for name in (*factors, "gamma", "boundary"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"{name} of the pixel losses is {value}, but must be 0 or more")
        if not any(getattr(self, name) for name in factors):
            raise InputError(f"all factors of the pixel losses are 0; give one of {', '.join(factors)} above 0")
        if self.class_weights is not None and not all(w >= 0 and math.isfinite(w) for w in self.class_weights):
            raise InputError(f"class_weights are {self.class_weights}, but each must be 0 or more")
        if not self.sigma > 0:
            raise InputError(f"sigma of the pixel losses is {self.sigma}, but must be above 0 pixels")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits [N, K, H, W] and labels [N, H, W] int64 → a scalar.

        Raises:
            InputError: labels, or the number of class weights, do not fit the logits.
        """
        total = logits.new_zeros((), dtype=at_least_float32(logits).dtype)
        if self.cross_entropy:
            added = None
            if self.boundary:
                objects = connected_components(labels, self.background)
                added = boundary_weights(objects, self.boundary, self.sigma)
            total = total + self.cross_entropy * pixel_cross_entropy(logits, labels, self.class_weights, added)
        if self.focal:
            total = total + self.focal * pixel_focal(logits, labels, self.gamma, self.class_weights)
        for factor, loss in ((self.dice, soft_dice), (self.jaccard, soft_jaccard), (self.lovasz, lovasz_softmax)):
            if factor:
                total = total + factor * loss(logits, labels)
        return total


CROSS_ENTROPY = PixelLosses()


def _regions(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth (0 or 1) [P, C] of the pixels that count, of the classes that occur among them."""
    _require_fit(logits, labels)
    counts = labels != IGNORE
    present = labels[counts].unique()
    chance = at_least_float32(logits).softmax(1).movedim(1, -1)[counts][:, present]
    return chance, (labels[counts][:, None] == present).to(chance.dtype)


def _mean_or_zero(values: Tensor, logits: Tensor) -> Tensor:
    return values.mean() if values.numel() else at_least_float32(logits).sum() * 0


def _by_class(weights: Weights, logits: Tensor) -> Tensor:
    own = torch.as_tensor(weights, dtype=at_least_float32(logits).dtype, device=logits.device)
    if own.shape != logits.shape[1:2]:
        raise InputError(
            f"there are {own.numel()} class weights but {logits.shape[1]} classes; give one per class, in their order"
        )
    return own


def _require_fit(logits: Tensor, labels: Tensor) -> None:
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise InputError(f"labels {list(labels.shape)} do not fit logits {list(logits.shape)}; classes are dimension 1")
