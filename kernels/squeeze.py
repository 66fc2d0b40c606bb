"""16-bit words to fewer bytes, without loss: for recordings of cameras that deliver 10 or 12 bits in 16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_output
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, plan_rows, row_bytes
from edge_isp.kernels.rows import U8Array

# Codes of a group, which must fill the rows.
_GROUPS = {10: 4, 12: 2}


def can_squeeze(layout: RawLayout) -> bool:
    """Whether `squeeze` takes frames of a layout.

    Args:
        layout: of the frames.
    """
    group = _GROUPS.get(layout.bit_depth)
    return layout.packing in ("u16", "u16-left") and group is not None and layout.width % group == 0


def squeeze(data: NDArray[np.uint8], layout: RawLayout, out: NDArray[np.uint8]) -> bool:
    """16-bit words to the packing "csi2p" of their bit depth, if every bit that it leaves out is 0.

    Args:
        data: uint8 (rows, stride); what pads the rows is not read.
        layout: of the window of `data` to take, see `can_squeeze`.
        out: uint8 (height, bytes of a row), C-contiguous, to write into.

    Returns:
        Whether nothing is lost; otherwise `out` is of no use.

    Raises:
        ValueError: the layout is none that can be squeezed, or `data` or `out` has the wrong shape or dtype.
    """
    if not can_squeeze(layout):
        raise ValueError(
            f"layout must have 10 or 12 bits in words of 16 and whole groups of pixels, found {layout.packing} of "
            f"{layout.bit_depth} bits, {layout.width} pixels wide"
        )
    flat, plan = plan_rows(data, layout)
    check_output("out", out, np.uint8, (layout.height, row_bytes("csi2p", layout.bit_depth, layout.width)), data=data)
    if layout.bit_depth == 10:
        return bool(_squeeze_10(flat, plan, out) == 0)
    return bool(_squeeze_12(flat, plan, out) == 0)


@kernel
def _word(flat: U8Array, at: int) -> Any:
    """A word of 16 bits; without the JIT, NumPy would shift within 8 bits."""
    return np.int64(flat[at]) | np.int64(flat[at + 1]) << 8


@kernel
def _squeeze_10(flat: U8Array, plan: RowPlan, out: U8Array) -> int:
    lost = 0
    shift, highest = plan.shift, plan.highest
    for y in range(out.shape[0]):
        begin, row = plan.first_byte + y * plan.stride, out[y]
        for group in range(len(row) // 5):
            at = begin + 8 * group
            a, b = _word(flat, at), _word(flat, at + 2)
            c, d = _word(flat, at + 4), _word(flat, at + 6)
            lost |= (a | b | c | d) & ~(highest << shift)
            a, b, c, d = a >> shift, b >> shift, c >> shift, d >> shift
            row[5 * group] = a >> 2 & 255
            row[5 * group + 1] = b >> 2 & 255
            row[5 * group + 2] = c >> 2 & 255
            row[5 * group + 3] = d >> 2 & 255
            row[5 * group + 4] = a & 3 | (b & 3) << 2 | (c & 3) << 4 | (d & 3) << 6
    return lost


@kernel
def _squeeze_12(flat: U8Array, plan: RowPlan, out: U8Array) -> int:
    lost = 0
    shift, highest = plan.shift, plan.highest
    for y in range(out.shape[0]):
        begin, row = plan.first_byte + y * plan.stride, out[y]
        for group in range(len(row) // 3):
            at = begin + 4 * group
            a, b = _word(flat, at), _word(flat, at + 2)
            lost |= (a | b) & ~(highest << shift)
            a, b = a >> shift, b >> shift
            row[3 * group] = a >> 4 & 255
            row[3 * group + 1] = b >> 4 & 255
            row[3 * group + 2] = a & 15 | (b & 15) << 4
    return lost
