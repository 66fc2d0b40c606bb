"""The classical picture: demosaicing, and white balance, colour matrix and tone curve around it.

A preview where there is no NPU, and the baseline that a network must beat. Malvar-He-Cutler is "High-quality linear
interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004. Beyond the window's edges the mosaic is
mirrored at its outermost pixels, which keeps every colour in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import (
    RowPlan,
    check_array,
    check_cells,
    check_rows,
    plan_rows,
    read_only,
    red_place,
)
from edge_isp.kernels.rows import U8Array, U16Array, read_row

METHODS = ("bilinear", "malvar")

# White in the linear codes between demosaicing and colour matrix, and entries of a tone table.
LINEAR_WHITE = 16383
TONE_ENTRIES = 4096

_NO_TABLES = read_only(np.zeros((4, 1), np.uint16))


def demosaic(
    data: NDArray[np.uint8],
    out: NDArray[np.uint16],
    *,
    width: int,
    height: int,
    packing: str,
    bit_depth: int,
    cfa: str,
    method: str = "malvar",
    left: int = 0,
    top: int = 0,
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to an RGB picture of codes: all three colours at each pixel, black level still in.

    Args:
        out: uint16 (height, width, 3), C-contiguous.
        method: "malvar" (Malvar-He-Cutler) or "bilinear"; in whole numbers, rounded with halves up, held within 0 and
            the highest code.
        rows: first and last (exclusive) row of cells to do; by default all.
        data, width, height, packing, bit_depth, cfa, left, top: as for `kernels.encode.encode`; at least 4x4 pixels.

    Raises:
        ValueError: the layout or the method is not known, or an array has the wrong shape or dtype.
    """
    flat, plan, red = _prepare(data, width, height, packing, bit_depth, cfa, method, left, top)
    check_array("out", out, np.uint16, (height, width, 3))
    first, last = check_rows(rows, height // 2)
    # Malvar's sums are at most 28 codes of 10 bits, which 16 bits hold: twice as many lanes as 32.
    lane = np.int16 if bit_depth <= 10 else np.int32
    sums = np.empty((4, width // 2 + 2), lane)
    _demosaic(flat, plan, out, red, method == "malvar", sums, lane(2**bit_depth - 1), (first, last))


def develop(
    data: NDArray[np.uint8],
    out: NDArray[np.uint8],
    *,
    width: int,
    height: int,
    packing: str,
    bit_depth: int,
    cfa: str,
    tables: NDArray[np.uint16],
    matrix: NDArray[np.floating[Any]],
    tone: NDArray[np.uint8],
    method: str = "malvar",
    left: int = 0,
    top: int = 0,
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to an 8-bit RGB picture: black level and white balance, demosaicing, colour matrix, tone curve.

    Args:
        out: uint8 (height, width, 3), C-contiguous.
        tables: uint16 (4, 2**bit_depth), at most `LINEAR_WHITE`: RAW code to white-balanced linear light, such as
            `encoding_table(..., curve="linear", scale=1 / LINEAR_WHITE, zero_point=0, dtype=np.uint16)`.
        matrix: 3x3, white-balanced camera RGB to linear RGB.
        tone: uint8 (4096,): the picture's value at so many 4095ths of white.
        method, rows, and the rest: as for `demosaic`.

    Raises:
        ValueError: the layout or the method is not known, or an array has the wrong shape or dtype.
    """
    flat, plan, red = _prepare(data, width, height, packing, bit_depth, cfa, method, left, top)
    check_array("out", out, np.uint8, (height, width, 3))
    check_array("tables", tables, np.uint16, (4, 2**bit_depth))
    check_array("tone", tone, np.uint8, (TONE_ENTRIES,))
    if np.shape(matrix) != (3, 3) or not np.all(np.isfinite(matrix)):
        raise ValueError(f"matrix must be 3x3 numbers, found {np.asarray(matrix).tolist()}")
    first, last = check_rows(rows, height // 2)
    to_tone = (np.asarray(matrix) * ((TONE_ENTRIES - 1) / LINEAR_WHITE)).astype(np.float32)
    _develop(
        flat, plan, out, red, method == "malvar", read_only(tables), read_only(to_tone), read_only(tone), (first, last)
    )


def _prepare(
    data: NDArray[np.uint8],
    width: int,
    height: int,
    packing: str,
    bit_depth: int,
    cfa: str,
    method: str,
    left: int,
    top: int,
) -> tuple[NDArray[np.uint8], RowPlan, tuple[int, int]]:
    check_cells(width, height)
    if width < 4 or height < 4:
        raise ValueError(f"demosaicing needs at least 4x4 pixels, found {width}x{height}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, found '{method}'")
    flat, plan = plan_rows(data, packing=packing, bit_depth=bit_depth, left=left, top=top, width=width, height=height)
    return flat, plan, red_place(cfa)


@kernel
def _demosaic(
    flat: U8Array,
    plan: RowPlan,
    out: U16Array,
    red: tuple[int, int],
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
        upcoming = _advance(flat, plan, height, cells, upcoming, 2 * i + 4, red, _NO_TABLES, ring)
        for y in range(2 * i, 2 * i + 2):
            _interpolate(ring, plan.skip // 2, y, height, red, malvar, highest, sums, lines)
            _write(lines[0, 0], lines[0, 1], lines[1, 0], lines[1, 1], lines[2, 0], lines[2, 1], out[y])


@kernel
def _develop(
    flat: U8Array,
    plan: RowPlan,
    out: NDArray[np.uint8],
    red: tuple[int, int],
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
        upcoming = _advance(flat, plan, height, cells, upcoming, 2 * i + 4, red, tables, ring)
        for y in range(2 * i, 2 * i + 2):
            _interpolate(ring, plan.skip // 2, y, height, red, malvar, np.int32(LINEAR_WHITE), sums, lines)
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
    first: int,
    last: int,
    red: tuple[int, int],
    tables: U16Array,
    ring: U16Array,
) -> int:
    """Reads rows `first` to below `last`, through the tables where they hold more than one entry, into the ring."""
    last = min(last, height)
    begin = 1 + plan.skip // 2
    for y in range(first, last):
        even, odd = ring[y % 6, 0], ring[y % 6, 1]
        read_row(flat, plan, y, even[1:], odd[1:])
        if tables.shape[1] > 1:
            plane = 2 * ((y & 1) ^ red[0])
            _look_up(even[begin : begin + cells], tables[plane + red[1]])
            _look_up(odd[begin : begin + cells], tables[plane + 1 - red[1]])
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
    skip: int,
    y: int,
    height: int,
    red: tuple[int, int],
    malvar: bool,
    highest: np.signedinteger[Any],
    sums: NDArray[np.signedinteger[Any]],
    lines: U16Array,
) -> None:
    """The three colours of row `y`, each as its even and its odd columns: lines (3, 2, cells). `sums` is scratch."""
    end = skip + lines.shape[2] + 2
    above2 = ring[abs(y - 2) % 6]
    above = ring[abs(y - 1) % 6]
    row = ring[y % 6]
    below = ring[(y + 1 if y + 1 < height else height - 2) % 6]
    below2 = ring[(y + 2 if y + 2 < height else 2 * height - 4 - y) % 6]
    # The row's own colour is red or blue; it stands at columns of parity `p`, green at the others. Rows of the other
    # colour lie above and below, with green at `p`.
    own = 0 if (y & 1) == red[0] else 2
    p = red[1] if own == 0 else 1 - red[1]
    if malvar:
        _malvar(
            p,
            row[p, skip:end],
            row[1 - p, skip:end],
            above[p, skip:end],
            above[1 - p, skip:end],
            below[p, skip:end],
            below[1 - p, skip:end],
            above2[p, skip:end],
            above2[1 - p, skip:end],
            below2[p, skip:end],
            below2[1 - p, skip:end],
            highest,
            sums,
            lines[own, p],
            lines[own, 1 - p],
            lines[1, p],
            lines[1, 1 - p],
            lines[2 - own, p],
            lines[2 - own, 1 - p],
        )
    else:
        _bilinear(
            p,
            row[p, skip:end],
            row[1 - p, skip:end],
            above[p, skip:end],
            above[1 - p, skip:end],
            below[p, skip:end],
            below[1 - p, skip:end],
            lines[own, p],
            lines[own, 1 - p],
            lines[1, p],
            lines[1, 1 - p],
            lines[2 - own, p],
            lines[2 - own, 1 - p],
        )


# In the two functions below, `c` is the row's own colour (red or blue), `g` green, `o` the other colour; `u` and `d`
# are the rows above and below, `u2` and `d2` two away. Each array begins one column left of the window (index j + 1 is
# column j), and `p` says on which side of the own colour its green stands.


@kernel
def _malvar(
    p: int,
    c: U16Array,
    g: U16Array,
    ug: U16Array,
    uo: U16Array,
    dg: U16Array,
    do: U16Array,
    u2c: U16Array,
    u2g: U16Array,
    d2c: U16Array,
    d2g: U16Array,
    highest: np.signedinteger[Any],
    sums: NDArray[np.signedinteger[Any]],
    c_at_c: U16Array,
    c_at_g: U16Array,
    g_at_c: U16Array,
    g_at_g: U16Array,
    o_at_c: U16Array,
    o_at_g: U16Array,
) -> None:
    # The paper's filters times two, in sixteenths. A loop for each output: LLVM gives up on vectors where it would have
    # to compare more than eight pairs of arrays for overlap.
    lane = sums.dtype.type
    zero = lane(0)
    up_down_g, up_down_o, far, far_g = sums[0], sums[1], sums[2, : len(c_at_c)], sums[3, : len(c_at_c)]
    for j in range(len(up_down_g)):
        up_down_g[j] = lane(ug[j]) + lane(dg[j])
    for j in range(len(up_down_o)):
        up_down_o[j] = lane(uo[j]) + lane(do[j])
    for j in range(len(far)):
        far[j] = lane(c[j]) + lane(c[j + 2]) + lane(u2c[j + 1]) + lane(d2c[j + 1])
    for j in range(len(far_g)):
        far_g[j] = lane(u2g[j + 1]) + lane(d2g[j + 1])
    # The neighbours on the left and on the right, as arrays of their own: an index with `p` in it would be a gather.
    g_left, g_right, c_left, c_right = g[p:], g[p + 1 :], c[1 - p :], c[2 - p :]
    o_left, o_right = up_down_o[p:], up_down_o[p + 1 :]
    across_left, across_right = up_down_g[1 - p :], up_down_g[2 - p :]
    for j in range(len(c_at_c)):
        c_at_c[j] = c[j + 1]
    for j in range(len(g_at_g)):
        g_at_g[j] = g[j + 1]
    for j in range(len(g_at_c)):
        near = lane(lane(g_left[j]) + lane(g_right[j]) + up_down_g[j + 1])
        value = lane(lane(8 * lane(c[j + 1]) + 4 * near - 2 * far[j] + 8) >> lane(4))
        g_at_c[j] = np.uint16(min(max(value, zero), highest))
    for j in range(len(o_at_c)):
        value = lane(lane(12 * lane(c[j + 1]) + 4 * (o_left[j] + o_right[j]) - 3 * far[j] + 8) >> lane(4))
        o_at_c[j] = np.uint16(min(max(value, zero), highest))
    for j in range(len(c_at_g)):
        less = lane(g[j]) + lane(g[j + 2]) + across_left[j] + across_right[j]
        near = lane(c_left[j]) + lane(c_right[j])
        value = lane(lane(10 * lane(g[j + 1]) + 8 * near - 2 * less + far_g[j] + 8) >> lane(4))
        c_at_g[j] = np.uint16(min(max(value, zero), highest))
    for j in range(len(o_at_g)):
        less = far_g[j] + across_left[j] + across_right[j]
        beside = lane(g[j]) + lane(g[j + 2])
        value = lane(lane(10 * lane(g[j + 1]) + 8 * up_down_o[j + 1] - 2 * less + beside + 8) >> lane(4))
        o_at_g[j] = np.uint16(min(max(value, zero), highest))


@kernel
def _bilinear(
    p: int,
    c: U16Array,
    g: U16Array,
    ug: U16Array,
    uo: U16Array,
    dg: U16Array,
    do: U16Array,
    c_at_c: U16Array,
    c_at_g: U16Array,
    g_at_c: U16Array,
    g_at_g: U16Array,
    o_at_c: U16Array,
    o_at_g: U16Array,
) -> None:
    g_left, g_right, c_left, c_right = g[p:], g[p + 1 :], c[1 - p :], c[2 - p :]
    uo_left, uo_right, do_left, do_right = uo[p:], uo[p + 1 :], do[p:], do[p + 1 :]
    for j in range(len(c_at_c)):
        c_at_c[j] = c[j + 1]
    for j in range(len(g_at_g)):
        g_at_g[j] = g[j + 1]
    for j in range(len(g_at_c)):
        near = np.int32(g_left[j]) + np.int32(g_right[j]) + np.int32(ug[j + 1]) + np.int32(dg[j + 1])
        g_at_c[j] = np.uint16(np.int32(near + 2) >> 2)
    for j in range(len(o_at_c)):
        across = np.int32(uo_left[j]) + np.int32(uo_right[j]) + np.int32(do_left[j]) + np.int32(do_right[j])
        o_at_c[j] = np.uint16(np.int32(across + 2) >> 2)
    for j in range(len(c_at_g)):
        c_at_g[j] = np.uint16(np.int32(np.int32(c_left[j]) + np.int32(c_right[j]) + 1) >> 1)
    for j in range(len(o_at_g)):
        o_at_g[j] = np.uint16(np.int32(np.int32(uo[j + 1]) + np.int32(do[j + 1]) + 1) >> 1)


@kernel
def _write(
    red_even: U16Array,
    red_odd: U16Array,
    green_even: U16Array,
    green_odd: U16Array,
    blue_even: U16Array,
    blue_odd: U16Array,
    line: U16Array,
) -> None:
    # Two values at once: three streams of 32 bits interleave in vectors, six of 16 bits do not.
    pairs = line.reshape(6 * len(red_even)).view(np.uint32)
    half = np.uint32(16)
    for j in range(len(red_even)):
        pairs[3 * j] = np.uint32(red_even[j]) | (np.uint32(green_even[j]) << half)
        pairs[3 * j + 1] = np.uint32(blue_even[j]) | (np.uint32(red_odd[j]) << half)
        pairs[3 * j + 2] = np.uint32(green_odd[j]) | (np.uint32(blue_odd[j]) << half)


@kernel
def _mix(red: U16Array, green: U16Array, blue: U16Array, weights: NDArray[np.float32], levels: U16Array) -> None:
    """One row of the colour matrix, rounded with halves up and held within the tone table."""
    a, b, c = weights[0], weights[1], weights[2]
    highest = np.float32(TONE_ENTRIES - 1)
    for j in range(len(levels)):
        value = a * np.float32(red[j]) + b * np.float32(green[j]) + c * np.float32(blue[j]) + np.float32(0.5)
        levels[j] = np.uint16(np.int32(min(max(value, np.float32(0)), highest)))
