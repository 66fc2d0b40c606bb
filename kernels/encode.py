"""RAW bytes to the network's input tensor, in one pass through four tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from edge_isp.kernels.layout import CELL_PLANES, check_cfa, check_frame
from numba import njit
from numpy.typing import NDArray


def encode(
    data: NDArray[np.uint8],
    out: NDArray[Any],
    *,
    width: int,
    height: int,
    packing: str,
    bit_depth: int,
    cfa: str,
    tables: NDArray[Any],
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
) -> None:
    """RAW bytes to planes R, Gr, Gb, B: out[i, j, plane] = tables[plane][code of that colour in cell i, j].

    Args:
        data: bytes (at least height, at least the row's bytes); rows may be padded.
        out: (height / 2, width / 2, 4), C-contiguous, of the tables' dtype; written whole.
        width, height: in pixels, even.
        packing, bit_depth: see `kernels.layout`.
        cfa: colour order from pixel (0,0).
        tables: (4, 2**bit_depth), C-contiguous; see `kernels.tables`.
        flip_vertical, flip_horizontal: mirror the cells on the way; colours stay in their planes.

    Raises:
        ValueError: the layout is not known, or an array has the wrong shape or dtype.
    """
    check_frame(data.shape, packing, bit_depth, width, height)
    check_cfa(cfa)
    if width % 2 or height % 2:
        raise ValueError(f"width and height must be even, found {width}x{height}")
    if tables.shape != (4, 2**bit_depth) or not tables.flags.c_contiguous:
        raise ValueError(f"tables must be C-contiguous (4, {2**bit_depth}), found {tables.shape}")
    if out.shape != (height // 2, width // 2, 4) or out.dtype != tables.dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous {tables.dtype} ({height // 2}, {width // 2}, 4), found {out.dtype} {out.shape}"
        )
    # A mirrored view: the kernels write through it and know nothing of flips.
    view = out[:: -1 if flip_vertical else 1, :: -1 if flip_horizontal else 1]
    planes = np.array(CELL_PLANES[cfa], np.int64)
    match packing:
        case "u8":
            _encode_u8(data, view, tables, planes)
        case "csi2p" if bit_depth == 10:
            _encode_csi2p_10(data, view, tables, planes)
        case "csi2p":
            _encode_csi2p_12(data, view, tables, planes)
        case "u16-left":
            _encode_u16(data, view, tables, planes, 16 - bit_depth, 2**bit_depth - 1)
        case _:
            _encode_u16(data, view, tables, planes, 0, 2**bit_depth - 1)


@njit(nogil=True, cache=True)
def _encode_u8(data: NDArray[np.uint8], out: NDArray[Any], tables: NDArray[Any], planes: NDArray[np.int64]) -> None:
    for i in range(out.shape[0]):
        for y in range(2):
            left, right = planes[2 * y], planes[2 * y + 1]
            for j in range(out.shape[1]):
                out[i, j, left] = tables[left, data[2 * i + y, 2 * j]]
                out[i, j, right] = tables[right, data[2 * i + y, 2 * j + 1]]


@njit(nogil=True, cache=True)
def _encode_u16(
    data: NDArray[np.uint8],
    out: NDArray[Any],
    tables: NDArray[Any],
    planes: NDArray[np.int64],
    shift: int,
    highest: int,
) -> None:
    for i in range(out.shape[0]):
        for y in range(2):
            left, right = planes[2 * y], planes[2 * y + 1]
            row = 2 * i + y
            for j in range(out.shape[1]):
                a = (np.int32(data[row, 4 * j]) | (np.int32(data[row, 4 * j + 1]) << 8)) >> shift
                b = (np.int32(data[row, 4 * j + 2]) | (np.int32(data[row, 4 * j + 3]) << 8)) >> shift
                out[i, j, left] = tables[left, a if a < highest else highest]
                out[i, j, right] = tables[right, b if b < highest else highest]


@njit(nogil=True, cache=True)
def _encode_csi2p_10(
    data: NDArray[np.uint8], out: NDArray[Any], tables: NDArray[Any], planes: NDArray[np.int64]
) -> None:
    columns = out.shape[1]
    for i in range(out.shape[0]):
        for y in range(2):
            left, right = planes[2 * y], planes[2 * y + 1]
            row = 2 * i + y
            for group in range(columns // 2):
                base = 5 * group
                low = np.int32(data[row, base + 4])
                out[i, 2 * group, left] = tables[left, (np.int32(data[row, base]) << 2) | (low & 3)]
                out[i, 2 * group, right] = tables[right, (np.int32(data[row, base + 1]) << 2) | ((low >> 2) & 3)]
                out[i, 2 * group + 1, left] = tables[left, (np.int32(data[row, base + 2]) << 2) | ((low >> 4) & 3)]
                out[i, 2 * group + 1, right] = tables[right, (np.int32(data[row, base + 3]) << 2) | (low >> 6)]
            if columns % 2:
                base = columns // 2 * 5
                low = np.int32(data[row, base + 4])
                out[i, columns - 1, left] = tables[left, (np.int32(data[row, base]) << 2) | (low & 3)]
                out[i, columns - 1, right] = tables[right, (np.int32(data[row, base + 1]) << 2) | ((low >> 2) & 3)]


@njit(nogil=True, cache=True)
def _encode_csi2p_12(
    data: NDArray[np.uint8], out: NDArray[Any], tables: NDArray[Any], planes: NDArray[np.int64]
) -> None:
    for i in range(out.shape[0]):
        for y in range(2):
            left, right = planes[2 * y], planes[2 * y + 1]
            row = 2 * i + y
            for j in range(out.shape[1]):
                low = np.int32(data[row, 3 * j + 2])
                out[i, j, left] = tables[left, (np.int32(data[row, 3 * j]) << 4) | (low & 15)]
                out[i, j, right] = tables[right, (np.int32(data[row, 3 * j + 1]) << 4) | (low >> 4)]
