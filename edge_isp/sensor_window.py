"""Which part of a sensor a frame shows: what lens shading and defective pixels are mapped through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import FormatError
from edge_isp.kernels.layout import Flips


@dataclass(frozen=True, slots=True)
class SensorWindow:
    """The part of the sensor's pixels that a frame shows, and how it was read out.

    Coordinates are those of the sensor's active pixels as it sends them unflipped. Binning and skipping are the ratio
    of the window's size to the frame's: a frame of 1640x1232 that shows a window of 3280x2464 is binned 2x2.

    Attributes:
        left: column of the window's first pixel.
        top: row of the window's first pixel.
        width: of the window, in the sensor's pixels.
        height: of the window, in the sensor's pixels.
        sensor_size: width and height of the whole sensor, in the same pixels; None where the source does not know it,
            and the sensor's profile says it.
        flips: how the readout was mirrored; None where the source does not know it, and the colour order shows it.

    Raises:
        FormatError: the window is empty, or not inside the sensor.
    """

    left: int
    top: int
    width: int
    height: int
    sensor_size: tuple[int, int] | None = None
    flips: Flips | None = None

    def __post_init__(self) -> None:
        if self.left < 0 or self.top < 0 or self.width < 2 or self.height < 2:
            raise FormatError(
                f"a sensor window must begin at 0 or more and be at least 2 pixels wide and high, found {self}"
            )
        if self.sensor_size is not None and (
            self.left + self.width > self.sensor_size[0] or self.top + self.height > self.sensor_size[1]
        ):
            raise FormatError(f"a sensor window must lie inside the sensor, found {self}")

    def __str__(self) -> str:
        of = "" if self.sensor_size is None else f" of {self.sensor_size[0]}x{self.sensor_size[1]}"
        return f"{self.width}x{self.height} at {self.left}, {self.top}{of}"

    def scaled(self, factor: int) -> SensorWindow:
        """The same window counted in smaller pixels.

        Args:
            factor: how many of the smaller pixels one of these has on each side.
        """
        size = self.sensor_size
        return replace(
            self,
            left=self.left * factor,
            top=self.top * factor,
            width=self.width * factor,
            height=self.height * factor,
            sensor_size=None if size is None else (size[0] * factor, size[1] * factor),
        )

    def to_frame(self, x: int, y: int, frame_size: tuple[int, int]) -> tuple[int, int] | None:
        """Where a pixel of the sensor lies in a frame; None where the frame does not show it.

        Binning adds pixels of one colour: a pixel goes into the cell of the frame that covers its place, at its own
        place in the 2x2 cell of colours.

        Args:
            x: column of the sensor.
            y: row of the sensor.
            frame_size: width and height of the frame, in pixels.
        """
        flips = self.flips or Flips(vertical=False, horizontal=False)
        column = _along(x - self.left, self.width, frame_size[0], flips.horizontal)
        row = _along(y - self.top, self.height, frame_size[1], flips.vertical)
        return None if column is None or row is None else (column, row)

    def columns(self, places: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Places across a frame as columns of the sensor: 0 is the first column's outer edge.

        Args:
            places: 0 is the frame's left edge, 1 its right edge.
        """
        return _across(places, self.left, self.width, self.flips is not None and self.flips.horizontal)

    def rows(self, places: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Places down a frame as rows of the sensor: 0 is the first row's outer edge.

        Args:
            places: 0 is the frame's upper edge, 1 its lower edge.
        """
        return _across(places, self.top, self.height, self.flips is not None and self.flips.vertical)


def _along(place: int, window: int, frame: int, mirrored: bool) -> int | None:
    if not 0 <= place < window:
        return None
    if mirrored:
        place = window - 1 - place
    cell = place // 2 * frame // window
    return min(2 * cell + place % 2, frame - 1)


def _across(places: NDArray[np.floating[Any]], begin: int, size: int, mirrored: bool) -> NDArray[np.float64]:
    across: NDArray[np.float64] = begin + size * (1 - places if mirrored else places).astype(np.float64)
    return across
