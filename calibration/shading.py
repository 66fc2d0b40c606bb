"""Lens shading: the gains, by place and colour temperature, that make a flat field flat.

The same model as libcamera's (rpi.alsc): a luminance gain for each cell of a coarse grid, and colour tables for
red and blue by colour temperature. Values stand at the cells' centres; between them they are interpolated
bilinearly, beyond the outermost centres they are clamped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import check_colour_temperature
from edge_isp.errors import ProfileError

FloatArray = NDArray[np.floating[Any]]

# No lens needs more, and tables of a profile are not trusted.
_HIGHEST_GAIN = 100.0
_MOST_CELLS = 256 * 256


@dataclass(frozen=True, slots=True)
class ColourShading:
    """Gains of red and blue against green, cell by cell, under light of one colour temperature."""

    colour_temperature_k: float
    red: tuple[float, ...]
    blue: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shading:
    """Lens shading of one sensor and lens, for its full frame, unflipped.

    Attributes:
        rows: of the grid of cells that covers the frame.
        columns: of the grid.
        luminance: gain of each cell, row by row; the smallest is 1 or a little above.
        colour: by rising colour temperature; empty where only luminance is known.
        luminance_strength: how much of the luminance gain libcamera applies to pictures (0 to 1): a full
            correction amplifies the noise in the corners.

    Raises:
        ProfileError: a table has the wrong size, or a gain is out of range.
    """

    rows: int
    columns: int
    luminance: tuple[float, ...]
    colour: tuple[ColourShading, ...] = ()
    luminance_strength: float = 1.0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or self.rows * self.columns > _MOST_CELLS:
            raise ProfileError(f"shading grid must have 1 to {_MOST_CELLS} cells, found {self.rows}x{self.columns}")
        if not 0 <= self.luminance_strength <= 1:
            raise ProfileError(f"luminance_strength must be from 0 to 1, found {self.luminance_strength}")
        self._check("luminance", self.luminance)
        for entry in self.colour:
            check_colour_temperature("shading colour temperature", entry.colour_temperature_k)
            self._check(f"red at {entry.colour_temperature_k:g} K", entry.red)
            self._check(f"blue at {entry.colour_temperature_k:g} K", entry.blue)
        temperatures = [entry.colour_temperature_k for entry in self.colour]
        if any(a >= b for a, b in pairwise(temperatures)):
            raise ProfileError(f"shading must be in order of rising colour temperature, found {temperatures}")

    def _check(self, what: str, table: Sequence[float]) -> None:
        if len(table) != self.rows * self.columns:
            raise ProfileError(f"shading {what} must be {self.rows}x{self.columns} numbers, found {len(table)}")
        if not all(1 / _HIGHEST_GAIN <= gain <= _HIGHEST_GAIN for gain in table):
            raise ProfileError(f"shading {what} must hold gains of {1 / _HIGHEST_GAIN} to {_HIGHEST_GAIN:g}")

    def gains(self, colour_temperature_k: float, *, luminance_strength: float = 1.0) -> NDArray[np.float64]:
        """Gains that undo the shading, (3, rows, columns), in the order red, green, blue.

        As libcamera's ALSC starts (before it adapts to the picture): colour tables linear between the nearest
        colour temperatures and clamped beyond the ends, then scaled so that their smallest is 1; luminance is
        (table - 1) * strength + 1; red and blue are the product of both.

        Args:
            colour_temperature_k: of the light.
            luminance_strength: 1 undoes all of it; the profile's own value is what libcamera applies.
        """
        shape = (self.rows, self.columns)
        luminance = (np.array(self.luminance).reshape(shape) - 1) * luminance_strength + 1
        if not self.colour:
            return np.stack([luminance] * 3)
        temperatures = [entry.colour_temperature_k for entry in self.colour]
        out = []
        for tables in ([e.red for e in self.colour], [e.blue for e in self.colour]):
            table = _interpolate(colour_temperature_k, temperatures, np.array(tables)).reshape(shape)
            out.append(table / table.min() * luminance)
        return np.stack([out[0], luminance, out[1]])

    def gains_at(
        self,
        rows: FloatArray,
        columns: FloatArray,
        sensor_size: tuple[int, int],
        colour_temperature_k: float,
    ) -> NDArray[np.float64]:
        """`gains` at places of the sensor, (len(rows), len(columns), 3), bilinear, clamped at the border.

        Args:
            rows: of the sensor, see `SensorWindow.rows`.
            columns: of the sensor, see `SensorWindow.columns`.
            sensor_size: width and height of the whole sensor, which the grid covers.
            colour_temperature_k: of the light.
        """
        y = rows * (self.rows / sensor_size[1]) - 0.5
        x = columns * (self.columns / sensor_size[0]) - 0.5
        return np.stack([_bilinear(grid, y, x) for grid in self.gains(colour_temperature_k)], axis=-1)


def expand(grid: FloatArray, height: int, width: int) -> NDArray[np.float32]:
    """A grid's values (rows, columns) at the centres of pixels, bilinear, clamped at the border.

    Args:
        grid: values at the centres of cells.
        height: of the result, in pixels.
        width: of the result, in pixels.
    """
    rows, columns = grid.shape
    y = (np.arange(height) + 0.5) * rows / height - 0.5
    x = (np.arange(width) + 0.5) * columns / width - 0.5
    return _bilinear(grid, y, x).astype(np.float32)


def _interpolate(at: float, points: Sequence[float], tables: FloatArray) -> FloatArray:
    """Between the tables of the nearest points, linearly; clamped beyond the ends."""
    if len(points) == 1:
        only: FloatArray = tables[0]
        return only
    at = min(max(at, points[0]), points[-1])
    above = max(int(np.searchsorted(points, at)), 1)
    low, high = points[above - 1], points[above]
    between: FloatArray = (tables[above - 1] * (high - at) + tables[above] * (at - low)) / (high - low)
    return between


def _bilinear(grid: FloatArray, y: FloatArray, x: FloatArray) -> NDArray[np.float64]:
    """The grid at fractional rows `y` and columns `x`: (len(y), len(x))."""
    return _linear(_linear(grid.astype(np.float64), y).T, x).T


def _linear(values: NDArray[np.float64], at: FloatArray) -> NDArray[np.float64]:
    """Rows of `values` at fractional positions, clamped at the ends."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(np.int64), max(len(values) - 2, 0))
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low)[:, None]
    mixed: NDArray[np.float64] = values[low] * (1 - share) + values[high] * share
    return mixed
