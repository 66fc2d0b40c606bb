"""The classical picture: demosaicing, and white balance, colour matrix and tone curve around it.

A preview where there is no NPU, and the baseline that a network must beat. Malvar-He-Cutler is "High-quality linear
interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004. Beyond the window's edges the mosaic is
mirrored at its outermost pixels, which keeps every colour in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_matrix, check_output, check_rows
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, U16Array, read_row

METHODS = ("bilinear", "malvar")

# White in the linear codes between demosaicing and colour matrix, and entries of a tone table.
LINEAR_WHITE = 16383
TONE_ENTRIES = 4096

_NO_TABLES = read_only(np.zeros((4, 1), np.uint16))

# A row, split in two: the columns of the interpolated row's own colour (red or blue), then the columns of its green.
Columns = tuple[U16Array, U16Array]

# Rows of the mosaic around the interpolated one, from two above to two below.
Neighbourhood = tuple[Columns, Columns, Columns, Columns, Columns]

# The interpolated row's own colour (red or blue), green, and the other of red and blue.
RowColours = tuple[Columns, Columns, Columns]


def demosaic(
    data: NDArray[np.uint8],
    out: NDArray[np.uint16],
    layout: RawLayout,
    *,
    method: str = "malvar",
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to an RGB picture of codes: all three colours at each pixel, black level still in.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        out: uint16 (height, width, 3), C-contiguous.
        layout: of the window of `data` to read; its width and height are even, and at least 4 pixels.
        method: "malvar" (Malvar-He-Cutler) or "bilinear"; in whole numbers, rounded with halves up, clipped to 0 and
            the highest code.
        rows: first and last (exclusive) row of cells to do; by default all.

    Raises:
        ValueError: The method is not known, the window's size is odd or too small, or an array has the wrong shape or
            dtype.
    """
    cells_high, cells_wide = _check(layout, method)
    flat, plan = plan_rows(data, layout)
    check_output("out", out, np.uint16, (layout.height, layout.width, 3), data=data)
    # Malvar's sums are at most 28 codes of 10 bits, which 16 bits hold: twice as many lanes as 32.
    lane = np.int16 if layout.bit_depth <= 10 else np.int32
    sums = np.empty((4, cells_wide + 2), lane)
    _demosaic(flat, plan, out, method == "malvar", sums, lane(layout.highest), check_rows(rows, cells_high))


