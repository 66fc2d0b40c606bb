"""RAW bytes to a smaller input tensor: area average of the linear codes of each plane, then the table."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_image, check_output, check_rows, check_tables
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, U16Array, cell_buffers, read_cells


def letterbox(source: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest picture of the source's proportions in the middle of the target: (top, left, height, width).

    It is never larger than the source: a small one stands in the middle in its own size.

    Args:
        source: height and width of what is to be fitted.
        target: height and width of what it is to be fitted into.

    Raises:
        ValueError: A size is not positive.
    """
    if min(*source, *target) < 1:
        raise ValueError(f"source and target must be positive heights and widths, found {source} and {target}")
    scale = min(target[0] / source[0], target[1] / source[1], 1)
    height, width = max(1, round(source[0] * scale)), max(1, round(source[1] * scale))
    return (target[0] - height) // 2, (target[1] - width) // 2, height, width


def encode_resampled(
    data: NDArray[np.uint8],
    out: NDArray[Any],
    layout: RawLayout,
    *,
    tables: NDArray[Any],
    border: float = 0,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    second_column: bool = False,
    rows: tuple[int, int] | None = None,
) -> None:
    """RAW bytes to planes R, Gr, Gb, B of a smaller size, with the window's proportions kept.

    Each code is the mean of the codes that its cell covers, weighted by area (float32, first down the columns, then
    along the rows), rounded with halves up. No full-size frame is made on the way.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        out: (h, w, 4), C-contiguous, of the tables' dtype. The picture lies in its middle, see `letterbox`.
        layout: of the window of `data` to read; its width and height are even.
        tables: (4, 2**bit_depth), C-contiguous; see `kernels.tables`.
        border: what fills the rest of `out`, in the tables' dtype.
        flip_vertical: make the first row of cells the last of the picture; colours stay in their planes.
        flip_horizontal: make the first column of cells the last of the picture; colours stay in their planes.
        second_column: begin the cells at the window's second column and end them before its last, which moves the
            mosaic's pattern by a column and mirrors nothing: a GRBG window is read as RGGB.
        rows: first and last (exclusive) row of `out` to write; by default all.

    Raises:
        ValueError: The window's size is odd, or too small for `second_column`, or an array has the wrong shape or
            dtype.
    """
    height, width = layout.cells
    if second_column:
        width -= 1
        if not width:
            raise ValueError(f"width must be at least 4 for cells from the second column on, found {layout.width}")
    flat, plan = plan_rows(data, layout)
    check_tables(tables, (4, layout.highest + 1))
    target = check_image("out", out, (tables.dtype.type,), 4)
    check_output("out", out, tables.dtype, (*target, 4), data=data, tables=tables)
    box = letterbox((height, width), target)
    _encode_resampled(
        flat,
        plan,
        out,
        read_only(tables),
        _border(border, tables.dtype),
        box,
        width,
        _area_weights(height, box[2]),
        _area_weights(width, box[3]),
        (flip_vertical, flip_horizontal),
        bool(second_column),
        check_rows(rows, out.shape[0]),
    )


def _border(border: float, dtype: np.dtype[Any]) -> Any:
    """The border in the dtype of the output."""
    limits = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    if not limits.min <= border <= limits.max:
        raise ValueError(f"border must be a number that {dtype} holds, found {border}")
    return dtype.type(border)


