"""How RAW codes lie in a row of bytes; `docs/kernels.md` draws each packing bit by bit.

packing        bit depths   pixels in bytes
"u8"           8            1 in 1
"u16"          8 to 16      1 in 2, little-endian, right-aligned
"u16-left"     8 to 16      1 in 2, little-endian, left-aligned (Raspberry Pi 5)
"csi2p"        8            1 in 1
               10           4 in 5: four bytes of high bits, then one of the low bits, pixel 0 lowest
               12           2 in 3: two bytes of high bits, then one of the low bits, pixel 0 lowest
               14           4 in 7: four bytes of high bits, then three of the low bits, pixel 0 lowest
"pisp-comp1"   16           8 in 8: lossy (Raspberry Pi 5, mode 1); decompresses to 16 bits, left-aligned, black at 4096

(MIPI CSI-2, RAW8 to RAW14; V4L2_PIX_FMT_SRGGB10P and its siblings; V4L2_PIX_FMT_PISP_COMP1_RGGB.)

A monochrome sensor's rows have the same packings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Sides of cells in pixels that there are.
CELLS = (2, 4)

_BIT_DEPTHS: dict[str, tuple[int, ...]] = {
    "u8": (8,),
    "u16": tuple(range(8, 17)),
    "u16-left": tuple(range(8, 17)),
    "csi2p": (8, 10, 12, 14),
    "pisp-comp1": (16,),
}

PACKINGS = tuple(_BIT_DEPTHS)

# Pixels and bytes of the smallest whole group of a packing.
_GROUPS: dict[tuple[str, int], tuple[int, int]] = {
    ("csi2p", 10): (4, 5),
    ("csi2p", 12): (2, 3),
    ("csi2p", 14): (4, 7),
    ("pisp-comp1", 16): (8, 8),
}

# The project's one table of CFA orders, which are named from pixel (0,0), row by row. The colour planes of an encoded
# frame are R, Gr, Gb, B; Gr is the green that shares its row with red. For each order: the plane of each place in the
# 2x2 cell, row by row.
CELL_PLANES: dict[str, tuple[int, int, int, int]] = {
    "RGGB": (0, 1, 2, 3),
    "GRBG": (1, 0, 3, 2),
    "GBRG": (2, 3, 0, 1),
    "BGGR": (3, 2, 1, 0),
}

# The colour of each plane, as an index into RGB.
PLANE_COLOURS = (0, 1, 1, 2)

# The kinds of row that `kernels.rows` distinguishes.
KIND_U8, KIND_U16, KIND_RAW10, KIND_RAW12, KIND_RAW14, KIND_PISP = range(6)


@dataclass(frozen=True, slots=True)
class RawLayout:
    """Where the pixels of a window lie in the bytes of a frame: what every kernel that reads RAW bytes takes.

    The window is the whole frame where `left` and `top` are 0.

    Attributes:
        width: of the window, in pixels.
        height: of the window, in pixels.
        packing: how codes lie in bytes, one of `PACKINGS`.
        bit_depth: significant bits of a code.
        cfa: colour order from pixel (0,0), one of `CELL_PLANES`; "RGGB" for a monochrome sensor, whose pixels then
            keep their reading order.
        left: column of the window's first pixel in the frame; even, so that the CFA order stays the same.
        top: row of the window's first pixel in the frame; even, so that the CFA order stays the same.

    Raises:
        ValueError: The packing, the bit depth or the CFA order is not known, the window is empty, it begins at an odd
            or negative pixel, or a size is not a whole number.
    """

    width: int
    height: int
    packing: str
    bit_depth: int
    cfa: str
    left: int = 0
    top: int = 0

    def __post_init__(self) -> None:
        check_layout(self.packing, self.bit_depth)
        check_cfa(self.cfa)
        for name in ("width", "height", "left", "top"):
            if not isinstance(getattr(self, name), (int, np.integer)):
                raise ValueError(f"{name} must be a whole number of pixels, found {getattr(self, name)!r}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a frame must have at least one pixel, found {self.width}x{self.height}")
        if self.left < 0 or self.top < 0 or self.left % 2 or self.top % 2:
            raise ValueError(f"a window must begin at an even, not negative pixel, found {self.left}, {self.top}")

    @property
    def highest(self) -> int:
        """The highest code of the bit depth."""
        return int(2**self.bit_depth) - 1

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of whole 2x2 cells in the window.

        Raises:
            ValueError: The width or the height is odd.
        """
        if self.width % 2 or self.height % 2:
            raise ValueError(f"width and height must be even, found {self.width}x{self.height}")
        return self.height // 2, self.width // 2


