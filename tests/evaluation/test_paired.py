"""Intervals of the difference of two results, against naive resampling of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation import evaluate_classification, evaluate_detection, evaluate_segmentation
from sightline.evaluation.paired import paired_intervals
from sightline.evaluation.result import PlainResult
from sightline.structures import Classes, ClassMap, ClassScores, Instances

NAMES = Classes(["a", "b", "c"])
IMAGES = 40
Case = tuple[list[Any], list[Any], list[Any], Callable[..., Any]]


def classification() -> Case:
    """Scores, and the same with other noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, IMAGES)
    base = rng.normal(0, 1, (IMAGES, 3)) + 1.5 * np.eye(3)[labels]

    def answers(noise: float) -> list[Any]:
        scores = torch.from_numpy(base + noise * rng.normal(0, 1, base.shape)).softmax(1).float()
        return [ClassScores((8, 8), scores=row, classes=NAMES) for row in scores]

    targets = [ClassScores((8, 8), label=int(label), classes=NAMES) for label in labels]
    return targets, answers(0.3), answers(0.8), evaluate_classification


def segmentation() -> Case:
    """Class maps with some wrong pixels, and with more of them."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randint(0, 3, (9, 9), generator=generator) for _ in range(IMAGES)]

    def answers(share: float) -> list[Any]:
        found = []
        for labels in maps:
            wrong = torch.rand(9, 9, generator=generator) < share * torch.rand(1, generator=generator)
            found.append(ClassMap(torch.where(wrong, (labels + 1) % 3, labels), NAMES))
        return found

    return [ClassMap(labels, NAMES) for labels in maps], answers(0.3), answers(0.5), evaluate_segmentation


def detection() -> Case:
    """Boxes that are shifted, and shifted more."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(IMAGES):
        corner = torch.rand(4, 2, generator=generator) * 60
        boxes = torch.cat([corner, corner + 10 + 25 * torch.rand(4, 2, generator=generator)], 1)
        labels = torch.randint(0, 3, (4,), generator=generator)
        targets.append(Instances((100, 100), classes=NAMES, boxes=boxes, labels=labels))

    def answers(shift: float) -> list[Any]:
        found = []
        for target in targets:
            boxes = target.boxes + shift * torch.randn(4, 1, generator=generator)
            scores = torch.rand(4, generator=generator)
            found.append(Instances((100, 100), classes=NAMES, boxes=boxes, labels=target.labels, scores=scores))
        return found

    return targets, answers(1.0), answers(1.5), evaluate_detection


@pytest.mark.parametrize(
    ("case", "metrics", "draws"),
    [
        (classification, ("top1", "macro_F1", "NLL"), 200),
        pytest.param(segmentation, ("mIoU", "pixel_accuracy", "Dice"), 200, marks=pytest.mark.slow),
        (detection, ("AP", "AP50"), 60),
    ],
)
def test_intervals_equal_naive_resampling(case: Callable[[], Case], metrics: Sequence[str], draws: int) -> None:
    targets, before, after, evaluate = case()
    one, other = evaluate(targets, before, NAMES), evaluate(targets, after, NAMES)
    found = paired_intervals(one, other)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(draws):
        chosen = rng.integers(0, IMAGES, IMAGES)
        a, b = (evaluate([targets[i] for i in chosen], [all_[i] for i in chosen], NAMES) for all_ in (before, after))
        drawn.append([b.metrics[name] - a.metrics[name] for name in metrics])
    for name, column in zip(metrics, np.array(drawn).T, strict=True):
        low, high = found[name]
        width = 1.96 * column.std()
        assert high - low == pytest.approx(2 * width, rel=0.35), name
        assert (low + high) / 2 == pytest.approx(column.mean(), abs=0.5 * width), name


@pytest.mark.parametrize("case", [classification, segmentation, detection])
def test_equal_results_do_not_differ(case: Callable[[], Case]) -> None:
    targets, before, _, evaluate = case()
    one = evaluate(targets, before, NAMES)
    assert set(paired_intervals(one, evaluate(targets, before, NAMES)).values()) == {(0.0, 0.0)}


def test_results_that_cannot_be_compared() -> None:
    targets, before, _, evaluate = classification()
    plain = PlainResult("mine", {"score": 0.5}, np.zeros(IMAGES))
    assert paired_intervals(plain, plain) == {}
    whole = evaluate(targets, before, NAMES)
    with pytest.raises(InputError, match="one is of classification on 40 images, the other of mine on 40"):
        paired_intervals(whole, plain)
    with pytest.raises(InputError, match="one is of classification on 40 images, the other of classification on 39"):
        paired_intervals(whole, evaluate(targets[1:], before[1:], NAMES))
