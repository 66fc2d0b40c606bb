"""RAW bytes to the network's input tensor, in one pass through tables.

A look-up does not vectorise, and yet it is the fastest: a square root in float32 vectors costs as much on a desktop
processor and several times as much on a Cortex-A, and it would serve one curve only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defects import DefectPlan, check_plan, defect_rows, read_mended_cells
from edge_isp.kernels.layout import RawLayout, RowPlan, check_array, check_rows, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, cell_buffers, read_cells

_NO_SHADING = read_only(np.zeros((1, 1, 4), np.uint8))


def encode(
    data: NDArray[np.uint8],
    out: NDArray[Any],
    layout: RawLayout,
    *,
    tables: NDArray[Any],
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    shading: NDArray[np.uint8] | None = None,
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
        tables: (4, 2**bit_depth), C-contiguous; see `kernels.tables`. With `shading`: (n, 4, 2**bit_depth).
        flip_vertical: make the first row of cells the last of `out`; colours stay in their planes.
        flip_horizontal: make the first column of cells the last of `out`; colours stay in their planes.
        shading: uint8 (grid rows, grid columns, 4): which of the n tables holds in this part of the window, for each
            plane; see `kernels.tables.shading_choice`.
        constants: (4,), of the tables' dtype: what the planes 4 to 7 hold; with `shading`: (n, 4), chosen for each
            plane as its table is.
        defects: replace defective pixels, as `kernels.defects.plan_defects` says for the same window.
        rows: first and last (exclusive) row of `out` to write; by default all.

    Raises:
        ValueError: The window's size is odd, or the defects are those of another, or an array has the wrong shape or dtype.
    """
    height, width = layout.cells
    flat, plan = plan_rows(data, layout)
    if shading is None:
        check_array("tables", tables, tables.dtype, (4, layout.highest + 1))
        tables, shading = tables[None], _NO_SHADING
    else:
        check_array("tables", tables, tables.dtype, (len(tables), 4, layout.highest + 1))
        if shading.ndim != 3 or not shading.size:
            raise ValueError(f"shading must be uint8 (grid rows, grid columns, 4), found {shading.shape}")
        check_array("shading", shading, np.uint8, (*shading.shape[:2], 4))
        if int(shading.max()) >= len(tables):
            raise ValueError(f"shading must name one of {len(tables)} tables, found {int(shading.max())}")
    if constants is None:
        constants, channels = np.zeros((1, 4), tables.dtype), 4
    else:
        constants, channels = constants.reshape(-1, constants.shape[-1]), 8
        check_array("constants", constants, tables.dtype, (len(tables), 4))
    check_array("out", out, tables.dtype, (height, width, channels))
    if defects is not None:
        check_plan(defects, layout)
    _encode(
        flat,
        plan,
        out,
        read_only(tables),
        read_only(shading),
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
    shading: NDArray[np.uint8],
    constants: NDArray[Any],
    flips: tuple[bool, bool],
    defects: DefectPlan | None,
    rows: tuple[int, int],
) -> None:
    height, width, channels = out.shape
    grid_rows, grid_columns, _ = shading.shape
    buffers = cell_buffers(plan)
    skip = plan.skip // 2
    if defects is not None:
        around = defect_rows(plan, width)
    for i in range(rows[0], rows[1]):
        row = height - 1 - i if flips[0] else i
        if defects is None:
            read_cells(flat, plan, row, buffers)
        else:
            read_mended_cells(flat, plan, defects, row, around, buffers)
        choice = shading[row * grid_rows // height]
        for column in range(grid_columns):
            begin = column * width // grid_columns
            end = (column + 1) * width // grid_columns
            chosen = choice[column]
            red_codes = buffers[0, skip + begin : skip + end]
            green_red_codes = buffers[1, skip + begin : skip + end]
            green_blue_codes = buffers[2, skip + begin : skip + end]
            blue_codes = buffers[3, skip + begin : skip + end]
            red_table = tables[chosen[0], 0]
            green_red_table = tables[chosen[1], 1]
            green_blue_table = tables[chosen[2], 2]
            blue_table = tables[chosen[3], 3]
            if flips[1]:
                line = out[i, width - end : width - begin]
                last_cell = len(line) - 1
                for j in range(len(line)):
                    line[last_cell - j, 0] = red_table[red_codes[j]]
                    line[last_cell - j, 1] = green_red_table[green_red_codes[j]]
                    line[last_cell - j, 2] = green_blue_table[green_blue_codes[j]]
                    line[last_cell - j, 3] = blue_table[blue_codes[j]]
            else:
                line = out[i, begin:end]
                for j in range(len(line)):
                    line[j, 0] = red_table[red_codes[j]]
                    line[j, 1] = green_red_table[green_red_codes[j]]
                    line[j, 2] = green_blue_table[green_blue_codes[j]]
                    line[j, 3] = blue_table[blue_codes[j]]
            if channels == 8:
                line = out[i, width - end : width - begin] if flips[1] else out[i, begin:end]
                fifth, sixth = constants[chosen[0], 0], constants[chosen[1], 1]
                seventh, eighth = constants[chosen[2], 2], constants[chosen[3], 3]
                for j in range(len(line)):
                    line[j, 4], line[j, 5], line[j, 6], line[j, 7] = fifth, sixth, seventh, eighth
