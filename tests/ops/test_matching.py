"""The assignment of least cost, against trying all."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import InputError
from sightline.ops.matching import assign


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_no_other_assignment_costs_less(rows: int, columns: int, seed: int, ties: bool) -> None:
    cost = np.random.default_rng(seed).normal(size=(rows, columns))
    cost = cost.round() if ties else cost
    a, b = assign(cost)
    assert len(a) == len(set(b.tolist())) == min(rows, columns)
    assert (np.diff(a) > 0).all()
    table = cost if rows <= columns else cost.T
    least = min(
        sum(table[i, j] for i, j in enumerate(chosen)) for chosen in permutations(range(table.shape[1]), len(table))
    )
    assert cost[a, b].sum() == pytest.approx(least)


def test_pairs_that_are_not_allowed() -> None:
    inf = np.inf
    a, b = assign(np.array([[1.0, 100.0], [0.0, inf]]))  # both rows, although the cheapest pair is left out
    assert (a.tolist(), b.tolist()) == ([0, 1], [1, 0])
    a, b = assign(np.array([[inf, inf, 2], [inf, inf, 1]]))
    assert (a.tolist(), b.tolist()) == ([1], [2])
    for empty in (np.zeros((0, 3)), np.zeros((3, 0)), np.full((2, 2), inf)):
        assert [len(part) for part in assign(empty)] == [0, 0]
    with pytest.raises(InputError, match=r"costs must be \[rows, columns\] without NaN and −inf"):
        assign(np.array([[np.nan]]))
