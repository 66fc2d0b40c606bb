"""How well tracks agree with the truth: IDF1 and switches of numbers.

IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCV 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.tracking.assignment import assign, overlaps


@dataclass(frozen=True)
class Scores:
    """Attributes: idf1: 0 to 1. switches: how often an object got another number. recall: share of boxes tracked."""

    idf1: float
    switches: int
    recall: float


def score(
    truth: Sequence[dict[int, NDArray[np.float64]]],
    tracked: Sequence[tuple[NDArray[np.floating], NDArray[np.integer]]],
) -> Scores:
    """Compares tracked boxes with the truth, frame by frame; boxes that overlap by half are the same object.

    Args:
        truth: of each frame, boxes by the object's number.
        tracked: of each frame, boxes (n, 4) and numbers (n,).
    """
    together: Counter[tuple[int, int]] = Counter()
    last: dict[int, int] = {}
    switches = matched = boxes = outputs = 0
    for objects, (found, numbers) in zip(truth, tracked, strict=True):
        boxes, outputs = boxes + len(objects), outputs + len(numbers)
        if not len(numbers):
            continue
        names = list(objects)
        overlap = overlaps(np.array([objects[name] for name in names]), found)
        for row, column in assign(np.where(overlap >= 0.5, overlap, 0)):
            name, number = names[row], int(numbers[column])
            together[name, number] += 1
            switches += last.get(name, number) != number
            last[name] = number
            matched += 1
    rows, columns = sorted({a for a, _ in together}), sorted({b for _, b in together})
    table = np.array([[together[a, b] for b in columns] for a in rows], float).reshape(len(rows), len(columns))
    right = sum(table[row, column] for row, column in assign(table))
    return Scores(2 * right / (boxes + outputs), switches, matched / boxes)
