"""Which frames were lost or are stale, from a driver's sequence numbers and its time stamps."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from edge_isp.frame import FrameStatus

_log = logging.getLogger(__name__)

_WINDOW = 24  # intervals that the frame period is measured over
_ENOUGH = 8
# How far the intervals of the faster half may be apart for the time stamps to be believed.
_REGULAR = 1.2
# So many intervals in succession that agree with each other, and not with the period, are a new period.
_NEW_PERIOD = 4
_AGREE = 0.1

_WRAP = 2**32
# No driver skips more numbers at once, and no sensor makes more frames in a second.
_LARGEST_STEP = 1_000_000
_MOST_FPS, _UNCHECKED_STEP = 10_000, 1_000
# So many mistakes, with fewer than `_FORGIVEN` good numbers from one to the next, prove a counter wrong.
_MISTAKES = 3
_FORGIVEN = 100
# A loss that the numbers do not show leaves a gap of a few whole periods in a rhythm that goes on.
_LONGEST_ISOLATED = 10
# An interval of less than half a period follows a stamp that was late.
_CAUGHT_UP = 0.5
_ISOLATED = (1, 1, 0, 1, 1)  # in periods; 0 stands for the gap


class Continuity:
    """Numbers frames so that every lost one is missing in the numbers.

    A driver's sequence numbers are believed: a pause without a missing number is a pause, of a trigger, a longer
    exposure or another frame rate. The clock decides only where the numbers have proved themselves wrong:

    - A number that stays, goes back or jumps further than a sensor can count says nothing about this frame. Three such
      numbers in short succession say that the driver does not count.
    - A driver may count the frames that it delivered instead of those of the sensor. Then lost ones leave gaps of two
      or more whole periods in an otherwise regular rhythm. Three of these prove it; a single one may be chance, and
      where the stamps catch up with the rhythm, they were late and no frame is missing.

    What the clock says is the time from frame to frame over the period, which is the median of the last 24 intervals.
    Time stamps that are irregular by themselves (stamped on arrival) are not used. A counter that shows a loss, of
    which the clock says the same, is believed again.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None  # the driver's number, the time, our number
        self._expected: int | None = None  # the driver's number instead of one that cannot be
        self._time_is_good = True
        self._intervals_ns: deque[int] = deque(maxlen=_WINDOW)
        self._counter_is_wrong = False
        self._mistakes = self._good_numbers = 0
        self._rhythm: deque[int] = deque(maxlen=len(_ISOLATED))  # the last intervals, in periods
        self._isolated = 0  # gaps in a regular rhythm that the numbers do not show

    def restart_period(self, period_ns: int) -> None:
        """Forgets the frame period: to be called when the frame rate is changed. After a small change, as of
        `PhaseLoop`, which makes one with every frame, the measured period stays good enough to find lost frames.

        Args:
            period_ns: the new one.
        """
        measured = sorted(self._intervals_ns)
        if measured and abs(measured[len(measured) // 2] - period_ns) <= _AGREE * period_ns:
            return
        self._intervals_ns.clear()
        self._rhythm.clear()

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
        elapsed_ns = timestamp_ns - last_ns
        status = FrameStatus.OK if elapsed_ns > 0 else FrameStatus.BAD_TIMESTAMP
        time_is_good = elapsed_ns > 0 and self._time_is_good
        self._time_is_good = elapsed_ns > 0
        # After a number that cannot be, the driver goes on from there, or from where it would be without.
        steps = [(driver_sequence - before) % _WRAP for before in (last_driver, self._expected) if before is not None]
        counted = min((step for step in steps if _is_a_step(step, elapsed_ns if time_is_good else None)), default=None)
        by_clock = self._by_clock(elapsed_ns) if time_is_good else None
        step = self._decided(counted, by_clock)
        if time_is_good:
            self._note_interval(elapsed_ns // (counted or 1))
        if step > 1:
            status |= FrameStatus.GAP
        self._expected = (last_driver + step) % _WRAP if counted is None else None
        self._last = driver_sequence, timestamp_ns, last + step
        return last + step, status

    def _decided(self, counted: int | None, by_clock: float | None) -> int:
        """The step to a frame, from the driver's step (None for one that cannot be) and the time in periods."""
        whole = 1 if by_clock is None else min(max(1, round(by_clock)), _LARGEST_STEP)
        if counted is None:
            self._good_numbers = 0
            self._mistakes += 1
            self._distrust(self._mistakes >= _MISTAKES, "stay, go back or jump")
            return whole
        self._good_numbers += 1
        if self._good_numbers >= _FORGIVEN:
            self._mistakes = 0
        if counted > 1:
            self._isolated = 0
            if by_clock is not None and whole == counted:
                self._counter_is_wrong, self._mistakes = False, 0
        else:
            self._look_for_a_gap(by_clock)
        return max(counted, whole) if self._counter_is_wrong else counted

    def _look_for_a_gap(self, by_clock: float | None) -> None:
        """Looks for a gap of whole periods in a rhythm, at a frame with the number after the last one."""
        if by_clock is not None and by_clock < _CAUGHT_UP:
            # The stamps before were late, and this one is on time again: no frame is missing where they left gaps.
            self._isolated = 0
            self._rhythm.clear()
            self._counter_is_wrong = False
            return
        if by_clock is None or abs(by_clock - round(by_clock)) > _AGREE:
            self._rhythm.clear()
            return
        self._rhythm.append(round(by_clock))
        if len(self._rhythm) < len(_ISOLATED):
            return
        gap = self._rhythm[_ISOLATED.index(0)]
        if 1 < gap <= _LONGEST_ISOLATED and all(
            found == expected for found, expected in zip(self._rhythm, _ISOLATED, strict=True) if expected
        ):
            self._isolated += 1
            self._distrust(self._isolated >= _MISTAKES, "leave lost frames out")

    def _distrust(self, proved: bool, what: str) -> None:
        if proved and not self._counter_is_wrong:
            self._counter_is_wrong = True
            _log.warning("the driver's sequence numbers %s: lost frames are counted by the time stamps", what)

    def _by_clock(self, elapsed_ns: int) -> float | None:
        """An interval in periods, where the period is known."""
        if len(self._intervals_ns) < _ENOUGH:
            return None
        ordered = sorted(self._intervals_ns)
        fast, median = ordered[len(ordered) // 10], ordered[len(ordered) // 2]
        return elapsed_ns / median if median <= _REGULAR * fast else None

    def _note_interval(self, interval_ns: int) -> None:
        """Adds an interval by the driver's count, so that a camera that has become slower is not taken for one that
        loses frames; a new rhythm takes the place of the old one."""
        self._intervals_ns.append(max(1, interval_ns))
        if len(self._intervals_ns) < _ENOUGH:
            return
        latest, median_ns = (
            list(self._intervals_ns)[-_NEW_PERIOD:],
            sorted(self._intervals_ns)[len(self._intervals_ns) // 2],
        )
        agree = max(latest) - min(latest) <= _AGREE * min(latest)
        if agree and abs(median_ns - latest[0]) > _AGREE * latest[0]:
            self._intervals_ns.clear()
            self._intervals_ns.extend(latest)


class Staleness:
    """Finds frames that waited long in the driver's buffers: what they show is past.

    After a process was suspended, or did not read for long, the buffers hold frames of that time. Drivers stamp
    different moments of a frame, on clocks that may have an offset; so a frame's delay is compared with the shortest
    one that the stream has had.

    Args:
        clock: now, in nanoseconds.
    """

    _LONGEST_NS = 1_000_000_000

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._shortest_ns: int | None = None

    def next(self, timestamp_ns: int) -> FrameStatus:
        """`FrameStatus.STALE` for a frame that waited for more than a second, else `OK`.

        Args:
            timestamp_ns: the driver's, always of the same moment of a frame.
        """
        delay_ns = self._clock() - timestamp_ns
        self._shortest_ns = delay_ns if self._shortest_ns is None else min(delay_ns, self._shortest_ns)
        return FrameStatus.STALE if delay_ns > self._shortest_ns + self._LONGEST_NS else FrameStatus.OK


def _is_a_step(counted: int, elapsed_ns: int | None) -> bool:
    """Whether a driver's number can be that much further than the one before; None stands for an unknown time."""
    if not 0 < counted < _LARGEST_STEP:
        return False
    return elapsed_ns is None or counted <= _UNCHECKED_STEP + elapsed_ns * _MOST_FPS // 10**9
