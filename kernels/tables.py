"""The encoding tables: everything between a RAW code and the network's input, as one look-up.

    table[channel][code] = quantise(curve(clip((code - black) * gain / (white - black), 0, 1)))

with the channels in the order R, Gr, Gb, B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CURVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": lambda light: light,
    # Makes shot noise constant, so that 8 bits lose nothing on a sensor of 10 to 12 bits.
    "sqrt": np.sqrt,
}


def encoding_table(
    *,
    bit_depth: int,
    black_level: Sequence[float],
    white_level: float,
    gains: tuple[float, float, float],
    curve: str,
    scale: float,
    zero_point: int,
    dtype: DTypeLike = np.int8,
) -> NDArray[Any]:
    """Four tables, shape (4, 2**bit_depth), from RAW codes to the network's quantised input.

    Args:
        black_level: codes, in the order R, Gr, Gb, B.
        white_level: code.
        gains: white-balance gains (red, green, blue).
        curve: "sqrt" or "linear".
        scale, zero_point: quantised = round(value / scale) + zero_point, halves to even, saturated.

    Raises:
        ValueError: the curve is unknown, or a level or gain makes no sense.
    """
    gain, black = _checked(black_level, white_level, gains, curve)
    return _quantised(gain, black, bit_depth, white_level, curve, scale, zero_point, dtype)


def _checked(
    black_level: Sequence[float], white_level: float, gains: tuple[float, float, float], curve: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gains and black levels of the four channels."""
    if curve not in CURVES:
        raise ValueError(f"curve must be one of {', '.join(CURVES)}, found '{curve}'")
    black = np.asarray(black_level, np.float64)
    if black.shape != (4,) or not np.all(black < white_level):
        raise ValueError(f"black_level must be four codes below white_level {white_level}, found {black_level}")
    red, green, blue = gains
    gain = np.array([red, green, green, blue], np.float64)
    if not np.all(np.isfinite(gain) & (gain > 0)):
        raise ValueError(f"white-balance gains must be positive numbers, found {gains}")
    return gain, black


def _quantised(
    gain: NDArray[np.float64],
    black: NDArray[np.float64],
    bit_depth: int,
    white_level: float,
    curve: str,
    scale: float,
    zero_point: int,
    dtype: DTypeLike,
) -> NDArray[Any]:
    """Tables (4, 2**bit_depth) of four gains."""
    codes = np.arange(2**bit_depth, dtype=np.float64)
    light = (codes - black[:, None]) * (gain / (white_level - black))[:, None]
    value = CURVES[curve](np.clip(light, 0, 1))
    limits = np.iinfo(np.dtype(dtype))
    return np.clip(np.rint(value / scale) + zero_point, limits.min, limits.max).astype(dtype)


@dataclass(frozen=True, slots=True)
class TableBank:
    """Encoding tables for lens shading: for each channel a bank of tables, and for each cell which one.

    out[i, j, plane] = tables[plane, index[plane, i * rows // height, j * columns // width], code]

    for an encoded frame of height x width cells of 2x2 pixels, before any flip.

    Attributes:
        tables: (4, banks, 2**bit_depth), C-contiguous.
        index: uint8 (4, rows, columns).
    """

    tables: NDArray[Any]
    index: NDArray[np.uint8]


def encoding_bank(
    *,
    shading: NDArray[np.floating[Any]],
    largest_error: float = 0.005,
    bit_depth: int,
    black_level: Sequence[float],
    white_level: float,
    gains: tuple[float, float, float],
    curve: str,
    scale: float,
    zero_point: int,
    dtype: DTypeLike = np.int8,
) -> TableBank:
    """Tables whose gain is the white balance's times a shading gain, in steps of equal ratio.

    A cell's gain is held over the whole cell: the grid must be fine enough for its gains to be steps of
    about `largest_error` (`calibration.shading.expand` makes it so).

    Args:
        shading: gain of each cell, (4, rows, columns), in the order R, Gr, Gb, B.
        largest_error: of a cell's gain, as a share: half the step from one table to the next.
        The others are those of `encoding_table`.

    Raises:
        ValueError: a gain is not positive, or so small an error needs more than 256 tables.
    """
    if shading.ndim != 3 or shading.shape[0] != 4 or not np.all(np.isfinite(shading) & (shading > 0)):
        raise ValueError(f"shading must be positive gains (4, rows, columns), found shape {shading.shape}")
    logarithm = np.log(shading.astype(np.float64))
    lowest = logarithm.min(axis=(1, 2))
    highest = logarithm.max(axis=(1, 2))
    step = 2 * np.log1p(largest_error)
    banks = int(np.ceil((highest - lowest).max() / step)) + 1
    if banks > 256:
        raise ValueError(
            f"shading gains that span a factor of {np.exp((highest - lowest).max()):.1f} need {banks} tables for an "
            f"error of {largest_error:.2%}; there may be 256"
        )
    index = np.rint((logarithm - lowest[:, None, None]) / step).astype(np.uint8)
    gain, black = _checked(black_level, white_level, gains, curve)
    tables = np.empty((4, banks, 2**bit_depth), dtype)
    for bank in range(banks):
        steps = gain * np.exp(lowest + bank * step)
        tables[:, bank] = _quantised(steps, black, bit_depth, white_level, curve, scale, zero_point, dtype)
    return TableBank(tables, index)
