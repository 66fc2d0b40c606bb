"""The kernels once more, as plainly as NumPy can say them: what the fast ones must equal bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from edge_isp.kernels.layout import CELL_PLANES
from numpy.typing import NDArray


def unpack(data: NDArray[np.uint8], *, width: int, height: int, packing: str, bit_depth: int) -> NDArray[np.uint16]:
    """See `kernels.unpack.unpack`."""
    rows = data[:height].astype(np.uint16)
    highest = 2**bit_depth - 1
    if packing == "u8":
        return rows[:, :width]
    if packing == "csi2p":
        per_group = 4 if bit_depth == 10 else 2
        low_bits = bit_depth - 8
        groups = -(-width // per_group)
        cells = rows[:, : groups * (per_group + 1)].reshape(height, groups, per_group + 1)
        shifts = np.arange(per_group, dtype=np.uint16) * np.uint16(low_bits)
        low = (cells[..., per_group:] >> shifts) & np.uint16(2**low_bits - 1)
        codes = (cells[..., :per_group] << np.uint16(low_bits)) | low
        return codes.reshape(height, -1)[:, :width].astype(np.uint16)
    codes = rows[:, 0 : 2 * width : 2] | (rows[:, 1 : 2 * width : 2] << np.uint16(8))
    if packing == "u16-left":
        return codes >> np.uint16(16 - bit_depth)
    return np.minimum(codes, np.uint16(highest))


def encode(
    data: NDArray[np.uint8],
    *,
    width: int,
    height: int,
    packing: str,
    bit_depth: int,
    cfa: str,
    tables: NDArray[Any],
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
) -> NDArray[Any]:
    """See `kernels.encode.encode`."""
    codes = unpack(data, width=width, height=height, packing=packing, bit_depth=bit_depth)
    out = np.empty((height // 2, width // 2, 4), tables.dtype)
    for place, plane in enumerate(CELL_PLANES[cfa]):
        y, x = divmod(place, 2)
        out[..., plane] = tables[plane][codes[y::2, x::2]]
    if flip_vertical:
        out = out[::-1]
    if flip_horizontal:
        out = out[:, ::-1]
    return out


def decode_rgb(
    planes: NDArray[np.int8],
    table: NDArray[np.uint8],
    *,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
) -> NDArray[np.uint8]:
    """See `kernels.decode.decode_rgb`."""
    height, width, _ = planes.shape
    values = table[planes.astype(np.int16) + 128]
    picture = values.reshape(height, width, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, 3)
    if flip_vertical:
        picture = picture[::-1]
    if flip_horizontal:
        picture = picture[:, ::-1]
    return picture


def replace_defects(codes: NDArray[np.uint16], defects: NDArray[np.int32]) -> NDArray[np.uint16]:
    """See `kernels.defects.replace_defects`, on unpacked codes (height, width)."""
    height, width = codes.shape
    listed = {(int(x), int(y)) for x, y in defects}
    out = codes.copy()
    for x, y in listed:
        places = [(x + 2, y), (x - 2, y), (x, y + 2), (x, y - 2)]
        near = sorted(
            int(codes[j, i]) for i, j in places if 0 <= i < width and 0 <= j < height and (i, j) not in listed
        )
        if near:
            out[y, x] = (near[(len(near) - 1) // 2] + near[len(near) // 2] + 1) // 2
    return out


def replace_hot_pixels(codes: NDArray[np.uint16], *, threshold: int, factor: float = 2.0) -> NDArray[np.uint16]:
    """See `kernels.defects.replace_hot_pixels`."""
    out = codes.copy()
    if min(codes.shape) < 5:
        return out
    height, width = codes.shape
    shifts = [(j, i) for j in (0, 2, 4) for i in (0, 2, 4) if (j, i) != (2, 2)]
    near = np.stack([codes[j : height - 4 + j, i : width - 4 + i] for j, i in shifts]).astype(np.int64)
    highest, lowest = near.max(axis=0), near.min(axis=0)
    above = codes[2:-2, 2:-2] - highest
    hot = (above > threshold) & (above > factor * (highest - lowest))
    out[2:-2, 2:-2] = np.where(hot, highest, codes[2:-2, 2:-2])
    return out
