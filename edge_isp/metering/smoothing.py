"""A gain that is estimated in every frame of a stream, smoothed over the frames."""

from __future__ import annotations

import math

# How much of the difference to a frame's gain, in stops, is made up for at once; more where it is large. What is too
# little to be seen is not followed, so that tables are not made anew for it.
_FAST, _SLOW = 0.5, 0.1
_FAR_STOPS, _STILL_STOPS = 1.0, 0.1


class SmoothedGain:
    """A gain in stops that follows the frames' estimates; 1 before the first one."""

    def __init__(self) -> None:
        self._stops: float | None = None
        self._shown: float | None = None

    def adjust(self, gain: float | None) -> float:
        """Moves the gain towards a frame's estimate.

        Args:
            gain: the estimate; None where the frame does not show one, so that nothing changes.

        Returns:
            The smoothed gain.
        """
        if gain is not None:
            stops = math.log2(gain)
            if self._stops is None:
                self._stops = stops
            step = stops - self._stops
            self._stops += (_FAST if abs(step) > _FAR_STOPS else _SLOW) * step
            if self._shown is None or abs(self._stops - self._shown) > _STILL_STOPS:
                self._shown = self._stops
        return float(2 ** (self._shown or 0.0))
