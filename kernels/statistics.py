"""What a frame says about the light: grey-world white balance."""

from __future__ import annotations

import numpy as np
from edge_isp.kernels.layout import CELL_PLANES
from numpy.typing import NDArray

# Codes from this share of the range on count as clipped: their colour is lost.
CLIPPED = 0.98


def grey_world_gains(
    codes: NDArray[np.uint16], *, cfa: str, black_level: tuple[float, float, float, float], white_level: float
) -> tuple[float, float]:
    """White-balance gains (red, blue; green is 1) that make the mean of all unclipped cells grey.

    Args:
        codes: (height, width), even sizes; a sub-sample of whole 2x2 cells will do.
        cfa: colour order from pixel (0,0).
        black_level: codes in the order R, Gr, Gb, B.

    A frame without any unclipped light gives (1, 1).
    """
    planes = np.empty((4, codes.shape[0] // 2, codes.shape[1] // 2), np.float32)
    for place, plane in enumerate(CELL_PLANES[cfa]):
        y, x = divmod(place, 2)
        black = black_level[plane]
        planes[plane] = (codes[y::2, x::2] - np.float32(black)) / np.float32(white_level - black)
    usable = np.all(planes < CLIPPED, axis=0)
    if not usable.any():
        return 1.0, 1.0
    red, green_red, green_blue, blue = (float(p[usable].mean()) for p in planes)
    green = (green_red + green_blue) / 2
    if min(red, green, blue) <= 0:
        return 1.0, 1.0
    return green / red, green / blue
