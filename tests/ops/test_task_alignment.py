"""Task-aligned assignment against a loop over ground truths and points."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.ops.task_alignment import match_task_aligned


def match(
    scores: torch.Tensor, iou: torch.Tensor, inside: torch.Tensor, top: int = 13, alpha: float = 1.0, beta: float = 6.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs that matrices [G, N] admit, matched."""
    objects, points = inside.nonzero(as_tuple=True)
    size = (inside.shape[0], inside.shape[1])
    return match_task_aligned(objects, points, scores[inside], iou[inside], size, top, alpha, beta)


def task_aligned_loop(
    scores: list[list[float]], iou: list[list[float]], inside: list[list[bool]], top: int, alpha: float, beta: float
) -> tuple[list[int], list[float]]:
    truths, points = range(len(iou)), range(len(iou[0]))
    rating = [[scores[g][n] ** alpha * iou[g][n] ** beta for n in points] for g in truths]
    taken = []
    for g in truths:
        admitted = [n for n in points if inside[g][n]]
        taken.append(sorted(admitted, key=lambda n: -rating[g][n])[:top])
    matches = []
    for n in points:
        owners = [g for g in truths if n in taken[g]]
        matches.append(max(owners, key=lambda g: iou[g][n]) if owners else -1)
    quality = [0.0 for _ in points]
    for g in truths:
        own = [n for n in points if matches[n] == g]
        if own:
            best, most = max(rating[g][n] for n in own), max(iou[g][n] for n in own)
            for n in own:
                quality[n] = rating[g][n] / best * most if best > 0 else 0.0
    return matches, quality


@given(
    truths=st.integers(1, 6),
    points=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    top=st.integers(1, 8),
    powers=st.sampled_from([(1.0, 6.0), (0.5, 2.0), (0.0, 1.0)]),
)
@settings(deadline=None, max_examples=60)
def test_task_aligned_equals_a_loop(truths: int, points: int, seed: int, top: int, powers: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(truths, points, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    iou = torch.rand(truths, points, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    inside = torch.rand(truths, points, generator=generator) < 0.5
    matches, quality = match(scores, iou, inside, top, *powers)
    expected = task_aligned_loop(scores.tolist(), iou.tolist(), inside.tolist(), top, *powers)
    assert matches.tolist() == expected[0]
    assert quality.tolist() == pytest.approx(expected[1], abs=1e-9)


def test_task_aligned_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.1, 0.9], [0.5, 0.5, 0.5, 0.5]])
    iou = torch.tensor([[0.8, 0.4, 0.6, 0.9], [0.1, 0.5, 0.2, 0.0]])
    inside = torch.tensor([[True, True, True, False], [True, True, False, False]])
    matches, quality = match(scores, iou, inside, top=2, alpha=1, beta=1)
    # the first takes points 0 (0.40) and 1 (0.36), the second 1 (0.25) and 0 (0.05); each stays where it overlaps more
    assert matches.tolist() == [0, 1, -1, -1]
    assert quality.tolist() == pytest.approx([0.8, 0.5, 0, 0])


def test_task_aligned_without_objects_points_or_overlap() -> None:
    nothing = torch.zeros(0, 5)
    assert match(nothing, nothing, nothing.bool())[0].tolist() == [-1] * 5
    assert match(nothing.T, nothing.T, nothing.T.bool())[1].shape == (0,)
    flat = torch.zeros(1, 3)
    matches, quality = match(flat, torch.full((1, 3), torch.nan), flat == 0, top=2)
    assert (matches >= 0).sum() == 2
    assert quality.tolist() == [0, 0, 0]


def test_of_objects_that_overlap_a_point_equally_the_first_has_it() -> None:
    same = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    matches, quality = match(same, same, same > 0, top=2, alpha=1, beta=1)
    assert matches.tolist() == [0, 0]
    assert quality.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("overlap", [1e-1, 1e-3, 1e-5])
def test_the_best_point_of_a_hardly_met_object_has_its_overlap(overlap: float) -> None:
    """As small objects are at the beginning: t is 1e-30 here, and still only counts beside the object's others."""
    scores, iou = torch.full((1, 2), 0.01), torch.tensor([[overlap, overlap / 2]])
    _, quality = match(scores, iou, iou > 0, top=2)
    assert quality.tolist() == pytest.approx([overlap, overlap / 64], rel=1e-3)
