"""Losses of detectors: how far boxes are from their targets, and classes from theirs.

All take `reduction`: "none" (the default) gives one loss per item, "sum" and "mean" a scalar. The mean of no items is 0
and still part of the graph, so that an image without objects trains like any other. Half-precision inputs are worked
out in float32.
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
    """Quadratic near 0, linear away from it, and of slope 1 there: d²/2β below β, |d| − β/2 above.

    Args:
        prediction, target: [...] of equal shape.
        beta: where the two parts meet; 0 gives the absolute error.
        reduction: "none" [...], "mean" or "sum".

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Girshick, Fast R-CNN, 2015, equation 3 (β = 1).
    """
    _require_same_shape(prediction, target)
    loss = F.smooth_l1_loss(at_least_float32(prediction), at_least_float32(target), reduction="none", beta=beta)
    return _reduce(loss, reduction)


def huber_loss(prediction: Tensor, target: Tensor, delta: float = 1.0, reduction: Reduction = "none") -> Tensor:
    """Quadratic near 0, linear away from it: d²/2 below δ, δ(|d| − δ/2) above; δ times `smooth_l1_loss` of β = δ.

    Args:
        prediction, target: [...] of equal shape.
        delta: where the two parts meet, above 0.
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
    """Binary cross-entropy that counts what is already right less: α_t (1 − p_t)^γ · −log p_t.

    Args:
        logits: [...] before the sigmoid.
        targets: [...] of the same shape, 1 for positives and 0 for negatives (or probabilities between).
        alpha: weight of the positives, 1 − alpha that of the negatives; below 0 for none.
        gamma: how strongly easy items are counted less; 0 is plain cross-entropy.
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
    """Focal loss over classes that exclude each other: α_c (1 − p_c)^γ · −log p_c of each item's class c.

    Args:
        logits: [N, K] or [N, K, ...] before the softmax.
        labels: [N] or [N, ...] int64 class ids, or `ignore`.
        alpha: [K] weight of each class, or None.
        gamma: how strongly easy items are counted less; 0 is plain cross-entropy.
        ignore: label of items that do not count: their loss is 0, and "mean" leaves them out.
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
    """1 − IoU of each pair; without gradient where the two boxes do not overlap.

    Args:
        prediction, target: [N, 4] xyxy (or [..., 4] of equal shape), in any unit.
        reduction: "none" [N], "mean" or "sum".

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Yu et al., UnitBox, 2016, whose loss is −log IoU; the linear form is the one in use since.
    """
    return _box_loss(elementwise_iou, prediction, target, reduction)


def generalized_box_iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """1 − generalised IoU of each pair, in [0, 2]: boxes apart are drawn together.

    Args, Raises: as `iou_loss`.

    Source: Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 2.
    """
    return _box_loss(elementwise_generalized_iou, prediction, target, reduction)


def distance_box_iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """1 − distance IoU of each pair, in [0, 2]: the centres are drawn together.

    Args, Raises: as `iou_loss`.

    Source: Zheng et al., Distance-IoU Loss, 2020, equation 7.
    """
    return _box_loss(elementwise_distance_iou, prediction, target, reduction)


def complete_box_iou_loss(prediction: Tensor, target: Tensor, reduction: Reduction = "none") -> Tensor:
    """1 − complete IoU of each pair: centres and aspect ratios are drawn together.

    Args, Raises: as `iou_loss`.

    Returns:
        As `iou_loss`; nan for a box without width and height, which has no aspect ratio.

    Source: Zheng et al., Distance-IoU Loss, 2020, equation 10; the trade-off α passes no gradient on.
    """
    return _box_loss(elementwise_complete_iou, prediction, target, reduction)


def _box_loss(
    overlap: Callable[[Tensor, Tensor, float], Tensor], prediction: Tensor, target: Tensor, reduction: Reduction
) -> Tensor:
    _require_same_shape(prediction, target)
    return _reduce(1 - overlap(prediction, target, _EPS), reduction)


def _focus(wrong: Tensor, gamma: float) -> Tensor:
    """wrong^γ. Never quite 0: for γ below 1 the power's slope there is infinite, and infinity times 0 is nan."""
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
    # Shapes that merely broadcast would give a finite loss of the wrong pairs.
    if prediction.shape != target.shape:
        raise InputError(
            f"prediction {list(prediction.shape)} and target {list(target.shape)} must have the same shape; "
            "pair each prediction with its target first"
        )


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0, reduction: Reduction = "none") -> Tensor:
    """Binary cross-entropy towards a quality in [0, 1], counted by how far the score is from it: |y − p|^β · BCE.

    Args:
        logits: [...] before the sigmoid.
        targets: [...] of the same shape: the quality y of the prediction where it is of the class, else 0.
        beta: how strongly what is nearly right is counted less; 0 is plain cross-entropy.
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
    """Binary cross-entropy towards a quality; positives count by their quality, negatives by α p^γ.

    Args:
        logits: [...] before the sigmoid.
        targets: [...] of the same shape: the quality of the prediction where it is of the class, else 0.
        alpha: weight of the negatives.
        gamma: how strongly negatives that are nearly right are counted less.
        reduction: "none" [...], "mean" or "sum". Detectors divide the sum by the sum of the qualities.

    Raises:
        InputError: the shapes differ, or `reduction` is unknown.

    Source: Zhang et al., VarifocalNet, 2021, equation 2. The weights pass no gradient on.
    """
    _require_same_shape(logits, targets)
    logits = at_least_float32(logits)
    targets = targets.to(logits.dtype)
    weight = torch.where(targets > 0, targets, alpha * logits.detach().sigmoid() ** gamma)
    return _reduce(weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), reduction)


def distribution_focal_loss(logits: Tensor, targets: Tensor, reduction: Reduction = "none") -> Tensor:
    """Cross-entropy that draws a distribution over 0, 1, …, R − 1 to the two numbers about the target.

    Each of the two counts by how near it is: (⌈y⌉ − y) · −log p_⌊y⌋ + (y − ⌊y⌋) · −log p_⌈y⌉.

    Args:
        logits: [..., R] before the softmax.
        targets: [...] the numbers y; those outside 0 … R − 1 are drawn to the nearest end.
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
