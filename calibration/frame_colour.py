"""A sensor's colours: its profile by the frame's sensor, and the colour matrix for the frame's light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import UNKNOWN_COLOUR_TEMPERATURE_K
from edge_isp.calibration.profile import SensorProfile
from edge_isp.frame import RawFrame


def colour_matrix(frame: RawFrame, profile: SensorProfile | None) -> NDArray[np.float64]:
    """3x3, white-balanced camera colour to linear sRGB: the profile's, else the frame's own, else none (identity)."""
    if profile is not None and profile.colour_matrices:
        return profile.colour_matrix(colour_temperature_k(frame, profile))
    if frame.colour_matrix is not None:
        return np.array(frame.colour_matrix).reshape(3, 3)
    return np.eye(3)


def colour_temperature_k(frame: RawFrame, profile: SensorProfile) -> float:
    """Of the light: as the frame says, or by its white balance."""
    if frame.colour_temperature_k is not None:
        return frame.colour_temperature_k
    if frame.colour_gains is not None and profile.awb_curve:
        return profile.colour_temperature_of_gains(*frame.colour_gains)
    return UNKNOWN_COLOUR_TEMPERATURE_K
