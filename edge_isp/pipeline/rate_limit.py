"""Fewer frames per second, by the sensor's time."""

from __future__ import annotations

import math

from edge_isp.errors import PipelineError


class RateLimiter:
    """Passes at most a number of frames per second, counted by their time stamps and not by when they are handled.

    What passes follows a grid of whole periods, so that jitter lowers no average: of 30 frames per second, a limit of
    10 passes every third one.

    Args:
        fps: frames per second at most.

    Raises:
        PipelineError: it is not a positive number.
    """

    def __init__(self, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise PipelineError(f"max_fps must be a positive number of frames per second, found {fps}")
        self._period_ns = 1e9 / fps
        self._due_ns: float | None = None

    def passes(self, timestamp_ns: int) -> bool:
        """Whether a frame passes.

        Args:
            timestamp_ns: start of its exposure.
        """
        due, period = self._due_ns, self._period_ns
        # A due time further away than a period means that time stamps began anew, as those of another recording do.
        if due is None or due - timestamp_ns > period:
            self._due_ns = timestamp_ns + period
            return True
        # A hundredth of a period early is on time: periods of sensors are rounded to their lines.
        late = timestamp_ns - due + period / 100
        if late < 0:
            return False
        self._due_ns = due + period * (1 + late // period)
        return True
