"""RAW bytes to 16-bit codes."""

from __future__ import annotations

import numpy as np
from edge_isp.kernels.layout import check_frame
from numba import njit
from numpy.typing import NDArray


def unpack(
    data: NDArray[np.uint8],
    *,
    width: int,
    height: int,
    packing: str,
    bit_depth: int,
    out: NDArray[np.uint16] | None = None,
) -> NDArray[np.uint16]:
    """RAW bytes (at least height, at least the row's bytes) to codes (height, width), right-aligned.

    Codes of "u16" above the bit depth, which only a fault or a wrong format gives, are held at its highest.

    Args:
        data: rows may be padded.
        packing, bit_depth: see `kernels.layout`.
        out: uint16 (height, width), C-contiguous, to write into; by default a new array.

    Raises:
        ValueError: the layout is not known, or `data` or `out` has the wrong shape.
    """
    check_frame(data.shape, packing, bit_depth, width, height)
    if out is None:
        out = np.empty((height, width), np.uint16)
    elif out.shape != (height, width) or out.dtype != np.uint16 or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous uint16 ({height}, {width}), found {out.dtype} {out.shape}")
    match packing:
        case "u8":
            _unpack_u8(data, out)
        case "csi2p" if bit_depth == 10:
            _unpack_csi2p_10(data, out)
        case "csi2p":
            _unpack_csi2p_12(data, out)
        case "u16-left":
            _unpack_u16(data, out, 16 - bit_depth, 65535)
        case _:
            _unpack_u16(data, out, 0, 2**bit_depth - 1)
    return out


@njit(nogil=True, cache=True)
def _unpack_u8(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = data[y, x]


@njit(nogil=True, cache=True)
def _unpack_u16(data: NDArray[np.uint8], out: NDArray[np.uint16], shift: int, highest: int) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            code = (np.int32(data[y, 2 * x]) | (np.int32(data[y, 2 * x + 1]) << 8)) >> shift
            out[y, x] = code if code < highest else highest


@njit(nogil=True, cache=True)
def _unpack_csi2p_10(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    width = out.shape[1]
    for y in range(out.shape[0]):
        for group in range(width // 4):
            low = np.int32(data[y, 5 * group + 4])
            out[y, 4 * group] = (np.int32(data[y, 5 * group]) << 2) | (low & 3)
            out[y, 4 * group + 1] = (np.int32(data[y, 5 * group + 1]) << 2) | ((low >> 2) & 3)
            out[y, 4 * group + 2] = (np.int32(data[y, 5 * group + 2]) << 2) | ((low >> 4) & 3)
            out[y, 4 * group + 3] = (np.int32(data[y, 5 * group + 3]) << 2) | (low >> 6)
        for x in range(width // 4 * 4, width):
            low = np.int32(data[y, x // 4 * 5 + 4]) >> (2 * (x % 4))
            out[y, x] = (np.int32(data[y, x // 4 * 5 + x % 4]) << 2) | (low & 3)


@njit(nogil=True, cache=True)
def _unpack_csi2p_12(data: NDArray[np.uint8], out: NDArray[np.uint16]) -> None:
    width = out.shape[1]
    for y in range(out.shape[0]):
        for group in range(width // 2):
            low = np.int32(data[y, 3 * group + 2])
            out[y, 2 * group] = (np.int32(data[y, 3 * group]) << 4) | (low & 15)
            out[y, 2 * group + 1] = (np.int32(data[y, 3 * group + 1]) << 4) | (low >> 4)
        if width % 2:
            low = np.int32(data[y, width // 2 * 3 + 2]) & 15
            out[y, width - 1] = (np.int32(data[y, width // 2 * 3]) << 4) | low