class RowPlan(NamedTuple):
    """How to read the pixels of a window out of a row; made by `plan_rows`, all plain integers for the kernels.

    Attributes:
        kind: one of the KIND constants.
        shift: of 16-bit words: code = min(word >> shift, highest).
        highest: of 16-bit words: the highest code.
        stride: bytes from one row to the next.
        first_byte: where the first whole group of pixels that is read begins, in the first row of the window.
        bytes: how many are read of a row.
        pixels: how many these bytes hold.
        skip: pixels of the first group left of the window; even.
        red_row: row of red in the 2x2 cell.
        red_column: column of red in the 2x2 cell.
    """

    kind: int
    shift: int
    highest: int
    stride: int
    first_byte: int
    bytes: int
    pixels: int
    skip: int
    red_row: int
    red_column: int


class Flips(NamedTuple):
    """Whether to mirror a frame.

    Attributes:
        vertical: the first row becomes the last.
        horizontal: the first column becomes the last.
    """

    vertical: bool
    horizontal: bool


def check_layout(packing: str, bit_depth: int) -> None:
    """Refuses a packing or a bit depth that is not known.

    Args:
        packing: expected to be one of `PACKINGS`.
        bit_depth: expected to be one that this packing has.

    Raises:
        ValueError: It is not known; the message lists the known ones.
    """
    if packing not in PACKINGS:
        raise ValueError(f"packing must be one of {', '.join(PACKINGS)}, found '{packing}'")
    depths = _BIT_DEPTHS[packing]
    if bit_depth not in depths:
        raise ValueError(f"bit depth of packing '{packing}' must be one of {depths}, found {bit_depth}")


