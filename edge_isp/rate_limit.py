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

    Attributes:
        period_ns: shortest time between two frames that pass, on average.

    Raises:
        PipelineError: it is not a positive number.
    """

    def __init__(self, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise PipelineError(f"max_fps must be a positive number of frames per second, found {fps}")
        self.period_ns = 1e9 / fps
        self._due_ns: float | None = None

    def restart(self) -> None:
        """A stream begins: its first frame passes, whatever its time stamp."""
        self._due_ns = None

    def passes(self, timestamp_ns: int) -> bool:
        """Whether a frame passes.

        Args:
            timestamp_ns: start of its exposure.
        """
        due, period = self._due_ns, self.period_ns
        # A hundredth of a period early is on time: periods of sensors are rounded to their lines.
        early = period / 100
        # A due time further away than a period means that time stamps began anew, as those of another recording do.
        if due is None or due - timestamp_ns > period + 2 * early:
            self._due_ns = timestamp_ns + period
            return True
        late = timestamp_ns - due + early
        if late < 0:
            return False
        self._due_ns = due + period * (1 + late // period)
        return True
