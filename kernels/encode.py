"""RAW bytes to the network's input tensor, in one pass through tables.

A look-up does not vectorise, and yet it is the fastest: a square root in float32 vectors costs as much on a desktop
processor and several times as much on a Cortex-A, and it would serve one curve only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_output, check_rows, check_tables
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defects import DefectPlan, check_plan, defect_rows, read_mended_cells
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows, read_only
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
    defects: DefectPlan | None = None,
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to planes R, Gr, Gb, B: out[i, j, plane] = tables[plane][code of that colour in cell i, j].

    The cells of a monochrome sensor fill the four planes in reading order: its layout has the CFA order "RGGB", and the
    four tables are equal.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        out: (height / 2, width / 2, 4), C-contiguous, of the tables' dtype; with `constants`: (..., 8).
        layout: of the window of `data` to read; its width and height are even.
        tables: (4, 2**bit_depth), C-contiguous; see `kernels.tables`.
        flip_vertical: make the first row of cells the last of `out`; colours stay in their planes.
        flip_horizontal: make the first column of cells the last of `out`; colours stay in their planes.
        constants: (4,), of the tables' dtype: what the planes 4 to 7 hold.
        defects: how defective pixels are replaced, see `kernels.defects.plan_defects`; None leaves them.
        rows: first and last (exclusive) row of `out` to write; by default all.

    Raises:
        ValueError: The window's size is odd, the defects are those of another window, or an array has the wrong shape
            or dtype.
    """
    height, width = layout.cells
    flat, plan = plan_rows(data, layout)
    check_tables(tables, (4, layout.highest + 1))
    channels = 4 if constants is None else 8
    constants = np.zeros(4, tables.dtype) if constants is None else constants
    check_array("constants", constants, tables.dtype, (4,))
    inputs = {"data": data, "tables": tables, "constants": constants}
    check_output("out", out, tables.dtype, (height, width, channels), **inputs)
    if defects is not None:
        check_plan(defects, layout, out)
    _encode(
        flat,
        plan,
        out,
        read_only(tables),
        read_only(constants),
        (flip_vertical, flip_horizontal),
        defects,
        check_rows(rows, height),
    )


@kernel
def _encode(
    flat: U8Array,
    plan: RowPlan,
    out: NDArray[Any],
    tables: NDArray[Any],
    constants: NDArray[Any],
    flips: tuple[bool, bool],
    defects: DefectPlan | None,
    rows: tuple[int, int],
) -> None:
    height, width, _ = out.shape
    skip = plan.skip // 2
    codes = cell_buffers(plan)
    if defects is not None:
        around = defect_rows(plan, width)
    for i in range(rows[0], rows[1]):
        row = height - 1 - i if flips[0] else i
        if defects is None:
            read_cells(flat, plan, row, codes)
        else:
            codes = read_mended_cells(flat, plan, defects, row, around)
        encode_row(codes[:, skip : skip + width], tables, constants, flips[1], out[i])


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
