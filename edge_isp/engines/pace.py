"""How fast frames come, and so how long one may be waited for before the CPU runs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median

_KEPT = 9
# Of the time between two frames. With the inference itself, and the CPU's after it, a stream then has no gap of three.
_PERIODS = 1.5
# Where frames come faster than this, or nothing is known yet, a scheduler's whims are longer than their period.
_SHORTEST_PERIOD_S, _LEAST_S = 0.01, 0.05


class Pace:
    """The time from one frame to the next.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_s: float | None = None
        self._periods_s: deque[float] = deque(maxlen=_KEPT)

    def frame(self) -> None:
        """A frame is here."""
        now_s = self._clock()
        if self._last_s is not None:
            self._periods_s.append(now_s - self._last_s)
        self._last_s = now_s

    def patience_s(self, usual_s: float) -> float:
        """Seconds to wait for an inference before the stream must go on.

        Args:
            usual_s: seconds that an inference takes.
        """
        period_s = median(self._periods_s) if self._periods_s else 0.0
        return usual_s + (_PERIODS * period_s if period_s >= _SHORTEST_PERIOD_S else _LEAST_S)
