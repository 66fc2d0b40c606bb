"""Defective pixels replaced by their neighbours.

Listed pixels are replaced in the packed bytes, in place: a few hundred look-ups, where unpacking to 16-bit codes would
cost a pass over the whole frame, and `encode` reads packed bytes. Isolated hot pixels that are not listed are found in
16-bit codes: looking at every pixel needs that pass anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, row_bytes

# Packings, numbered for the kernel below.
_KINDS = {"u8": 0, "u16": 1, "u16-left": 2, "csi2p": 3}
_CSI2P_BIT_DEPTHS = (10, 12)


def replace_defects(data: NDArray[np.uint8], defects: NDArray[np.int32], layout: RawLayout) -> None:
    """Replaces listed pixels in packed bytes by the median of their neighbours of the same colour.

    Neighbours are the pixels two to the left and right and two above and below; those outside the frame and those that
    are listed themselves are left out. Of an even number the median is the mean of the middle two, halves rounded up.
    A pixel without a neighbour stays as it is.

    Args:
        data: uint8 (at least height, at least the row's bytes), written in place; rows may be padded.
        defects: int32 (n, 2), x and y of each in pixels, sorted by y, then x, each once; see `defect_list`.
        layout: of the whole frame.

    Raises:
        ValueError: The packing cannot be patched, the layout is that of a window, the bytes cannot be written, or a
            pixel lies outside the frame.
    """
    packing, bit_depth, width, height = layout.packing, layout.bit_depth, layout.width, layout.height
    if packing not in _KINDS or (packing == "csi2p" and bit_depth not in _CSI2P_BIT_DEPTHS):
        raise ValueError(f"defects cannot be replaced in packing '{packing}' of {bit_depth} bits")
    if layout.left or layout.top:
        raise ValueError(f"defects are replaced in whole frames, found a window at {layout.left}, {layout.top}")
    needed = (height, row_bytes(packing, bit_depth, width))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        raise ValueError(f"data must be a NumPy array of uint8, found {getattr(data, 'dtype', type(data).__name__)}")
    if data.ndim != 2 or data.shape[0] < needed[0] or data.shape[1] < needed[1]:
        raise ValueError(f"data must be bytes of shape {needed} at least, found {data.shape}")
    if not data.flags.writeable:
        raise ValueError("defects are replaced in place: data must be writeable")
    if not isinstance(defects, np.ndarray):
        raise ValueError(f"defects must be a NumPy array, found {type(defects).__name__}")
    if np.may_share_memory(data, defects):
        raise ValueError("data is written: it must not share memory with defects")
    if defects.ndim != 2 or defects.shape[1] != 2 or defects.dtype != np.int32:
        raise ValueError(f"defects must be int32 (n, 2), found {defects.dtype} {defects.shape}")
    if len(defects) == 0:
        return
    if defects.min() < 0 or defects[:, 0].max() >= width or defects[:, 1].max() >= height:
        raise ValueError(f"defects must lie inside the {width}x{height} frame, found {defects.max(axis=0).tolist()}")
    keys = defects[:, 1].astype(np.int64) * width + defects[:, 0]
    if np.any(np.diff(keys) <= 0):
        raise ValueError("defects must be sorted by y, then x, each once")
    _replace_defects(data, keys, width, height, _KINDS[packing], bit_depth)


def defect_list(places: Iterable[tuple[int, int]]) -> NDArray[np.int32]:
    """The list that `replace_defects` takes: int32 (n, 2), sorted by y, then x, each once.

    Args:
        places: pairs x, y in pixels, in any order.
    """
    unique = sorted({(int(y), int(x)) for x, y in places})
    return np.array([(x, y) for y, x in unique], np.int32).reshape(-1, 2)


def replace_hot_pixels(
    codes: NDArray[np.uint16], out: NDArray[np.uint16], *, threshold: int, factor: float = 2.0
) -> int:
    """Replaces isolated hot pixels in 16-bit codes; returns how many.

    A pixel is hot where it lies above its brightest neighbour of the same colour (the eight at a distance of two) by
    more than `threshold` codes and by more than `factor` times the spread of these neighbours: an edge or a texture
    spreads them, and is left alone. It becomes as bright as the brightest of them. The outermost two rows
    and columns stay as they are.

    Args:
        codes: uint16 (height, width).
        out: uint16 (height, width), which shares no memory with `codes`; written whole.
        threshold: in codes; about six standard deviations of the noise.
        factor: multiple of the neighbours' spread, from the darkest to the brightest.

    Raises:
        ValueError: The arrays have other shapes or dtypes, or share memory.
    """
    for name, array in (("codes", codes), ("out", out)):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} must be a NumPy array, found {type(array).__name__}")
    if codes.ndim != 2 or codes.dtype != np.uint16 or out.shape != codes.shape or out.dtype != np.uint16:
        raise ValueError(
            f"codes and out must be uint16 of one shape, found {codes.dtype} {codes.shape} and {out.dtype} {out.shape}"
        )
    if np.may_share_memory(codes, out):
        raise ValueError("out must be another array than codes")
    if not out.flags.writeable:
        raise ValueError("out is written: it must not be read-only")
    return int(_replace_hot_pixels(codes, out, threshold, factor))


@kernel
def _read(data: NDArray[np.uint8], x: int, y: int, kind: int, bit_depth: int) -> Any:
    if kind == 0:
        return np.int32(data[y, x])
    if kind == 1 or kind == 2:
        code = np.int32(data[y, 2 * x]) | (np.int32(data[y, 2 * x + 1]) << 8)
        if kind == 2:
            return code >> (16 - bit_depth)
        return min(code, (1 << bit_depth) - 1)
    if bit_depth == 10:
        low = np.int32(data[y, x // 4 * 5 + 4]) >> (2 * (x % 4))
        return (np.int32(data[y, x // 4 * 5 + x % 4]) << 2) | (low & 3)
    low = np.int32(data[y, x // 2 * 3 + 2]) >> (4 * (x % 2))
    return (np.int32(data[y, x // 2 * 3 + x % 2]) << 4) | (low & 15)


@kernel
def _write(data: NDArray[np.uint8], x: int, y: int, kind: int, bit_depth: int, code: int) -> None:
    if kind == 0:
        data[y, x] = code
    elif kind == 1 or kind == 2:
        word = code << (16 - bit_depth) if kind == 2 else code
        data[y, 2 * x] = word & 255
        data[y, 2 * x + 1] = word >> 8
    elif bit_depth == 10:
        shift = 2 * (x % 4)
        low = x // 4 * 5 + 4
        data[y, x // 4 * 5 + x % 4] = code >> 2
        data[y, low] = (data[y, low] & (255 ^ (3 << shift))) | ((code & 3) << shift)
    else:
        shift = 4 * (x % 2)
        low = x // 2 * 3 + 2
        data[y, x // 2 * 3 + x % 2] = code >> 4
        data[y, low] = (data[y, low] & (255 ^ (15 << shift))) | ((code & 15) << shift)


@kernel
def _listed(keys: NDArray[np.int64], key: int) -> Any:
    place = np.searchsorted(keys, key)
    return place < len(keys) and keys[place] == key


@kernel
def _replace_defects(
    data: NDArray[np.uint8], keys: NDArray[np.int64], width: int, height: int, kind: int, bit_depth: int
) -> None:
    near = np.empty(4, np.int64)
    for key in keys:
        y, x = key // width, key % width
        count = 0
        for k in range(4):
            other_x = x + (2 if k == 0 else -2 if k == 1 else 0)
            other_y = y + (2 if k == 2 else -2 if k == 3 else 0)
            inside = 0 <= other_x < width and 0 <= other_y < height
            if inside and not _listed(keys, other_y * width + other_x):
                near[count] = _read(data, other_x, other_y, kind, bit_depth)
                count += 1
        if count == 0:
            continue
        ordered = np.sort(near[:count])
        code = (ordered[(count - 1) // 2] + ordered[count // 2] + 1) // 2
        _write(data, x, y, kind, bit_depth, code)


@kernel
def _replace_hot_pixels(codes: NDArray[np.uint16], out: NDArray[np.uint16], threshold: int, factor: float) -> int:
    height, width = codes.shape
    replaced = 0
    for y in range(height):
        for x in range(width):
            code = np.int32(codes[y, x])
            if 2 <= y < height - 2 and 2 <= x < width - 2:
                highest, lowest = np.int32(0), np.int32(65535)
                for j in range(-2, 3, 2):
                    for i in range(-2, 3, 2):
                        if i != 0 or j != 0:
                            other = np.int32(codes[y + j, x + i])
                            highest = max(highest, other)
                            lowest = min(lowest, other)
                above = code - highest
                if above > threshold and above > factor * (highest - lowest):
                    code = highest
                    replaced += 1
            out[y, x] = code
    return replaced
