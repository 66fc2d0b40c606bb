"""Notices that a consumer has no result that is young enough."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from edge_isp.errors import PipelineError
from edge_isp.pipeline.drops import DeadlineMissed, Event


class Deadline:
    """The deadline of a consumer's next result: `max_age_s` after the exposure of the frame that is due next, which is
    one interval after the newest that it got. Safe to use from several threads.

    Args:
        consumer: its name.
        max_age_s: how old a result may be.
        every: the consumer asks for every Nth frame.
        period_ns: shortest time between two frames that the consumer asks for.
        report: called with each `DeadlineMissed`.
        now_ns: the time, CLOCK_MONOTONIC.

    Attributes:
        max_age_ns: how old a result may be.

    Raises:
        PipelineError: `max_age_s` is not a positive number.
    """

    def __init__(
        self,
        consumer: str,
        max_age_s: float,
        *,
        every: int,
        period_ns: float,
        report: Callable[[Event], None],
        now_ns: Callable[[], int],
    ) -> None:
        if not 0 < max_age_s < math.inf:
            raise PipelineError(f"max_age_s must be a positive number of seconds or None, found {max_age_s}")
        self.max_age_ns = round(max_age_s * 1e9)
        self._consumer, self._max_age_s, self._every, self._period_ns = consumer, max_age_s, every, period_ns
        self._report, self._now_ns = report, now_ns
        self._lock = threading.Lock()
        self._newest_ns: int | None = None  # exposure of what the consumer got last
        self._frame_ns: int | None = None  # exposure of the newest frame
        self._interval_ns = 0.0
        self._is_missed = False

    def restart(self) -> None:
        """A stream begins: nothing is due before its first frame."""
        with self._lock:
            self._newest_ns = self._frame_ns = None
            self._interval_ns, self._is_missed = 0.0, False

    def frame(self, timestamp_ns: int) -> None:
        """A frame has arrived from the camera.

        Args:
            timestamp_ns: start of its exposure.
        """
        with self._lock:
            if self._frame_ns is not None:
                step = max(0, timestamp_ns - self._frame_ns)
                self._interval_ns = max(step * self._every, self._period_ns)
            self._frame_ns = timestamp_ns
            if self._newest_ns is None:
                self._newest_ns = timestamp_ns

    def met(self, timestamp_ns: int) -> None:
        """The consumer has got a result that is young enough.

        Args:
            timestamp_ns: start of its frame's exposure.
        """
        self.check()
        with self._lock:
            self._newest_ns, self._is_missed = timestamp_ns, False

    def check(self, *, stale: bool = False) -> None:
        """Reports the deadline if it has passed, once until it is met again.

        Args:
            stale: whether a result was dropped because of its age.
        """
        now = self._now_ns()
        with self._lock:
            if self._newest_ns is None or self._is_missed:
                return
            age_ns = now - self._newest_ns
            if not stale and age_ns <= self._interval_ns + self.max_age_ns:
                return
            self._is_missed = True
        self._report(DeadlineMissed(self._consumer, self._max_age_s, age_ns, now))
