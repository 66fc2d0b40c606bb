"""What a frame tells about the light, in one sub-sampled pass over its packed bytes.

Enough for an auto-exposure and an auto-white-balance loop on boards without an image signal processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_rows, check_whole
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows, read_only
from edge_isp.kernels.rows import U8Array, cell_buffers, read_cells

# Light from this share of the range on counts as clipped: its colour is lost.
CLIPPED = 0.98
BINS = 256


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the cells that were looked at. Channels are in the order R, Gr, Gb, B.

    Attributes:
        histograms: int64 (4, 256): how many codes lie in each 256th of the code range.
        means: the mean code of each channel.
        clipped: the share of clipped codes in each channel, 0 to 1.
        grey_world_gains: white-balance gains (red, blue; green is 1) that make the mean of all cells without a clipped
            channel grey; (1, 1) where there is no such light.
    """

    histograms: NDArray[np.int64]
    means: tuple[float, float, float, float]
    clipped: tuple[float, float, float, float]
    grey_world_gains: tuple[float, float]


def statistics(
    data: NDArray[np.uint8],
    layout: RawLayout,
    *,
    black_level: Sequence[float],
    white_level: float,
    step: int = 8,
    rows: tuple[int, int] | None = None,
) -> Statistics:
    """Means, histograms, clipped shares and grey-world gains of a window.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        layout: of the window of `data` to read; its width and height are even.
        black_level: codes in the order R, Gr, Gb, B.
        white_level: code.
        step: looks at every step-th row of cells, and at every cell of such a row.
        rows: first and last (exclusive) row of cells to look at; by default all.

    Raises:
        ValueError: The window's size is odd, `data` has the wrong shape, or a level or the step is out of range.
    """
    height, width = layout.cells
    flat, plan = plan_rows(data, layout)
    first, last = check_rows(rows, height)
    step = check_whole("step", step, 1, 2**31)
    if first == last:
        raise ValueError(f"rows must not be empty, found {first} to {last}")
    black = np.asarray(black_level, np.float64)
    if black.shape != (4,) or not np.all(np.isfinite(black) & (black < white_level) & np.isfinite(white_level)):
        raise ValueError(f"black_level must be four codes below white_level {white_level}, found {black_level}")
    limits = np.ceil(black + CLIPPED * (white_level - black)).astype(np.int64)
    histograms, sums, clipped, usable_sums, counts = _statistics(
        flat, plan, width, (first, last, step), read_only(limits), layout.bit_depth - 8
    )
    cells, usable = int(counts[0]), int(counts[1])
    means, shares = sums / cells, clipped / cells
    return Statistics(
        histograms=histograms,
        means=(float(means[0]), float(means[1]), float(means[2]), float(means[3])),
        clipped=(float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])),
        grey_world_gains=_grey_world(usable_sums / max(usable, 1), black, white_level) if usable else (1.0, 1.0),
    )


def _grey_world(means: NDArray[np.float64], black: NDArray[np.float64], white_level: float) -> tuple[float, float]:
    red, green_red, green_blue, blue = (float(light) for light in (means - black) / (white_level - black))
    green = (green_red + green_blue) / 2
    if min(red, green, blue) <= 0:
        return 1.0, 1.0
    return green / red, green / blue


@kernel
def _statistics(
    flat: U8Array,
    plan: RowPlan,
    columns: int,
    rows: tuple[int, int, int],
    limits: NDArray[np.int64],
    shift: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    histograms = np.zeros((4, BINS), np.int64)
    sums = np.zeros(4, np.int64)
    clipped = np.zeros(4, np.int64)
    usable_sums = np.zeros(4, np.int64)
    counts = np.zeros(2, np.int64)
    buffers = cell_buffers(plan)
    skip = plan.skip // 2
    usable = np.empty(columns, np.bool_)
    for row in range(rows[0], rows[1], rows[2]):
        read_cells(flat, plan, row, buffers)
        usable[:] = True
        for plane in range(4):
            codes = buffers[plane, skip : skip + columns]
            histogram = histograms[plane]
            limit = limits[plane]
            total = lost = np.int64(0)
            for j in range(columns):
                code = np.int64(codes[j])
                total += code
                lost += code >= limit
                usable[j] &= code < limit
            for j in range(columns):
                histogram[codes[j] >> np.uint16(shift)] += 1
            sums[plane] += total
            clipped[plane] += lost
        for plane in range(4):
            codes = buffers[plane, skip : skip + columns]
            total = np.int64(0)
            for j in range(columns):
                total += np.int64(codes[j]) if usable[j] else np.int64(0)
            usable_sums[plane] += total
        counts[0] += columns
        counts[1] += usable.sum()
    return histograms, sums, clipped, usable_sums, counts
