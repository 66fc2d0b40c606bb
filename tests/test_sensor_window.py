"""Which part of a sensor a frame shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_isp.errors import FormatError
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow

BOTH = Flips(vertical=True, horizontal=True)


def test_a_pixel_of_the_sensor_in_the_frame() -> None:
    window = SensorWindow(680, 692, 1920, 1080, (3280, 2464))
    assert window.to_frame(680, 692, (1920, 1080)) == (0, 0)
    assert window.to_frame(2599, 1771, (1920, 1080)) == (1919, 1079)
    assert window.to_frame(679, 700, (1920, 1080)) is None
    assert window.to_frame(700, 1772, (1920, 1080)) is None
    mirrored = SensorWindow(680, 692, 1920, 1080, flips=BOTH)
    assert mirrored.to_frame(680, 692, (1920, 1080)) == (1919, 1079)


def test_binning_adds_pixels_of_one_colour() -> None:
    """A cell of the frame is 4x4 pixels of the sensor; each pixel keeps its place in the 2x2 cell of colours."""
    window = SensorWindow(1000, 752, 1280, 960)
    places = [[window.to_frame(1000 + x, 752, (640, 480)) for x in range(6)]]
    assert places == [[(0, 0), (1, 0), (0, 0), (1, 0), (2, 0), (3, 0)]]
    assert window.to_frame(1003, 755, (640, 480)) == (1, 1)
    assert window.to_frame(2279, 1711, (640, 480)) == (639, 479)


@given(st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 10_000))
def test_what_is_shown_stays_in_the_frame_and_keeps_its_colour(
    binning: int, vertical: bool, horizontal: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = (2 * int(rng.integers(1, 40)), 2 * int(rng.integers(1, 40)))
    window = SensorWindow(4, 6, frame[0] * binning, frame[1] * binning, flips=Flips(vertical, horizontal))
    x, y = (int(rng.integers(side * binning)) for side in frame)
    place = window.to_frame(4 + x, 6 + y, frame)
    assert place is not None
    column, row = place
    assert 0 <= column < frame[0]
    assert 0 <= row < frame[1]
    assert column % 2 == (x + horizontal) % 2
    assert row % 2 == (y + vertical) % 2
    # Within the cell that covers the pixel's place.
    centre = (window.columns(np.array([(column // 2 + 0.5) * 2 / frame[0]]))[0] - 4) - x
    assert abs(centre - 0.5) <= binning


def test_places_across_the_frame() -> None:
    ends = np.array([0.0, 0.25, 1.0])
    window = SensorWindow(100, 40, 200, 80, (400, 160))
    assert window.columns(ends).tolist() == [100, 150, 300]
    assert window.rows(ends).tolist() == [40, 60, 120]
    mirrored = SensorWindow(100, 40, 200, 80, (400, 160), Flips(vertical=False, horizontal=True))
    assert mirrored.columns(ends).tolist() == [300, 250, 100]
    assert mirrored.rows(ends).tolist() == [40, 60, 120]


def test_counted_in_smaller_pixels() -> None:
    assert SensorWindow(1, 2, 30, 40, (50, 60)).scaled(2) == SensorWindow(2, 4, 60, 80, (100, 120))
    assert str(SensorWindow(1, 2, 30, 40, (50, 60))) == "30x40 at 1, 2 of 50x60"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-1, 0, 4, 4), "must begin at 0 or more and be at least 2 pixels wide and high, found 4x4 at -1, 0"),
        ((0, 0, 0, 4), "must begin at 0 or more"),
        ((0, 0, 4, 4, (3, 4)), "must lie inside the sensor, found 4x4 at 0, 0 of 3x4"),
        ((0, 2, 4, 4, (4, 5)), "must lie inside the sensor"),
    ],
)
def test_windows_that_cannot_be(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        SensorWindow(*values)
