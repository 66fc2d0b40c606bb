"""How RAW codes lie in a row of bytes; `docs/kernels.md` draws each layout bit by bit.

packing        bit depths   pixels in bytes
"u8"           8            1 in 1
"u16"          8 to 16      1 in 2, little-endian, right-aligned
"u16-left"     8 to 16      1 in 2, little-endian, left-aligned (Raspberry Pi 5)
"csi2p"        8            1 in 1
               10           4 in 5: four bytes of high bits, then one of the low bits, pixel 0 lowest
               12           2 in 3: two bytes of high bits, then one of the low bits, pixel 0 lowest
               14           4 in 7: four bytes of high bits, then three of the low bits, pixel 0 lowest
"pisp-comp1"   16           8 in 8: lossy (Raspberry Pi 5, mode 1); decompresses to 16 bits, left-aligned, black at 4096

(MIPI CSI-2, RAW8 to RAW14; V4L2_PIX_FMT_SRGGB10P and its kin; V4L2_PIX_FMT_PISP_COMP1_RGGB.)

A monochrome sensor's rows have the same layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PACKINGS = ("u8", "u16", "u16-left", "csi2p", "pisp-comp1")

_BIT_DEPTHS: dict[str, tuple[int, ...]] = {
    "u8": (8,),
    "u16": tuple(range(8, 17)),
    "u16-left": tuple(range(8, 17)),
    "csi2p": (8, 10, 12, 14),
    "pisp-comp1": (16,),
}

# Pixels and bytes of the smallest whole group of a layout.
_GROUPS: dict[tuple[str, int], tuple[int, int]] = {
    ("csi2p", 10): (4, 5),
    ("csi2p", 12): (2, 3),
    ("csi2p", 14): (4, 7),
    ("pisp-comp1", 16): (8, 8),
}

# The colour planes of an encoded frame are R, Gr, Gb, B; Gr is the green that shares its row with red.
# For each CFA order, named from pixel (0,0): the plane of each place in the 2x2 cell, row by row.
CELL_PLANES: dict[str, tuple[int, int, int, int]] = {
    "RGGB": (0, 1, 2, 3),
    "GRBG": (1, 0, 3, 2),
    "GBRG": (2, 3, 0, 1),
    "BGGR": (3, 2, 1, 0),
}

# The kinds of row that `kernels.rows` tells apart.
KIND_U8, KIND_U16, KIND_RAW10, KIND_RAW12, KIND_RAW14, KIND_PISP = range(6)


class RowPlan(NamedTuple):
    """How to read the pixels of a window out of a row; made by `plan_rows`, all plain integers for the kernels.

    Attributes:
        kind: one of the KIND constants.
        shift, highest: of 16-bit words: code = min(word >> shift, highest).
        stride: bytes from one row to the next.
        first_byte: where the first whole group of pixels that is read begins, in the first row of the window.
        bytes: how many are read of a row.
        pixels: how many these bytes hold.
        skip: pixels of the first group left of the window; even.
    """

    kind: int
    shift: int
    highest: int
    stride: int
    first_byte: int
    bytes: int
    pixels: int
    skip: int


def check_layout(packing: str, bit_depth: int) -> None:
    """Raises ValueError, with what there is, for a packing or a bit depth that is not known."""
    if packing not in PACKINGS:
        raise ValueError(f"packing must be one of {', '.join(PACKINGS)}, found '{packing}'")
    depths = _BIT_DEPTHS[packing]
    if bit_depth not in depths:
        raise ValueError(f"bit depth of packing '{packing}' must be one of {depths}, found {bit_depth}")


def row_bytes(packing: str, bit_depth: int, width: int) -> int:
    """Bytes that a row of `width` pixels takes without padding: the smallest stride.

    Raises:
        ValueError: the packing or the bit depth is not known.
    """
    pixels, size = group(packing, bit_depth)
    return -(-width // pixels) * size


def group(packing: str, bit_depth: int) -> tuple[int, int]:
    """Pixels and bytes of the smallest whole group of a layout.

    Raises:
        ValueError: the packing or the bit depth is not known.
    """
    check_layout(packing, bit_depth)
    return _GROUPS.get((packing, bit_depth), (1, 2 if packing.startswith("u16") else 1))


def plan_rows(
    data: NDArray[np.uint8], *, packing: str, bit_depth: int, left: int, top: int, width: int, height: int
) -> tuple[NDArray[np.uint8], RowPlan]:
    """The bytes of a frame as the kernels take them (flat, read-only), and the plan to read a window of it.

    Args:
        data: uint8 (rows, stride): the rows that hold the window, and any others; rows contiguous in themselves.
        left, top: the window's first pixel in `data`; even, so that the CFA order stays the same.
        width, height: of the window, in pixels.

    Raises:
        ValueError: the layout is not known, or the buffer does not hold the window.
    """
    pixels, size = group(packing, bit_depth)
    if width < 1 or height < 1:
        raise ValueError(f"a frame must have at least one pixel, found {width}x{height}")
    if left < 0 or top < 0 or left % 2 or top % 2:
        raise ValueError(f"a window must begin at an even, not negative pixel, found {left}, {top}")
    needed = row_bytes(packing, bit_depth, left + width)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[0] < top + height or data.shape[1] < needed:
        raise ValueError(
            f"{width}x{height} pixels at {left}, {top} of packing '{packing}' and {bit_depth} bits need bytes of "
            f"shape (at least {top + height}, at least {needed}), found {data.dtype} {data.shape}"
        )
    if data.strides[1] != 1 or (data.shape[0] > 1 and data.strides[0] < data.shape[1]):
        raise ValueError(f"rows of bytes must be contiguous and in order, found strides {data.strides}")
    stride = data.strides[0] if data.shape[0] > 1 else data.shape[1]
    flat: NDArray[np.uint8] = np.lib.stride_tricks.as_strided(
        data, ((data.shape[0] - 1) * stride + data.shape[1],), (1,), writeable=False
    )
    # A window that begins inside a group is read from the group's beginning.
    first_group = left // pixels
    read_bytes = needed - first_group * size
    return flat, RowPlan(
        kind=_kind(packing, bit_depth),
        shift=16 - bit_depth if packing == "u16-left" else 0,
        highest=2**bit_depth - 1,
        stride=stride,
        first_byte=top * stride + first_group * size,
        bytes=read_bytes,
        pixels=read_bytes // size * pixels,
        skip=left - first_group * pixels,
    )


def _kind(packing: str, bit_depth: int) -> int:
    if packing == "pisp-comp1":
        return KIND_PISP
    if packing.startswith("u16"):
        return KIND_U16
    return {8: KIND_U8, 10: KIND_RAW10, 12: KIND_RAW12, 14: KIND_RAW14}[bit_depth]


def flips_to_rggb(cfa: str) -> tuple[bool, bool]:
    """Whether to mirror a frame (vertically, horizontally) so that its CFA order becomes RGGB.

    With even sizes a mirrored GRBG, GBRG or BGGR mosaic *is* an RGGB mosaic of the mirrored scene: a
    network that learnt on RGGB sees every colour exactly where it expects it, no row or column is lost,
    and the picture is mirrored back.

    Raises:
        ValueError: the CFA order is not known.
    """
    check_cfa(cfa)
    return {"RGGB": (False, False), "GRBG": (False, True), "GBRG": (True, False), "BGGR": (True, True)}[cfa]


def red_place(cfa: str) -> tuple[int, int]:
    """Row and column of red in the 2x2 cell.

    Raises:
        ValueError: the CFA order is not known.
    """
    check_cfa(cfa)
    row, column = divmod(CELL_PLANES[cfa].index(0), 2)
    return row, column


def check_cfa(cfa: str) -> None:
    """Raises ValueError, with what there is, for a CFA order that is not known."""
    if cfa not in CELL_PLANES:
        raise ValueError(f"CFA order must be one of {', '.join(CELL_PLANES)}, found '{cfa}'")


def check_cells(width: int, height: int) -> None:
    """Raises ValueError where a size is not whole 2x2 cells."""
    if width % 2 or height % 2:
        raise ValueError(f"width and height must be even, found {width}x{height}")


def check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any] | type, shape: Sequence[int]) -> None:
    """Raises ValueError for an array that is not C-contiguous, of that dtype and that shape."""
    if array.shape != tuple(shape) or array.dtype != dtype or not array.flags.c_contiguous:
        expected = f"C-contiguous {np.dtype(dtype)} {tuple(shape)}"
        order = "" if array.flags.c_contiguous else ", not C-contiguous"
        raise ValueError(f"{name} must be {expected}, found {array.dtype} {array.shape}{order}")


def check_rows(rows: tuple[int, int] | None, count: int) -> tuple[int, int]:
    """First and last (exclusive) of the rows to do: all where `rows` is None.

    Raises:
        ValueError: they are not within 0 to `count`.
    """
    first, last = rows if rows is not None else (0, count)
    if not 0 <= first <= last <= count:
        raise ValueError(f"rows must be (first, last) within 0 and {count}, found {rows}")
    return first, last


def row_ranges(count: int, parts: int) -> list[tuple[int, int]]:
    """`count` rows split into `parts` ranges as even as can be: one call of a kernel for each thread of a pool."""
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written: numba compiles a kernel anew for arrays that differ in this."""
    view = array.view()
    view.flags.writeable = False
    return view
