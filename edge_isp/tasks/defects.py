"""How defective pixels of a frame are found and replaced."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import Defect, SensorProfile
from edge_isp.calibration.readout import sensor_window
from edge_isp.frame import RawFrame
from edge_isp.kernels.defects import DefectPlan, by_row, plan_defects
from edge_isp.sensor_window import SensorWindow
from edge_isp.tasks.encoding import frame_noise


def frame_defects(
    frame: RawFrame, profile: SensorProfile | None, gains: tuple[float, float, float]
) -> DefectPlan | None:
    """The plan to find and replace the defective pixels of a frame; None for frames too small to say.

    The noise is that which the frame states, unless it states that there is none, else its sensor's at the frame's
    analogue gain, else that of a typical sensor. Pixels that the profile lists are replaced wherever the frame shows
    them.

    Args:
        frame: to mend.
        profile: of its sensor; None where there is none.
        gains: white-balance gains (red, green, blue).

    Raises:
        FormatError: the frame's noise cannot be, see `encoding.frame_noise`.
        ProfileError: the profile lists defective pixels, and it is not known which part of the sensor the frame shows.
    """
    if min(frame.format.width, frame.format.height) < 4:
        return None
    shot, read = frame_noise(frame, profile)
    if shot == 0:  # a threshold needs some
        shot, read = frame_noise(replace(frame, noise_profile=None), profile)
    plan = plan_defects(
        frame.format.layout,
        black_level=frame.black_level,
        white_level=frame.white_level,
        gains=gains,
        shot_noise=shot,
        read_variance=read,
    )
    if profile is None or not profile.defects:
        return plan
    size = (frame.format.width, frame.format.height)
    row_starts, columns = _listed(_SameList(profile.defects), sensor_window(frame, profile), size)
    return plan._replace(row_starts=row_starts, columns=columns)


class _SameList:
    """A list of defects as the key of a cache, by identity: comparing thousands takes as long as mapping them."""

    def __init__(self, defects: tuple[Defect, ...]) -> None:
        self.defects = defects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameList) and other.defects is self.defects

    def __hash__(self) -> int:
        return id(self.defects)


@lru_cache(maxsize=8)
def _listed(
    listed: _SameList, window: SensorWindow, size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The listed pixels of frames of a size: made once, while plans are made for every gain and light."""
    places = (window.to_frame(defect.x, defect.y, size) for defect in listed.defects)
    return by_row((place for place in places if place is not None), *size)
