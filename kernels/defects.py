"""Defective pixels are replaced while rows are read: no pass of their own over the frame.

`read_mended_cells` stands in the place of `kernels.rows.read_cells`. A pixel is replaced where it is listed, or where it
stands out from its neighbours by more than noise and texture explain. That is decided in two steps: whole numbers of
16 bits, in vectors, leave a few candidates in a thousand pixels, and only these are weighed in float32. Pixels are
compared as white-balanced light, so that the colours around a pixel say whether the picture changes there.

All neighbours are codes as the sensor sent them: the order of rows, and ranges of rows, change nothing. Beyond the
window's edges the mosaic is mirrored at its outermost pixels, which keeps every colour in its place.

How the figures below were found, and what they cost and achieve: `docs/defects.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.layout import RawLayout, RowPlan, read_only
from edge_isp.kernels.rows import U8Array, U16Array, read_row

I16Array = NDArray[np.int16]
F32Array = NDArray[np.float32]
Light = TypeVar("Light", np.int16, np.float32)

# White in white-balanced light, as whole numbers of 16 bits, and the range that light is clipped to.
LIGHT_WHITE = 4096
LOWEST_LIGHT, HIGHEST_LIGHT = -4096, 28671

# A pixel is defective where it lies beyond the second highest (or lowest) of its eight nearest neighbours of its own
# colour by more than the sum of these: standard deviations of the noise, ...
NOISE = 4.0
# ... the spread of these neighbours, from the second lowest to the second highest, less what noise makes of it, ...
SPREAD, SPREAD_NOISE = 1.5, 2.5
# ... the most that one of the four adjacent pixels, of other colours, differs from its own surroundings, ...
ACTIVITY, ACTIVITY_NOISE = 2.5, 3.0
# ... and how far all four of them rise (or fall) with it: a star does that, a defect does not.
COMMON, COMMON_NOISE = 1.5, 2.0
# A pixel at white level amid darker ones is seldom part of the picture: this share of the last three counts.
# Below black level by this many standard deviations of the read noise there is no light at all: nothing of them counts.
WHITE_SHARE, WHITE_CONTRAST, BELOW_BLACK = 0.25, 0.9, 8.0
# Beyond the threshold by this share of it, a pixel is replaced entirely; before, in part.
FADE = 0.5


class DefectPlan(NamedTuple):
    """How to find and replace the defective pixels of frames: what the compiled code takes; see `plan_defects`.

    The arrays hold a row of numbers for each colour plane, in the order R, Gr, Gb, B. "Light" is white-balanced light
    above black level in steps of 1 / `LIGHT_WHITE` of white.

    Attributes:
        to_light: int32 (4, 2), factor and offset: light = (code * factor - offset) >> shift.
        shift: see `to_light`.
        limits: int16 (4, 4): light that a candidate stands out by, without light, and what each unit of light adds, in
            1/65536; the light below which no scene can be; the light of white level.
        noise: float32 (4, 2), variance of the noise for each unit of light, and without light.
        to_code: float32 (4, 2), factor and offset: code = light * factor + offset.
        white: the highest code that a replaced pixel takes.
        highest: code of the bit depth.
        row_starts: int32 (height + 1,): where the listed pixels of each row begin in `columns`.
        columns: int32, the columns of the listed pixels, row by row.
    """

    to_light: NDArray[np.int32]
    shift: int
    limits: I16Array
    noise: F32Array
    to_code: F32Array
    white: int
    highest: int
    row_starts: NDArray[np.int32]
    columns: NDArray[np.int32]


class DefectRows(NamedTuple):
    """The rows around the one that is mended; made by `defect_rows`.

    Attributes:
        codes: uint16 (8, 2, columns): the last eight rows of pixels, each as its even and its odd columns.
        light: int16 (8, 2, cells + 4): the same rows as light, with two columns of margin at either end.
        held: int64 (8,): which row of the window each of the eight is.
        stand_out: int16 (cells,): scratch.
        candidates: uint8, cells rounded up to a multiple of 8: scratch.
        around: float32 (7, 7): scratch.
    """

    codes: U16Array
    light: I16Array
    held: NDArray[np.int64]
    stand_out: I16Array
    candidates: U8Array
    around: F32Array


def plan_defects(
    layout: RawLayout,
    *,
    black_level: tuple[float, float, float, float],
    white_level: float,
    gains: tuple[float, float, float],
    shot_noise: float,
    read_variance: float,
    listed: Iterable[tuple[int, int]] = (),
) -> DefectPlan:
    """Makes the plan that `kernels.encode.encode` and `read_mended_cells` take.

    Args:
        layout: of the window whose pixels are mended.
        black_level: codes, in the order R, Gr, Gb, B.
        white_level: code.
        gains: white-balance gains (red, green, blue).
        shot_noise: variance of the noise for each unit of light (0 to 1, before white balance) at the frame's
            analogue gain: `Noise.shot` times the gain.
        read_variance: variance of the noise without light, at the frame's analogue gain, in squared light.
        listed: pairs x, y of pixels known to be defective, in any order, counted from the window's first pixel; those
            outside the window are left out.

    Raises:
        ValueError: The window is smaller than 4x4 pixels or has an odd size, a black level is not below white, or a
            gain or the noise is not a positive number.
    """
    height, width = layout.height, layout.width
    if height < 4 or width < 4 or height % 2 or width % 2:
        raise ValueError(f"defects are replaced in windows of even size, at least 4x4 pixels, found {width}x{height}")
    black = np.asarray(black_level, np.float64)
    if black.shape != (4,) or not np.all(black < white_level):
        raise ValueError(f"black_level must be four codes below white_level {white_level}, found {black_level}")
    red, green, blue = gains
    gain = np.array([red, green, green, blue], np.float64)
    if not np.all(np.isfinite(gain) & (gain > 0)):
        raise ValueError(f"gains must be positive numbers, found {gains}")
    if not (np.isfinite(shot_noise) and shot_noise > 0 and np.isfinite(read_variance) and read_variance >= 0):
        raise ValueError(f"noise must be positive numbers, found shot {shot_noise} and read {read_variance}")
    light_of_code = gain / (white_level - black) * LIGHT_WHITE
    shift = int(np.floor(np.log2(2.0**29 / (layout.highest * light_of_code.max()))))
    shot = shot_noise * gain * LIGHT_WHITE
    # A code stands for all light within half a code, and light for all within half a unit.
    read = read_variance * (gain * LIGHT_WHITE) ** 2 + (light_of_code**2 + 1) / 12
    dark, mid = NOISE * np.sqrt(read), NOISE * np.sqrt(shot * LIGHT_WHITE / 2 + read)
    slope = np.minimum((mid - dark) / (LIGHT_WHITE / 2) * 65536, 32767).astype(np.int16)
    # White is one unit less than it should be: the light of white level itself is rounded down.
    lights = np.stack([np.minimum(dark, LIGHT_WHITE), -BELOW_BLACK * np.sqrt(read), gain * LIGHT_WHITE - 1], axis=1)
    lights = np.clip(np.floor(lights), LOWEST_LIGHT, HIGHEST_LIGHT).astype(np.int16)
    row_starts, columns = _by_row(listed, width, height)
    return DefectPlan(
        to_light=read_only(np.rint(np.stack([light_of_code, black * light_of_code], axis=1) * 2.0**shift).astype(np.int32)),
        shift=shift,
        limits=read_only(np.insert(lights, 1, slope, axis=1)),
        noise=read_only(np.stack([shot, read], axis=1).astype(np.float32)),
        to_code=read_only(np.stack([1 / light_of_code, black], axis=1).astype(np.float32)),
        white=int(min(np.floor(white_level), layout.highest)),
        highest=layout.highest,
        row_starts=read_only(row_starts),
        columns=read_only(columns),
    )


def check_plan(defects: DefectPlan, layout: RawLayout) -> None:
    """Refuses a plan that was made for windows of another height, or for codes of another bit depth.

    Args:
        defects: see `plan_defects`.
        layout: of the window whose pixels are mended.

    Raises:
        ValueError: It is another.
    """
    height = len(defects.row_starts) - 1
    if height != layout.height or len(defects.columns) and int(defects.columns.max()) >= layout.width:
        raise ValueError(f"defects must be those of a window of {layout.height} rows, found {height} rows")
    if defects.highest != layout.highest:
        raise ValueError(f"defects must be those of codes up to {layout.highest}, found {defects.highest}")


def _by_row(places: Iterable[tuple[int, int]], width: int, height: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    inside = sorted({(int(y), int(x)) for x, y in places if 0 <= x < width and 0 <= y < height})
    rows = np.array([y for y, _ in inside], np.int32)
    columns = np.array([x for _, x in inside], np.int32)
    return np.searchsorted(rows, np.arange(height + 1)).astype(np.int32), columns


@kernel
def defect_rows(plan: RowPlan, cells: int) -> DefectRows:
    """Memory for `read_mended_cells`.

    Args:
        plan: see `kernels.layout.plan_rows`.
        cells: in a row of the window.
    """
    return DefectRows(
        np.empty((8, 2, (plan.pixels + 1) // 2), np.uint16),
        np.empty((8, 2, cells + 4), np.int16),
        np.full(8, -1, np.int64),
        np.empty(cells, np.int16),
        np.zeros((cells + 7) // 8 * 8, np.uint8),
        np.empty((7, 7), np.float32),
    )


@kernel
def read_mended_cells(
    flat: U8Array, plan: RowPlan, defects: DefectPlan, cell_row: int | np.int64, rows: DefectRows, buffers: U16Array
) -> None:
    """As `kernels.rows.read_cells`, with defective pixels replaced.

    Args:
        flat: the frame's bytes, see `kernels.layout.plan_rows`.
        plan: see `kernels.layout.plan_rows`.
        defects: see `plan_defects`, for the same window.
        cell_row: counted from the window's top; rows may come in any order, neighbouring ones are read once.
        rows: see `defect_rows`; for this frame only.
        buffers: see `kernels.rows.cell_buffers`, written.
    """
    height, cells, skip = len(defects.row_starts) - 1, len(rows.stand_out), plan.skip // 2
    # Taken out of their tuples once: each time costs as much as several vectors of pixels.
    held, codes, light, around = rows.held, rows.codes, rows.light, rows.around
    stand_out, candidates = rows.stand_out, rows.candidates
    starts, columns, limits, noise = defects.row_starts, defects.columns, defects.limits, defects.noise
    to_light, to_code = defects.to_light, defects.to_code
    for y in range(max(2 * cell_row - 3, 0), min(2 * cell_row + 5, height)):
        place = y % 8
        if held[place] != y:
            held[place] = y
            even, odd = codes[place, 0], codes[place, 1]
            read_row(flat, plan, y, even, odd)
            plane = 2 * ((y & 1) ^ plan.red_row) + plan.red_column
            _to_light(even[skip:], light[place, 0], to_light[plane, 0], to_light[plane, 1], defects.shift)
            plane ^= 1
            _to_light(odd[skip:], light[place, 1], to_light[plane, 0], to_light[plane, 1], defects.shift)
            _mirror_ends(light[place, 0], light[place, 1])
    for y in range(2 * cell_row, 2 * cell_row + 2):
        lines = (
            light[_mirrored(y - 2, height) % 8],
            light[_mirrored(y - 1, height) % 8],
            light[y % 8],
            light[_mirrored(y + 1, height) % 8],
            light[_mirrored(y + 2, height) % 8],
        )
        for parity in range(2):
            plane = 2 * ((y & 1) ^ plan.red_row) + (parity ^ plan.red_column)
            mended = buffers[plane]
            _copy(codes[y % 8, parity], mended)
            green = plane == 1 or plane == 2
            extremes = (limits[plane, 0], limits[plane, 1], limits[plane, 2], limits[plane, 3])
            found = _find(lines, parity, green, extremes, stand_out, candidates)
            for k in range(starts[y], starts[y + 1]):
                if columns[k] % 2 == parity:
                    candidates[columns[k] // 2] = 2
                    found = True
            if not found:
                continue
            marked = candidates.view(np.uint64)
            for word in range(len(marked)):
                if marked[word] == 0:
                    continue
                for j in range(8 * word, min(8 * word + 8, cells)):
                    listed = candidates[j] == 2
                    if candidates[j] == 0 or not (listed or _beyond_noise(lines, parity, j, plane, noise)):
                        continue
                    _surroundings(light, height, y, 2 * j + parity, around)
                    share, value = _weigh(around, plane, noise, limits, listed)
                    if share > 0:
                        value = np.floor(value * to_code[plane, 0] + to_code[plane, 1] + np.float32(0.5))
                        mended[skip + j] = np.uint16(min(max(value, np.float32(0)), np.float32(defects.white)))


@kernel
def _copy(source: U16Array, target: U16Array) -> None:
    for j in range(len(source)):
        target[j] = source[j]


@kernel
def _to_light(codes: U16Array, light: I16Array, factor: np.int32, offset: np.int32, shift: int) -> None:
    # The difference of any two still fits into 16 bits.
    lowest, highest, bits = np.int32(LOWEST_LIGHT), np.int32(HIGHEST_LIGHT), np.int32(shift)
    inner = light[2:-2]
    for j in range(len(inner)):
        value = np.int32(np.int32(np.int32(codes[j]) * factor - offset) >> bits)
        inner[j] = np.int16(min(max(value, lowest), highest))


@kernel
def _mirror_ends(even: I16Array, odd: I16Array) -> None:
    """Fills the margins of a row that is split into its even and its odd columns."""
    last = len(even) - 3
    even[0] = even[1] = even[3]
    even[last + 1], even[last + 2] = even[last], even[last - 1]
    odd[0], odd[1] = odd[3], odd[2]
    odd[last + 1] = odd[last + 2] = odd[last - 1]


@kernel
def _find(
    lines: tuple[I16Array, I16Array, I16Array, I16Array, I16Array],
    parity: int,
    green: bool,
    limits: tuple[np.int16, np.int16, np.int16, np.int16],
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
    return _candidates(own[other, 1 + parity :], above[parity, 2:], below[parity, 2:], stand_out, candidates) != 0


@kernel(inline="always")
def _seconds(a: Light, b: Light, c: Light, d: Light, e: Light, f: Light, g: Light, h: Light) -> tuple[Light, Light]:
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
    limits: tuple[np.int16, np.int16, np.int16, np.int16],
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
    more = np.int16(beyond - np.int16(highest - lowest))
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
    limits: tuple[np.int16, np.int16, np.int16, np.int16],
    stand_out: I16Array,
) -> None:
    """Red or blue: the arrays begin one column left of the window; `far` lies two rows above and below."""
    above, below = far
    for j in range(len(stand_out)):
        highest, lowest = _seconds(
            own[j], own[j + 2], above[j], below[j + 2], above[j + 1], below[j + 1], above[j + 2], below[j]
        )
        stand_out[j] = _standing_out(own[j + 1], highest, lowest, limits)


@kernel
def _stand_out_green(
    own: I16Array,
    far: tuple[I16Array, I16Array],
    near: tuple[I16Array, I16Array],
    limits: tuple[np.int16, np.int16, np.int16, np.int16],
    stand_out: I16Array,
) -> None:
    """Green: `own` begins one column left of the window, `far` with it, `near`, one row away, at the left diagonal."""
    above2, below2 = far
    above, below = near
    for j in range(len(stand_out)):
        highest, lowest = _seconds(
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


@kernel(inline="always")
def _beyond_noise(
    lines: tuple[I16Array, I16Array, I16Array, I16Array, I16Array], parity: int, j: int, plane: int, noise: F32Array
) -> bool:
    """Whether a candidate stands out by more than the noise explains: most do not."""
    above2, above, own, below, below2 = lines
    column, left = j + 2, j + 1 + parity
    if plane == 1 or plane == 2:
        a, b = above[1 - parity, left], below[1 - parity, left + 1]
        c, d = above[1 - parity, left + 1], below[1 - parity, left]
    else:
        a, b = above2[parity, column - 1], below2[parity, column + 1]
        c, d = above2[parity, column + 1], below2[parity, column - 1]
    highest, lowest = _seconds(
        own[parity, column - 1], own[parity, column + 1], above2[parity, column], below2[parity, column], a, b, c, d
    )
    light = np.float32(own[parity, column])
    beyond = max(light - np.float32(highest), np.float32(lowest) - light)
    return beyond > np.float32(NOISE) * np.sqrt(_variance(np.float32(lowest), np.float32(highest), plane, noise))


@kernel(inline="always")
def _variance(lowest: np.float32, highest: np.float32, plane: int, noise: F32Array) -> np.float32:
    """Variance of the noise halfway between the second lowest and the second highest neighbour."""
    return noise[plane, 0] * max((lowest + highest) * np.float32(0.5), np.float32(0)) + noise[plane, 1]


@kernel(inline="always")
def _mirrored(y: int, height: int) -> int:
    """Row `y`, mirrored at the first and the last row."""
    y = abs(y)
    return y if y < height else 2 * height - 2 - y


@kernel
def _surroundings(light: I16Array, height: int, y: int, x: int, around: F32Array) -> None:
    """The 7x7 pixels around one, from `DefectRows.light` to `around`."""
    for dy in range(-3, 4):
        row = _mirrored(y + dy, height) % 8
        for dx in range(-3, 4):
            column = x + dx + 4
            around[3 + dy, 3 + dx] = light[row, column % 2, column // 2]


@kernel
def _weigh(
    around: F32Array, plane: int, noise: F32Array, limits: I16Array, listed: bool
) -> tuple[np.float32, np.float32]:
    """How much of a candidate is replaced, 0 to 1, and the light it then has; as `kernels.defects_reference` has it.

    Args:
        around: light of the 7x7 pixels around the candidate.
        plane: its colour.
        noise: see `DefectPlan`.
        limits: see `DefectPlan`.
        listed: whether it is replaced in any case.
    """
    own = around[3, 3]
    green = plane == 1 or plane == 2
    reach = 1 if green else 2
    highest, lowest = _seconds(
        around[3, 1],
        around[3, 5],
        around[1, 3],
        around[5, 3],
        around[3 - reach, 3 - reach],
        around[3 + reach, 3 + reach],
        around[3 - reach, 3 + reach],
        around[3 + reach, 3 - reach],
    )
    variance = _variance(lowest, highest, plane, noise)
    share = np.float32(1)
    if not listed:
        threshold = np.float32(NOISE) * np.sqrt(variance)
        threshold += _texture(around, lowest, highest, plane, noise, limits)
        beyond = max(own - highest, lowest - own)
        share = min(max((beyond - threshold) / (np.float32(FADE) * threshold), np.float32(0)), np.float32(1))
    predicted = min(max(_predict(around, green, variance), lowest), highest)
    return share, own + (predicted - own) * share


@kernel
def _predict(around: F32Array, green: bool, variance: np.float32) -> np.float32:
    """What a pixel's neighbours say of it, along four directions, each weighted by how little it changes along it.

    In each direction it is the mean of the two pixels of its own colour, corrected by the curvature of the other colour
    between and beyond them; along diagonals green has green next to it.
    """
    total, weights = np.float32(0), np.float32(0)
    half, quarter = np.float32(0.5), np.float32(0.25)
    for direction in range(4):
        dy = 0 if direction == 1 else 1
        dx = 0 if direction == 0 else -1 if direction == 3 else 1
        before, after = around[3 - dy, 3 - dx], around[3 + dy, 3 + dx]
        if green and direction > 1:
            value = (before + after) * half
            change = np.float32(2) * abs(before - after)
        else:
            own_before, own_after = around[3 - 2 * dy, 3 - 2 * dx], around[3 + 2 * dy, 3 + 2 * dx]
            beyond = around[3 - 3 * dy, 3 - 3 * dx] + around[3 + 3 * dy, 3 + 3 * dx]
            value = (own_before + own_after) * half + ((before + after) - beyond) * quarter
            change = abs(own_before - own_after) + abs(before - after)
        weight = np.float32(1) / (change * change + np.float32(4) * variance + np.float32(16))
        total += weight * value
        weights += weight
    return total / weights


@kernel
def _texture(
    around: F32Array, lowest: np.float32, highest: np.float32, plane: int, noise: F32Array, limits: I16Array
) -> np.float32:
    """By how much a pixel may stand out because the picture changes around it."""
    zero, own = np.float32(0), around[3, 3]
    if own < limits[plane, 2]:
        return zero
    sign = np.float32(1) if own > highest else np.float32(-1)
    deviation = np.sqrt(_variance(lowest, highest, plane, noise))
    spread = max(highest - lowest - np.float32(SPREAD_NOISE) * deviation, zero)
    common, activity, adjacent_variance = zero, zero, zero
    for k in range(4):
        dy = 1 if k == 0 else -1 if k == 1 else 0
        dx = 1 if k == 2 else -1 if k == 3 else 0
        # The pixel beside, against the median of the three of its colour that lie away from the candidate.
        a = around[3 + 3 * dy, 3 + 3 * dx]
        b = around[3 + dy + 2 * dx, 3 + dx + 2 * dy]
        c = around[3 + dy - 2 * dx, 3 + dx - 2 * dy]
        median = max(min(a, b), min(max(a, b), c))
        rise = around[3 + dy, 3 + dx] - median
        other = plane ^ 1 if dy == 0 else plane ^ 2
        own_variance = noise[other, 0] * max(median, zero) + noise[other, 1]
        common += rise
        adjacent_variance += own_variance
        activity = max(activity, abs(rise) - np.float32(ACTIVITY_NOISE) * np.sqrt(own_variance))
    common = max(common * sign - np.float32(COMMON_NOISE) * np.sqrt(adjacent_variance), zero)
    texture = np.float32(SPREAD) * spread + np.float32(ACTIVITY) * activity + np.float32(COMMON) * common
    if own >= limits[plane, 3] and highest < np.float32(WHITE_CONTRAST) * own:
        texture = texture * np.float32(WHITE_SHARE)
    return texture
