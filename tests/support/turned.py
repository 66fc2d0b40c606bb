"""Pictures and mosaics as turned cameras store them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The places of pixels whose upright picture is [[0, 1, 2], [3, 4, 5]], as TIFF's field Orientation defines them.
STORED = {
    1: [[0, 1, 2], [3, 4, 5]],
    2: [[2, 1, 0], [5, 4, 3]],
    3: [[5, 4, 3], [2, 1, 0]],
    4: [[3, 4, 5], [0, 1, 2]],
    5: [[0, 3], [1, 4], [2, 5]],
    6: [[2, 5], [1, 4], [0, 3]],
    7: [[5, 2], [4, 1], [3, 0]],
    8: [[3, 0], [4, 1], [5, 2]],
}


def stored(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An upright picture as a camera of an orientation stores it, (height, width, ...).

    Args:
        upright: the picture.
        orientation: 1 to 8.
    """
    for exchanged in (False, True):
        for rows in (1, -1):
            for columns in (1, -1):
                places, turned = np.arange(6).reshape(2, 3)[::rows, ::columns], upright[::rows, ::columns]
                if exchanged:
                    places, turned = places.T, turned.swapaxes(0, 1)
                if places.tolist() == STORED[orientation]:
                    return turned
    raise AssertionError(f"no steps make orientation {orientation}")
