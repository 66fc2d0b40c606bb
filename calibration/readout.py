"""Which part of its sensor a frame shows, by what its source and the sensor's profile know."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import ProfileError
from edge_isp.frame import RawFrame
from edge_isp.kernels.layout import Flips, mirrored_cfa
from edge_isp.sensor_window import SensorWindow


def sensor_window(frame: RawFrame, profile: SensorProfile) -> SensorWindow:
    """The window that a frame shows, with the sensor's size and the flips of the readout.

    A frame whose source does not know its window shows the whole sensor where it has the sensor's full size, or half
    of it in width and height (2x2 binning). Sizes that a file gives in its own pixels are read likewise.

    Args:
        frame: whose window is looked for.
        profile: of the frame's sensor.

    Raises:
        ProfileError: the window is not known; the message says what to give.
    """
    width, height = frame.format.width, frame.format.height
    given = frame.window
    if given is None:
        given = SensorWindow(0, 0, width, height, (width, height))
        if profile.size not in ((width, height), (2 * width, 2 * height)):
            raise ProfileError(
                f"it is not known which part of the sensor a frame of {width}x{height} shows"
                f"{_whole(profile)}; give window = [left, top, width, height] in a recording's sidecar, or a V4L2 "
                "camera the sub-device of its sensor (setup=FILE)"
            )
    found = _in_sensor_pixels(given, profile)
    return replace(found, flips=found.flips or _flips(frame, found, profile))


def _whole(profile: SensorProfile) -> str:
    if profile.size is None:
        return f", and profile '{profile.name}' does not say the sensor's size (size = [width, height])"
    wide, high = profile.size
    return f" (the whole of '{profile.name}' is {wide}x{high}, or {wide // 2}x{high // 2} when binned 2x2)"


def _in_sensor_pixels(window: SensorWindow, profile: SensorProfile) -> SensorWindow:
    """A window in the pixels of the profile's sensor."""
    if profile.size is None:
        if window.sensor_size is None:
            raise ProfileError(
                f"profile '{profile.name}' does not say the sensor's size: add size = [width, height] under [sensor]"
            )
        return window
    wide, high = profile.size
    if window.sensor_size in (None, profile.size):
        found = window
    elif window.sensor_size == (wide // 2, high // 2):
        found = window.scaled(2)
    else:
        raise ProfileError(f"the frame shows {window}, but the sensor of profile '{profile.name}' has {wide}x{high}")
    if found.left + found.width > wide or found.top + found.height > high:
        raise ProfileError(f"the frame shows {found}, which is not inside the {wide}x{high} of '{profile.name}'")
    return replace(found, sensor_size=profile.size)


def _flips(frame: RawFrame, window: SensorWindow, profile: SensorProfile) -> Flips:
    """How the sensor was mirrored, which its colour order shows; not mirrored where it does not show it."""
    if profile.cfa_follows_flips:
        for vertical, horizontal in product((False, True), repeat=2):
            # The first pixel that is read out decides: a window that begins at an odd pixel moves the colours too.
            row = window.top + (window.height - 1 if vertical else 0)
            column = window.left + (window.width - 1 if horizontal else 0)
            order = mirrored_cfa(profile.cfa, vertical=row % 2 == 1, horizontal=column % 2 == 1)
            if order == frame.format.cfa:
                return Flips(vertical, horizontal)
    return Flips(vertical=False, horizontal=False)
