"""Which part of its sensor a frame shows, by what its source and the sensor's profile know."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.calibration.readout import sensor_window
from edge_isp.errors import ProfileError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow

UNFLIPPED = Flips(vertical=False, horizontal=False)
IMX219 = load_profile("imx219")


def frame(width: int, height: int, cfa: str = "RGGB", window: SensorWindow | None = None) -> RawFrame:
    return RawFrame(
        data=np.zeros((1, 1), np.uint8),  # not looked at
        format=RawFormat(width, height, Cfa(cfa), 8, Packing.U8),
        source="test",
        sequence=0,
        timestamp_ns=0,
        black_level=(0, 0, 0, 0),
        white_level=255,
        window=window,
    )


@pytest.mark.parametrize("size", [(3280, 2464), (1640, 1232)])
def test_a_frame_of_the_full_or_half_the_size_shows_the_whole_sensor(size: tuple[int, int]) -> None:
    assert sensor_window(frame(*size), IMX219) == SensorWindow(0, 0, 3280, 2464, (3280, 2464), UNFLIPPED)


@pytest.mark.parametrize("size", [(1920, 1080), (640, 480), (3280, 1232), (832, 576), (3282, 2464)])
def test_no_other_size_says_what_a_frame_shows(size: tuple[int, int]) -> None:
    with pytest.raises(ProfileError, match=r"which part .* 3280x2464, or 1640x1232 .*window = \[left, top"):
        sensor_window(frame(*size), IMX219)


def test_a_stated_window_is_believed() -> None:
    window = SensorWindow(680, 692, 1920, 1080)
    expected = replace(window, sensor_size=(3280, 2464), flips=UNFLIPPED)
    assert sensor_window(frame(1920, 1080, window=window), IMX219) == expected
    stated = replace(window, sensor_size=(3280, 2464))
    assert sensor_window(frame(1920, 1080, window=stated), IMX219) == expected
    # Even of a frame that has the size of the whole sensor binned.
    window = SensorWindow(100, 100, 1640, 1232)
    assert sensor_window(frame(1640, 1232, window=window), IMX219).left == 100


def test_a_file_that_counts_in_binned_pixels() -> None:
    """A DNG of a binned frame has 1640x1232 pixels, of which it may show a part."""
    window = SensorWindow(10, 20, 1600, 1200, (1640, 1232))
    found = sensor_window(frame(1600, 1200, window=window), IMX219)
    assert found == SensorWindow(20, 40, 3200, 2400, (3280, 2464), UNFLIPPED)


@pytest.mark.parametrize(
    ("profile", "window", "message"),
    [
        (IMX219, SensorWindow(0, 0, 64, 48, (1920, 1080)), "the sensor of profile 'imx219' has 3280x2464"),
        (IMX219, SensorWindow(3270, 0, 64, 48), "is not inside the 3280x2464 of 'imx219'"),
        (replace(IMX219, size=None), SensorWindow(0, 0, 64, 48), r"add size = \[width, height\] under \[sensor\]"),
        (replace(IMX219, size=None), None, "does not say the sensor's size"),
    ],
)
def test_what_cannot_be_said(profile: SensorProfile, window: SensorWindow | None, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        sensor_window(frame(64, 48, window=window), profile)


def test_a_profile_without_a_size_takes_that_of_the_source() -> None:
    window = SensorWindow(8, 8, 64, 48, (640, 480))
    assert sensor_window(frame(64, 48, window=window), replace(IMX219, size=None)).sensor_size == (640, 480)


@pytest.mark.parametrize("name", ["imx219", "ov5647"])
@pytest.mark.parametrize(("left", "top"), [(0, 0), (1, 0), (0, 1), (3, 5)])
def test_the_colour_order_shows_the_flips(name: str, left: int, top: int) -> None:
    """Also where a window begins at an odd pixel, which moves the colours as a flip does."""
    profile = load_profile(name)
    colours = np.array(list(profile.cfa)).reshape(2, 2)
    window = SensorWindow(left, top, 64, 48)
    for vertical, horizontal in product((False, True), repeat=2):
        seen = np.tile(colours, (40, 40))[top : top + 48, left : left + 64]
        seen = seen[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        order = "".join(seen[:2, :2].ravel())
        assert sensor_window(frame(64, 48, order, window), profile).flips == (vertical, horizontal)


def test_a_constant_order_shows_no_flips() -> None:
    profile = load_profile("imx462")
    assert not profile.cfa_follows_flips
    assert sensor_window(frame(1920, 1080), profile).flips == UNFLIPPED
    turned = SensorWindow(0, 0, 1920, 1080, flips=Flips(vertical=True, horizontal=True))
    assert sensor_window(frame(1920, 1080, window=turned), profile).flips == (True, True)
