"""The clock of a pipeline, which can be replaced."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Gives the time and waits; tests and simulations bring their own."""

    def now_ns(self) -> int:
        """Nanoseconds on the clock of `RawFrame.timestamp_ns`."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits for an event.

        Args:
            event: to wait for.
            seconds: to wait at most.

        Returns:
            Whether it is set.
        """
        ...


class SystemClock:
    """CLOCK_MONOTONIC, the clock of sensors' time stamps."""

    def now_ns(self) -> int:
        """See `Clock.now_ns`."""
        return time.monotonic_ns()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """See `Clock.wait`."""
        return event.wait(seconds)
