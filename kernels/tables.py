"""The encoding tables: everything between a RAW code and the network's input, as one look-up.

    table[channel][code] = quantise(curve(clip((code - black) * gain / (white - black), 0, 1)))

with the channels in the order R, Gr, Gb, B.
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
    if curve not in CURVES:
        raise ValueError(f"curve must be one of {', '.join(CURVES)}, found '{curve}'")
    black = np.asarray(black_level, np.float64)
    if black.shape != (4,) or not np.all(black < white_level):
        raise ValueError(f"black_level must be four codes below white_level {white_level}, found {black_level}")
    red, green, blue = gains
    gain = np.array([red, green, green, blue], np.float64)
    if not np.all(np.isfinite(gain) & (gain > 0)):
        raise ValueError(f"white-balance gains must be positive numbers, found {gains}")
    codes = np.arange(2**bit_depth, dtype=np.float64)
    light = (codes - black[:, None]) * (gain / (white_level - black))[:, None]
    value = CURVES[curve](np.clip(light, 0, 1))
    limits = np.iinfo(np.dtype(dtype))
    return np.clip(np.rint(value / scale) + zero_point, limits.min, limits.max).astype(dtype)
