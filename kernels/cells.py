"""Cells of a network's input: 2x2 or 4x4 pixels each, in whole numbers of them.

Frames whose size is no whole number of cells are mirrored: the rows and columns of 2x2 cells beyond the last one are
those before it, the last one first. The picture is cut off where the frame ends.

Planes of a 2x2 cell: R, Gr, Gb, B. Planes of a 4x4 cell: plane 4 * p + 2 * y + x is the plane p of the 2x2 cell (y, x)
in it. What does not differ within a cell (its noise) follows, once for each of the four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel


@kernel(inline="always")
def mirrored(index: int | np.int64, size: int | np.int64) -> int | np.int64:
    """The row that stands in the place of row `index`, which may be beyond the last of `size` rows."""
    place = index % (2 * size)
    return place if place < size else 2 * size - 1 - place


@kernel
def mirror_columns(line: NDArray[Any], width: int) -> None:
    """Fills the cells (columns, planes) of a row from `width` on with those before it."""
    for j in range(width, len(line)):
        source = mirrored(j, width)
        for plane in range(line.shape[1]):
            line[j, plane] = line[source, plane]


@kernel
def mirror_column_of_4x4(line: NDArray[Any], width: int, y: int) -> None:
    """Fills the 2x2 cells of row `y` in a row of 4x4 cells from `width` on with those before it."""
    for j in range(width, 2 * len(line)):
        source = mirrored(j, width)
        for plane in range(4):
            line[j // 2, 4 * plane + 2 * y + j % 2] = line[source // 2, 4 * plane + 2 * y + source % 2]
