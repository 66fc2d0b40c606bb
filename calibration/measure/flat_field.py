"""Lens shading from a flat field: an evenly lit sheet of paper, or a diffuser on the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.measure.black_level import noise_in_time
from edge_isp.calibration.measure.stack import Stack, describe, require_frames, require_steady, require_unclipped
from edge_isp.calibration.profile import Provenance, SensorProfile
from edge_isp.calibration.shading import ColourShading, Shading, expand
from edge_isp.errors import CalibrationError
from edge_isp.kernels.layout import CELL_PLANES

ROWS, COLUMNS = 12, 16

# A cell whose mean is not known better than this is not known well enough.
_CELL_ERROR = 0.003
# No lens darkens a cell of the frame to less.
_DARKEST = 1 / 20
# Neighbouring cells of a lens never differ by more: what does is not the lens.
_STEP = 0.35
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class FlatField:
    """What a flat field shows.

    Attributes:
        shading: with one colour temperature.
        gains: of the four channels, (4, rows, columns); the smallest of each is 1.
        error: largest standard error of a cell's gain, as a share.
    """

    shading: Shading
    gains: NDArray[np.float64]
    error: float


def measure_shading(
    stack: Stack, profile: SensorProfile, *, colour_temperature_k: float, rows: int = ROWS, columns: int = COLUMNS
) -> FlatField:
    """Shading grids of a flat field.

    Each cell's gain is such that the grid, interpolated as it is when it is applied, gives back the cells' means.

    Args:
        stack: frames of the flat field.
        profile: for black level, at the frames' bit depth.
        colour_temperature_k: of the light.
        rows: of the grid.
        columns: of the grid.

    Raises:
        CalibrationError: too few frames, saturated, too dark, flickering, moving or no flat field.
    """
    black = profile.black_level_at(stack.gain)
    require_frames(stack, 2)
    require_unclipped(stack)
    require_steady(stack, black)
    planes = stack.planes()
    mean = planes.mean(axis=1, dtype=np.float64) - np.array(black)[:, None, None]
    noise = math.sqrt(float(sum(noise_in_time(planes)[0])) / 4)
    signal = np.stack([_cell_means(_without_defects(plane), rows, columns) for plane in mean])
    brightest = signal.max(axis=(1, 2), keepdims=True)
    if signal.min() <= 0 or (signal / brightest).min() < _DARKEST:
        raise CalibrationError(f"{stack.source}: no flat field: a part of the frame is dark; light all of it evenly")
    if max(_steps(signal, 1), _steps(signal, 2)) > _STEP:
        raise CalibrationError(
            f"{stack.source}: no flat field: brightness jumps by more than {_STEP:.0%} from one cell to the next; "
            "show the camera something evenly lit, out of focus"
        )
    pixels = mean[0].size / (rows * columns) * len(stack.codes)
    error = noise / math.sqrt(pixels) / float(signal.min())
    if error > _CELL_ERROR:
        raise CalibrationError(
            f"{stack.source}: too few frames or too dark: the darkest cell is known within {error:.2%} only, expected "
            f"{_CELL_ERROR:.1%}; give about {math.ceil(len(stack.codes) * (error / _CELL_ERROR) ** 2)} frames"
        )
    gains = brightest / signal
    for _ in range(_ROUNDS):
        predicted = _predicted(gains, stack)
        gains = gains * predicted / signal
        gains = gains / gains.min(axis=(1, 2), keepdims=True)
    green = (gains[1] + gains[2]) / 2
    green = green / green.min()
    shading = Shading(
        rows=rows,
        columns=columns,
        luminance=tuple(green.ravel().tolist()),
        colour=(
            ColourShading(
                colour_temperature_k,
                tuple((gains[0] / green).ravel().tolist()),
                tuple((gains[3] / green).ravel().tolist()),
            ),
        ),
    )
    return FlatField(shading, gains, error)


def with_shading(
    profile: SensorProfile, stack: Stack, found: FlatField, date: str, *, keep_others: bool = False
) -> SensorProfile:
    """The profile with the measured shading.

    Args:
        profile: to which the shading is added.
        stack: the frames that it was measured from.
        found: what was measured.
        date: of the measurement, ISO 8601.
        keep_others: keep the profile's colour tables of other colour temperatures (same lens, same grid).

    Raises:
        CalibrationError: they cannot be kept, because the grid has another size.
    """
    shading = found.shading
    measured_k = shading.colour[0].colour_temperature_k
    if keep_others and profile.shading is not None:
        old = profile.shading
        if (old.rows, old.columns) != (shading.rows, shading.columns):
            raise CalibrationError(
                f"the profile's shading has {old.rows}x{old.columns} cells, the measured one "
                f"{shading.rows}x{shading.columns}: they cannot be joined"
            )
        others = [entry for entry in old.colour if entry.colour_temperature_k != measured_k]
        colour = sorted([*others, *shading.colour], key=lambda entry: entry.colour_temperature_k)
        shading = replace(shading, colour=tuple(colour))
    return profile.with_section(
        Provenance(
            "shading",
            "measured",
            date,
            describe([stack], colour_temperature=f"{measured_k:g} K"),
            f"each cell within {found.error:.2%} (standard error)",
        ),
        shading=shading,
    )


def _without_defects(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels far from the median of their 3x3 surroundings replaced by it."""
    padded = np.pad(plane, 1, mode="reflect")
    around = np.stack([padded[y : y + plane.shape[0], x : x + plane.shape[1]] for y in range(3) for x in range(3)])
    middle = np.median(around, axis=0)
    return np.where(np.abs(plane - middle) > 0.5 * np.maximum(middle, 1), middle, plane)


def _cell_means(plane: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Means of the cells of a grid over a plane; a pixel belongs to the cell that its centre lies in."""
    height, width = plane.shape
    if height < 2 * rows or width < 2 * columns:
        raise CalibrationError(
            f"a grid of {rows}x{columns} cells needs frames of at least {4 * columns}x{4 * rows} pixels, "
            f"found {2 * width}x{2 * height}"
        )
    top = [math.ceil(i * height / rows - 0.5) for i in range(rows)]
    left = [math.ceil(j * width / columns - 0.5) for j in range(columns)]
    sums = np.add.reduceat(np.add.reduceat(plane, top, axis=0), left, axis=1)
    counts = np.outer(np.diff([*top, height]), np.diff([*left, width]))
    means: NDArray[np.float64] = sums / counts
    return means


def _predicted(gains: NDArray[np.float64], stack: Stack) -> NDArray[np.float64]:
    """Means of the cells that a white field would show under these gains (4, rows, columns)."""
    height, width = stack.codes.shape[1:]
    out = []
    for plane, grid in enumerate(gains):
        y, x = divmod(CELL_PLANES[stack.cfa].index(plane), 2)
        light = 1 / expand(grid, height, width)[y::2, x::2].astype(np.float64)
        out.append(_cell_means(light, grid.shape[0], grid.shape[1]))
    return np.stack(out)


def _steps(signal: NDArray[np.float64], axis: int) -> float:
    """Largest relative difference of neighbouring cells."""
    if signal.shape[axis] < 2:
        return 0.0
    return float(np.abs(np.diff(np.log(signal), axis=axis)).max())
