"""Minimum-cost assignment of rows to columns (the Hungarian method), in NumPy."""

from __future__ import annotations

import numpy as np

from sightline.errors import InputError


def assign(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign rows to columns, each at most once, such that as many as possible are assigned at minimum total cost.

    Shortest augmenting paths with potentials (Kuhn 1955; Jonker and Volgenant 1987), O(min(R, C)² · max(R, C)), for a
    few hundred rows and columns. Costs can be infinite for pairs that are not allowed; these are left out.

    Args:
        cost: [R, C] float.

    Returns:
        Row and column indices [M] int64 of the assigned pairs, by ascending row. Without infinite costs, M is min(R,
        C).

    Raises:
        InputError: `cost` is not [R, C], or has NaN or −inf.
    """
    given = np.asarray(cost, dtype=np.float64)
    if given.ndim != 2 or np.isnan(given).any() or np.isneginf(given).any():
        raise InputError(f"costs must be [rows, columns] without NaN and −inf, not of shape {list(given.shape)}")
    allowed = np.isfinite(given)
    if not allowed.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # One forbidden pair must cost more than any exchange of allowed ones could save.
    low, high = given[allowed].min(), given[allowed].max()
    table = np.where(allowed, given - low, (high - low + 1) * (min(given.shape) + 1))
    turned = table.shape[0] > table.shape[1]
    columns = _augmented(table.T if turned else table)
    rows = np.arange(len(columns))
    rows, columns = (columns, rows) if turned else (rows, columns)
    kept = allowed[rows, columns]
    rows, columns = rows[kept], columns[kept]
    order = rows.argsort()
    return rows[order], columns[order]


def _augmented(table: np.ndarray) -> np.ndarray:
    """The column [R] of each row, for R ≤ C and finite costs of at least 0."""
    count, width = table.shape
    row_potential, column_potential = np.zeros(count), np.zeros(width)
    row_of = np.full(width, -1)
    for first in range(count):
        distance = np.full(width, np.inf)
        before = np.full(width, -1)  # the column before this one on the path
        open_ = np.ones(width, dtype=bool)
        row, column, reached = first, -1, 0.0
        while row >= 0:
            through = reached + table[row] - row_potential[row] - column_potential
            shorter = open_ & (through < distance)
            distance[shorter], before[shorter] = through[shorter], column
            column = int(np.where(open_, distance, np.inf).argmin())
            reached = distance[column]
            open_[column] = False
            row = row_of[column]
        closed = ~open_
        closed[column] = False
        row_potential[first] += reached
        row_potential[row_of[closed]] += reached - distance[closed]
        column_potential[closed] -= reached - distance[closed]
        while column >= 0:
            previous = before[column]
            row_of[column] = first if previous < 0 else row_of[previous]
            column = previous
    columns = np.empty(count, dtype=np.int64)
    taken = row_of >= 0
    columns[row_of[taken]] = np.flatnonzero(taken)
    return columns
