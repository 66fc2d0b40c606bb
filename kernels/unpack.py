"""RAW bytes to 16-bit codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_output, check_rows
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows
from edge_isp.kernels.rows import U8Array, U16Array, cell_buffers, read_row


def unpack(
    data: NDArray[np.uint8],
    layout: RawLayout,
    *,
    out: NDArray[np.uint16] | None = None,
    rows: tuple[int, int] | None = None,
) -> NDArray[np.uint16]:
    """RAW bytes to codes (height, width), right-aligned; "pisp-comp1" is decompressed.

    Codes of "u16" above the bit depth, which only a fault or a wrong format gives, become the highest code.

    Args:
        data: uint8 (rows, stride); rows may be padded.
        layout: of the window of `data` to read; its size may be odd.
        out: uint16 (height, width), C-contiguous, to write into; by default a new array.
        rows: first and last (exclusive) row of `out` to write; by default all.

    Raises:
        ValueError: `data` or `out` has the wrong shape or dtype.
    """
    flat, plan = plan_rows(data, layout)
    if out is None:
        out = np.empty((layout.height, layout.width), np.uint16)
    check_output("out", out, np.uint16, (layout.height, layout.width), data=data)
    first, last = check_rows(rows, layout.height)
    _unpack(flat, plan, out, first, last)
    return out


@kernel
def _unpack(flat: U8Array, plan: RowPlan, out: U16Array, first: int, last: int) -> None:
    buffers = cell_buffers(plan)
    even, odd = buffers[0], buffers[1]
    skip = plan.skip // 2
    for y in range(first, last):
        read_row(flat, plan, y, even, odd)
        _interleave(even[skip:], odd[skip:], out[y])


@kernel
def _interleave(even: U16Array, odd: U16Array, line: U16Array) -> None:
    for j in range(len(line) // 2):
        line[2 * j] = even[j]
        line[2 * j + 1] = odd[j]
    if len(line) % 2:
        line[len(line) - 1] = even[len(line) // 2]