def row_bytes(packing: str, bit_depth: int, width: int) -> int:
    """Bytes that a row of pixels takes without padding: the smallest stride.

    Args:
        packing: one of `PACKINGS`.
        bit_depth: significant bits of a code.
        width: of the row, in pixels.

    Raises:
        ValueError: The packing or the bit depth is not known.
    """
    pixels, size = group(packing, bit_depth)
    return -(-width // pixels) * size


def group(packing: str, bit_depth: int) -> tuple[int, int]:
    """Pixels and bytes of the smallest whole group of a packing.

    Args:
        packing: one of `PACKINGS`.
        bit_depth: significant bits of a code.

    Raises:
        ValueError: The packing or the bit depth is not known.
    """
    check_layout(packing, bit_depth)
    return _GROUPS.get((packing, bit_depth), (1, 2 if packing.startswith("u16") else 1))


def plan_rows(data: NDArray[np.uint8], layout: RawLayout) -> tuple[NDArray[np.uint8], RowPlan]:
    """The bytes of a frame as the kernels take them (flat, read-only), and the plan to read a window of it.

    Args:
        data: uint8 (rows, stride): the rows that hold the window, and any others; the bytes of a row are contiguous.
        layout: of the window.

    Raises:
        ValueError: The buffer does not hold the window, or its rows are not contiguous.
    """
    pixels, size = group(layout.packing, layout.bit_depth)
    width, height, left, top = layout.width, layout.height, layout.left, layout.top
    needed = row_bytes(layout.packing, layout.bit_depth, left + width)
    if not isinstance(data, np.ndarray):
        raise ValueError(f"data must be a NumPy array, found {type(data).__name__}")
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[0] < top + height or data.shape[1] < needed:
        raise ValueError(
            f"data of {width}x{height} pixels at {left}, {top} of packing '{layout.packing}' and {layout.bit_depth} "
            f"bits must be uint8 of shape (at least {top + height}, at least {needed}), found {data.dtype} {data.shape}"
        )
    if data.strides[1] != 1 or (data.shape[0] > 1 and data.strides[0] < data.shape[1]):
        raise ValueError(f"data must have rows of contiguous bytes in order, found strides {data.strides}")
    stride = data.strides[0] if data.shape[0] > 1 else data.shape[1]
    flat: NDArray[np.uint8] = np.lib.stride_tricks.as_strided(
        data, ((data.shape[0] - 1) * stride + data.shape[1],), (1,), writeable=False
    )
    # A window that begins inside a group is read from the group's beginning.
    first_group = left // pixels
    read_bytes = needed - first_group * size
    red_row, red_column = red_place(layout.cfa)
    return flat, RowPlan(
        kind=_kind(layout.packing, layout.bit_depth),
        shift=16 - layout.bit_depth if layout.packing == "u16-left" else 0,
        highest=layout.highest,
        stride=stride,
        first_byte=top * stride + first_group * size,
        bytes=read_bytes,
        pixels=read_bytes // size * pixels,
        skip=left - first_group * pixels,
        red_row=red_row,
        red_column=red_column,
    )


def _kind(packing: str, bit_depth: int) -> int:
    if packing == "pisp-comp1":
        return KIND_PISP
    if packing.startswith("u16"):
        return KIND_U16
    return {8: KIND_U8, 10: KIND_RAW10, 12: KIND_RAW12, 14: KIND_RAW14}[bit_depth]


def flips_to_rggb(cfa: str) -> Flips:
    """How to mirror a frame so that its CFA order becomes RGGB.

    With even sizes a mirrored GRBG, GBRG or BGGR mosaic *is* an RGGB mosaic of the mirrored scene: a network that was
    trained on RGGB sees every colour exactly where it expects it, no row or column is lost, and the picture is
    mirrored back.

    Args:
        cfa: one of `CELL_PLANES`.

    Raises:
        ValueError: The CFA order is not known.
    """
    red_row, red_column = red_place(cfa)
    return Flips(vertical=red_row == 1, horizontal=red_column == 1)


def mirrored_cfa(cfa: str, *, vertical: bool, horizontal: bool) -> str:
    """The CFA order, from its new pixel (0,0), of a frame of even size that is mirrored.

    Args:
        cfa: one of `CELL_PLANES`, before mirroring.
        vertical: the first row becomes the last.
        horizontal: the first column becomes the last.

    Raises:
        ValueError: The CFA order is not known.
    """
    check_cfa(cfa)
    letters = str(cfa)
    if vertical:
        letters = letters[2:] + letters[:2]
    if horizontal:
        letters = letters[1] + letters[0] + letters[3] + letters[2]
    return letters


def red_place(cfa: str) -> tuple[int, int]:
    """Row and column of red in the 2x2 cell.

    Args:
        cfa: one of `CELL_PLANES`.

    Raises:
        ValueError: The CFA order is not known.
    """
    check_cfa(cfa)
    row, column = divmod(CELL_PLANES[cfa].index(0), 2)
    return row, column


def check_cfa(cfa: str) -> None:
    """Refuses a CFA order that is not known.

    Args:
        cfa: expected to be one of `CELL_PLANES`.

    Raises:
        ValueError: It is not known; the message lists the known ones.
    """
    if cfa not in CELL_PLANES:
        raise ValueError(f"CFA order must be one of {', '.join(CELL_PLANES)}, found '{cfa}'")


def row_ranges(count: int, parts: int) -> list[tuple[int, int]]:
    """Rows split into ranges of equal size, give or take one: one call of a kernel for each thread of a pool.

    Args:
        count: of all rows.
        parts: how many ranges to make.
    """
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written: numba compiles a kernel anew for arrays that differ in this."""
    view = array.view()
    view.flags.writeable = False
    return view


def input_size(width: int, height: int, *, cell: int = 2, multiple: int = 1) -> tuple[int, int]:
    """Rows and columns of the input for frames of a size.

    Args:
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        cell: side of a cell in pixels, one of `CELLS`.
        multiple: what the number of rows and columns must be a multiple of.

    Raises:
        ValueError: The cell's side is not known, or the multiple is not positive.
    """
    if cell not in CELLS or multiple < 1:
        raise ValueError(f"cell must be one of {CELLS} and multiple at least 1, found {cell} and {multiple}")
    side = cell * multiple
    return -(-height // side) * multiple, -(-width // side) * multiple
