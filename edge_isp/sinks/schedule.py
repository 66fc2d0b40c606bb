"""Which results of a stream a sink takes: each Nth, one per interval, some hours of the day."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime

from edge_isp.errors import SinkError, shortened
from edge_isp.rate_limit import RateLimiter

_DAILY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


class Schedule:
    """Chooses results; all conditions must hold.

    Args:
        every: takes the first result and every Nth one after it.
        interval_s: seconds between two results that are taken, by the frames' time stamps; 0 takes all. The times are
            those of a fixed grid, so that an hour of one picture per minute has sixty, however late each frame is.
        daily: hours of the day, local time, as "HH:MM-HH:MM"; a second time that is earlier is that of the next day.
            None is the whole day.
        now: the present local time.

    Raises:
        SinkError: a value is out of range.
    """

    def __init__(
        self,
        every: int = 1,
        interval_s: float = 0.0,
        daily: str | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        if every < 1:
            raise SinkError(f"every must be at least 1, found {every}")
        if not 0 <= interval_s < math.inf:
            raise SinkError(f"interval_s must be at least 0, found {interval_s:g}")
        # An interval below a nanosecond is none.
        self._every, self._limiter = every, RateLimiter(1 / interval_s) if interval_s >= 1e-9 else None
        self._minutes = None if daily is None else _minutes(daily)
        self._now = now
        self._seen = 0

    def takes(self, timestamp_ns: int) -> bool:
        """Whether the sink takes a result; to be asked once for each.

        Args:
            timestamp_ns: of its frame.
        """
        nth, self._seen = self._seen % self._every == 0, self._seen + 1
        if not nth or not self._is_time_of_day():
            return False
        return self._limiter is None or self._limiter.passes(timestamp_ns)

    def _is_time_of_day(self) -> bool:
        if self._minutes is None:
            return True
        begin, end = self._minutes
        now = self._now()
        minute = 60 * now.hour + now.minute
        return begin <= minute < end if begin < end else not end <= minute < begin


def _minutes(daily: str) -> tuple[int, int]:
    """Begin and end in minutes of the day."""
    match = _DAILY.fullmatch(daily)
    if match is None:
        raise SinkError(f"daily must be HH:MM-HH:MM, such as 06:30-20:00; found '{shortened(daily)}'")
    hours = [int(part) for part in match.groups()]
    begin, end = 60 * hours[0] + hours[1], 60 * hours[2] + hours[3]
    if begin == end:
        raise SinkError(f"daily must have two different times, found '{daily}'")
    return begin, end
