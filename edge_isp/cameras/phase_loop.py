"""Software synchronisation: a camera's frame rate is changed a little, until it exposes together with another one."""

from __future__ import annotations

import math

from edge_isp.cameras.base import Adjustable, Controls
from edge_isp.errors import CameraError

# Of a second-order loop that works once per frame of the follower: parts of the phase error that go into the next
# period, and into the estimate of how far the two clocks are apart.
_PROPORTIONAL, _INTEGRAL = 0.1, 0.005
# Greatest change of the frame period: more may change exposure, or be refused.
_GREATEST_CHANGE = 0.01


class PhaseLoop:
    """Keeps a follower's exposures together with a leader's: for cameras without a synchronisation of their own that
    can change their frame rate while they run. Not safe to use from several threads.

    Args:
        follower: its frame rate is set.
        fps: nominal frame rate of both.

    Attributes:
        error_ns: by how much the follower's last exposure began after the leader's nearest one; negative where it began
            earlier; None before both have delivered.

    Raises:
        CameraError: `fps` is not a positive number.
    """

    def __init__(self, follower: Adjustable, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise CameraError(f"fps must be a positive number, found {fps}")
        self._follower, self._period_ns = follower, 1e9 / fps
        self._leader_ns: int | None = None
        self._drift = 0.0  # estimated, as a part of the period
        self.error_ns: float | None = None

    def leader(self, timestamp_ns: int) -> None:
        """The leader has delivered a frame.

        Args:
            timestamp_ns: start of its exposure.
        """
        self._leader_ns = timestamp_ns

    def follower(self, timestamp_ns: int) -> None:
        """The follower has delivered a frame; sets its frame rate.

        Args:
            timestamp_ns: start of its exposure.

        Raises:
            CameraError: the follower's frame rate cannot be set.
        """
        if self._leader_ns is None:
            return
        period = self._period_ns
        error = (timestamp_ns - self._leader_ns + period / 2) % period - period / 2
        self.error_ns = error
        part = error / period
        self._drift = _clamped(self._drift + _INTEGRAL * part)
        change = _clamped(_PROPORTIONAL * part + self._drift)
        self._follower.control(Controls(fps=1e9 / (period * (1 - change))))


def _clamped(change: float) -> float:
    return min(max(change, -_GREATEST_CHANGE), _GREATEST_CHANGE)
