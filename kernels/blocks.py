"""Means, clipping and noise of small blocks of a frame, in one sub-sampled pass over its packed bytes.

White balance, exposure and the estimate of the noise are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, cell_buffers, read_cells

# Cells of a block, down and across.
BLOCK = 8
# At most this many rows of blocks are looked at, evenly spread.
_BLOCK_ROWS = 32


@dataclass(frozen=True, slots=True)
class BlockStatistics:
    """Of the blocks that were looked at.

    Attributes:
        means: float64 (rows, columns, 4): the mean code of each plane, in the order R, Gr, Gb, B.
        clipped: float64 (rows, columns): the share of cells with a code at or above `limits` in any plane.
        noise: float64 (rows, columns): variance of a green code, in squared codes: what neighbouring differences of
            the two greens differ by. Detail adds to it; slopes and unequal greens do not. NaN where a block has one
            column.
    """

    means: NDArray[np.float64]
    clipped: NDArray[np.float64]
    noise: NDArray[np.float64]


def block_statistics(data: NDArray[np.uint8], layout: RawLayout, *, limits: Sequence[float]) -> BlockStatistics:
    """Means, clipping and noise of blocks of `BLOCK` x `BLOCK` cells; of a smaller window, of one block.

    A window of more than 32 rows of blocks is looked at in 32 of them. What is left at the right and the bottom is
    left out.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        layout: of the window of `data` to read; its width and height are even.
        limits: codes in the order R, Gr, Gb, B from which on a code counts as clipped.

    Raises:
        ValueError: The window's size is odd, `data` has the wrong shape, or there are not four limits.
    """
    height, width = layout.cells
    flat, plan = plan_rows(data, layout)
    if len(limits) != 4:
        raise ValueError(f"limits must be four codes, found {limits}")
    size = (min(BLOCK, height), min(BLOCK, width))
    rows = min(height // size[0], _BLOCK_ROWS)
    firsts = (np.arange(rows) * (height // size[0]) // rows * size[0]).astype(np.int64)
    sums, lost, squares = _block_sums(
        flat, plan, width // size[1], size, read_only(firsts), read_only(np.ceil(np.asarray(limits, np.float64)))
    )
    cells = size[0] * size[1]
    differences = size[0] * (size[1] - 1)
    noise = squares / (4 * differences) if differences else np.full(squares.shape, np.nan)
    return BlockStatistics(means=sums / cells, clipped=lost / cells, noise=noise)


@kernel
def _block_sums(
    flat: U8Array,
    plan: RowPlan,
    blocks: int,
    size: tuple[int, int],
    firsts: NDArray[np.int64],
    limits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    sums = np.empty((len(firsts), blocks, 4), np.float64)
    clipped = np.empty((len(firsts), blocks), np.float64)
    squares = np.empty((len(firsts), blocks), np.float64)
    columns = blocks * size[1]
    buffers = cell_buffers(plan)
    skip = plan.skip // 2
    # Down each column first: that vectorises.
    totals = np.empty((4, columns), np.uint32)
    lost = np.empty(columns, np.uint16)
    differing = np.empty(columns, np.float32)
    difference = np.empty(columns, np.float32)
    bounds = np.minimum(limits, 65536).astype(np.int32)
    for row in range(len(firsts)):
        totals[:] = 0
        lost[:] = 0
        differing[:] = 0
        for cell_row in range(firsts[row], firsts[row] + size[0]):
            read_cells(flat, plan, cell_row, buffers)
            red = buffers[0, skip : skip + columns]
            green_red = buffers[1, skip : skip + columns]
            green_blue = buffers[2, skip : skip + columns]
            blue = buffers[3, skip : skip + columns]
            for plane in range(4):
                codes = buffers[plane, skip : skip + columns]
                total = totals[plane]
                for j in range(columns):
                    total[j] += np.uint32(codes[j])
            for j in range(columns):
                over = (
                    (np.int32(red[j]) >= bounds[0])
                    | (np.int32(green_red[j]) >= bounds[1])
                    | (np.int32(green_blue[j]) >= bounds[2])
                    | (np.int32(blue[j]) >= bounds[3])
                )
                lost[j] += np.uint16(over)
            for j in range(columns):
                difference[j] = np.float32(np.int32(green_red[j]) - np.int32(green_blue[j]))
            for j in range(columns - 1):
                step = difference[j + 1] - difference[j]
                differing[j] += step * step
        for block in range(blocks):
            first, last = block * size[1], (block + 1) * size[1]
            for plane in range(4):
                sums[row, block, plane] = totals[plane, first:last].sum()
            clipped[row, block] = lost[first:last].sum()
            squares[row, block] = differing[first : last - 1].sum()
    return sums, clipped, squares
