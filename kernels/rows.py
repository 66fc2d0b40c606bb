"""Reading rows: for every packing, a row of a Bayer frame comes out as its two colours.

Every other kernel uses this one. A row is split into the codes of its even and its odd columns, in a buffer that stays
in the first-level cache: each is a run of one colour, which vectorises where interleaved colours do not, and only this
kernel knows how codes are packed.

The arithmetic uses 16 bits where they suffice: twice as many lanes, half the time.

These functions are compiled and check nothing: they are for kernels, which check what they were called with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import KIND_PISP, KIND_RAW10, KIND_RAW12, KIND_RAW14, KIND_U8, RowPlan

U8Array = NDArray[np.uint8]
U16Array = NDArray[np.uint16]


@kernel
def cell_buffers(plan: RowPlan) -> U16Array:
    """Buffers (4, columns) for `read_cells`, one per colour plane, with room for the group that a window begins in."""
    return np.empty((4, (plan.pixels + 1) // 2), np.uint16)


@kernel
def read_cells(flat: U8Array, plan: RowPlan, cell_row: int | np.int64, buffers: U16Array) -> None:
    """Codes of a row of cells to `buffers`, in the order R, Gr, Gb, B; the window begins at column plan.skip // 2.

    Args:
        flat: the frame's bytes, see `kernels.layout.plan_rows`.
        plan: see `kernels.layout.plan_rows`.
        cell_row: counted from the window's top.
        buffers: see `cell_buffers`.
    """
    for colour_row in range(2):
        y = 2 * cell_row + (colour_row ^ plan.red_row)
        even = buffers[2 * colour_row + plan.red_column]
        odd = buffers[2 * colour_row + 1 - plan.red_column]
        read_row(flat, plan, y, even, odd)


@kernel
def read_row(flat: U8Array, plan: RowPlan, y: int | np.int64, even: U16Array, odd: U16Array) -> None:
    """Row `y` of the window, `plan.pixels` codes from `plan.first_byte` on, to its even and its odd columns."""
    begin = plan.first_byte + y * plan.stride
    line = flat[begin : begin + plan.bytes]
    if plan.kind == KIND_U8:
        _read_u8(line, even, odd)
    elif plan.kind == KIND_RAW10:
        _read_raw10(line, even, odd)
    elif plan.kind == KIND_RAW12:
        _read_raw12(line, even, odd)
    elif plan.kind == KIND_RAW14:
        _read_raw14(line, even, odd)
    elif plan.kind == KIND_PISP:
        _read_pisp(line, even, odd)
    else:
        _read_u16(line, even, odd, np.uint16(plan.shift), np.uint16(plan.highest))


@kernel
def _read_u8(line: U8Array, even: U16Array, odd: U16Array) -> None:
    for j in range(len(line) // 2):
        even[j] = line[2 * j]
        odd[j] = line[2 * j + 1]
    if len(line) % 2:
        even[len(line) // 2] = line[len(line) - 1]


@kernel
def _read_u16(line: U8Array, even: U16Array, odd: U16Array, shift: np.uint16, highest: np.uint16) -> None:
    # Two words at once, in 32 bits: LLVM shifts 16-bit lanes by a variable in 64 bits, which takes twice as long.
    pairs = line[: len(line) // 4 * 4].view(np.uint32)
    bits, low_half, half = np.uint32(shift) & np.uint32(15), np.uint32(65535), np.uint32(16)
    for j in range(len(pairs)):
        pair = pairs[j]
        even[j] = min(np.uint16(np.uint32(pair & low_half) >> bits), highest)
        odd[j] = min(np.uint16(np.uint32(pair >> half) >> bits), highest)
    if len(line) % 4:
        last = np.uint32(line[len(line) - 2]) | (np.uint32(line[len(line) - 1]) << np.uint32(8))
        even[len(pairs)] = min(np.uint16(np.uint32(last) >> bits), highest)


@kernel
def _read_raw10(line: U8Array, even: U16Array, odd: U16Array) -> None:
    two, four, six, mask = np.uint16(2), np.uint16(4), np.uint16(6), np.uint16(3)
    for group in range(len(line) // 5):
        low = np.uint16(line[5 * group + 4])
        even[2 * group] = (np.uint16(line[5 * group]) << two) | (low & mask)
        odd[2 * group] = (np.uint16(line[5 * group + 1]) << two) | ((low >> two) & mask)
        even[2 * group + 1] = (np.uint16(line[5 * group + 2]) << two) | ((low >> four) & mask)
        odd[2 * group + 1] = (np.uint16(line[5 * group + 3]) << two) | (low >> six)


@kernel
def _read_raw12(line: U8Array, even: U16Array, odd: U16Array) -> None:
    four, mask = np.uint16(4), np.uint16(15)
    for group in range(len(line) // 3):
        low = np.uint16(line[3 * group + 2])
        even[group] = (np.uint16(line[3 * group]) << four) | (low & mask)
        odd[group] = (np.uint16(line[3 * group + 1]) << four) | (low >> four)


@kernel
def _read_raw14(line: U8Array, even: U16Array, odd: U16Array) -> None:
    two, four, six, mask = np.uint16(2), np.uint16(4), np.uint16(6), np.uint16(63)
    for group in range(len(line) // 7):
        # The 24 low bits overlap bytes: each code takes from one byte, or from two.
        a = np.uint16(line[7 * group + 4])
        b = np.uint16(line[7 * group + 5])
        c = np.uint16(line[7 * group + 6])
        even[2 * group] = (np.uint16(line[7 * group]) << six) | (a & mask)
        odd[2 * group] = (np.uint16(line[7 * group + 1]) << six) | (((a >> six) | (b << two)) & mask)
        even[2 * group + 1] = (np.uint16(line[7 * group + 2]) << six) | (((b >> four) | (c << four)) & mask)
        odd[2 * group + 1] = (np.uint16(line[7 * group + 3]) << six) | (c >> two)


@kernel
def _read_pisp(line: U8Array, even: U16Array, odd: U16Array) -> None:
    """PiSP compression, mode 1, offset 2048: two 32-bit words hold four codes of the even and four of the odd columns.

    Constants and formula: Raspberry Pi's, as picamera2's software decompression has them.
    """
    words = line.view(np.uint32)
    for group in range(len(words) // 2):
        a, b, c, d = _pisp_word(words[2 * group])
        even[4 * group], even[4 * group + 1], even[4 * group + 2], even[4 * group + 3] = a, b, c, d
        a, b, c, d = _pisp_word(words[2 * group + 1])
        odd[4 * group], odd[4 * group + 1], odd[4 * group + 2], odd[4 * group + 3] = a, b, c, d


@kernel(inline="always")
def _pisp_word(unsigned: np.uint32) -> tuple[np.uint16, np.uint16, np.uint16, np.uint16]:
    """The four codes of a word. Both variants are computed and one chosen, since branches would not vectorise."""
    mode = np.int32(unsigned & np.uint32(3))
    word = np.int32(unsigned >> np.uint32(2))
    # Quantisation modes 0 to 2: the middle two samples as 9 bits and a difference, the outer two relative to them.
    p0 = np.int32(word & 511)
    p1 = np.int32(((word >> 9) & 127) - 64)
    p2 = np.int32((word >> 16) & 127)
    p3 = np.int32((word >> 23) & 127)
    near = np.int32(mode * p0) < np.int32(768)
    q1 = np.int32(p0 - min(p1, np.int32(0))) if near else p0
    q2 = np.int32(p0 + max(p1, np.int32(0))) if near else np.int32(p1 + 448)
    limit = np.int32(1536 >> mode)
    q0 = np.int32(min(limit, max(np.int32(q1 - 64), np.int32(0))) + p2)
    q3 = np.int32(min(limit, max(np.int32(q2 - 64), np.int32(0))) + p3)
    # Mode 3: two fields of 15 bits, each a pair of samples in base 176. Products and shifts divide exactly here:
    # n // 11 == n * 187 >> 11 for n below 128, n // 176 == n * 745 >> 17 for n below 2048.
    low = np.int32(word & 32767)
    high = np.int32(word >> 15)
    if mode == np.int32(3):
        q0 = np.int32((low & 15) + 16 * (((low >> 8) * 187) >> 11))
        q1 = np.int32((low >> 4) - 176 * (((low >> 4) * 745) >> 17))
        q2 = np.int32((high & 15) + 16 * (((high >> 8) * 187) >> 11))
        q3 = np.int32((high >> 4) - 176 * (((high >> 4) * 745) >> 17))
    return _pisp_code(q0, mode), _pisp_code(q1, mode), _pisp_code(q2, mode), _pisp_code(q3, mode)


@kernel(inline="always")
def _pisp_code(sample: np.int32, mode: np.int32) -> np.uint16:
    fine = max(np.int32(16 * sample), np.int32(32 * sample - 5120), np.int32(64 * mode * sample))
    coarse = max(np.int32(256 * sample), np.int32(512 * sample - 24064))
    value = coarse if mode == np.int32(3) else fine
    return np.uint16(min(np.int32(value + 2048), np.int32(65535)))