@lru_cache(maxsize=16)
def _area_weights(source: int, target: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """For each target cell: the first source cell that it covers, and how much of it each one from there makes up.

    Returns:
        starts, uint32 (target,), and weights, float32 (target, taps), which sum to 1 over the taps.
    """
    # In units of 1 / target of a source cell all edges are whole numbers.
    begin = np.arange(target)[:, None] * source
    end = begin + source
    starts = begin // target
    cells = starts + np.arange(int((-(-end // target) - starts).max()))
    covered = np.minimum(end, (cells + 1) * target) - np.maximum(begin, cells * target)
    return starts[:, 0].astype(np.uint32), (np.maximum(covered, 0) / source).astype(np.float32)


@kernel
def _encode_resampled(
    flat: U8Array,
    plan: RowPlan,
    out: NDArray[Any],
    tables: NDArray[Any],
    border: Any,
    box: tuple[int, int, int, int],
    columns: int,
    row_taps: tuple[NDArray[np.uint32], NDArray[np.float32]],
    column_taps: tuple[NDArray[np.uint32], NDArray[np.float32]],
    flips: tuple[bool, bool],
    second_column: bool,
    rows: tuple[int, int],
) -> None:
    top, left, height, width = box
    buffers = cell_buffers(plan)
    skip = plan.skip // 2
    sums = np.empty((4, columns), np.float32)
    # Beyond the last cell stand zeros, where taps of no weight may look.
    cells = np.zeros((columns + column_taps[1].shape[1], 4), np.float32)
    held = np.int64(-1)
    for step in range(rows[1] - rows[0]):
        # In the order of the source, so that a row of cells that two rows of `out` share is read once.
        i = rows[1] - 1 - step if flips[0] else rows[0] + step
        out[i] = border
        row = top + height - 1 - i if flips[0] else i - top
        if row < 0 or row >= height:
            continue
        weights = row_taps[1][row]
        for tap in range(len(weights)):
            if weights[tap] > 0:
                source = np.int64(row_taps[0][row]) + tap
                if source != held:
                    read_cells(flat, plan, source, buffers)
                    held = source
                for plane in range(4):
                    # The planes of even columns then are those of the next cell.
                    begin = skip + 1 if second_column and plane % 2 == plan.red_column else skip
                    _add_weighted(sums[plane], buffers[plane, begin : begin + columns], weights[tap], tap == 0)
        _interleave(sums[0], sums[1], sums[2], sums[3], cells)
        _encode_means(cells, column_taps[0], column_taps[1], tables, out[i, left : left + width], flips[1])


@kernel
def _add_weighted(sums: NDArray[np.float32], codes: U16Array, weight: np.float32, first: bool) -> None:
    if first:
        for j in range(len(sums)):
            sums[j] = weight * np.float32(codes[j])
    else:
        for j in range(len(sums)):
            sums[j] += weight * np.float32(codes[j])


@kernel
def _interleave(
    red: NDArray[np.float32],
    green_red: NDArray[np.float32],
    green_blue: NDArray[np.float32],
    blue: NDArray[np.float32],
    cells: NDArray[np.float32],
) -> None:
    for j in range(len(red)):
        cells[j, 0] = red[j]
        cells[j, 1] = green_red[j]
        cells[j, 2] = green_blue[j]
        cells[j, 3] = blue[j]


@kernel
def _encode_means(
    cells: NDArray[np.float32],
    starts: NDArray[np.uint32],
    weights: NDArray[np.float32],
    tables: NDArray[Any],
    line: NDArray[Any],
    mirror: bool,
) -> None:
    half = np.float32(0.5)
    highest = np.float32(tables.shape[1] - 1)
    red_table, green_red_table, green_blue_table, blue_table = tables[0], tables[1], tables[2], tables[3]
    for j in range(len(line)):
        red = green_red = green_blue = blue = half
        for tap in range(weights.shape[1]):
            weight = weights[j, tap]
            k = starts[j] + np.uint32(tap)
            red += weight * cells[k, 0]
            green_red += weight * cells[k, 1]
            green_blue += weight * cells[k, 2]
            blue += weight * cells[k, 3]
        target = len(line) - 1 - j if mirror else j
        line[target, 0] = red_table[np.uint32(min(red, highest))]
        line[target, 1] = green_red_table[np.uint32(min(green_red, highest))]
        line[target, 2] = green_blue_table[np.uint32(min(green_blue, highest))]
        line[target, 3] = blue_table[np.uint32(min(blue, highest))]
