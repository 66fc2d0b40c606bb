"""The conventions of light that every package of edge_isp shares.

Linear light is (code - black level) / (white level - black level), 0 to 1. White-balance gains are
normalised so that the smallest is 1; a white-balanced value of 1 is white in the picture. Pictures
carry the transfer curve of sRGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_isp.errors import ProfileError
from edge_isp.frame import RawFrame

FloatArray = NDArray[np.floating[Any]]

# Of light that nothing is known about: daylight.
UNKNOWN_COLOUR_TEMPERATURE_K = 5500.0

# From a candle's to a blue sky's: what a light that a camera is calibrated for can have.
COLOUR_TEMPERATURES_K = (1000.0, 25000.0)


def check_colour_temperature(what: str, temperature_k: float) -> None:
    """Refuses a colour temperature that no light has.

    Args:
        what: has it, for the message.
        temperature_k: in kelvin.

    Raises:
        ProfileError: it is not within `COLOUR_TEMPERATURES_K`, or not a number.
    """
    lowest, highest = COLOUR_TEMPERATURES_K
    if not lowest <= temperature_k <= highest:
        raise ProfileError(f"{what} must be {lowest:g} to {highest:g} K, found {temperature_k:g}")


def srgb_encode(linear: ArrayLike) -> FloatArray:
    """Linear light, 0 to 1, to sRGB values, 0 to 1 (IEC 61966-2-1, the piecewise curve).

    Args:
        linear: any shape; values outside 0 to 1 are clipped. float32 stays float32.
    """
    x = np.clip(np.asarray(linear), 0.0, 1.0)
    x = x if x.dtype == np.float32 else x.astype(np.float64)
    high: FloatArray = 1.055 * np.power(np.maximum(x, 0.0031308), 1 / 2.4, dtype=x.dtype) - 0.055
    encoded: FloatArray = np.where(x <= 0.0031308, x * 12.92, high).astype(x.dtype)
    return encoded


def srgb_decode(encoded: ArrayLike) -> FloatArray:
    """sRGB values, 0 to 1, to linear light, 0 to 1: the inverse of `srgb_encode`.

    Args:
        encoded: any shape; values outside 0 to 1 are clipped. float32 stays float32.
    """
    y = np.clip(np.asarray(encoded), 0.0, 1.0)
    y = y if y.dtype == np.float32 else y.astype(np.float64)
    high: FloatArray = np.power((y + 0.055) / 1.055, 2.4, dtype=y.dtype)
    linear: FloatArray = np.where(y <= 0.04045, y / 12.92, high).astype(y.dtype)
    return linear


def normalise_gains(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """White-balance gains scaled so that the smallest is 1: no channel is darkened, so none can
    stay below white where the sensor has clipped.

    Args:
        red: gain of red.
        green: gain of green.
        blue: gain of blue.

    Raises:
        ValueError: a gain is not a positive finite number.
    """
    gains = (red, green, blue)
    if not all(np.isfinite(gain) and gain > 0 for gain in gains):
        raise ValueError(f"white-balance gains must be positive numbers, found {gains}")
    smallest = min(gains)
    return red / smallest, green / smallest, blue / smallest


def digital_gain(frame: RawFrame) -> float:
    """How much brighter than its codes a frame is shown, at least 1: below, clipped highlights would be coloured.

    A DNG's BaselineExposure is a part of every default rendering (Adobe DNG Specification 1.7: it moves the zero point
    of exposure compensation), whatever the tone curve.

    Args:
        frame: that may state a digital gain, a baseline exposure, or both.

    Raises:
        ValueError: their product is not a positive number.
    """
    factor = 1.0 if frame.digital_gain is None else float(frame.digital_gain)
    if frame.baseline_exposure_ev is not None:
        factor *= 2.0**frame.baseline_exposure_ev
    if not (np.isfinite(factor) and factor > 0):
        raise ValueError(f"digital gain must be a positive number, found {factor}")
    return max(1.0, factor)


def noise_deviation(shot: float, analogue_gain: float, gains: ArrayLike) -> FloatArray:
    """Standard deviation of the square root of white-balanced light, the same at every brightness.

    The variance of light x is shot * analogue_gain * x; times a gain g it is g * shot * analogue_gain * (g x); the
    slope of the square root makes sqrt(g * shot * analogue_gain) / 2 of it. Read noise, which only shadows show, is
    left out.

    Args:
        shot: see `Noise.shot`.
        analogue_gain: of the exposure.
        gains: white balance times lens shading, any shape.
    """
    deviation: FloatArray = np.sqrt(np.asarray(gains) * shot * analogue_gain) / 2
    return deviation
