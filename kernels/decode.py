"""The network's 12 output planes to an RGB picture."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def output_table(scale: float, zero_point: int) -> NDArray[np.uint8]:
    """256 values: the 8-bit picture value of each int8 output, from -128 up, for an output of 0 to 1."""
    codes = np.arange(-128, 128)
    return np.clip(np.rint((codes - zero_point) * scale * 255), 0, 255).astype(np.uint8)


def decode_rgb(
    planes: NDArray[np.int8],
    out: NDArray[np.uint8],
    table: NDArray[np.uint8],
    *,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
) -> None:
    """Depth-to-space and int8 to uint8: planes (h, w, 12) to an RGB picture (2h, 2w, 3).

    Plane (2 * y + x) * 3 + colour holds that colour of the pixel (y, x) of the 2x2 cell.

    Args:
        planes: int8 (h, w, 12).
        out: uint8 (2h, 2w, 3), C-contiguous; written whole.
        table: see `output_table`.
        flip_vertical, flip_horizontal: mirror the picture on the way.

    Raises:
        ValueError: an array has the wrong shape or dtype.
    """
    if planes.ndim != 3 or planes.shape[2] != 12 or planes.dtype != np.int8:
        raise ValueError(f"planes must be int8 (h, w, 12), found {planes.dtype} {planes.shape}")
    height, width, _ = planes.shape
    if out.shape != (2 * height, 2 * width, 3) or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous uint8 ({2 * height}, {2 * width}, 3), found {out.dtype} {out.shape}"
        )
    if table.shape != (256,) or table.dtype != np.uint8:
        raise ValueError(f"table must be uint8 (256,), found {table.dtype} {table.shape}")
    _decode_rgb(planes, out[:: -1 if flip_vertical else 1, :: -1 if flip_horizontal else 1], table)


@njit(nogil=True, cache=True)
def _decode_rgb(planes: NDArray[np.int8], out: NDArray[np.uint8], table: NDArray[np.uint8]) -> None:
    for i in range(planes.shape[0]):
        for y in range(2):
            for j in range(planes.shape[1]):
                for k in range(6):
                    out[2 * i + y, 2 * j + k // 3, k % 3] = table[np.int32(planes[i, j, 6 * y + k]) + 128]
