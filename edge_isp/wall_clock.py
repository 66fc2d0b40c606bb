"""From the clock of sensors' time stamps to the clock on the wall, or to any other clock.

Sensors stamp their frames with CLOCK_MONOTONIC, which nobody sets, so that ages and intervals are right. Other
machines, files and people want CLOCK_REALTIME, and ROS its own clock. The difference of two clocks is measured between
two readings of the first one, so that it is known to lie within bounds; it is held as long as it agrees with those
bounds, follows them where it drifts, and is replaced where one of the clocks was set (a *step*).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# A difference that changes by more than this, and faster than any pair of oscillators drifts, was set by someone.
_LEAST_STEP_NS = 10_000_000
_FASTEST_DRIFT = 1e-3
_MEASUREMENTS = 5


class WallClock:
    """Converts time stamps of CLOCK_MONOTONIC to another clock: CLOCK_REALTIME, or that of ROS. Safe to use from
    several threads.

    A node of ROS gives `now_ns=lambda: node.get_clock().now().nanoseconds`.

    Args:
        now_ns: the other clock, in nanoseconds since its epoch.
        monotonic_ns: the clock of the time stamps, in nanoseconds.

    Attributes:
        stepped_ns: by how many nanoseconds the other clock was set, all steps together. Drift is followed, and is no
            step.
    """

    def __init__(
        self, now_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._now_ns, self._monotonic_ns = now_ns, monotonic_ns
        self._lock = threading.Lock()
        self._offset_ns: int | None = None
        self._measured_ns = 0
        self.stepped_ns = 0

    def offset_ns(self) -> int:
        """What is added to a time stamp of CLOCK_MONOTONIC, measured now."""
        with self._lock:
            self._offset_ns = self._updated()
            return self._offset_ns

    def convert_ns(self, timestamp_ns: int) -> int:
        """A time stamp on the other clock, as that clock runs now: after a step, also times before it are converted
        with the new difference.

        Args:
            timestamp_ns: CLOCK_MONOTONIC.
        """
        return timestamp_ns + self.offset_ns()

    def _updated(self) -> int:
        """The difference that agrees with a new measurement and is nearest to the present one."""
        held = self._offset_ns
        if held is None:
            return self._measured()
        before = self._monotonic_ns()
        now = self._now_ns()
        after = self._monotonic_ns()
        nearest = min(max(held, now - after), now - before)
        elapsed, self._measured_ns = after - self._measured_ns, after
        if abs(nearest - held) <= _LEAST_STEP_NS + _FASTEST_DRIFT * elapsed:
            return nearest
        offset = self._measured()
        self.stepped_ns += offset - held
        return offset

    def _measured(self) -> int:
        """The difference by the best of a few measurements: a thread may be interrupted between two readings."""
        offset, shortest = 0, None
        for _ in range(_MEASUREMENTS):
            before = self._monotonic_ns()
            now = self._now_ns()
            self._measured_ns = after = self._monotonic_ns()
            if shortest is None or after - before < shortest:
                offset, shortest = now - (before + after) // 2, after - before
        return offset


SYSTEM_WALL_CLOCK = WallClock()
