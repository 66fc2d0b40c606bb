"""How well the colours of a frame agree with each of a few lights: the kernel of white balance.

Colour by correlation (Finlayson, Hordley and Hubel 2001): a table says how much a colour of a picture speaks for it
that the picture is right; the light whose picture has the most such colours is the frame's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_image
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import read_only

# Red and blue of a colour whose components add up to 1: the table reaches this far to either side of grey.
REACH = 0.4

# Products of two such numbers are finite in float32.
_LARGEST = 1e15


def correlate_colours(
    colours: NDArray[np.float32],
    weights: NDArray[np.float32],
    levels: NDArray[np.int32],
    matrices: NDArray[np.float32],
    table: NDArray[np.float32],
) -> NDArray[np.float64]:
    """What the colours say for each light: the weighted sum of the table's entries.

    Args:
        colours: float32 (n, 3), of the camera, linear.
        weights: float32 (n,), of each colour.
        levels: int32 (n,), which of the table's levels each colour is looked up in.
        matrices: float32 (m, 3, 3), camera colour to linear sRGB under each light.
        table: float32 (levels, size, size): what a colour speaks for the light. The second axis is red, the third
            blue, as parts of the sum of red, green and blue, from 1/3 - `REACH` to 1/3 + `REACH`; what is beyond counts
            as at the end.

    Returns:
        (m,).

    Raises:
        ValueError: An array has the wrong shape or dtype, or a value is out of range.
    """
    count, lights = (len(array) if isinstance(array, np.ndarray) and array.ndim else 0 for array in (colours, matrices))
    check_array("colours", colours, np.float32, (count, 3))
    check_array("weights", weights, np.float32, (count,))
    check_array("levels", levels, np.int32, (count,))
    check_array("matrices", matrices, np.float32, (lights, 3, 3))
    _, size = check_image("table", table, (np.float32,))
    check_array("table", table, np.float32, (len(table), size, size))
    if size < 2:
        raise ValueError(f"table must have at least 2 entries along each axis, found {table.shape}")
    if count and not 0 <= levels.min() <= levels.max() < len(table):
        raise ValueError(f"levels must be 0 to {len(table) - 1}, found {levels.min()} to {levels.max()}")
    for name, array in (("colours", colours), ("matrices", matrices)):
        if not np.all(np.abs(array) < _LARGEST):  # the place of what is no number would be anywhere
            raise ValueError(f"{name} must be finite numbers")
    red, blue, total = matrices[:, 0], matrices[:, 2], matrices.sum(axis=1)
    rows = np.ascontiguousarray(np.stack([red, blue, total], axis=1), np.float32)
    scores: NDArray[np.float64] = _correlate(
        read_only(colours), read_only(weights), read_only(levels), read_only(rows), read_only(table)
    )
    return scores


@kernel
def _correlate(
    colours: NDArray[np.float32],
    weights: NDArray[np.float32],
    levels: NDArray[np.int32],
    rows: NDArray[np.float32],
    table: NDArray[np.float32],
) -> NDArray[np.float64]:
    size = table.shape[1]
    step = np.float32((size - 1) / (2 * REACH))
    start = np.float32(1 / 3 - REACH)
    half, last = np.float32(0.5), np.float32(size - 1)
    scores = np.zeros(len(rows), np.float64)
    for light in range(len(rows)):
        matrix = rows[light]
        score = 0.0
        for j in range(len(colours)):
            r, g, b = colours[j, 0], colours[j, 1], colours[j, 2]
            total = matrix[2, 0] * r + matrix[2, 1] * g + matrix[2, 2] * b
            if not total > np.float32(1e-6):
                continue
            red = (matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * b) / total
            blue = (matrix[1, 0] * r + matrix[1, 1] * g + matrix[1, 2] * b) / total
            if red != red or blue != blue:  # not a number: it names no entry
                continue
            y = min(max((red - start) * step, np.float32(0)), last) + half
            x = min(max((blue - start) * step, np.float32(0)), last) + half
            score += weights[j] * table[levels[j], np.int32(y), np.int32(x)]
        scores[light] = score
    return scores
