"""Time stamps of a video from those of the sensor."""

from __future__ import annotations

from edge_isp.errors import SinkError

# Ticks per second of MPEG's clock; one is 11 microseconds.
TICKS_PER_S = 90_000

# A longer gap is taken for a clock that was set: a camera that came back, a damaged time stamp.
_LONGEST_GAP_NS = 3600 * 10**9
_FIRST_PERIOD_NS = 33_333_333


class Timeline:
    """Ticks since the first frame, always rising.

    The difference of two frames is that of their sensor's time stamps. Where the sensor's clock goes back, stands
    still or jumps by more than an hour, the frame follows the one before by the last frame period, and time goes on
    from there.

    Attributes:
        last_ticks: the time of the last frame.
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._offset_ns = 0
        self._period_ns = _FIRST_PERIOD_NS
        self.last_ticks = 0

    def ticks(self, timestamp_ns: int) -> int:
        """The time of the next frame, in ticks.

        Args:
            timestamp_ns: of the frame.
        """
        if self._last_ns is None:
            self._offset_ns = self._last_ns = timestamp_ns
            return 0
        if 0 < timestamp_ns - self._last_ns <= _LONGEST_GAP_NS:
            self._period_ns = timestamp_ns - self._last_ns
        else:
            self._offset_ns += timestamp_ns - self._last_ns - self._period_ns
        self._last_ns = timestamp_ns
        # Two frames within one tick are one tick apart.
        self.last_ticks = max(self.last_ticks + 1, round((timestamp_ns - self._offset_ns) * TICKS_PER_S / 10**9))
        return self.last_ticks


def check_size(name: str, width: int, height: int) -> None:
    """Refuses a picture that 4:2:0 video cannot hold.

    Args:
        name: of the sink, for the error.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Raises:
        SinkError: a size is odd.
    """
    if width % 2 or height % 2:
        raise SinkError(f"{name}: video needs pictures of even width and height, found {width}x{height}")
