"""16-bit codes to RAW bytes: what a sensor does. For recordings and simulation, not for speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.layout import group, row_bytes


def pack(codes: NDArray[np.uint16], *, packing: str, bit_depth: int, stride: int | None = None) -> NDArray[np.uint8]:
    """Codes to RAW bytes, uint8 (height, stride); padding is 0.

    Args:
        codes: uint16 (height, width).
        packing: see `kernels.layout`.
        bit_depth: significant bits of a code.
        stride: bytes from one row to the next; by default rows have no padding.

    Raises:
        ValueError: The packing is not known or cannot be packed ("pisp-comp1"), the stride is too small, the array has
            the wrong shape or dtype, or a code exceeds the bit depth.
    """
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype != np.uint16:
        found = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise ValueError(f"codes must be a NumPy array of uint16 (height, width), found {found}")
    height, width = codes.shape
    needed = row_bytes(packing, bit_depth, width)
    if packing == "pisp-comp1":
        raise ValueError("'pisp-comp1' can be read but not packed; pack 'u16' instead")
    if stride is not None and stride < needed:
        raise ValueError(f"stride must be at least {needed} bytes for {width} pixels, found {stride}")
    if codes.size and int(codes.max()) >= 2**bit_depth:
        raise ValueError(f"codes must be below {2**bit_depth}, found {int(codes.max())}")
    out = np.zeros((height, stride or needed), np.uint8)
    match packing:
        case "u8" | "csi2p" if bit_depth == 8:
            out[:, :width] = codes
        case "csi2p":
            per_group, group_bytes = group(packing, bit_depth)
            groups = needed // group_bytes
            low_bits = bit_depth - 8
            padded = np.zeros((height, groups, per_group), np.uint32)
            padded.reshape(height, -1)[:, :width] = codes
            cells = out[:, :needed].reshape(height, groups, group_bytes)
            cells[..., :per_group] = padded >> low_bits
            low = (padded & (2**low_bits - 1)) << (np.arange(per_group, dtype=np.uint32) * low_bits)
            low = low.sum(-1)
            for byte in range(per_group, group_bytes):
                cells[..., byte] = (low >> (8 * (byte - per_group))) & 255
            out[:, :needed] = cells.reshape(height, needed)
        case _:
            shift = 16 - bit_depth if packing == "u16-left" else 0
            words = np.ascontiguousarray(codes << shift).astype("<u2")
            out[:, :needed] = words.view(np.uint8).reshape(height, needed)
    return out
