"""Automatic brightness: a factor on the light of recordings whose exposure is off, for cameras that cannot be set.

The mean of a frame's white-balanced light becomes 18 % grey, unless that would clip more than 1 % of any colour: then
the factor is the largest that does not. A frame that is too bright is darkened, but what its sensor has clipped stays
without detail.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import digital_gain, normalise_gains
from edge_isp.frame import RawFrame
from edge_isp.kernels.statistics import BINS, statistics
from edge_isp.metering.smoothing import SmoothedGain

# Of the mean of the light: 18 % grey.
_MID_GREY = 0.18
# This share of a colour's codes may be clipped.
_MOST_CLIPPED = 0.01
# Beyond four stops there is little but noise; a frame is darkened by two stops at most.
_RANGE = (0.25, 16.0)
# Of linear red, green and blue (ITU-R BT.709).
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
# Less light than this cannot be told from noise, nor from a black level that is a little off.
_DARKEST = 5e-4
# At most about this number of rows of cells is looked at.
_ROWS = 256


class BrightnessLoop:
    """The automatic brightness of a stream's frames, smoothed."""

    def __init__(self) -> None:
        self._gain = SmoothedGain()

    def adjust(self, frame: RawFrame) -> float:
        """The factor for a frame.

        Args:
            frame: with colour gains; its data is read.
        """
        return self._gain.adjust(estimate_brightness(frame))


def estimate_brightness(frame: RawFrame) -> float | None:
    """The factor on the light of a single frame, 1/4 to 16; None where it shows too little light to tell.

    Args:
        frame: with colour gains; its data is read.

    Raises:
        ValueError: the frame's bytes, levels or gains do not fit its format.
    """
    black, white, bit_depth = np.asarray(frame.black_level), frame.white_level, frame.format.bit_depth
    seen = statistics(
        frame.data,
        frame.format.layout,
        black_level=frame.black_level,
        white_level=white,
        step=max(1, frame.format.height // 2 // _ROWS),
    )
    if frame.colour_gains is None:
        raise ValueError("the frame must have colour gains, found none")
    red, green, blue = normalise_gains(frame.colour_gains[0], 1.0, frame.colour_gains[1])
    gains = np.array([red, green, green, blue]) * digital_gain(frame) / (white - black)
    light = np.clip((np.array(seen.means) - black) * gains, 0, None)
    mean = float(_LUMINANCE @ (light[0], (light[1] + light[2]) / 2, light[3]))
    if mean < _DARKEST:
        return None
    factor = _MID_GREY / mean
    if factor > 1:
        brightest = np.array([_quantile(histogram) for histogram in seen.histograms]) * 2**bit_depth
        highest = float(((brightest - black) * gains).max())
        factor = max(1.0, min(factor, 1 / max(highest, 1e-9)))
    return float(np.clip(factor, *_RANGE))


def _quantile(histogram: NDArray[np.int64]) -> float:
    """The code, as a part of the range, that all but `_MOST_CLIPPED` of the codes lie below."""
    below = np.cumsum(histogram)
    return float(np.searchsorted(below, (1 - _MOST_CLIPPED) * below[-1]) + 1) / BINS
