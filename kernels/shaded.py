"""RAW bytes to the network's input tensor with lens shading corrected, in one pass.

Both curves of the input are powers, so that curve(gain * light) = curve(gain) * curve(light): one table gives the curve
of the light in fine steps, and a factor that varies over the frame multiplies it. A row's steps go through a buffer,
since a look-up does not vectorise; the multiplication, in 16 bits, does.

`kernels.reference.shade` is the arithmetic in NumPy, which training shares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.cells import mirrored
from edge_isp.kernels.checks import check_array, check_output, check_rows, check_whole
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defects import DefectPlan, check_plan, defect_rows, read_mended_cells
from edge_isp.kernels.layout import RawLayout, RowPlan, input_size, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, U16Array, cell_buffers, read_cells
from edge_isp.kernels.tables import NODE_CELLS, STEP_BITS, Factors, node_places

U32Array = NDArray[np.uint32]  # (rows, columns, channels / 4)

# Of two nodes, NODE_CELLS apart, shares are counted in half cells.
_SHARE_BITS = NODE_CELLS.bit_length()


def encode_shaded(
    data: NDArray[np.uint8],
    out: NDArray[np.int8],
    layout: RawLayout,
    *,
    tables: NDArray[np.uint16],
    factors: Factors,
    zero_point: int,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    constants: NDArray[np.uint16] | None = None,
    cell: int = 2,
    multiple: int = 1,
    defects: DefectPlan | None = None,
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to planes R, Gr, Gb, B, each multiplied by a factor that varies over the frame.

    out[i, j, plane] = min(round(tables[plane][code] * factor), highest) + zero_point, in the fixed-point arithmetic of
    `kernels.reference.shade`; the factor is interpolated bilinearly between nodes. For cells of 4x4 pixels, and for
    what lies beyond the frame, see `kernels.cells`.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        out: int8 (rows, columns, 4), C-contiguous, see `kernels.layout.input_size`; with `constants`:
            (..., 8). For cells of 4x4 pixels: (..., 16), with `constants` (..., 20).
        layout: of the window of `data` to read; its width and height are even.
        tables: uint16 (4, 2**bit_depth), C-contiguous; see `kernels.tables.step_table`.
        factors: of the planes, in the orientation of `out`; see `kernels.tables.lens_factors`.
        zero_point: that is added to each value; from -128 on.
        flip_vertical: make the first row of cells the last of `out`; colours stay in their planes.
        flip_horizontal: make the first column of cells the last of `out`; colours stay in their planes.
        constants: uint16 (4,), in the steps of the tables: what the last four planes hold, multiplied by the factor of
            the planes R, Gr, Gb, B; of a 4x4 cell, at its first 2x2 cell.
        cell: side of a cell of `out` in pixels, 2 or 4.
        multiple: what the rows and columns of `out` are a multiple of.
        defects: how defective pixels are replaced, see `kernels.defects.plan_defects`; None leaves them.
        rows: first and last (exclusive) row of `out` to write; by default all.

    Raises:
        ValueError: The window's size is odd, the defects are those of another window, the zero point is not that of an
            int8, or an array has the wrong shape or dtype.
    """
    height, width = layout.cells
    flat, plan = plan_rows(data, layout)
    check_whole("zero_point", zero_point, -128, 127)
    check_whole("factors: bits", factors.bits, 17 - STEP_BITS, 32 - STEP_BITS)
    check_array("tables", tables, np.uint16, (4, layout.highest + 1))
    check_array("factors", factors.nodes, np.uint16, (len(node_places(height)), len(node_places(width)), 4))
    size = input_size(layout.width, layout.height, cell=cell, multiple=multiple)
    channels = cell * cell + (0 if constants is None else 4)
    constants = np.zeros(4, np.uint16) if constants is None else constants
    check_array("constants", constants, np.uint16, (4,))
    check_output(
        "out", out, np.int8, (*size, channels), data=data, tables=tables, factors=factors.nodes, constants=constants
    )
    if defects is not None:
        check_plan(defects, layout, out)
    shift = STEP_BITS + factors.bits - 16
    _encode_shaded(
        flat,
        plan,
        out.view(np.uint32),
        read_only(tables),
        read_only(factors.nodes),
        read_only(constants),
        (
            np.uint16(1 << (shift - 1)),
            np.uint16(1 << (16 - shift)),
            np.uint8(127 - zero_point),
            np.uint8(zero_point & 255),
        ),
        (flip_vertical, flip_horizontal),
        (height, width, cell // 2),
        defects,
        check_rows(rows, size[0]),
    )


@kernel
def _encode_shaded(
    flat: U8Array,
    plan: RowPlan,
    out: U32Array,
    tables: U16Array,
    nodes: U16Array,
    constants: U16Array,
    rounding: tuple[np.uint16, np.uint16, np.uint8, np.uint8],
    flips: tuple[bool, bool],
    cells: tuple[int, int, int],
    defects: DefectPlan | None,
    rows: tuple[int, int],
) -> None:
    height, width, side = cells  # of the frame, in 2x2 cells; and of a cell of `out`, in 2x2 cells
    noise = out.shape[2] > side * side
    skip = plan.skip // 2
    codes = cell_buffers(plan)
    padded = (nodes.shape[1] - 1) * NODE_CELLS
    weights, repeated = node_weights(padded), np.empty(padded + NODE_CELLS, np.uint16)
    above, below = np.empty((4, padded), np.uint16), np.empty((4, padded), np.uint16)
    factors = np.empty((4, width), np.uint16)
    steps = np.empty(width, np.uint16)
    # The two rows of 2x2 cells in a row of 4x4 cells, with columns beyond the frame; then the noise of the first.
    shaded = np.empty((12, side * out.shape[1]), np.uint8)
    band: int | np.int64 = -1
    if defects is not None:
        around = defect_rows(plan, width)
    for i in range(side * rows[0], side * rows[1]):
        source, y = mirrored(i, height), i % side
        if source // NODE_CELLS != band:
            if band < 0 or source // NODE_CELLS != band + 1:
                spread_nodes(nodes[source // NODE_CELLS], weights, repeated, below)
            band = source // NODE_CELLS
            above, below = below, above
            spread_nodes(nodes[band + 1], weights, repeated, below)
        row = height - 1 - source if flips[0] else source
        if defects is None:
            read_cells(flat, plan, row, codes)
        else:
            codes = read_mended_cells(flat, plan, defects, row, around)
        for plane in range(4):
            mix_rows(above[plane], below[plane], source % NODE_CELLS, factors[plane])
            look_up(tables[plane], codes[plane, skip : skip + width], steps, flips[1])
            shade_row(steps, factors[plane], rounding, shaded[4 * y + plane])
            mirror_line(shaded[4 * y + plane], width)
            if noise and y == 0:
                shade_constant(constants[plane], factors[plane], rounding, shaded[8 + plane])
                mirror_line(shaded[8 + plane], width)
        if y == side - 1:
            _join(shaded, noise, side, out[i // side])


@kernel(inline="always")
def _high_half(a: np.uint16, b: np.uint16) -> np.uint16:
    """The upper 16 bits of a product: one instruction on 16-bit lanes."""
    return np.uint16((np.uint32(a) * np.uint32(b)) >> np.uint32(16))


@kernel(inline="always")
def _between(first: np.uint16, second: np.uint16, share: np.uint32) -> np.uint16:
    """Between two factors, linearly, rounded; the share of the second is in half cells."""
    rest = np.uint32(np.uint32(2 * NODE_CELLS) - share)
    weighted = np.uint32(np.uint32(np.uint32(first) * rest) + np.uint32(np.uint32(second) * share))
    return np.uint16(np.uint32(weighted + np.uint32(NODE_CELLS)) >> np.uint32(_SHARE_BITS))


@kernel
def node_weights(cells: int | np.int64) -> U16Array:
    """The share of the node to the right of each cell, (cells,), in half cells; the left one has the rest."""
    weights = np.empty(cells, np.uint16)
    for j in range(cells):
        weights[j] = 2 * (j % NODE_CELLS) + 1
    return weights


@kernel
def spread_nodes(nodes: U16Array, weights: U16Array, repeated: U16Array, lines: U16Array) -> None:
    """Factors (4, cells) along the edge of a band, from its nodes (columns, 4).

    Each node is written to `repeated` as often as there are cells from one node to the next, four in a word: what
    remains is a multiplication of rows.
    """
    words = repeated.view(np.uint64)
    words_of_node = NODE_CELLS // 4
    for plane in range(4):
        for node in range(len(nodes)):
            word = np.uint64(nodes[node, plane]) * np.uint64(0x0001_0001_0001_0001)
            for j in range(words_of_node):
                words[node * words_of_node + j] = word
        line, left, right = lines[plane], repeated[:-NODE_CELLS], repeated[NODE_CELLS:]
        for j in range(len(line)):
            line[j] = _between(left[j], right[j], np.uint32(weights[j]))


@kernel
def mix_rows(above: U16Array, below: U16Array, row: int | np.int64, line: U16Array) -> None:
    """Factors of the cells in a row of a band, between those at the band's upper and lower edge."""
    share = np.uint32(2 * row + 1)
    for j in range(len(line)):
        line[j] = _between(above[j], below[j], share)


@kernel
def look_up(table: U16Array, codes: U16Array, steps: U16Array, mirror: bool) -> None:
    """The table's steps of a row of codes."""
    if mirror:
        last = len(codes) - 1
        for j in range(len(codes)):
            steps[last - j] = table[codes[j]]
    else:
        for j in range(len(codes)):
            steps[j] = table[codes[j]]


@kernel
def shade_row(
    steps: U16Array, factors: U16Array, rounding: tuple[np.uint16, np.uint16, np.uint8, np.uint8], line: U8Array
) -> None:
    """Steps times factors, rounded, limited and moved to the zero point; see `kernels.reference.shade`."""
    half, unit, highest, zero = rounding
    for j in range(len(factors)):
        value = _high_half(np.uint16(_high_half(steps[j], factors[j]) + half), unit)
        line[j] = np.uint8((min(value, np.uint16(highest)) + np.uint16(zero)) & np.uint16(255))


@kernel
def shade_constant(
    step: np.uint16, factors: U16Array, rounding: tuple[np.uint16, np.uint16, np.uint8, np.uint8], line: U8Array
) -> None:
    """`shade_row` of a row whose steps are equal."""
    half, unit, highest, zero = rounding
    for j in range(len(factors)):
        value = _high_half(np.uint16(_high_half(step, factors[j]) + half), unit)
        line[j] = np.uint8((min(value, np.uint16(highest)) + np.uint16(zero)) & np.uint16(255))


@kernel
def mirror_line(line: U8Array, width: int) -> None:
    """Fills a row from `width` on with what is before it."""
    for j in range(width, len(line)):
        line[j] = line[mirrored(j, width)]


@kernel
def _join(shaded: U8Array, noise: bool, side: int, line: NDArray[np.uint32]) -> None:
    """The rows of `_encode_shaded` to a row of cells."""
    if side == 1 and noise:
        join_eight(shaded[:4], shaded[8:], line)
        return
    if side == 1:
        join_planes(shaded[0], shaded[1], shaded[2], shaded[3], line[:, 0])
        return
    for plane in range(4):
        first, second = shaded[plane], shaded[4 + plane]
        join_planes(first[::2], first[1::2], second[::2], second[1::2], line[:, plane])
    if noise:
        join_planes(shaded[8, ::2], shaded[9, ::2], shaded[10, ::2], shaded[11, ::2], line[:, 4])


@kernel
def join_eight(planes: U8Array, noise: U8Array, line: NDArray[np.uint32]) -> None:
    """Twice four rows of bytes to cells of two words."""
    a, b, c, d = planes[0], planes[1], planes[2], planes[3]
    e, f, g, h = noise[0], noise[1], noise[2], noise[3]
    words = line.reshape(2 * len(line))  # two dimensions would not vectorise
    for j in range(len(a)):
        words[2 * j] = _word(a[j], b[j], c[j], d[j])
        words[2 * j + 1] = _word(e[j], f[j], g[j], h[j])


@kernel
def join_planes(a: U8Array, b: U8Array, c: U8Array, d: U8Array, words: NDArray[np.uint32]) -> None:
    """Four rows of bytes to words: interleaved bytes would not vectorise."""
    for j in range(len(words)):
        words[j] = _word(a[j], b[j], c[j], d[j])


@kernel(inline="always")
def _word(a: np.uint8, b: np.uint8, c: np.uint8, d: np.uint8) -> np.uint32:
    """Little-endian: the first byte is the lowest."""
    return (
        np.uint32(a)
        | (np.uint32(b) << np.uint32(8))
        | (np.uint32(c) << np.uint32(16))
        | (np.uint32(d) << np.uint32(24))
    )
