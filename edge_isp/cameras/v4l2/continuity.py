"""Which frames were lost, from a driver's sequence numbers and its time stamps."""

from __future__ import annotations

from collections import deque

from edge_isp.frame import FrameStatus

_WINDOW = 24  # intervals that the frame period is measured over
_ENOUGH = 8
# How far the intervals of the faster half may be apart for the time stamps to be believed.
_REGULAR = 1.2

_WRAP = 2**32


class Continuity:
    """Numbers frames so that every lost one is missing in the numbers.

    Drivers' sequence numbers are no proof: some count the frames that they delivered, not those of the sensor, some do
    not count at all. So the time from frame to frame, over the period that is measured as the median of the last 24
    intervals, is looked at too, and the greater of the two steps counts. Time stamps that are irregular by themselves
    (stamped on arrival) are not used.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None  # the driver's number, the time, our number
        self._time_is_good = True
        self._intervals_ns: deque[int] = deque(maxlen=_WINDOW)

    def restart_period(self) -> None:
        """Forgets the frame period: to be called when the frame rate is changed."""
        self._intervals_ns.clear()

    def next(self, driver_sequence: int, timestamp_ns: int) -> tuple[int, FrameStatus]:
        """The number of a frame, and `FrameStatus.GAP` or `BAD_TIMESTAMP` where they apply.

        Args:
            driver_sequence: 32 bits, which may overflow.
            timestamp_ns: of the driver, always of the same moment of a frame.
        """
        if self._last is None:
            self._last = driver_sequence, timestamp_ns, driver_sequence
            return driver_sequence, FrameStatus.OK
        last_driver, last_ns, last = self._last
        counted = (driver_sequence - last_driver) % _WRAP
        if not 0 < counted < _WRAP // 2:
            counted = 1  # a driver that does not count, or began anew
        elapsed_ns = timestamp_ns - last_ns
        step, status = counted, FrameStatus.OK
        if elapsed_ns <= 0:
            status |= FrameStatus.BAD_TIMESTAMP
        elif self._time_is_good:
            period_ns = self._period_ns()
            if period_ns is not None:
                step = max(step, round(elapsed_ns / period_ns))
            # By the driver's count, so that a camera that has become slower is not taken for one that loses frames.
            self._intervals_ns.append(elapsed_ns // counted)
        self._time_is_good = elapsed_ns > 0
        if step > 1:
            status |= FrameStatus.GAP
        self._last = driver_sequence, timestamp_ns, last + step
        return last + step, status

    def _period_ns(self) -> int | None:
        if len(self._intervals_ns) < _ENOUGH:
            return None
        ordered = sorted(self._intervals_ns)
        fast, median = ordered[len(ordered) // 10], ordered[len(ordered) // 2]
        return median if median <= _REGULAR * fast else None
