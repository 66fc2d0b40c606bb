"""Rates and percentiles: one definition each, for all benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_isp.bench.report import Distribution, Intervals

# Of the median interval: what lies outside the first two is early or late (the classes of picamera2's
# check_timestamps), what lies beyond the third has missed a whole frame.
_EARLY, _LATE, _VERY_LATE = 0.9, 1.1, 1.9

_NOTHING = np.iinfo(np.int64).min  # in a column without a value


def rate(n: int, first_ns: int, last_ns: int) -> float | None:
    """Frames a second of n frames, the first and the last at these times: (n - 1) / (last - first)."""
    return (n - 1) * 1e9 / (last_ns - first_ns) if n > 1 and last_ns > first_ns else None


def distribution(name: str, values_ns: ArrayLike, first_ns: float | None = None) -> Distribution:
    """Statistics of at least one value; percentiles by linear interpolation between the values."""
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
    """Jitter of the intervals between results; None where there are none."""
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


class Samples:
    """Values of a number of frames that is bounded, so that memory does not grow with the time that is measured.

    Of more than `capacity` frames, a random sample is kept, in which each has the same chance (Vitter's algorithm R).

    Args:
        columns: names of what each frame has.
    """

    def __init__(self, columns: Sequence[str], *, capacity: int, seed: int = 0) -> None:
        self._columns = {name: index for index, name in enumerate(columns)}
        # Written to at once: pages that are touched later would look like a leak.
        self._values = np.full((capacity, len(columns)), _NOTHING, np.int64)
        self._random = np.random.default_rng(seed)
        self.n = 0

    def add(self, values: dict[str, int]) -> None:
        """The values of one frame; columns without one have no value there."""
        capacity = len(self._values)
        place = self.n if self.n < capacity else int(self._random.integers(0, self.n + 1))
        self.n += 1
        if place < capacity:
            row = self._values[place]
            row[:] = _NOTHING
            for name, value in values.items():
                row[self._columns[name]] = value

    def column(self, name: str) -> NDArray[np.int64]:
        """All values of a column that are there."""
        values = self._values[: min(self.n, len(self._values)), self._columns[name]]
        found: NDArray[np.int64] = values[values != _NOTHING]
        return found
