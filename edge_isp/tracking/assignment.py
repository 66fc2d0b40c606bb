"""Which detection belongs to which track: overlap of boxes, and the assignment with the greatest total overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def overlaps(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of each box of one list with each box of another.

    Args:
        first: (n, 4), x0, y0, x1, y1.
        second: (m, 4), x0, y0, x1, y1.

    Returns:
        (n, m), 0 to 1; 0 where a box has no area.
    """
    a, b = first[:, None, :].astype(np.float64), second[None, :, :].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(-1)
    area_a, area_b = (np.clip(box[..., 2:] - box[..., :2], 0, None).prod(-1) for box in (a, b))
    union: NDArray[np.float64] = area_a + area_b - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def assign(gain: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Pairs rows with columns so that the sum of the pairs' gains is as great as possible.

    Shortest augmenting paths with potentials: Jonker and Volgenant, "A shortest augmenting path algorithm for dense
    and sparse linear assignment problems", Computing 38 (1987).

    Args:
        gain: (n, m), at least 0. Rows and columns without any gain stay unpaired.

    Returns:
        Pairs of a row and a column with a gain above 0; each row and each column at most once.
    """
    if gain.shape[0] > gain.shape[1]:
        return sorted((row, column) for column, row in assign(gain.T))
    rows, columns = gain.shape
    cost = -gain.astype(np.float64)
    row_potential, column_potential = np.zeros(rows), np.zeros(columns + 1)
    # The row of each column, and -1 for none; the last column stands for the row that is being placed.
    row_of = np.full(columns + 1, -1)
    for new_row in range(rows):
        row_of[columns] = new_row
        column, before = columns, np.full(columns, columns)
        distance, visited = np.full(columns, np.inf), np.zeros(columns + 1, bool)
        while row_of[column] >= 0:
            visited[column] = True
            row, free = row_of[column], ~visited[:columns]
            reduced = cost[row] - row_potential[row] - column_potential[:columns]
            closer = free & (reduced < distance)
            distance[closer], before[closer] = reduced[closer], column
            nearest = int(np.argmin(np.where(free, distance, np.inf)))
            step = distance[nearest]
            row_potential[row_of[visited]] += step
            column_potential[visited] -= step
            distance[free] -= step
            column = nearest
        while column != columns:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    return sorted(
        (int(row), column) for column, row in enumerate(row_of[:columns]) if row >= 0 and gain[row, column] > 0
    )
