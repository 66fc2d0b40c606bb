"""The encoding tables: everything between a RAW code and the network's input, as one look-up.

    table[channel][code] = quantise(curve(clip((code - black) * gain / (white - black), 0, 1)))

with the channels in the order R, Gr, Gb, B. Where lens shading is corrected, a table of finer steps takes its place,
and a factor that varies over the frame multiplies them: both curves are powers, so that
curve(lens gain * light) = curve(lens gain) * curve(light).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

CURVES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": lambda light: light,
    # Makes shot noise constant, so that 8 bits lose nothing on a sensor of 10 to 12 bits.
    "sqrt": np.sqrt,
}

# Bits of the fraction of a step: 255, the greatest value, takes all 16 bits.
STEP_BITS = 8
# Between its nodes a factor is interpolated; in cells of 2x2 pixels.
NODE_CELLS = 8
# No lens needs more; a factor has 16 bits.
HIGHEST_LENS_GAIN = 16.0


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

    Raises:
        ValueError: The curve is not known, a black level is not below white, or a gain is not positive.
    """
    if curve not in CURVES:
        raise ValueError(f"curve must be one of {', '.join(CURVES)}, found '{curve}'")
    black = np.asarray(black_level, np.float64)
    if black.shape != (4,) or not np.all(black < white_level):
        raise ValueError(f"black_level must be four codes below white_level {white_level}, found {black_level}")
    red, green, blue = gains
    gain = np.array([red, green, green, blue], np.float64)
    if not np.all(np.isfinite(gain) & (gain > 0)):
        raise ValueError(f"gains must be positive numbers, found {gains}")
    codes = np.arange(2**bit_depth, dtype=np.float64)
    light = (codes - black[:, None]) * (gain / (white_level - black))[:, None]
    value = CURVES[curve](np.clip(light, 0, 1)) / scale
    if np.issubdtype(dtype, np.floating):
        return (value + zero_point).astype(dtype)
    limits = np.iinfo(np.dtype(dtype).type)
    table: NDArray[Any] = np.clip(np.rint(value) + zero_point, limits.min, limits.max).astype(dtype)
    return table


def step_table(
    *,
    bit_depth: int,
    black_level: Sequence[float],
    white_level: float,
    gains: tuple[float, float, float],
    curve: str,
    scale: float,
    zero_point: int,
) -> NDArray[np.uint16]:
    """Four tables, uint16 (4, 2**bit_depth), from RAW codes to steps of 1/256 of a value of an int8 input.

    Steps are counted from the zero point and held at the highest value that fits. `kernels.shaded` multiplies them.

    Args:
        bit_depth: significant bits of a RAW code.
        black_level: codes, in the order R, Gr, Gb, B.
        white_level: code.
        gains: white-balance gains (red, green, blue).
        curve: "sqrt" or "linear".
        scale: of the input; see `encoding_table`.
        zero_point: of the input; see `encoding_table`.

    Raises:
        ValueError: See `encoding_table`.
    """
    values = encoding_table(
        bit_depth=bit_depth,
        black_level=black_level,
        white_level=white_level,
        gains=gains,
        curve=curve,
        scale=scale,
        zero_point=0,
        dtype=np.float64,
    )
    return steps(values, zero_point)


def steps(values: NDArray[np.floating[Any]], zero_point: int) -> NDArray[np.uint16]:
    """Values of an int8 input, counted from its zero point, in the steps of `step_table`.

    Args:
        values: 0 or more, any shape.
        zero_point: of the input.
    """
    rounded: NDArray[np.uint16] = np.rint(np.clip(values, 0, 127 - zero_point) * 2**STEP_BITS).astype(np.uint16)
    return rounded


class Factors(NamedTuple):
    """What multiplies the steps of `step_table`, place by place.

    Attributes:
        nodes: uint16 (rows, columns, 4), in the order R, Gr, Gb, B, in units of 2**-bits; see `node_places`.
        bits: of the fraction.
    """

    nodes: NDArray[np.uint16]
    bits: int


def lens_factors(gains: NDArray[np.floating[Any]], curve: str) -> Factors:
    """Lens-shading gains as factors on values behind a curve.

    Args:
        gains: (rows, columns, 4), in the order R, Gr, Gb, B, at the places of `node_places`; any other shape for
            `kernels.reference.shade`. Gains above `HIGHEST_LENS_GAIN` are held there.
        curve: "sqrt" or "linear".

    Raises:
        ValueError: The curve is not known, or a gain is not a positive number.
    """
    if curve not in CURVES:
        raise ValueError(f"curve must be one of {', '.join(CURVES)}, found '{curve}'")
    if not np.all(np.isfinite(gains) & (np.asarray(gains) > 0)):
        raise ValueError(f"lens-shading gains must be positive numbers, found {np.min(gains)} to {np.max(gains)}")
    highest = float(CURVES[curve](np.array(HIGHEST_LENS_GAIN)))
    bits = 16 - int(np.log2(highest))
    factors = CURVES[curve](np.asarray(gains, np.float64)) * 2**bits
    return Factors(np.ascontiguousarray(np.minimum(np.rint(factors), 65535), np.uint16), bits)


def node_places(cells: int) -> NDArray[np.float64]:
    """Where nodes lie along a side, in cells from its edge: every `NODE_CELLS`, from 0 to the far edge or beyond it.

    Args:
        cells: along the side.
    """
    places: NDArray[np.float64] = np.arange(-(-cells // NODE_CELLS) + 1, dtype=np.float64) * NODE_CELLS
    return places
