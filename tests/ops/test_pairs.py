"""Pairs of objects against loops, and their geometry against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.ops.pairs import GEOMETRY, ordered_pairs, pair_geometry, union_boxes


@pytest.mark.parametrize("counts", [[3, 0, 1, 2], [], [0], [1], [4]])
def test_all_ordered_pairs_of_an_image(counts: list[int]) -> None:
    expected, first = [], 0
    for count in counts:
        expected += [[first + s, first + o] for s in range(count) for o in range(count) if s != o]
        first += count
    found = ordered_pairs(counts)
    assert found.tolist() == expected
    assert found.shape == (len(expected), 2)
    assert found.dtype == torch.int64


def test_the_box_around_both() -> None:
    first, second = torch.tensor([[1.0, 5, 4, 6], [0, 0, 9, 9]]), torch.tensor([[2.0, 1, 9, 3], [3, 3, 4, 4]])
    assert union_boxes(first, second).tolist() == [[1, 1, 9, 6], [0, 0, 9, 9]]


def test_geometry_by_hand() -> None:
    """A box of 20 × 10 pixels to the left of and above one of 40 × 40, in an image of 100 × 200."""
    a, b = torch.tensor([[10.0, 20, 30, 30]]), torch.tensor([[50.0, 40, 90, 80]])
    found = pair_geometry(a, b, torch.tensor([[100, 200]]))[0].tolist()
    assert len(found) == GEOMETRY
    assert found == pytest.approx(
        [
            *(0.1, 0.125, 0.1, 0.05),
            *(0.35, 0.3, 0.2, 0.2),
            *(0.25, 0.175, 2.5, 3.5),
            *(0.25, 0.1),
            *(math.log(2), math.log(4), math.log(8)),
            0.0,
        ]
    )
    assert pair_geometry(a, a, torch.tensor([[100, 200]]))[0, -1] == 1
    twice = pair_geometry(2 * a, 2 * b, torch.tensor([[200, 400]]))[0].tolist()
    assert twice == pytest.approx(found)


def test_geometry_of_boxes_without_area_is_finite() -> None:
    dot = torch.tensor([[3.0, 3, 3, 3]])
    assert pair_geometry(dot, dot, torch.tensor([[10, 10]])).isfinite().all()
    assert pair_geometry(dot[:0], dot[:0], torch.zeros(0, 2)).shape == (0, GEOMETRY)
