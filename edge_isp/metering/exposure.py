"""Auto-exposure and auto white balance from the RAW frames themselves, for boards with no image signal processor.

Both depend on the frame, not on what was asked of the camera: a frame says with which exposure and gain it was taken,
so it shows how much light the scene has, whatever the delay of the sensor's registers is. The settings that follow from
it are asked for at once; nothing is summed up from frame to frame, so nothing can oscillate.
"""

from __future__ import annotations

import math

from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.base import Adjustable, ControlLimits, Controls
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.metering.light import measure
from edge_isp.metering.meter import FrameMeter

# The target of the mean of green: 18 % grey. Green alone, so that exposure does not depend on white balance.
TARGET = 0.18

# Less light than this cannot be told from noise: one step brightens by 7.5 stops at most.
_DARKEST = 0.001

# A step of the scene's light of more than this many stops is followed at once; a smaller one is halved with each
# frame, so that flicker and noise do not come through. Less than the smallest step is not asked for.
_STEP_STOPS = 0.25
_SMALLEST_STEP_STOPS = 0.01

# Where frames do not say with which exposure they were taken, a new exposure counts as in effect this many frames
# after it was asked for. Sensors need 2, and one more frame is being transferred.
_LONGEST_DELAY = 3


class AutoExposure:
    """Sets a camera's exposure and gain, and gives its frames white balance, from what the frames show.

    The target of the exposure is a mean of green of 18 %, reached by exposure time first, up to the frame period and
    never beyond it, and then by analogue gain. White balance is that of `FrameMeter`, which pipelines use in any case:
    frames with colour gains of the camera's own keep them.

    Args:
        profile: the sensor's; None is the shipped profile of the sensor that the frame names, if there is one.

    Attributes:
        exposure_locked: while true, exposure and gain stay as they are. May be set at any time.
        white_balance_locked: while true, the white balance stays as it is. May be set at any time.
    """

    def __init__(self, *, profile: SensorProfile | None = None) -> None:
        self.exposure_locked = False
        self.white_balance_locked = False
        self._exposure = _ExposureLoop()
        self._meter = FrameMeter(profile)

    def adjust(self, frame: RawFrame, camera: Adjustable) -> RawFrame:
        """Measures a frame and asks the camera for the settings that follow from it.

        Args:
            frame: the camera's newest.
            camera: that took it.

        Returns:
            The same frame, with what it lacks of white balance and noise; a damaged frame as it is.

        Raises:
            CameraError: the camera's exposure and gain cannot be set, and `exposure_locked` is false.
        """
        if self.exposure_locked:
            self._exposure = _ExposureLoop()  # its state may be wrong when it is unlocked
        if FrameStatus.CORRUPTED in frame.status:
            return frame
        light = None
        if not self.exposure_locked:
            light = measure(frame)
            self._exposure.adjust(light.green, frame, camera)
        return self._meter.complete(frame, light=light, locked=self.white_balance_locked)


class _ExposureLoop:
    """Exposure times gain, in nanoseconds, so that the mean of green becomes TARGET."""

    def __init__(self) -> None:
        self._total_ns: float | None = None  # what the scene needs, smoothed
        self._asked: tuple[int, float] | None = None
        self._asked_at = 0  # the sequence number of the frame after which it was asked for

    def adjust(self, green: float, frame: RawFrame, camera: Adjustable) -> None:
        """Asks the camera for the exposure that a frame calls for.

        Args:
            green: the frame's mean of green, linear, 0 to 1.
            frame: that was measured.
            camera: that took it.
        """
        limits = camera.limits
        taken_with = self._taken_with(frame)
        if taken_with is None:
            if self._asked is None:  # nothing is known: start in the middle
                self._ask(limits.exposure_ns[1] / 2 * limits.analogue_gain[0], limits, frame, camera)
            return
        needed_ns = taken_with * TARGET / max(green, _DARKEST)
        # There is no point in remembering more than the camera can do.
        least_ns, most_ns = (e * g for e, g in zip(limits.exposure_ns, limits.analogue_gain, strict=True))
        needed_ns = min(max(needed_ns, least_ns), most_ns)
        if self._total_ns is None or abs(math.log2(needed_ns / self._total_ns)) > _STEP_STOPS:
            self._total_ns = needed_ns
        else:
            self._total_ns = math.sqrt(self._total_ns * needed_ns)
        self._ask(self._total_ns, limits, frame, camera)

    def _taken_with(self, frame: RawFrame) -> float | None:
        """Exposure in nanoseconds times gain of a frame: its own values, or those that were asked for long enough ago,
        or None."""
        if frame.exposure_ns is not None and frame.analogue_gain is not None:
            return frame.exposure_ns * frame.analogue_gain
        if self._asked is None or 0 <= frame.sequence - self._asked_at < _LONGEST_DELAY:
            return None
        return math.prod(self._asked)

    def _ask(self, total_ns: float, limits: ControlLimits, frame: RawFrame, camera: Adjustable) -> None:
        (shortest_ns, longest_ns), (least, greatest) = limits.exposure_ns, limits.analogue_gain
        exposure_ns = round(min(max(total_ns / least, shortest_ns), longest_ns))
        gain = min(max(total_ns / exposure_ns, least), greatest)
        if self._asked is not None:
            step = abs(math.log2(exposure_ns * gain / math.prod(self._asked)))
            if step < _SMALLEST_STEP_STOPS and self._asked[0] <= longest_ns:
                return
        camera.control(Controls(exposure_ns=exposure_ns, analogue_gain=gain))
        self._asked, self._asked_at = (exposure_ns, gain), frame.sequence
