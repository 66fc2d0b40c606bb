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
Lines = tuple[I16Array, I16Array, I16Array, I16Array, I16Array]
Limits = tuple[np.int16, np.int16, np.int16, np.int16]
Light = TypeVar("Light", np.int16, np.float32)


@kernel
def find_candidates(
    lines: Lines,
    parity: int,
    green: bool,
    limits: Limits,
    stand_out: I16Array,
    candidates: U8Array,
) -> bool:
    """Finds the candidates in the even or the odd columns of a row; returns whether there are any.

    Args:
        lines: the light of five rows of pixels, from two above to two below, each (2, cells + 4).
        parity: of the columns.
        green: whether they are green.
        limits: of the pixel's colour, see `DefectPlan`.
        stand_out: see `DefectRows`.
        candidates: see `DefectRows`; written.
    """
    above2, above, own, below, below2 = lines
    other = 1 - parity
    if green:
        _stand_out_green(
            own[parity, 1:],
            (above2[parity, 2:], below2[parity, 2:]),
            (above[other, 1 + parity :], below[other, 1 + parity :]),
            limits,
            stand_out,
        )
    else:
        _stand_out(own[parity, 1:], (above2[parity, 1:], below2[parity, 1:]), limits, stand_out)
    found = _candidates(own[other, 1 + parity :], above[parity, 2:], below[parity, 2:], stand_out, candidates)
    return bool(found != 0)


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
def _standing_out(
    own: np.int16,
    highest: np.int16,
    lowest: np.int16,
    limits: Limits,
) -> np.int16:
    """By how much more a pixel lies beyond its neighbours than these are spread.

    Args:
        own: light of the pixel.
        highest: light of its second highest neighbour.
        lowest: light of its second lowest neighbour.
        limits: of the pixel's colour, see `DefectPlan`.

    Returns:
        The lowest number within the margin, the highest for an extreme pixel beyond it.
    """
    beyond = np.int16(max(np.int16(own - highest), np.int16(lowest - own)))
    more = np.int16(max(beyond, np.int16(0)) - np.int16(highest - lowest))
    light = np.uint16(max(lowest, np.int16(0)))
    margin = np.int16(limits[0] + np.int16((np.uint32(light) * np.uint32(limits[1])) >> np.uint32(16)))
    if own < limits[2] or own >= limits[3]:
        more = np.int16(32767)
    if beyond <= margin:
        more = np.int16(-32768)
    return more


@kernel
def _stand_out(
    own: I16Array,
    far: tuple[I16Array, I16Array],
    limits: Limits,
    stand_out: I16Array,
) -> None:
    """Red or blue: the arrays begin one column left of the window; `far` lies two rows above and below."""
    above, below = far
    for j in range(len(stand_out)):
        highest, lowest = seconds(
            own[j], own[j + 2], above[j], below[j + 2], above[j + 1], below[j + 1], above[j + 2], below[j]
        )
        stand_out[j] = _standing_out(own[j + 1], highest, lowest, limits)


@kernel
def _stand_out_green(
    own: I16Array,
    far: tuple[I16Array, I16Array],
    near: tuple[I16Array, I16Array],
    limits: Limits,
    stand_out: I16Array,
) -> None:
    """Green: `own` begins one column left of the window, `far` with it, `near`, one row away, at the left diagonal."""
    above2, below2 = far
    above, below = near
    for j in range(len(stand_out)):
        highest, lowest = seconds(
            own[j], own[j + 2], above[j], below[j + 1], above2[j], below2[j], above[j + 1], below[j]
        )
        stand_out[j] = _standing_out(own[j + 1], highest, lowest, limits)


@kernel
def _candidates(
    beside: I16Array, above: I16Array, below: I16Array, stand_out: I16Array, candidates: U8Array
) -> np.uint8:
    """Marks what stands out by more than the pixels of other colours differ across it; returns whether there is any.

    Args:
        beside: the same row, other columns, from the left neighbour on.
        above: the row above, same columns.
        below: the row below, same columns.
        stand_out: see `_standing_out`.
        candidates: see `DefectRows`; written.
    """
    found = np.uint8(0)
    for j in range(len(stand_out)):
        across = np.int16(abs(np.int16(beside[j] - beside[j + 1])))
        down = np.int16(abs(np.int16(above[j] - below[j])))
        marked = np.uint8(stand_out[j] > max(across, down))
        candidates[j] = marked
        found = np.uint8(found | marked)
    return found
