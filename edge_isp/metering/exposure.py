"""Auto-exposure and auto white balance from the RAW frames themselves, for boards with no image signal processor.

Both look at the frame, not at what was asked of the camera: a frame says with which exposure and gain it was taken, so
it tells how much light the scene has whatever the delay of the sensor's registers is. What follows from it is asked for
at once; nothing is added up from frame to frame, so nothing can oscillate.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import SensorProfile, load_profile, shipped_profiles
from edge_isp.cameras.base import Camera, ControlLimits
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.kernels.statistics import statistics

_log = logging.getLogger(__name__)

# The mean of green that is aimed at: 18 % grey. Green alone, so that exposure does not depend on white balance.
TARGET = 0.18

# Less light than this cannot be told from noise: one step brightens by 7.5 stops at most.
_DARKEST = 0.001

# A step of the scene's light of more than this many stops is followed at once, less is approached by half a frame,
# so that flicker and noise do not come through. Less than the smallest step is not asked for.
_STEP_STOPS = 0.25
_SMALLEST_STEP_STOPS = 0.01

# Where frames do not say with which exposure they were taken: so many frames after asking for one, they are taken
# with it. Sensors need 2, and one more is on its way.
_LONGEST_DELAY = 3

# A frame is looked at in zones, so many down and across, and in each at about so many rows of cells.
_ZONES = (3, 4)
_ROWS_IN_ZONE = 16
# A zone with more of its codes clipped, or a darker mean, tells no colour.
_MOST_CLIPPED = 0.5
_DARK = 0.005
# A zone whose colour is further than this from that of grey, in natural logarithms of red and blue over green, is
# taken for a coloured surface and has no say.
_GREY_RADIUS = 0.35
# How much of the way to what one frame says is gone at once: fast where it is far, slowly where it may be noise.
_FAST, _SLOW = 0.5, 0.2
_FAR_MIRED, _FAR_LOG_GAIN = 15.0, 0.1
# Of a sensor without an AWB curve.
_GAIN_RANGE = (0.5, 4.0)


@dataclass(frozen=True, slots=True)
class Light:
    """What a frame says about the light.

    Attributes:
        green: mean of green, linear, 0 to 1; what is clipped counts as white level.
        colours: float64 (zones, 2): natural logarithms of red over green and blue over green of the zones that are
            neither dark nor clipped.
    """

    green: float
    colours: NDArray[np.float64]


def measure(frame: RawFrame) -> Light:
    """The light of a frame, from the statistics of its zones.

    Raises:
        ValueError: the frame's bytes are not what its format says.
    """
    layout, white = frame.format.layout, frame.white_level
    zones_high, zones_wide = min(_ZONES[0], layout.height // 2), min(_ZONES[1], layout.width // 2)
    cells_high, cells_wide = layout.height // 2 // zones_high, layout.width // 2 // zones_wide
    black = np.array(frame.black_level)
    greens, colours = [], []
    for zone in range(zones_high * zones_wide):
        row, column = divmod(zone, zones_wide)
        seen = statistics(
            frame.data,
            replace(
                layout,
                width=2 * cells_wide,
                height=2 * cells_high,
                left=2 * cells_wide * column,
                top=2 * cells_high * row,
            ),
            step=max(1, cells_high // _ROWS_IN_ZONE),
            black_level=frame.black_level,
            white_level=white,
        )
        light = (np.array(seen.means) - black) / (white - black)
        greens.append((light[1] + light[2]) / 2)
        if max(seen.clipped) < _MOST_CLIPPED and light.min() > _DARK:
            red, blue = seen.grey_world_gains
            colours.append((-math.log(red), -math.log(blue)))
    return Light(float(np.mean(greens)), np.array(colours).reshape(-1, 2))


class AutoExposure:
    """Sets a camera's exposure and gain, and gives its frames white balance, from what the frames show.

    Exposure aims at a mean of green of 18 %. It is made of exposure time first, up to the frame period and never
    beyond, then of analogue gain. White balance is the point of the sensor's AWB curve where most of the frame is
    grey; of a sensor without a curve, the median of the frame. Frames that bring their camera's colour gains keep them.

    Args:
        profile: of the sensor; by default the shipped one of the sensor that the frame names, if there is one.

    Attributes:
        exposure_locked: leaves exposure and gain as they are. Set it at any time.
        white_balance_locked: leaves the white balance as it is. Set it at any time.
    """

    def __init__(self, *, profile: SensorProfile | None = None) -> None:
        self.exposure_locked = False
        self.white_balance_locked = False
        self._profile = profile
        self._exposure = _ExposureLoop()
        self._white_balance: dict[str | None, _WhiteBalanceLoop] = {}  # by sensor

    def adjust(self, frame: RawFrame, camera: Camera) -> RawFrame:
        """Looks at a frame and asks the camera for what follows from it.

        Returns:
            The same frame, with the loop's white balance where it had none.

        Raises:
            CameraError: the camera's exposure and gain cannot be set, and `exposure_locked` is false.
        """
        balance = self._white_balance_of(frame) if frame.colour_gains is None else None
        if self.exposure_locked:
            self._exposure = _ExposureLoop()  # what it knows may be wrong when it is unlocked
        follows_colour = balance is not None and not self.white_balance_locked
        if FrameStatus.CORRUPTED not in frame.status and (follows_colour or not self.exposure_locked):
            light = measure(frame)
            if not self.exposure_locked:
                self._exposure.adjust(light.green, frame, camera)
            if balance is not None and follows_colour:
                balance.adjust(light.colours)
        if balance is None or balance.gains is None:
            return frame
        temperature_k = frame.colour_temperature_k or balance.colour_temperature_k
        return replace(frame, colour_gains=balance.gains, colour_temperature_k=temperature_k)

    def _white_balance_of(self, frame: RawFrame) -> _WhiteBalanceLoop:
        if frame.sensor not in self._white_balance:
            profile = self._profile
            if profile is None and frame.sensor in shipped_profiles():
                profile = load_profile(frame.sensor)
            if profile is None or not profile.awb_curve:
                _log.warning(
                    "%s: no AWB curve of sensor %s is known; white balance takes the frame's median for grey",
                    frame.source,
                    f"'{frame.sensor}'" if frame.sensor else "(not named)",
                )
            self._white_balance[frame.sensor] = _WhiteBalanceLoop(profile)
        return self._white_balance[frame.sensor]


class _ExposureLoop:
    """Exposure times gain, in nanoseconds, so that the mean of green becomes TARGET."""

    def __init__(self) -> None:
        self._total_ns: float | None = None  # what the scene needs, smoothed
        self._asked: tuple[int, float] | None = None
        self._asked_at = 0  # the sequence number of the frame after which it was asked for

    def adjust(self, green: float, frame: RawFrame, camera: Camera) -> None:
        """Asks the camera for the exposure that a frame of this mean of green calls for."""
        limits = camera.limits
        taken_with = self._taken_with(frame)
        if taken_with is None:
            if self._asked is None:  # nothing is known: begin in the middle
                self._ask(limits.exposure_ns[1] / 2 * limits.analogue_gain[0], limits, frame, camera)
            return
        needed_ns = taken_with * TARGET / max(green, _DARKEST)
        # Beyond what the camera can do there is nothing to remember.
        least_ns, most_ns = (e * g for e, g in zip(limits.exposure_ns, limits.analogue_gain, strict=True))
        needed_ns = min(max(needed_ns, least_ns), most_ns)
        if self._total_ns is None or abs(math.log2(needed_ns / self._total_ns)) > _STEP_STOPS:
            self._total_ns = needed_ns
        else:
            self._total_ns = math.sqrt(self._total_ns * needed_ns)
        self._ask(self._total_ns, limits, frame, camera)

    def _taken_with(self, frame: RawFrame) -> float | None:
        """Exposure times gain of a frame: what it says, else what was asked for long enough ago, else None."""
        if frame.exposure_ns is not None and frame.analogue_gain is not None:
            return frame.exposure_ns * frame.analogue_gain
        if self._asked is None or 0 <= frame.sequence - self._asked_at < _LONGEST_DELAY:
            return None
        return math.prod(self._asked)

    def _ask(self, total_ns: float, limits: ControlLimits, frame: RawFrame, camera: Camera) -> None:
        (shortest_ns, longest_ns), (least, greatest) = limits.exposure_ns, limits.analogue_gain
        exposure_ns = round(min(max(total_ns / least, shortest_ns), longest_ns))
        gain = min(max(total_ns / exposure_ns, least), greatest)
        if self._asked is not None:
            step = abs(math.log2(exposure_ns * gain / math.prod(self._asked)))
            if step < _SMALLEST_STEP_STOPS and self._asked[0] <= longest_ns:
                return
        camera.control(exposure_ns=exposure_ns, analogue_gain=gain)
        self._asked, self._asked_at = (exposure_ns, gain), frame.sequence


class _WhiteBalanceLoop:
    """White-balance gains of one sensor.

    On an AWB curve: of all colour temperatures, the one whose grey is nearest to most zones, with a cost that grows no
    further beyond `_GREY_RADIUS` (after libcamera's rpi.awb, without its priors of the light).
    """

    def __init__(self, profile: SensorProfile | None) -> None:
        self.gains: tuple[float, float] | None = None
        self.colour_temperature_k: float | None = None
        self._state: NDArray[np.float64] | None = None
        self._profile = profile if profile is not None and profile.awb_curve else None
        if self._profile is not None:
            ends = (self._profile.awb_curve[0], self._profile.awb_curve[-1])
            # Evenly in the inverse of the temperature, as the eye sees it.
            low, high = (1e6 / point.colour_temperature_k for point in reversed(ends))
            self._mireds = np.linspace(low, high, max(2, math.ceil(high - low) // 3))
            gains = [self._profile.colour_gains(1e6 / mired) for mired in self._mireds]
            self._greys = -np.log(np.array(gains))

    def adjust(self, colours: NDArray[np.float64]) -> None:
        """Goes towards what the zones (n, 2) of a frame say; none say nothing."""
        if not len(colours):
            return
        if self._profile is None:
            state = self._smoothed(np.clip(-np.median(colours, 0), *np.log(_GAIN_RANGE)), _FAR_LOG_GAIN)
            red, blue = (float(gain) for gain in np.exp(state))
            self.gains = (red, blue)
        else:
            mired = float(self._smoothed(np.array(self._mired(colours)), _FAR_MIRED))
            self.colour_temperature_k = 1e6 / mired
            self.gains = self._profile.colour_gains(self.colour_temperature_k)

    def _smoothed(self, found: NDArray[np.float64], far: float) -> NDArray[np.float64]:
        previous = found if self._state is None else self._state
        step = found - previous
        self._state = previous + (_FAST if np.abs(step).max() > far else _SLOW) * step
        return self._state

    def _mired(self, colours: NDArray[np.float64]) -> float:
        distances = ((colours[:, None] - self._greys) ** 2).sum(2)
        costs = np.minimum(distances, _GREY_RADIUS**2).sum(0)
        return float(self._mireds[int(np.argmin(costs))])
