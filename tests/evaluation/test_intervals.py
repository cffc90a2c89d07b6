"""Confidence intervals against formulas, coverage and naive resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation import evaluate_detection, evaluate_segmentation
from sightline.evaluation.intervals import percentiles, resampled_sums, resampled_weights, wilson
from sightline.evaluation.proposals import evaluate_proposals
from sightline.structures import Classes, ClassMap
from tests.evaluation.scenarios import random_case


def test_wilson_by_hand():
    """Both ends solve |p̂ − p| = z √(p (1 − p) / n)."""
    for right, total in ((7, 10), (0, 12), (12, 12), (320, 1000)):
        for end in wilson(right, total):
            gap = abs(right / total - end)
            assert gap == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / total), abs=1e-6)
    assert wilson(0, 12)[0] == 0
    assert wilson(12, 12)[1] == 1
    assert wilson(0, 0) is None


def test_every_draw_has_as_many_images():
    weights = np.concatenate(list(resampled_weights(7, draws=50)))
    assert weights.shape == (50, 7)
    assert (weights.sum(1) == 7).all()
    assert len({tuple(row) for row in weights.tolist()}) > 40
    again = np.concatenate(list(resampled_weights(7, draws=50)))
    other = np.concatenate(list(resampled_weights(7, draws=50, seed=1)))
    assert (weights == again).all()
    assert (weights != other).any()


def test_pieces_do_not_matter(monkeypatch):
    values = np.arange(12).reshape(6, 2)
    whole = resampled_sums(values, draws=40)
    assert whole.shape == (40, 2)
    weights = np.concatenate(list(resampled_weights(6, draws=40)))
    assert (whole == weights @ values).all()
    monkeypatch.setattr("sightline.evaluation.intervals._AT_ONCE", 18)
    assert len(list(resampled_weights(6, draws=40))) == 14
    assert resampled_sums(values, draws=40).shape == (40, 2)


def test_percentiles():
    samples = {"a": np.arange(101.0), "rare": np.array([1.0] + [np.nan] * 3)}
    assert percentiles(samples, 0.9) == {"a": (pytest.approx(5), pytest.approx(95))}
    for level in (0, 1, 95):
        with pytest.raises(InputError, match="must lie between 0 and 1"):
            percentiles(samples, level)


def test_detection_equals_naive_resampling():
    targets, predictions, names = random_case(3, images=40, crowds=False)
    result = evaluate_detection(targets, predictions, names)
    found = result.intervals()
    assert set(found) == {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    assert result.intervals() == found
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(60):
        chosen = rng.integers(0, 40, 40)
        metrics = evaluate_detection([targets[i] for i in chosen], [predictions[i] for i in chosen], names).metrics
        drawn.append([metrics["AP50"], metrics["AR100"]])
    for name, column in zip(("AP50", "AR100"), np.array(drawn).T, strict=True):
        width = column.std() * 1.96
        assert found[name][1] - found[name][0] == pytest.approx(2 * width, rel=0.35)
        assert sum(found[name]) / 2 == pytest.approx(column.mean(), abs=0.5 * width)
    wide = result.intervals(0.99)["AP"]
    assert wide[0] < found["AP"][0] < found["AP"][1] < wide[1]
    nothing = evaluate_detection([targets[0][[]]], [predictions[0]], names)
    assert nothing.intervals() == {}


def test_segmentation_equals_naive_resampling():
    rng = np.random.default_rng(0)
    names = Classes(["a", "b", "c"])
    labels = [np.kron(rng.integers(-1, 3, (3, 3)), np.ones((4, 4), int)) for _ in range(25)]
    said = [np.where(rng.random(x.shape) < rng.uniform(0.1, 0.5), rng.integers(0, 3, x.shape), x) for x in labels]
    targets = [ClassMap(torch.from_numpy(x), names) for x in labels]
    predictions = [ClassMap(torch.from_numpy(np.maximum(x, 0)), names) for x in said]
    result = evaluate_segmentation(targets, predictions, names)
    assert result.intervals().keys() == result.metrics.keys()
    sums, rows = result.image_pixels.sum(0), result.per_class.values()
    assert sums[1].tolist() == [row["pixels"] for row in rows]
    assert sums[2].tolist() == [row["predicted"] for row in rows]
    assert sums[0].tolist() == result.confusion.diagonal().tolist()
    drawn = []
    for _ in range(60):
        chosen = rng.integers(0, 25, 25)
        one = evaluate_segmentation([targets[i] for i in chosen], [predictions[i] for i in chosen], names)
        drawn.append(list(one.metrics.values()))
    for name, column in zip(result.metrics, np.array(drawn).T, strict=True):
        low, high = result.intervals()[name]
        width = 1.96 * column.std()
        assert high - low == pytest.approx(2 * width, rel=0.4), name
        assert (low + high) / 2 == pytest.approx(column.mean(), abs=0.5 * width), name
    assert "boundary_F" not in evaluate_segmentation(targets, predictions, names, boundaries=False).intervals()


def test_proposals_equal_naive_resampling():
    targets, predictions, names = random_case(2, images=30)
    result = evaluate_proposals(targets, predictions, counts=(5, 300), classes=names)
    found = result.intervals()
    assert found.keys() == result.metrics.keys()
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(150):
        chosen = rng.integers(0, 30, 30)
        one = evaluate_proposals([targets[i] for i in chosen], [predictions[i] for i in chosen], counts=(5, 300))
        drawn.append(list(one.metrics.values()))
    for name, column in zip(result.metrics, np.array(drawn).T, strict=True):
        low, high = found[name]
        width = 1.96 * column.std()
        assert high - low == pytest.approx(2 * width, rel=0.3), name
        assert (low + high) / 2 == pytest.approx(column.mean(), abs=0.4 * width), name
