"""Rates and percentiles: one definition each, for all benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_isp.bench.report import Distribution, Intervals, Report

# Of the median interval: what lies outside the first two is early or late (the classes of picamera2's
# check_timestamps), what lies beyond the third has missed a whole frame.
_EARLY, _LATE, _VERY_LATE = 0.9, 1.1, 1.9

_NOTHING = np.iinfo(np.int64).min  # in a column without a value


def rate(n: int, first_ns: int, last_ns: int) -> float | None:
    """Frames per second: (n - 1) / (last - first).

    Args:
        n: the number of frames.
        first_ns: the time of the first one.
        last_ns: the time of the last one.

    Returns:
        The rate; None for fewer than two frames.
    """
    return (n - 1) * 1e9 / (last_ns - first_ns) if n > 1 and last_ns > first_ns else None


def distribution(name: str, values_ns: ArrayLike, first_ns: float | None = None) -> Distribution:
    """Statistics of a quantity; percentiles are interpolated linearly between the values.

    Args:
        name: of the quantity.
        values_ns: at least one value.
        first_ns: the value of the very first frame, where it is known.
    """
    values = np.asarray(values_ns, np.float64)
    p50, p90, p95, p99, p999 = np.percentile(values, (50, 90, 95, 99, 99.9)).tolist()
    return Distribution(
        name=name,
        unit="ns",
        n=values.size,
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        p999=p999,
        max=float(values.max()),
        first=None if first_ns is None else float(first_ns),
    )


def intervals(values_ns: Sequence[int] | NDArray[np.int64]) -> Intervals | None:
    """Jitter of the intervals between results.

    Args:
        values_ns: the intervals.

    Returns:
        Their statistics; None where there are no intervals.
    """
    values = np.asarray(values_ns, np.float64)
    if not values.size:
        return None
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return Intervals(
        p50=p50,
        p95=p95,
        p99=p99,
        mad=float(np.median(np.abs(values - p50))),
        early=int((values < _EARLY * p50).sum()),
        late=int(((values > _LATE * p50) & (values <= _VERY_LATE * p50)).sum()),
        very_late=int((values > _VERY_LATE * p50).sum()),
    )


def infer(report: Report) -> Distribution:
    """The durations of the inferences.

    Args:
        report: of a model or a pipeline, both of which have that stage.
    """
    return next(stage for stage in report.stages if stage.name == "infer")


class Samples:
    """Values of frames, in memory that does not grow with the time that is measured.

    Of more frames than there is room for, a random sample is kept, in which each has the same chance (Vitter's
    algorithm R).

    Args:
        columns: the names of the values of a frame.
        capacity: the number of frames that there is room for.
        seed: of the random choice.

    Attributes:
        n: the number of frames that were added.
    """

    def __init__(self, columns: Sequence[str], *, capacity: int, seed: int = 0) -> None:
        self._columns = {name: index for index, name in enumerate(columns)}
        # Written to at once: pages that are touched later would look like a leak.
        self._values = np.full((capacity, len(columns)), _NOTHING, np.int64)
        self._random = np.random.default_rng(seed)
        self.n = 0

    def add(self, values: dict[str, int]) -> None:
        """Adds a frame.

        Args:
            values: its values by their columns; it has none in the others.
        """
        capacity = len(self._values)
        place = self.n if self.n < capacity else int(self._random.integers(0, self.n + 1))
        self.n += 1
        if place < capacity:
            row = self._values[place]
            row[:] = _NOTHING
            for name, value in values.items():
                row[self._columns[name]] = value

    def column(self, name: str) -> NDArray[np.int64]:
        """The values of a column.

        Args:
            name: of the column.
        """
        values = self._values[: min(self.n, len(self._values)), self._columns[name]]
        found: NDArray[np.int64] = values[values != _NOTHING]
        return found
