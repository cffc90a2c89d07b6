"""Losses against formulas on plain numbers, torch's own, properties and reference values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.ops import boxes, losses

BOX_LOSSES: dict[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]] = {
    losses.iou_loss: boxes.box_iou,
    losses.generalized_box_iou_loss: boxes.generalized_box_iou,
    losses.distance_box_iou_loss: boxes.distance_box_iou,
    losses.complete_box_iou_loss: boxes.complete_box_iou,
}
ALL = [*BOX_LOSSES, losses.smooth_l1_loss, losses.huber_loss, losses.sigmoid_focal_loss]


def random_pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    corner = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 30
    side = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * 30 + 2
    prediction, target = torch.cat((corner, corner + side), -1)
    return prediction, target


# Distances of numbers


@given(d=st.floats(-20, 20), edge=st.floats(0.1, 5))
@settings(deadline=None, max_examples=60)
def test_smooth_l1_and_huber_on_plain_numbers(d: float, edge: float) -> None:
    prediction, target = torch.tensor([d], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    expected = d * d / 2 if abs(d) < edge else edge * (abs(d) - edge / 2)
    assert losses.huber_loss(prediction, target, edge).item() == pytest.approx(expected, abs=1e-12)
    assert losses.smooth_l1_loss(prediction, target, edge).item() == pytest.approx(expected / edge, abs=1e-12)


def test_smooth_l1_with_beta_0_is_the_absolute_error() -> None:
    d = torch.tensor([-3.0, 0.0, 0.5])
    assert losses.smooth_l1_loss(d, torch.zeros(3), beta=0.0).tolist() == [3, 0, 0.5]


# Overlap of boxes


@pytest.mark.parametrize("loss", BOX_LOSSES, ids=lambda f: f.__name__)
def test_box_loss_is_one_minus_the_overlap_of_each_pair(loss: Callable[..., Tensor]) -> None:
    prediction, target = random_pairs(20, 1)
    expected = 1 - BOX_LOSSES[loss](prediction, target).diag()
    torch.testing.assert_close(loss(prediction, target), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(loss(target, target), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", list(BOX_LOSSES)[:3], ids=lambda f: f.__name__)
def test_gradients_of_box_losses(loss: Callable[..., Tensor]) -> None:
    prediction, target = random_pairs(6, 3)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction.requires_grad_())


@pytest.mark.parametrize("loss", list(BOX_LOSSES)[1:], ids=lambda f: f.__name__)
def test_boxes_apart_are_drawn_together(loss: Callable[..., Tensor]) -> None:
    prediction = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    target = torch.tensor([[50.0, 50.0, 70.0, 60.0]])
    loss(prediction, target, reduction="sum").backward()
    assert prediction.grad is not None
    assert (prediction.grad[0, 2:] < 0).all()  # descent moves the near corner towards the target
    with torch.no_grad():
        assert loss(prediction - prediction.grad, target).item() < loss(prediction, target).item()


def test_boxes_that_only_touch_pull_at_nothing() -> None:
    prediction = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    losses.iou_loss(prediction, torch.tensor([[10.0, 0.0, 20.0, 10.0]]), reduction="sum").backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [[0, 0, 0, 0]]


# Focal losses


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [-1.0, 0.25])
def test_sigmoid_focal_loss_on_plain_numbers(alpha: float, gamma: float) -> None:
    for x in (-4.0, -0.5, 0.0, 3.0):
        for y in (0.0, 1.0):
            p = 1 / (1 + math.exp(-x))
            p_t, alpha_t = (p, alpha) if y else (1 - p, 1 - alpha)
            expected = -(alpha_t if alpha >= 0 else 1.0) * (1 - p_t) ** gamma * math.log(p_t)
            ours = losses.sigmoid_focal_loss(torch.tensor([x]), torch.tensor([y]), alpha, gamma)
            assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_sigmoid_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, targets = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3).repeat(3, 1)[:7]
    ours = losses.sigmoid_focal_loss(logits, targets, alpha=-1.0, gamma=0.0, reduction="mean")
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(logits, targets))
    assert torch.equal(losses.sigmoid_focal_loss(logits, targets.bool()), losses.sigmoid_focal_loss(logits, targets))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0])
def test_sure_predictions_have_finite_gradients(gamma: float) -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    losses.sigmoid_focal_loss(logits, torch.tensor([1.0, 0.0, 0.0, 1.0]), gamma=gamma, reduction="sum").backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    scores = torch.tensor([[200.0, -200.0]] * 3, requires_grad=True)
    losses.softmax_focal_loss(scores, torch.tensor([0, 1, -1]), gamma=gamma, reduction="sum").backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[2].tolist() == [0, 0]


def test_softmax_focal_loss_on_plain_numbers() -> None:
    logits = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.randint(-1, 3, (5, 2, 2), generator=torch.Generator().manual_seed(2))
    weights = [0.2, 0.5, 1.0]
    expected = torch.zeros(5, 2, 2, dtype=torch.float64)
    for n, i, j in np.ndindex(5, 2, 2):
        c = int(labels[n, i, j])
        if c >= 0:
            scores = [math.exp(v) for v in logits[n, :, i, j].tolist()]
            p = scores[c] / sum(scores)
            expected[n, i, j] = -weights[c] * (1 - p) ** 2 * math.log(p)
    alpha = torch.tensor(weights)
    torch.testing.assert_close(losses.softmax_focal_loss(logits, labels, alpha), expected)
    mean = losses.softmax_focal_loss(logits, labels, alpha, reduction="mean")
    torch.testing.assert_close(mean, expected.sum() / (labels >= 0).sum())
    plain = losses.softmax_focal_loss(logits, labels, gamma=0.0, reduction="mean")
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels, ignore_index=-1))


def test_gradients_of_focal_losses() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    targets, labels = torch.eye(4, 3, dtype=torch.float64), torch.tensor([0, 2, -1, 1])
    assert torch.autograd.gradcheck(lambda x: losses.sigmoid_focal_loss(x, targets, gamma=1.5), logits)
    assert torch.autograd.gradcheck(lambda x: losses.softmax_focal_loss(x, labels, gamma=1.5), logits)


# What all share


@pytest.mark.parametrize("loss", ALL, ids=lambda f: f.__name__)
def test_reductions(loss: Callable[..., Tensor]) -> None:
    prediction, target = (x / 70 for x in random_pairs(5, 7))
    each = loss(prediction, target)
    torch.testing.assert_close(loss(prediction, target, reduction="sum"), each.sum())
    torch.testing.assert_close(loss(prediction, target, reduction="mean"), each.mean())
    with pytest.raises(InputError, match='reduction must be "none", "mean" or "sum", not \'avg\''):
        loss(prediction, target, reduction="avg")


@pytest.mark.parametrize("loss", ALL, ids=lambda f: f.__name__)
def test_nothing_to_learn_from_costs_nothing(loss: Callable[..., Tensor]) -> None:
    prediction = torch.zeros(0, 4, requires_grad=True)
    for reduction in ("mean", "sum"):
        cost = loss(prediction, torch.zeros(0, 4), reduction=reduction)
        assert cost.item() == 0
        cost.backward()
    nobody = losses.softmax_focal_loss(torch.zeros(2, 3), torch.tensor([-1, -1]), reduction="mean")
    assert nobody.item() == 0


@pytest.mark.parametrize("loss", ALL, ids=lambda f: f.__name__)
def test_shapes_that_only_broadcast_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(InputError, match=r"prediction \[5, 4\] and target \[1, 4\] must have the same shape"):
        loss(torch.zeros(5, 4), torch.zeros(1, 4))


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"labels \[4\] do not fit logits \[5, 3\]"):
        losses.softmax_focal_loss(torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("loss", ALL, ids=lambda f: f.__name__)
def test_half_precision_is_worked_out_in_float32(loss: Callable[..., Tensor]) -> None:
    prediction, target = (x.float().round() * (1 if loss in BOX_LOSSES else 1 / 64) for x in random_pairs(4, 9))
    ours = loss(prediction.half(), target.half())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, loss(prediction, target))


@pytest.mark.parametrize("loss", ALL, ids=lambda f: f.__name__)
def test_nothing_waits_for_the_device_or_mixes_devices(loss: Callable[..., Tensor]) -> None:
    pairs = torch.zeros(5, 4, device="meta")
    assert loss(pairs, pairs, reduction="mean").device.type == "meta"


# Reference values


def test_reference_values(shared: Path) -> None:
    reference = {k: torch.from_numpy(v) for k, v in np.load(shared / "parity/ops/boxes.npz").items() if k != "meta"}
    for loss in list(BOX_LOSSES)[1:]:
        name = loss.__name__
        for reduction in ("none", "mean", "sum"):
            prediction = reference["loss/pred"].clone().requires_grad_()
            ours = loss(prediction, reference["loss/target"], reduction=reduction)
            ours.sum().backward()
            torch.testing.assert_close(ours.detach(), reference[f"loss/{name}/{reduction}"], rtol=1e-6, atol=1e-6)
            gradient = reference[f"loss/{name}/{reduction}_grad"]
            torch.testing.assert_close(prediction.grad, gradient, rtol=1e-5, atol=1e-6)
        ours = loss(reference["loss_degenerate/pred"], reference["loss_degenerate/target"])
        expected = reference[f"loss_degenerate/{name}"]
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5, equal_nan=True)
    for alpha, gamma in ((0.25, 2.0), (-1.0, 2.0), (0.25, 0.0), (0.5, 1.5)):
        for reduction in ("none", "mean", "sum"):
            logits = reference["focal/inputs"].clone().requires_grad_()
            ours = losses.sigmoid_focal_loss(logits, reference["focal/targets"], alpha, gamma, reduction)
            ours.sum().backward()
            key = f"focal/alpha{alpha:g}_gamma{gamma:g}_{reduction}"
            torch.testing.assert_close(ours.detach(), reference[key], rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(logits.grad, reference[f"{key}_grad"], rtol=1e-5, atol=1e-6)


# Quality and distributions


@given(logit=st.floats(-8, 8), quality=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_quality_and_varifocal_on_plain_numbers(logit: float, quality: float) -> None:
    x, y = torch.tensor([logit], dtype=torch.float64), torch.tensor([quality], dtype=torch.float64)
    p = 1 / (1 + math.exp(-logit))
    entropy = -(quality * math.log(p) + (1 - quality) * math.log(1 - p))
    assert losses.quality_focal_loss(x, y).item() == pytest.approx((quality - p) ** 2 * entropy, abs=1e-9)
    weight = quality if quality > 0 else 0.75 * p**2
    assert losses.varifocal_loss(x, y).item() == pytest.approx(weight * entropy, abs=1e-9)


def test_quality_focal_loss_of_hard_targets_is_the_focal_loss() -> None:
    x, y = torch.linspace(-4, 4, 9), torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1, 0])
    expected = losses.sigmoid_focal_loss(x, y, alpha=-1, gamma=2)
    torch.testing.assert_close(losses.quality_focal_loss(x, y, 2.0), expected)


@given(seed=st.integers(0, 10**6), target=st.floats(-2, 8))
@settings(deadline=None, max_examples=60)
def test_distribution_focal_loss_on_plain_numbers(seed: int, target: float) -> None:
    logits = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    exponentials = [math.exp(v) for v in logits.tolist()]
    log_p = [math.log(e / sum(exponentials)) for e in exponentials]
    y = min(max(target, 0.0), 5.0)
    low = min(int(y), 4)
    expected = -(low + 1 - y) * log_p[low] - (y - low) * log_p[low + 1]
    found = losses.distribution_focal_loss(logits, torch.tensor(target, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_distribution_focal_loss_is_least_where_the_mean_is_the_target() -> None:
    logits = torch.full((16,), -30.0)
    logits[3], logits[4] = math.log(0.75), math.log(0.25)
    at = {y: losses.distribution_focal_loss(logits, torch.tensor(y)).item() for y in (3.0, 3.25, 3.5, 6.0)}
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert at[3.25] == pytest.approx(entropy, abs=1e-5)
    assert at[6.0] > 20
    with pytest.raises(InputError, match="do not fit logits"):
        losses.distribution_focal_loss(torch.zeros(2, 16), torch.zeros(3))
