"""A network's input tensor as planes of 2x2 cells, whatever cells the network computes on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.reference import on_2x2


def rggb_planes(tensor: NDArray[np.int8], width: int, height: int) -> NDArray[np.int8]:
    """The planes R, Gr, Gb, B, (height / 2, width / 2, 4), of an input with or without noise.

    Args:
        tensor: (rows, columns, planes).
        width: of the frame, in pixels.
        height: of the frame, in pixels.
    """
    planes = on_2x2(tensor[..., :16]) if tensor.shape[2] >= 16 else tensor[..., :4]
    return planes[: height // 2, : width // 2]
