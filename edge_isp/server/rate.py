"""The rate of results, from their times."""

from __future__ import annotations

import threading
from collections import deque

_RESULTS, _LONGEST_S = 60, 5.0


class Rate:
    """Results per second over the last 60 results or 5 seconds."""

    def __init__(self) -> None:
        self._times: deque[int] = deque(maxlen=_RESULTS)
        self._lock = threading.Lock()

    def add(self, time_ns: int) -> None:
        """Notes a result.

        Args:
            time_ns: when it was delivered, CLOCK_MONOTONIC.
        """
        with self._lock:
            self._times.append(time_ns)

    def per_second(self, now_ns: int) -> float:
        """(n - 1) results in the time between the first and the last of n; 0 where there are less than two.

        Args:
            now_ns: the time, CLOCK_MONOTONIC; results of more than 5 seconds before do not count.
        """
        with self._lock:
            times = [time for time in self._times if now_ns - time <= _LONGEST_S * 1e9]
        return (len(times) - 1) * 1e9 / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
