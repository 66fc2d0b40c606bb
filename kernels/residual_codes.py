"""How a calibrated network's residual is written, and the demosaicing that it is added to.

Apart from the kernel in `kernels.residual`, so that training can do without compilation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Square roots are counted in sixteenths of 8 bits, so that Malvar's sums are whole numbers.
ROOT_WHITE = 16 * 255

# One code of a residual: 1/510 of white, twice as fine as 8 bits, so that codes reach a quarter of white either way.
RESIDUAL_STEP = 8

# The scale that the network's output tensor has for that: its 1 is an eighth of white.
RESIDUAL_SCALE = 8 * RESIDUAL_STEP / ROOT_WHITE

# A residual in two planes for each colour: steps of 1/1020 of white, and, where those end, coarse ones of 1/255, which
# reach half of white either way.
FINE_STEP, COARSE_STEP = 4, 16

# The scale of that output: its 1 is an eighth of white in the fine planes, a half in the coarse ones.
FINE_SCALE = 8 * FINE_STEP / ROOT_WHITE


def _malvar_cells() -> NDArray[np.float32]:
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
        for colour, weights in enumerate(of_colours):
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    row, column = y + dy, x + dx
                    plane = row % 2 * 2 + column % 2
                    cells[(2 * y + x) * 3 + colour, plane, row // 2 + 1, column // 2 + 1] += weights[dy + 2, dx + 2]
    return cells


# Whole numbers, so that the run time's sums are exact.
MALVAR_CELLS = _malvar_cells()
