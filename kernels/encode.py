"""RAW bytes to the network's input tensor, in one pass through tables.

A look-up does not vectorise, and yet it is the fastest: a square root in float32 vectors costs as much on a desktop
processor and several times as much on a Cortex-A, and it would serve one curve only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.cells import mirror_column_of_4x4, mirror_columns, mirrored
from edge_isp.kernels.checks import check_array, check_output, check_rows, check_tables
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defects import DefectPlan, check_plan, defect_rows, read_mended_cells
from edge_isp.kernels.layout import RawLayout, RowPlan, input_size, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, U16Array, cell_buffers, read_cells


def encode(
    data: NDArray[np.uint8],
    out: NDArray[Any],
    layout: RawLayout,
    *,
    tables: NDArray[Any],
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    constants: NDArray[Any] | None = None,
    cell: int = 2,
    multiple: int = 1,
    defects: DefectPlan | None = None,
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to planes R, Gr, Gb, B: out[i, j, plane] = tables[plane][code of that colour in cell i, j].

    The cells of a monochrome sensor fill the four planes in reading order: its layout has the CFA order "RGGB", and the
    four tables are equal. For cells of 4x4 pixels, and for what lies beyond the frame, see `kernels.cells`.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        out: (rows, columns, 4), C-contiguous, of the tables' dtype, see `kernels.layout.input_size`; with `constants`:
            (..., 8). For cells of 4x4 pixels: (..., 16), with `constants` (..., 20).
        layout: of the window of `data` to read; its width and height are even.
        tables: (4, 2**bit_depth), C-contiguous; see `kernels.tables`.
        flip_vertical: make the first row of cells the last of `out`; colours stay in their planes.
        flip_horizontal: make the first column of cells the last of `out`; colours stay in their planes.
        constants: (4,), of the tables' dtype: what the last four planes hold.
        cell: side of a cell of `out` in pixels, 2 or 4.
        multiple: what the rows and columns of `out` are a multiple of.
        defects: how defective pixels are replaced, see `kernels.defects.plan_defects`; None leaves them.
        rows: first and last (exclusive) row of `out` to write; by default all.

    Raises:
        ValueError: The window's size is odd, the defects are those of another window, or an array has the wrong shape
            or dtype.
    """
    cells = layout.cells
    flat, plan = plan_rows(data, layout)
    check_tables(tables, (4, layout.highest + 1))
    size = input_size(layout.width, layout.height, cell=cell, multiple=multiple)
    channels = cell * cell + (0 if constants is None else 4)
    constants = np.zeros(4, tables.dtype) if constants is None else constants
    check_array("constants", constants, tables.dtype, (4,))
    inputs = {"data": data, "tables": tables, "constants": constants}
    check_output("out", out, tables.dtype, (*size, channels), **inputs)
    if defects is not None:
        check_plan(defects, layout, out)
    _encode(
        flat,
        plan,
        out,
        read_only(tables),
        read_only(constants),
        (flip_vertical, flip_horizontal),
        (*cells, cell // 2),
        defects,
        check_rows(rows, size[0]),
    )


@kernel
def _encode(
    flat: U8Array,
    plan: RowPlan,
    out: NDArray[Any],
    tables: NDArray[Any],
    constants: NDArray[Any],
    flips: tuple[bool, bool],
    cells: tuple[int, int, int],
    defects: DefectPlan | None,
    rows: tuple[int, int],
) -> None:
    height, width, side = cells  # of the frame, in 2x2 cells; and of a cell of `out`, in 2x2 cells
    skip = plan.skip // 2
    codes = cell_buffers(plan)
    if defects is not None:
        around = defect_rows(plan, width)
    for i in range(side * rows[0], side * rows[1]):
        source = mirrored(i, height)
        row = height - 1 - source if flips[0] else source
        if defects is None:
            read_cells(flat, plan, row, codes)
        else:
            codes = read_mended_cells(flat, plan, defects, row, around)
        line = out[i // side]
        if side == 1:
            encode_row(codes[:, skip : skip + width], tables, constants, flips[1], line[:width])
            mirror_columns(line, width)
        else:
            encode_row_of_4x4(codes[:, skip : skip + width], tables, flips[1], i % 2, line)
            mirror_column_of_4x4(line, width, i % 2)
            if line.shape[1] == 20 and i % 2 == 0:
                for j in range(len(line)):
                    for plane in range(4):
                        line[j, 16 + plane] = constants[plane]


@kernel
def encode_row(
    codes: U16Array, tables: NDArray[Any], constants: NDArray[Any], mirrored: bool, line: NDArray[Any]
) -> None:
    """A row of cells: codes (4, width) through the tables to `line` (width, 4), or (width, 8) with the constants."""
    red_codes, green_red_codes, green_blue_codes, blue_codes = codes[0], codes[1], codes[2], codes[3]
    red_table, green_red_table, green_blue_table, blue_table = tables[0], tables[1], tables[2], tables[3]
    if mirrored:
        last = len(line) - 1
        for j in range(len(line)):
            line[last - j, 0] = red_table[red_codes[j]]
            line[last - j, 1] = green_red_table[green_red_codes[j]]
            line[last - j, 2] = green_blue_table[green_blue_codes[j]]
            line[last - j, 3] = blue_table[blue_codes[j]]
    else:
        for j in range(len(line)):
            line[j, 0] = red_table[red_codes[j]]
            line[j, 1] = green_red_table[green_red_codes[j]]
            line[j, 2] = green_blue_table[green_blue_codes[j]]
            line[j, 3] = blue_table[blue_codes[j]]
    if line.shape[1] == 8:
        fifth, sixth, seventh, eighth = constants[0], constants[1], constants[2], constants[3]
        for j in range(len(line)):
            line[j, 4], line[j, 5], line[j, 6], line[j, 7] = fifth, sixth, seventh, eighth


@kernel
def encode_row_of_4x4(codes: U16Array, tables: NDArray[Any], mirror: bool, y: int, line: NDArray[Any]) -> None:
    """A row of 2x2 cells: codes (4, width) through the tables to row `y` of the 4x4 cells of `line`."""
    width = codes.shape[1]
    for plane in range(4):
        table, of_plane, first = tables[plane], codes[plane], 4 * plane + 2 * y
        if mirror:
            for j in range(width):
                column = width - 1 - j
                line[column // 2, first + column % 2] = table[of_plane[j]]
        else:
            for j in range(width // 2):
                line[j, first] = table[of_plane[2 * j]]
                line[j, first + 1] = table[of_plane[2 * j + 1]]
            if width % 2:
                line[width // 2, first] = table[of_plane[width - 1]]
