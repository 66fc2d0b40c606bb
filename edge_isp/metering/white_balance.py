"""White-balance gains from RAW statistics, by every method there is.

Grey world takes the mean of a single frame for grey. The loop takes the median of a frame's zones for grey or, for a
sensor whose AWB curve is known, the point of the curve where most of the frame is grey, and follows it over time.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import UNKNOWN_COLOUR_TEMPERATURE_K
from edge_isp.calibration.profile import SensorProfile
from edge_isp.frame import RawFrame
from edge_isp.kernels.statistics import statistics

# A zone whose colour is further than this from that of grey, in natural logarithms of red and blue over green, is
# taken for a coloured surface and ignored.
_GREY_RADIUS = 0.35
# How much of the difference to a frame's value is made up for at once: more where the difference is large, less where
# it may be noise.
_FAST, _SLOW = 0.5, 0.2
_FAR_MIRED, _FAR_LOG_GAIN = 15.0, 0.1
# Gains of a sensor without an AWB curve.
_GAIN_RANGE = (0.5, 4.0)


def grey_world(frame: RawFrame) -> tuple[float, float]:
    """The gains (red, blue; green is 1) that make the mean of a frame grey; (1, 1) for a frame without light.

    Args:
        frame: whose data is read.

    Raises:
        ValueError: the frame's bytes or levels do not fit its format.
    """
    return statistics(
        frame.data, frame.format.layout, black_level=frame.black_level, white_level=frame.white_level
    ).grey_world_gains


def with_gains(frame: RawFrame) -> RawFrame:
    """The frame with colour gains: as it is if it has some, otherwise with those of grey world.

    Grey world cannot tell the colour of the light from that of the scene, so that the frame's colour temperature, where
    the camera reports none, is daylight.

    Args:
        frame: whose data is read if it has no gains. The result shares its lease: either may be released, once.

    Raises:
        ValueError: the frame's bytes or levels do not fit its format.
    """
    if frame.colour_gains is not None:
        return frame
    temperature_k = frame.colour_temperature_k
    return replace(
        frame,
        colour_gains=grey_world(frame),
        colour_temperature_k=UNKNOWN_COLOUR_TEMPERATURE_K if temperature_k is None else temperature_k,
    )


class WhiteBalanceLoop:
    """White-balance gains of one sensor, followed over time.

    On an AWB curve: of all colour temperatures, the one whose grey is nearest to most zones, with a cost that stops
    growing beyond `_GREY_RADIUS` (after libcamera's rpi.awb, without its priors of the light). Without a curve: the
    median of the zones.

    Args:
        profile: the sensor's; None, or one without an AWB curve, takes the median.

    Attributes:
        gains: red and blue (green is 1); None before the first frame that shows a colour.
        colour_temperature_k: of the light; None before that, and without an AWB curve.
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
        """Moves the gains towards what a frame shows.

        Args:
            colours: float64 (zones, 2), see `metering.light.Light`; with no zones, nothing changes.
        """
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
