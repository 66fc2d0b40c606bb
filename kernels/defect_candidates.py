"""The first step towards defective pixels: candidates among a row's pixels, in vectors of 16-bit numbers.

A candidate lies beyond the second highest, or below the second lowest, of its eight nearest neighbours of its own
colour by more than these are spread, and by more than the four adjacent pixels, of other colours, change across it.
Pixels at white level and below black level need only stand out.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.rows import U8Array

I16Array = NDArray[np.int16]
# Of `DefectRows.light`, the rows from three above a pixel to three below.
Near = tuple[int, int, int, int, int, int, int]
# Rows of `DefectPlan.margins` and `DefectPlan.limits`.
Margins = tuple[np.uint16, np.uint16, np.uint16, np.uint16]
Limits = tuple[np.int16, np.int16]
# The light at which the two lines meet that the noise's standard deviation is taken to rise in.
MARGIN_KNEE = 128
Light = TypeVar("Light", np.int16, np.float32)


@kernel
def find_candidates(
    light: I16Array, near: Near, parity: int, green: bool, margins: Margins, limits: Limits, candidates: U8Array
) -> np.uint8:
    """Marks the candidates in the even or the odd columns of a row with 1, all others with 0; returns whether any is.

    Args:
        light: see `DefectRows`.
        near: the rows around the pixels.
        parity: of the columns.
        green: whether they are green.
        margins: of the pixels' colour, see `DefectPlan`.
        limits: of the pixels' colour, see `DefectPlan`.
        candidates: (cells,), written.
    """
    _, above2, above1, here, below1, below2, _ = near
    own, above, below = light[here, parity], light[above2, parity], light[below2, parity]
    # Other columns, from the left neighbour on.
    beside = light[here, 1 - parity, 1 + parity :]
    upper, lower = light[above1, 1 - parity, 1 + parity :], light[below1, 1 - parity, 1 + parity :]
    over, under = light[above1, parity], light[below1, parity]
    found = np.uint8(0)
    if green:
        for j in range(len(candidates)):
            highest, lowest = seconds(
                own[j + 1], own[j + 3], upper[j], lower[j + 1], above[j + 2], below[j + 2], upper[j + 1], lower[j]
            )
            across = _across(beside[j], beside[j + 1], over[j + 2], under[j + 2])
            marked = _is_candidate(own[j + 2], highest, lowest, across, margins, limits)
            candidates[j] = marked
            found = np.uint8(found | marked)
    else:
        for j in range(len(candidates)):
            highest, lowest = seconds(
                own[j + 1],
                own[j + 3],
                above[j + 1],
                below[j + 3],
                above[j + 2],
                below[j + 2],
                above[j + 3],
                below[j + 1],
            )
            across = _across(beside[j], beside[j + 1], over[j + 2], under[j + 2])
            marked = _is_candidate(own[j + 2], highest, lowest, across, margins, limits)
            candidates[j] = marked
            found = np.uint8(found | marked)
    return found


@kernel(inline="always")
def seconds(a: Light, b: Light, c: Light, d: Light, e: Light, f: Light, g: Light, h: Light) -> tuple[Light, Light]:
    """The second highest and the second lowest of eight.

    The second highest is the highest of the lower ones of four pairs, or the second highest of the higher ones.
    """
    high_ab, low_ab, high_cd, low_cd = max(a, b), min(a, b), max(c, d), min(c, d)
    high_ef, low_ef, high_gh, low_gh = max(e, f), min(e, f), max(g, h), min(g, h)
    top_1, under_1 = max(high_ab, high_cd), min(high_ab, high_cd)
    top_2, under_2 = max(high_ef, high_gh), min(high_ef, high_gh)
    bottom_1, over_1 = min(low_ab, low_cd), max(low_ab, low_cd)
    bottom_2, over_2 = min(low_ef, low_gh), max(low_ef, low_gh)
    highest = max(max(min(top_1, top_2), max(under_1, under_2)), max(over_1, over_2))
    lowest = min(min(max(bottom_1, bottom_2), min(over_1, over_2)), min(under_1, under_2))
    return highest, lowest


@kernel(inline="always")
def _across(left: np.int16, right: np.int16, above: np.int16, below: np.int16) -> np.int16:
    """The most that the light of another colour changes across a pixel."""
    return max(np.int16(abs(np.int16(left - right))), np.int16(abs(np.int16(above - below))))


@kernel(inline="always")
def _is_candidate(
    own: np.int16, highest: np.int16, lowest: np.int16, across: np.int16, margins: Margins, limits: Limits
) -> np.uint8:
    """Whether a pixel stands out from its neighbours, as 1 or 0.

    Args:
        own: light of the pixel.
        highest: light of its second highest neighbour.
        lowest: light of its second lowest neighbour.
        across: see `_across`.
        margins: see `find_candidates`.
        limits: see `find_candidates`.
    """
    beyond = max(np.int16(own - highest), np.int16(lowest - own), np.int16(0))
    more = np.int16(beyond - np.int16(highest - lowest))
    if own < limits[0] or own >= limits[1]:
        more = np.int16(32767)
    # Half of each: the sum of both would not fit into 16 bits.
    light = max(np.int16(np.int16(lowest >> 1) + np.int16(highest >> 1)), np.int16(0))
    # Two things change no result and keep LLVM in 16-bit lanes: the lines multiply different numbers (below the knee
    # the first is the lower one anyhow), and the slopes, from 1 on, differ from pixel to pixel as far as LLVM knows.
    sign = np.uint16(np.uint16(own) >> np.uint16(15))
    dim = np.uint16(margins[0] + _high_half(light, max(sign, margins[1])))
    bright = np.uint16(margins[2] + _high_half(max(light, np.int16(MARGIN_KNEE)), max(sign, margins[3])))
    if np.uint16(beyond) <= min(dim, bright):
        more = np.int16(-32768)
    return np.uint8(more > across)


@kernel(inline="always")
def _high_half(light: np.int16, slope: np.uint16) -> np.uint16:
    """Light, which is not negative, times a slope in 1/65536: one instruction on 16-bit lanes."""
    return np.uint16((np.uint32(np.uint16(light)) * np.uint32(slope)) >> np.uint32(16))
