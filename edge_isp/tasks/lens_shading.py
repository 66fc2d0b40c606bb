"""What corrects the lens shading of a frame."""

from __future__ import annotations

from edge_isp.calibration.frame_colour import colour_temperature_k
from edge_isp.calibration.profile import SensorProfile
from edge_isp.calibration.readout import sensor_window
from edge_isp.errors import ProfileError
from edge_isp.frame import RawFrame
from edge_isp.kernels.layout import PLANE_COLOURS, flips_to_rggb
from edge_isp.kernels.tables import Factors, lens_factors, node_places
from edge_isp.sensor_window import SensorWindow


def frame_factors(frame: RawFrame, profile: SensorProfile | None, curve: str) -> Factors:
    """The factors that undo the lens shading of a frame, in the orientation in which it is encoded as RGGB.

    Args:
        frame: to correct.
        profile: of its sensor; None where there is none.
        curve: of the model's input.

    Raises:
        ProfileError: it is not known; the message says what is missing.
    """
    profile, window = shading_window(frame, profile)
    assert profile.shading is not None  # `shading_window` has checked them
    assert window.sensor_size is not None
    flips = flips_to_rggb(frame.format.cfa)
    rows, columns = (node_places(cells) / cells for cells in frame.format.layout.cells)
    gains = profile.shading.gains_at(
        window.rows(1 - rows if flips.vertical else rows),
        window.columns(1 - columns if flips.horizontal else columns),
        window.sensor_size,
        colour_temperature_k(frame, profile),
    )
    return lens_factors(gains[..., PLANE_COLOURS], curve)


def shading_window(frame: RawFrame, profile: SensorProfile | None) -> tuple[SensorProfile, SensorWindow]:
    """The profile that describes a frame's lens shading, and the part of the sensor that the frame shows.

    Args:
        frame: to correct.
        profile: of its sensor; None where there is none.

    Raises:
        ProfileError: one of them is not known; the message says what is missing.
    """
    if not frame.lens_shading:
        raise ProfileError("the frame has none, as its source says")
    if profile is None:
        named = f"'{frame.sensor}'" if frame.sensor else "(not named)"
        raise ProfileError(
            f"there is no profile of sensor {named}; give one by its path, or name the sensor in the sidecar"
        )
    if profile.shading is None:
        raise ProfileError(
            f"profile '{profile.name}' has none; measure it with 'edge-isp calibrate shading', or import a tuning file"
        )
    return profile, sensor_window(frame, profile)
