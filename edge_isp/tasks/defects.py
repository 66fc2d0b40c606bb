"""How defective pixels of a frame are found and replaced."""

from __future__ import annotations

from edge_isp.calibration.profile import UNKNOWN_NOISE, SensorProfile
from edge_isp.calibration.readout import sensor_window
from edge_isp.frame import RawFrame
from edge_isp.kernels.defects import DefectPlan, plan_defects

# Of a sensor whose noise is not known: that of small sensors, such as the Raspberry Pi's cameras have.


def frame_defects(
    frame: RawFrame, profile: SensorProfile | None, gains: tuple[float, float, float]
) -> DefectPlan | None:
    """The plan to find and replace the defective pixels of a frame; None for frames too small to say.

    The noise is that which the frame states, else its sensor's at the frame's analogue gain, else that of a typical
    sensor. Pixels that the profile lists are replaced wherever the frame shows them.

    Args:
        frame: to mend.
        profile: of its sensor; None where there is none.
        gains: white-balance gains (red, green, blue).

    Raises:
        ProfileError: the profile lists defective pixels, and it is not known which part of the sensor the frame shows.
    """
    if min(frame.format.width, frame.format.height) < 4:
        return None
    shot, read = _noise(frame, profile)
    return plan_defects(
        frame.format.layout,
        black_level=frame.black_level,
        white_level=frame.white_level,
        gains=gains,
        shot_noise=shot,
        read_variance=read,
        listed=_listed(frame, profile) if profile is not None and profile.defects else [],
    )


def _noise(frame: RawFrame, profile: SensorProfile | None) -> tuple[float, float]:
    """Variance of the noise for each unit of light, and without light, at the frame's gain."""
    if frame.noise_profile is not None and min(frame.noise_profile) > 0:
        return frame.noise_profile
    noise = profile.noise if profile is not None and profile.noise is not None else UNKNOWN_NOISE
    gain = frame.analogue_gain or 1.0
    return noise.shot * gain, noise.read_variance(gain)


def _listed(frame: RawFrame, profile: SensorProfile) -> list[tuple[int, int]]:
    window = sensor_window(frame, profile)
    size = (frame.format.width, frame.format.height)
    places = (window.to_frame(defect.x, defect.y, size) for defect in profile.defects)
    return [place for place in places if place is not None]
