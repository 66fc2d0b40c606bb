"""The output of a calibrated network to a picture: demosaicing plus residual, colour matrix, transfer curve.

The network's input, in the square-root domain, is demosaiced linearly (Malvar-He-Cutler, "High-quality linear
interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004); the network says what that gets wrong.
Their sum, squared, is white-balanced camera colour in linear light: the sensor's colour matrix and the curve of sRGB
make the picture of it. Beyond the borders the outermost cells repeat themselves.
"""

from __future__ import annotations

import numpy as np


def _malvar_cells() -> np.typing.NDArray[np.float32]:
    """Sixteenths of Malvar's filters on cells of planes: (12, 4, 3, 3), plane (2 * y + x) * 3 + colour of a cell from
    the planes R, Gr, Gb, B of it and its eight neighbours."""
    own = np.zeros((5, 5))
    own[2, 2] = 16
    green = np.array([[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]])
    along = np.array([[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]])
    diagonal = np.array([[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]])
    filters = {
        (0, 0): (own, green, diagonal),
        (0, 1): (along, own, along.T),
        (1, 0): (along.T, own, along),
        (1, 1): (diagonal, green, own),
    }
    cells = np.zeros((12, 4, 3, 3), np.float32)
    for (y, x), of_colours in filters.items():
        for colour, kernel in enumerate(of_colours):
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    row, column = y + dy, x + dx
                    plane = row % 2 * 2 + column % 2
                    cells[(2 * y + x) * 3 + colour, plane, row // 2 + 1, column // 2 + 1] += kernel[dy + 2, dx + 2]
    return cells


# Whole numbers, so that the run time's sums are exact.
MALVAR_CELLS = _malvar_cells()