def develop(
    data: NDArray[np.uint8],
    out: NDArray[np.uint8],
    layout: RawLayout,
    *,
    tables: NDArray[np.uint16],
    matrix: NDArray[np.floating[Any]],
    tone: NDArray[np.uint8],
    method: str = "malvar",
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to an 8-bit RGB picture: black level and white balance, demosaicing, colour matrix, tone curve.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        out: uint8 (height, width, 3), C-contiguous.
        layout: of the window of `data` to read; its width and height are even, and at least 4 pixels.
        tables: uint16 (4, 2**bit_depth), at most `LINEAR_WHITE`: RAW code to white-balanced linear light, such as
            `encoding_table(..., curve="linear", scale=1 / LINEAR_WHITE, zero_point=0, dtype=np.uint16)`.
        matrix: 3x3, white-balanced camera RGB to linear RGB.
        tone: uint8 (4096,): the picture's value for linear light in steps of 1/4095 of white.
        method: "malvar" (Malvar-He-Cutler) or "bilinear", as for `demosaic`.
        rows: first and last (exclusive) row of cells to do; by default all.

    Raises:
        ValueError: The method is not known, the window's size is odd or too small, or an array has the wrong shape or
            dtype.
    """
    cells_high, _ = _check(layout, method)
    flat, plan = plan_rows(data, layout)
    check_array("tables", tables, np.uint16, (4, layout.highest + 1))
    check_array("tone", tone, np.uint8, (TONE_ENTRIES,))
    check_output("out", out, np.uint8, (layout.height, layout.width, 3), data=data, tables=tables, tone=tone)
    to_tone = (check_matrix(matrix) * ((TONE_ENTRIES - 1) / LINEAR_WHITE)).astype(np.float32)
    _develop(
        flat,
        plan,
        out,
        method == "malvar",
        read_only(tables),
        read_only(to_tone),
        read_only(tone),
        check_rows(rows, cells_high),
    )


def _check(layout: RawLayout, method: str) -> tuple[int, int]:
    """Rows and columns of cells, where the window and the method are ones that demosaicing takes."""
    cells = layout.cells
    if layout.width < 4 or layout.height < 4:
        raise ValueError(f"demosaicing needs at least 4x4 pixels, found {layout.width}x{layout.height}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, found '{method}'")
    return cells


@kernel
def _demosaic(
    flat: U8Array,
    plan: RowPlan,
    out: U16Array,
    malvar: bool,
    sums: NDArray[np.signedinteger[Any]],
    highest: np.signedinteger[Any],
    rows: tuple[int, int],
) -> None:
    height, cells = out.shape[0], out.shape[1] // 2
    ring = _ring(plan)
    lines = np.empty((3, 2, cells), np.uint16)
    upcoming = max(0, 2 * rows[0] - 2)
    for i in range(rows[0], rows[1]):
        upcoming = _advance(flat, plan, height, cells, (upcoming, 2 * i + 4), _NO_TABLES, ring)
        for y in range(2 * i, 2 * i + 2):
            _interpolate(ring, plan, y, height, malvar, highest, sums, lines)
            _write(lines, out[y])


@kernel
def _develop(
    flat: U8Array,
    plan: RowPlan,
    out: NDArray[np.uint8],
    malvar: bool,
    tables: U16Array,
    matrix: NDArray[np.float32],
    tone: NDArray[np.uint8],
    rows: tuple[int, int],
) -> None:
    height, cells = out.shape[0], out.shape[1] // 2
    ring = _ring(plan)
    lines = np.empty((3, 2, cells), np.uint16)
    sums = np.empty((4, cells + 2), np.int32)
    levels = np.empty(cells, np.uint16)
    upcoming = max(0, 2 * rows[0] - 2)
    for i in range(rows[0], rows[1]):
        upcoming = _advance(flat, plan, height, cells, (upcoming, 2 * i + 4), tables, ring)
        for y in range(2 * i, 2 * i + 2):
            _interpolate(ring, plan, y, height, malvar, np.int32(LINEAR_WHITE), sums, lines)
            line = out[y]
            for colour in range(3):
                for x in range(2):
                    _mix(lines[0, x], lines[1, x], lines[2, x], matrix[colour], levels)
                    for j in range(cells):
                        line[2 * j + x, colour] = tone[levels[j]]


@kernel
def _ring(plan: RowPlan) -> U16Array:
    """The last six rows of the mosaic, each as its even and its odd columns, with a column of margin at either end."""
    return np.empty((6, 2, (plan.pixels + 1) // 2 + 2), np.uint16)


@kernel
def _advance(
    flat: U8Array,
    plan: RowPlan,
    height: int,
    cells: int,
    rows: tuple[int, int],
    tables: U16Array,
    ring: U16Array,
) -> int:
    """Reads rows, through the tables where they hold more than one entry, into the ring.

    Args:
        flat: the frame's bytes, see `kernels.layout.plan_rows`.
        plan: see `kernels.layout.plan_rows`.
        height: of the window, in pixels.
        cells: in a row of the window.
        rows: first and last (exclusive) to read; those below the window are left out.
        tables: see `develop`.
        ring: see `_ring`.

    Returns:
        The row to read next.
    """
    first, last = rows[0], min(rows[1], height)
    begin = 1 + plan.skip // 2
    for y in range(first, last):
        even, odd = ring[y % 6, 0], ring[y % 6, 1]
        read_row(flat, plan, y, even[1:], odd[1:])
        if tables.shape[1] > 1:
            plane = 2 * ((y & 1) ^ plan.red_row)
            _look_up(even[begin : begin + cells], tables[plane + plan.red_column])
            _look_up(odd[begin : begin + cells], tables[plane + 1 - plan.red_column])
        even[begin - 1] = even[begin + 1]
        odd[begin - 1] = odd[begin]
        even[begin + cells] = even[begin + cells - 1]
        odd[begin + cells] = odd[begin + cells - 2]
    return max(first, last)


@kernel
def _look_up(codes: U16Array, table: U16Array) -> None:
    for j in range(len(codes)):
        codes[j] = table[codes[j]]


@kernel
def _interpolate(
    ring: U16Array,
    plan: RowPlan,
    y: int,
    height: int,
    malvar: bool,
    highest: np.signedinteger[Any],
    sums: NDArray[np.signedinteger[Any]],
    lines: U16Array,
) -> None:
    """The three colours of row `y`.

    Args:
        ring: the mosaic's rows, see `_ring`.
        plan: see `kernels.layout.plan_rows`.
        y: row of the window.
        height: of the window, in pixels.
        malvar: the method; bilinear otherwise.
        highest: code, of the sums' dtype.
        sums: scratch for Malvar's sums (4, cells + 2).
        lines: uint16 (3, 2, cells), written: red, green and blue, each as its even and its odd columns.
    """
    # The row's own colour is red or blue, at columns of parity `own`; green is at the others. Rows of the other colour
    # lie above and below, with green at `own`.
    row_has_red = (y & 1) == plan.red_row
    own = plan.red_column if row_has_red else 1 - plan.red_column
    begin = plan.skip // 2
    end = begin + lines.shape[2] + 2
    rows = (
        _columns(ring[abs(y - 2) % 6], own, begin, end),
        _columns(ring[abs(y - 1) % 6], own, begin, end),
        _columns(ring[y % 6], own, begin, end),
        _columns(ring[(y + 1 if y + 1 < height else height - 2) % 6], own, begin, end),
        _columns(ring[(y + 2 if y + 2 < height else 2 * height - 4 - y) % 6], own, begin, end),
    )
    cells = lines.shape[2]
    colours = (
        _columns(lines[0 if row_has_red else 2], own, 0, cells),
        _columns(lines[1], own, 0, cells),
        _columns(lines[2 if row_has_red else 0], own, 0, cells),
    )
    if malvar:
        _malvar(own, rows, highest, sums, colours)
    else:
        _bilinear(own, rows, colours)


@kernel
def _columns(row: U16Array, own: int, begin: int, end: int) -> Columns:
    """Columns `begin` to below `end` of a row that is split by parity: those of parity `own`, then the others."""
    return row[own, begin:end], row[1 - own, begin:end]


# In the two functions below "own" is the row's own colour (red or blue) and "other" the other of the two. The arrays of
# the mosaic begin one column left of the window: index j + 1 is column j. `own_parity` is the parity of the columns of
# the own colour: with 0 their green is on the right, with 1 on the left.


@kernel
def _malvar(
    own_parity: int,
    rows: Neighbourhood,
    highest: np.signedinteger[Any],
    sums: NDArray[np.signedinteger[Any]],
    colours: RowColours,
) -> None:
    # The paper's filters times two, in sixteenths. A loop for each output: LLVM gives up on vectors where it would have
    # to compare more than eight pairs of arrays for overlap.
    lane = sums.dtype.type
    zero = lane(0)
    own_above2, green_above2 = rows[0]
    green_above, other_above = rows[1]
    own, green = rows[2]
    green_below, other_below = rows[3]
    own_below2, green_below2 = rows[4]
    own_at_own, own_at_green = colours[0]
    green_at_own, green_at_green = colours[1]
    other_at_own, other_at_green = colours[2]
    cells = len(own_at_own)
    near_green, near_other, far_own, far_green = sums[0], sums[1], sums[2, :cells], sums[3, :cells]
    for j in range(len(near_green)):
        near_green[j] = lane(green_above[j]) + lane(green_below[j])
    for j in range(len(near_other)):
        near_other[j] = lane(other_above[j]) + lane(other_below[j])
    for j in range(len(far_own)):
        far_own[j] = lane(own[j]) + lane(own[j + 2]) + lane(own_above2[j + 1]) + lane(own_below2[j + 1])
    for j in range(len(far_green)):
        far_green[j] = lane(green_above2[j + 1]) + lane(green_below2[j + 1])
    green_parity = 1 - own_parity
    # The neighbours on the left and on the right, as arrays of their own: an index with a parity in it is a gather.
    green_left, green_right = green[own_parity:], green[own_parity + 1 :]
    own_left, own_right = own[green_parity:], own[green_parity + 1 :]
    other_left, other_right = near_other[own_parity:], near_other[own_parity + 1 :]
    diagonal_left, diagonal_right = near_green[green_parity:], near_green[green_parity + 1 :]
    for j in range(len(own_at_own)):
        own_at_own[j] = own[j + 1]
    for j in range(len(green_at_green)):
        green_at_green[j] = green[j + 1]
    for j in range(len(green_at_own)):
        near = lane(lane(green_left[j]) + lane(green_right[j]) + near_green[j + 1])
        value = lane(lane(8 * lane(own[j + 1]) + 4 * near - 2 * far_own[j] + 8) >> lane(4))
        green_at_own[j] = np.uint16(min(max(value, zero), highest))
    for j in range(len(other_at_own)):
        near = other_left[j] + other_right[j]
        value = lane(lane(12 * lane(own[j + 1]) + 4 * near - 3 * far_own[j] + 8) >> lane(4))
        other_at_own[j] = np.uint16(min(max(value, zero), highest))
    for j in range(len(own_at_green)):
        minus = lane(green[j]) + lane(green[j + 2]) + diagonal_left[j] + diagonal_right[j]
        near = lane(own_left[j]) + lane(own_right[j])
        value = lane(lane(10 * lane(green[j + 1]) + 8 * near - 2 * minus + far_green[j] + 8) >> lane(4))
        own_at_green[j] = np.uint16(min(max(value, zero), highest))
    for j in range(len(other_at_green)):
        minus = far_green[j] + diagonal_left[j] + diagonal_right[j]
        plus = lane(green[j]) + lane(green[j + 2])
        value = lane(lane(10 * lane(green[j + 1]) + 8 * near_other[j + 1] - 2 * minus + plus + 8) >> lane(4))
        other_at_green[j] = np.uint16(min(max(value, zero), highest))


@kernel
def _bilinear(own_parity: int, rows: Neighbourhood, colours: RowColours) -> None:
    green_above, other_above = rows[1]
    own, green = rows[2]
    green_below, other_below = rows[3]
    own_at_own, own_at_green = colours[0]
    green_at_own, green_at_green = colours[1]
    other_at_own, other_at_green = colours[2]
    green_parity = 1 - own_parity
    green_left, green_right = green[own_parity:], green[own_parity + 1 :]
    own_left, own_right = own[green_parity:], own[green_parity + 1 :]
    above_left, above_right = other_above[own_parity:], other_above[own_parity + 1 :]
    below_left, below_right = other_below[own_parity:], other_below[own_parity + 1 :]
    for j in range(len(own_at_own)):
        own_at_own[j] = own[j + 1]
    for j in range(len(green_at_green)):
        green_at_green[j] = green[j + 1]
    for j in range(len(green_at_own)):
        beside = np.int32(green_left[j]) + np.int32(green_right[j])
        near = beside + np.int32(green_above[j + 1]) + np.int32(green_below[j + 1])
        green_at_own[j] = np.uint16(np.int32(near + 2) >> 2)
    for j in range(len(other_at_own)):
        above = np.int32(above_left[j]) + np.int32(above_right[j])
        diagonal = above + np.int32(below_left[j]) + np.int32(below_right[j])
        other_at_own[j] = np.uint16(np.int32(diagonal + 2) >> 2)
    for j in range(len(own_at_green)):
        own_at_green[j] = np.uint16(np.int32(np.int32(own_left[j]) + np.int32(own_right[j]) + 1) >> 1)
    for j in range(len(other_at_green)):
        near = np.int32(other_above[j + 1]) + np.int32(other_below[j + 1])
        other_at_green[j] = np.uint16(np.int32(near + 1) >> 1)


@kernel
def _write(lines: U16Array, line: U16Array) -> None:
    """Interleaves the colours of a row, uint16 (3, 2, cells), into its pixels, uint16 (2 * cells, 3)."""
    red_even, red_odd = lines[0, 0], lines[0, 1]
    green_even, green_odd = lines[1, 0], lines[1, 1]
    blue_even, blue_odd = lines[2, 0], lines[2, 1]
    # Two values at once: three streams of 32 bits interleave in vectors, six of 16 bits do not.
    pairs = line.reshape(6 * len(red_even)).view(np.uint32)
    half = np.uint32(16)
    for j in range(len(red_even)):
        pairs[3 * j] = np.uint32(red_even[j]) | (np.uint32(green_even[j]) << half)
        pairs[3 * j + 1] = np.uint32(blue_even[j]) | (np.uint32(red_odd[j]) << half)
        pairs[3 * j + 2] = np.uint32(green_odd[j]) | (np.uint32(blue_odd[j]) << half)


@kernel
def _mix(red: U16Array, green: U16Array, blue: U16Array, weights: NDArray[np.float32], levels: U16Array) -> None:
    """One row of the colour matrix, rounded with halves up and clipped to the tone table."""
    a, b, c = weights[0], weights[1], weights[2]
    highest = np.float32(TONE_ENTRIES - 1)
    for j in range(len(levels)):
        value = a * np.float32(red[j]) + b * np.float32(green[j]) + c * np.float32(blue[j]) + np.float32(0.5)
        levels[j] = np.uint16(np.int32(min(max(value, np.float32(0)), highest)))
