"""Greedy merging of boxes against a plain loop and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.errors import InputError
from sightline.ops.merging import match_score, merge_boxes

Box = list[float]


def naive_score(a: Box, b: Box) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    distance = math.dist([(a[0] + a[2]) / 2, (a[1] + a[3]) / 2], [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2])
    return distance / math.sqrt(sum(areas) / 2) + 1 - w * h / (sum(areas) - w * h)


def naive_merge(boxes: list[Box], scores: list[float], labels: list[int], t: float) -> list[tuple[Box, float, int]]:
    left = list(zip(boxes, scores, labels, strict=True))
    while True:
        pairs = [
            (naive_score(a[0], b[0]), i, j)
            for i, a in enumerate(left)
            for j, b in enumerate(left)
            if i < j and a[2] == b[2]
        ]
        if not pairs or min(pairs)[0] > t:
            return sorted(left, key=lambda entry: -entry[1])
        _, i, j = min(pairs)
        a, b = left[i], left[j]
        left[i] = ([(p + q) / 2 for p, q in zip(a[0], b[0], strict=True)], a[1] + b[1], a[2])
        del left[j]


def test_match_scores_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    b = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [30.0, 40.0, 40.0, 50.0], [3.0, 3.0, 3.0, 3.0]])
    wanted = [0.0, 0.5 + 1 - 50 / 150, 5.0 + 1, math.hypot(2, 2) / math.sqrt(50) + 1]
    assert match_score(a, b)[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_case_by_hand() -> None:
    # 0 and 2 match best (0.1 + 1 − 90/110) and become [0.5, 0, 10.5, 10]; this and 1 then match by 0.25 + 1 − 75/125
    boxes = torch.tensor([[0, 0, 10, 10], [3, 0, 13, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]]).float()
    scores, labels = torch.tensor([0.9, 0.5, 0.6, 0.7, 0.2]), torch.tensor([1, 1, 1, 1, 2])
    found = merge_boxes(boxes, scores, labels, 0.5)
    assert found[0].tolist() == [[0.5, 0, 10.5, 10], [50, 50, 60, 60], [3, 0, 13, 10], [0, 0, 10, 10]]
    assert found[1].tolist() == pytest.approx([1.5, 0.7, 0.5, 0.2])
    assert found[2].tolist() == [1, 1, 1, 2]
    found = merge_boxes(boxes, scores, labels, 0.7)
    assert found[0].tolist() == [[1.75, 0, 11.75, 10], [50, 50, 60, 60], [0, 0, 10, 10]]
    assert found[1].tolist() == pytest.approx([2.0, 0.7, 0.2])
    assert boxes[0].tolist() == [0, 0, 10, 10]  # as it was


@pytest.mark.parametrize("seed", range(5))
def test_against_a_plain_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(30, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 15 + torch.rand(30, 2, generator=generator) * 20], 1)
    scores = torch.rand(30, generator=generator)
    labels = torch.randint(1, 3, (30,), generator=generator)
    found = merge_boxes(boxes, scores, labels, 0.8)
    wanted = naive_merge(boxes.tolist(), scores.tolist(), labels.tolist(), 0.8)
    assert len(wanted) < 25
    torch.testing.assert_close(found[0], torch.tensor([entry[0] for entry in wanted]), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found[1], torch.tensor([entry[1] for entry in wanted]))
    assert found[2].tolist() == [entry[2] for entry in wanted]
    assert float(found[1].sum()) == pytest.approx(float(scores.sum()), rel=1e-5)


def test_many_equal_boxes_become_one() -> None:
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]]).repeat(50, 1)
    found = merge_boxes(boxes, torch.full((50,), 0.5), torch.ones(50, dtype=torch.int64))
    assert found[0].tolist() == [[1, 2, 30, 40]]
    assert found[1].tolist() == [25.0]
    assert merge_boxes(boxes, torch.ones(50), torch.ones(50), torch.inf)[1].tolist() == [50.0]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_merge(count: int) -> None:
    boxes = torch.rand(count, 4)
    found = merge_boxes(boxes, torch.ones(count), torch.zeros(count, dtype=torch.int64))
    assert [len(value) for value in found] == [count] * 3
    assert found[0].shape == (count, 4)


def test_lengths_must_be_equal() -> None:
    with pytest.raises(InputError, match="2 boxes, 1 scores and 2 labels"):
        merge_boxes(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2))
