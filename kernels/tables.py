"""The encoding tables: everything between a RAW code and the network's input, as one look-up.

    table[channel][code] = quantise(curve(clip((code - black) * gain / (white - black), 0, 1)))

with the channels in the order R, Gr, Gb, B. Where lens shading is corrected, a grid chooses among a few dozen such
tables, each of which has one more gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    lens_gain: float = 1.0,
) -> NDArray[Any]:
    """Four tables, shape (4, 2**bit_depth), from RAW codes to the network's input.

    Args:
        bit_depth: significant bits of a RAW code.
        black_level: codes, in the order R, Gr, Gb, B.
        white_level: code.
        gains: white-balance gains (red, green, blue).
        curve: "sqrt" or "linear".
        scale: quantised = round(value / scale) + zero_point, halves to even, saturated. A floating dtype holds
            value / scale + zero_point as it is.
        zero_point: see `scale`.
        dtype: of the network's input.
        lens_gain: factor on all light that corrects lens shading.

    Raises:
        ValueError: The curve is not known, a black level is not below white, or a gain is not positive.
    """
    if curve not in CURVES:
        raise ValueError(f"curve must be one of {', '.join(CURVES)}, found '{curve}'")
    black = np.asarray(black_level, np.float64)
    if black.shape != (4,) or not np.all(black < white_level):
        raise ValueError(f"black_level must be four codes below white_level {white_level}, found {black_level}")
    red, green, blue = gains
    gain = np.array([red, green, green, blue], np.float64) * lens_gain
    if not np.all(np.isfinite(gain) & (gain > 0)):
        raise ValueError(f"gains must be positive numbers, found {gains} and lens gain {lens_gain}")
    codes = np.arange(2**bit_depth, dtype=np.float64)
    light = (codes - black[:, None]) * (gain / (white_level - black))[:, None]
    value = CURVES[curve](np.clip(light, 0, 1)) / scale
    if np.issubdtype(dtype, np.floating):
        return (value + zero_point).astype(dtype)
    limits = np.iinfo(np.dtype(dtype).type)
    table: NDArray[Any] = np.clip(np.rint(value) + zero_point, limits.min, limits.max).astype(dtype)
    return table


def shading_choice(
    gains: NDArray[np.floating[Any]], *, levels: int = 32, shape: tuple[int, int] = (48, 64)
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Lens-shading gains as a choice among a few: the gains to make tables with, and which one applies where.

    Args:
        gains: (rows, columns, 4), in the order R, Gr, Gb, B: gains at the centres of a grid's cells, as libcamera's
            tuning has them (rpi.alsc, 12x16 or 32x32, each times luminance).
        levels: how many gains to choose from, evenly spaced in their logarithms, 1 to 256.
        shape: rows and columns of the choice. Between the centres of `gains` the gain is interpolated bilinearly, so
            that steps stay small.

    Returns:
        The gains, ascending (levels,), for `encoding_table(lens_gain=...)` stacked in this order; and the choice, uint8
        (*shape, 4), for `kernels.encode.encode`.

    Raises:
        ValueError: A gain is not positive, or `levels` or `shape` is out of range.
    """
    gains = np.asarray(gains, np.float64)
    if gains.ndim != 3 or gains.shape[2] != 4 or not gains.size or not np.all(np.isfinite(gains) & (gains > 0)):
        raise ValueError(f"gains must be positive (rows, columns, 4), found shape {gains.shape}")
    if not 1 <= levels <= 256 or min(shape) < 1:
        raise ValueError(f"levels must be 1 to 256 and shape positive, found {levels} and {shape}")
    for axis in (0, 1):
        places = np.clip(
            (np.arange(shape[axis]) + 0.5) * gains.shape[axis] / shape[axis] - 0.5, 0, gains.shape[axis] - 1
        )
        below = np.floor(places).astype(np.int64)
        above = np.minimum(below + 1, gains.shape[axis] - 1)
        weight = np.expand_dims(places - below, tuple(range(1, 3 - axis)))
        gains = np.take(gains, below, axis) * (1 - weight) + np.take(gains, above, axis) * weight
    values = np.geomspace(gains.min(), gains.max(), levels)
    span = np.log(values[-1] / values[0])
    choice = np.rint(np.log(gains / values[0]) * ((levels - 1) / span)) if span > 0 else np.zeros(gains.shape)
    return values, np.clip(choice, 0, levels - 1).astype(np.uint8)
