"""Classification and box regression losses of detectors.

All functions take `reduction`: "none" (the default) returns one loss per item, "sum" and "mean" a scalar. The mean of
an empty tensor is 0 with a gradient, so that images without objects need no special case. Half-precision inputs are
computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import (
    at_least_float32,
    elementwise_complete_iou,
    elementwise_distance_iou,
    elementwise_generalized_iou,
    elementwise_iou,
)
from sightline.structures import IGNORE

Reduction = Literal["none", "mean", "sum"]

_EPS = 1e-7  # in the box losses, where a prediction may have no area


def smooth_l1_loss(prediction: Tensor, target: Tensor, beta: float = 1.0, reduction: Reduction = "none") -> Tensor:
    """Smooth L1 loss: d²/2β for |d| < β, |d| − β/2 otherwise.

    Args:
        prediction, target: [...] of equal shape.
        beta: threshold between the quadratic and the linear part; 0 gives the L1 loss.
        reduction: "none" [...], "mean" or "sum".

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Girshick, Fast R-CNN, 2015, equation 3 (β = 1).
    """
    _require_same_shape(prediction, target)
    loss = F.smooth_l1_loss(at_least_float32(prediction), at_least_float32(target), reduction="none", beta=beta)
    return _reduce(loss, reduction)


def huber_loss(prediction: Tensor, target: Tensor, delta: float = 1.0, reduction: Reduction = "none") -> Tensor:
    """Huber loss: d²/2 for |d| < δ, δ(|d| − δ/2) otherwise; δ times `smooth_l1_loss` with β = δ.

    Args:
        prediction, target: [...] of equal shape.
        delta: threshold between the quadratic and the linear part, above 0.
        reduction: "none" [...], "mean" or "sum".

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Huber, Robust Estimation of a Location Parameter, 1964.
    """
    _require_same_shape(prediction, target)
    loss = F.huber_loss(at_least_float32(prediction), at_least_float32(target), reduction="none", delta=delta)
    return _reduce(loss, reduction)


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: Reduction = "none"
) -> Tensor:
    """Focal loss: binary cross-entropy that gives less weight to easy examples: α_t (1 − p_t)^γ · −log p_t.

    Args:
        logits: [...] before the sigmoid.
        targets: [...] of the same shape, 1 for positives and 0 for negatives (or probabilities between).
        alpha: weight of positives; negatives have a weight of 1 − alpha. A negative alpha disables weighting.
        gamma: exponent of the modulating factor; 0 gives cross-entropy.
        reduction: "none" [...], "mean" or "sum". Detectors divide the sum by the number of positives.

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017, equation 5.
    """
    _require_same_shape(logits, targets)
    logits = at_least_float32(logits)
    targets = targets.to(logits.dtype)
    probability = logits.sigmoid()
    wrong = probability * (1 - targets) + (1 - probability) * targets  # 1 − p_t
    loss = _focus(wrong, gamma) * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return _reduce(loss, reduction)


def softmax_focal_loss(
    logits: Tensor,
    labels: Tensor,
    alpha: Tensor | None = None,
    gamma: float = 2.0,
    ignore: int = IGNORE,
    reduction: Reduction = "none",
) -> Tensor:
    """Focal loss for mutually exclusive classes: α_c (1 − p_c)^γ · −log p_c of each item's class c.

    Args:
        logits: [N, K] or [N, K, ...] before the softmax.
        labels: [N] or [N, ...] int64 class ids, or `ignore`.
        alpha: [K] weight of each class, or None.
        gamma: exponent of the modulating factor; 0 gives cross-entropy.
        ignore: label of items to ignore: their loss is 0, and "mean" does not count them.
        reduction: "none" ([N] or [N, ...]), "mean" or "sum".

    Raises:
        InputError: labels do not fit the logits, or `reduction` is unknown.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017, section 3, with the softmax in the sigmoid's place.
    """
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise InputError(f"labels {list(labels.shape)} do not fit logits {list(logits.shape)}; classes are dimension 1")
    cross_entropy = F.cross_entropy(at_least_float32(logits), labels, ignore_index=ignore, reduction="none")
    loss = _focus(-torch.expm1(-cross_entropy), gamma) * cross_entropy
    counts = labels != ignore
    if alpha is not None:
        loss = alpha.to(loss)[labels.where(counts, 0)] * loss
    if reduction == "mean":
        return loss.sum() / counts.sum().clamp(min=1)
    return _reduce(loss, reduction)


def iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """IoU loss: 1 − IoU of each pair. It has no gradient if the boxes do not overlap.

    Args:
        prediction, target: [N, 4] xyxy (or [..., 4] of equal shape), in any unit.
        reduction: "none" [N], "mean" or "sum".

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Yu et al., UnitBox, 2016, whose loss is −log IoU; the linear form is common today.
    """
    return _box_loss(elementwise_iou, prediction, target, reduction)


def generalized_box_iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """GIoU loss: 1 − generalised IoU of each pair, in [0, 2]. It has a gradient for disjoint boxes.

    Args, Raises: see `iou_loss`.

    Source: Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 2.
    """
    return _box_loss(elementwise_generalized_iou, prediction, target, reduction)


def distance_box_iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """DIoU loss: 1 − distance IoU of each pair, in [0, 2].

    Args, Raises: see `iou_loss`.

    Source: Zheng et al., Distance-IoU Loss, 2020, equation 7.
    """
    return _box_loss(elementwise_distance_iou, prediction, target, reduction)


def complete_box_iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """CIoU loss: 1 − complete IoU of each pair, which includes distance IoU and aspect ratio.

    Args, Raises: see `iou_loss`.

    Returns:
        See `iou_loss`; NaN for a box without width and height, which has no aspect ratio.

    Source: Zheng et al., Distance-IoU Loss, 2020, equation 10; no gradient flows through the trade-off α.
    """
    return _box_loss(elementwise_complete_iou, prediction, target, reduction)


def _box_loss(
    overlap: Callable[[Tensor, Tensor, float], Tensor], prediction: Tensor, target: Tensor, reduction: Reduction
) -> Tensor:
    _require_same_shape(prediction, target)
    return _reduce(1 - overlap(prediction, target, _EPS), reduction)


def _focus(wrong: Tensor, gamma: float) -> Tensor:
    """wrong^γ, with a minimum above 0: for γ < 1 the derivative at 0 is infinite, which gives NaN."""
    return wrong.clamp(min=1e-12) ** gamma


def _reduce(loss: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(loss.numel(), 1)
    raise InputError(f'reduction must be "none", "mean" or "sum", not {reduction!r}')


def _require_same_shape(prediction: Tensor, target: Tensor) -> None:
    # broadcasting would pair the wrong items without an error
    if prediction.shape != target.shape:
        raise InputError(
            f"prediction {list(prediction.shape)} and target {list(target.shape)} must have the same shape; "
            "pair each prediction with its target first"
        )


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0, reduction: Reduction = "none") -> Tensor:
    """Quality focal loss: binary cross-entropy with a target in [0, 1], weighted by the error: |y − p|^β · BCE.

    Args:
        logits: [...] before the sigmoid.
        targets: [...] of the same shape: quality y of the prediction for its class, else 0.
        beta: exponent of the modulating factor; 0 gives cross-entropy.
        reduction: "none" [...], "mean" or "sum". Detectors divide the sum by the sum of the qualities.

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Li et al., Generalized Focal Loss, 2020, equation 2.
    """
    _require_same_shape(logits, targets)
    logits = at_least_float32(logits)
    targets = targets.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _reduce(_focus((targets - logits.sigmoid()).abs(), beta) * cross_entropy, reduction)


def varifocal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.75, gamma: float = 2.0, reduction: Reduction = "none"
) -> Tensor:
    """Varifocal loss: binary cross-entropy with a quality target; the weight is y for positives, α p^γ for negatives.

    Args:
        logits: [...] before the sigmoid.
        targets: [...] of the same shape: quality y of the prediction for its class, else 0.
        alpha: weight of negatives.
        gamma: exponent of the modulating factor of negatives.
        reduction: "none" [...], "mean" or "sum". Detectors divide the sum by the sum of the qualities.

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Zhang et al., VarifocalNet, 2021, equation 2. No gradient flows through the weights.
    """
    _require_same_shape(logits, targets)
    logits = at_least_float32(logits)
    targets = targets.to(logits.dtype)
    weight = torch.where(targets > 0, targets, alpha * logits.detach().sigmoid() ** gamma)
    return _reduce(weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), reduction)


def distribution_focal_loss(logits: Tensor, targets: Tensor, reduction: Reduction = "none") -> Tensor:
    """Distribution focal loss: cross-entropy of a distribution over 0, 1, …, R − 1 with the bins next to the target.

    The loss is (⌈y⌉ − y) · −log p_⌊y⌋ + (y − ⌊y⌋) · −log p_⌈y⌉.

    Args:
        logits: [..., R] before the softmax.
        targets: [...] target values y, clamped to 0 … R − 1.
        reduction: "none" [...], "mean" or "sum".

    Raises:
        InputError: the shapes do not fit, or `reduction` is unknown.

    Source: Li et al., Generalized Focal Loss, 2020, equation 6.
    """
    if logits.shape[:-1] != targets.shape or logits.shape[-1] < 2:
        raise InputError(
            f"targets {list(targets.shape)} do not fit logits {list(logits.shape)}; give one number to each "
            "distribution of at least 2 bins, the last dimension of the logits"
        )
    log_probability = at_least_float32(logits).log_softmax(-1)
    targets = targets.to(log_probability.dtype).clamp(0, logits.shape[-1] - 1)
    low = targets.floor().clamp(max=logits.shape[-1] - 2)
    share = targets - low
    at = low.long()[..., None]
    loss = -(1 - share) * log_probability.gather(-1, at)[..., 0] - share * log_probability.gather(-1, at + 1)[..., 0]
    return _reduce(loss, reduction)
