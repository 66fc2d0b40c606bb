"""Turning pictures upright: the orientations 1 to 8 of TIFF and EXIF.

An orientation says which side of the upright picture the stored picture's first row and first column are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of each orientation: whether rows and columns are exchanged, then whether rows and columns are mirrored.
_STEPS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def upright_steps(orientation: int) -> tuple[bool, bool, bool]:
    """What turns a stored picture upright: whether to exchange rows and columns, then to mirror rows, and columns.

    Args:
        orientation: of the stored picture, 1 to 8.
    """
    return _STEPS[orientation]


def upright_picture(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A stored picture turned upright.

    Args:
        rgb: uint8 (height, width, 3).
        orientation: of the stored picture, 1 to 8.

    Returns:
        uint8, contiguous; (width, height, 3) for orientations 5 to 8. `rgb` itself for orientation 1.
    """
    if orientation == 1:
        return rgb
    exchanged, rows, columns = _STEPS[orientation]
    turned = rgb.swapaxes(0, 1) if exchanged else rgb
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright picture.

    Args:
        width: of the stored picture, in pixels.
        height: of the stored picture, in pixels.
        orientation: of the stored picture, 1 to 8.
    """
    return (height, width) if _STEPS[orientation][0] else (width, height)
