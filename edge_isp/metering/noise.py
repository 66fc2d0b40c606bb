"""The noise of a frame that does not say its gain, measured where it shows least detail.

The variance of green within a block is that of the noise plus what detail adds to it. The sensor's noise model says at
which analogue gain a block of this brightness has this variance; the flattest blocks give the frame's gain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import Noise
from edge_isp.metering.light import Light

# Blocks that are darker say nothing: their codes are clipped at 0 or drown in the read noise.
_DARK = 0.004
_FEWEST_BLOCKS = 16
# The flattest blocks: this quantile of the gains. In a frame without detail it is about 0.7 of the true gain, since the
# variance of few pixels scatters; detail raises it. The factor is between.
_FLATTEST, _FACTOR = 0.02, 1.2
_GAIN_RANGE = (1.0, 64.0)


def estimate_analogue_gain(light: Light, noise: Noise) -> float | None:
    """The analogue gain at which a sensor has the noise of a frame; None where the frame shows too little light.

    Args:
        light: of the frame, see `metering.light.measure`.
        noise: the sensor's.
    """
    lit = light.noise_light > _DARK
    if np.count_nonzero(lit) < min(_FEWEST_BLOCKS, max(lit.size, 1)):
        return None
    gains = _gain_of(light.noise[lit], light.noise_light[lit], noise)
    return float(np.clip(_FACTOR * np.quantile(gains, _FLATTEST), *_GAIN_RANGE))


def _gain_of(variance: NDArray[np.float64], light: NDArray[np.float64], noise: Noise) -> NDArray[np.float64]:
    """The positive root of read_pre_gain * gain**2 + shot * light * gain + read_post_gain = variance."""
    rest = np.maximum(variance - noise.read_post_gain, 0)
    slope = noise.shot * light
    # Citardauq's form, which holds for read_pre_gain = 0 as well.
    root: NDArray[np.float64] = 2 * rest / (slope + np.sqrt(slope**2 + 4 * noise.read_pre_gain * rest))
    return root
