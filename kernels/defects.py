"""Defective pixels are replaced while rows are read: no pass of their own over the frame.

`read_mended_cells` stands in the place of `kernels.rows.read_cells`. A pixel is replaced where it is listed, or where
it stands out from its neighbours by more than noise and texture explain. That is decided in two steps: whole numbers
of 16 bits, in vectors, leave a few candidates in a thousand pixels (`defect_candidates.py`), and only these are
weighed in float32 (`defect_weighing.py`). Pixels are compared as white-balanced light, so that the colours around a
pixel say whether the picture changes there.

All neighbours are codes as the sensor sent them: the order of rows, and ranges of rows, change nothing. Beyond the
window's edges the mosaic is mirrored at its outermost pixels, which keeps every colour in its place.

How the figures below were found, and what they cost and achieve: `docs/defects.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.checks import check_array, check_whole, check_writeable
from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defect_candidates import MARGIN_KNEE, I16Array, find_candidates
from edge_isp.kernels.defect_weighing import BELOW_BLACK, NOISE, F32Array, mirrored, predict, replaced_share
from edge_isp.kernels.layout import RawLayout, RowPlan, read_only
from edge_isp.kernels.rows import U8Array, U16Array, read_row

# White in white-balanced light, as whole numbers of 16 bits, and the range that light is clipped to.
LIGHT_WHITE = 4096
LOWEST_LIGHT, HIGHEST_LIGHT = -4096, 28671
# A listed pixel among the candidates, which are 1.
LISTED = 3


class DefectPlan(NamedTuple):
    """How to find and replace the defective pixels of frames: what the compiled code takes; see `plan_defects`.

    The arrays hold a row of numbers for each colour plane, in the order R, Gr, Gb, B. "Light" is white-balanced light
    above black level in steps of 1 / `LIGHT_WHITE` of white.

    Attributes:
        to_light: int32 (4, 2), factor and offset: light = (code * factor - offset) >> shift.
        shift: see `to_light`.
        margins: uint16 (4, 4): two straight lines over the light around a pixel, each as its value at no light and what
            a unit adds, in 1/65536: a candidate stands out by more than the lower one.
        limits: int16 (4, 2): the light below which no scene can be, and the light of white level.
        noise: float32 (4, 2), variance of the noise for each unit of light, and without light.
        to_code: float32 (4, 2), factor and offset: code = light * factor + offset.
        white: the highest code that a replaced pixel takes.
        highest: code of the bit depth.
        row_starts: int32 (height + 1,): where the listed pixels of each row begin in `columns`.
        columns: int32, the columns of the listed pixels, row by row.
    """

    to_light: NDArray[np.int32]
    shift: int
    margins: U16Array
    limits: I16Array
    noise: F32Array
    to_code: F32Array
    white: int
    highest: int
    row_starts: NDArray[np.int32]
    columns: NDArray[np.int32]


_PLAN_ARRAYS: tuple[tuple[str, type, tuple[int, int]], ...] = (
    ("to_light", np.int32, (4, 2)),
    ("margins", np.uint16, (4, 4)),
    ("limits", np.int16, (4, 2)),
    ("noise", np.float32, (4, 2)),
    ("to_code", np.float32, (4, 2)),
)


_ARRAYS = (*(name for name, _, _ in _PLAN_ARRAYS), "row_starts", "columns")


class DefectRows(NamedTuple):
    """The rows around the one that is mended; made by `defect_rows`.

    Attributes:
        codes: uint16 (4, 4, columns): the last four rows of cells, each as its colour planes.
        light: int16 (8, 2, cells + 4): the same eight rows of pixels as light, each as its even and its odd columns,
            with two columns of margin at either end.
        held: int64 (8,): which row of the window each of the eight is.
        candidates: uint8, cells rounded up to a multiple of 8: scratch.
        around: float32 (7, 7): scratch.
    """

    codes: U16Array
    light: I16Array
    held: NDArray[np.int64]
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
    # White is one unit less than it should be: the light of white level itself is rounded down.
    limits = np.stack([-BELOW_BLACK * np.sqrt(read), gain * LIGHT_WHITE - 1], axis=1)
    limits = np.clip(np.floor(limits), LOWEST_LIGHT, HIGHEST_LIGHT).astype(np.int16)
    row_starts, columns = by_row(listed, width, height)
    return DefectPlan(
        to_light=read_only(
            np.rint(np.stack([light_of_code, black * light_of_code], axis=1) * 2.0**shift).astype(np.int32)
        ),
        shift=shift,
        margins=read_only(_margins(shot, read)),
        limits=read_only(limits),
        noise=read_only(np.stack([shot, read], axis=1).astype(np.float32)),
        to_code=read_only(np.stack([1 / light_of_code, black], axis=1).astype(np.float32)),
        white=int(min(np.floor(white_level), layout.highest)),
        highest=layout.highest,
        row_starts=row_starts,
        columns=columns,
    )


def _margins(shot: NDArray[np.float64], read: NDArray[np.float64]) -> U16Array:
    """Two chords of the curve of `NOISE` standard deviations over light; see `DefectPlan`."""
    lines = []
    for first, last in ((0, MARGIN_KNEE), (MARGIN_KNEE, LIGHT_WHITE // 2)):
        low, high = NOISE * np.sqrt(shot * first + read), NOISE * np.sqrt(shot * last + read)
        slope = (high - low) / (last - first)
        lines += [np.minimum(low - slope * first, LIGHT_WHITE), np.clip(slope * 65536, 1, 65535)]
    margins: U16Array = np.floor(np.stack(lines, axis=1)).astype(np.uint16)
    return margins


def check_plan(defects: DefectPlan, layout: RawLayout, out: NDArray[Any]) -> None:
    """Refuses a plan that was made for windows of another height, or for codes of another bit depth, or is damaged.

    Args:
        defects: see `plan_defects`.
        layout: of the window whose pixels are mended.
        out: what is written meanwhile.

    Raises:
        ValueError: It is another, or shares memory with `out`.
    """
    for name, dtype, shape in _PLAN_ARRAYS:
        check_array(f"defects: {name}", getattr(defects, name), dtype, shape)
    starts, columns = defects.row_starts, defects.columns
    if isinstance(starts, np.ndarray) and starts.ndim == 1 and len(starts) != layout.height + 1:
        raise ValueError(f"defects must be those of a window of {layout.height} rows, found {len(starts) - 1} rows")
    check_array("defects: row_starts", starts, np.int32, (layout.height + 1,))
    check_array("defects: columns", columns, np.int32, (max(int(starts[-1]), 0),))
    if starts[0] != 0 or np.any(starts[1:] < starts[:-1]):
        raise ValueError("defects: row_starts must begin at 0 and not fall")
    if len(columns) and not 0 <= columns.min() <= columns.max() < layout.width:
        raise ValueError(f"defects: columns must be within the width {layout.width}")
    if defects.highest != layout.highest:
        raise ValueError(f"defects must be those of codes up to {layout.highest}, found {defects.highest}")
    check_whole("defects: white", defects.white, 0, layout.highest)
    check_whole("defects: shift", defects.shift, 0, 31)
    if not (np.all(np.isfinite(defects.noise)) and np.all(np.isfinite(defects.to_code))):
        raise ValueError("defects: noise and to_code must be finite numbers")
    check_writeable("out", out, **{f"defects.{name}": getattr(defects, name) for name in _ARRAYS})


def by_row(places: Iterable[tuple[int, int]], width: int, height: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Listed pixels as a `DefectPlan` holds them: `row_starts` and `columns`.

    Args:
        places: pairs x, y, in any order; those outside the window are left out.
        width: of the window, in pixels.
        height: of the window, in pixels.
    """
    inside = sorted({(int(y), int(x)) for x, y in places if 0 <= x < width and 0 <= y < height})
    rows = np.array([y for y, _ in inside], np.int32)
    columns = np.array([x for _, x in inside], np.int32)
    return read_only(np.searchsorted(rows, np.arange(height + 1)).astype(np.int32)), read_only(columns)


@kernel
def defect_rows(plan: RowPlan, cells: int) -> DefectRows:
    """Memory for `read_mended_cells`.

    Args:
        plan: see `kernels.layout.plan_rows`.
        cells: in a row of the window.
    """
    return DefectRows(
        np.empty((4, 4, (plan.pixels + 1) // 2), np.uint16),
        np.empty((8, 2, cells + 4), np.int16),
        np.full(8, -1, np.int64),
        np.zeros((cells + 7) // 8 * 8, np.uint8),
        np.empty((7, 7), np.float32),
    )


@kernel
def read_mended_cells(
    flat: U8Array, plan: RowPlan, defects: DefectPlan, cell_row: int | np.int64, rows: DefectRows
) -> U16Array:
    """As `kernels.rows.read_cells`, with defective pixels replaced; returns the buffers, which are those of `rows`.

    Args:
        flat: the frame's bytes, see `kernels.layout.plan_rows`.
        plan: see `kernels.layout.plan_rows`.
        defects: see `plan_defects`, for the same window.
        cell_row: counted from the window's top; rows may come in any order, neighbouring ones are read once.
        rows: see `defect_rows`; for this frame only.
    """
    height, skip = len(defects.row_starts) - 1, plan.skip // 2
    # Taken out of their tuples once: each time costs as much as several vectors of pixels.
    held, codes, light, candidates, around = rows.held, rows.codes, rows.light, rows.candidates, rows.around
    starts, columns, noise, limits, margins = (
        defects.row_starts,
        defects.columns,
        defects.noise,
        defects.limits,
        defects.margins,
    )
    to_light, to_code = defects.to_light, defects.to_code
    marked, cells = candidates.view(np.uint64), light.shape[2] - 4
    for y in range(max(2 * cell_row - 3, 0), min(2 * cell_row + 5, height)):
        if held[y % 8] != y:
            held[y % 8] = y
            plane = 2 * ((y & 1) ^ plan.red_row) + plan.red_column
            planes = codes[y // 2 % 4]
            read_row(flat, plan, y, planes[plane], planes[plane ^ 1])
            _to_light(planes, plane, skip, light, y % 8, to_light, defects.shift)
    mended: U16Array = codes[cell_row % 4]
    for y in range(2 * cell_row, 2 * cell_row + 2):
        near = (
            mirrored(y - 3, height) % 8,
            mirrored(y - 2, height) % 8,
            mirrored(y - 1, height) % 8,
            y % 8,
            mirrored(y + 1, height) % 8,
            mirrored(y + 2, height) % 8,
            mirrored(y + 3, height) % 8,
        )
        for parity in range(2):
            plane = 2 * ((y & 1) ^ plan.red_row) + (parity ^ plan.red_column)
            found = find_candidates(
                light,
                near,
                parity,
                plane == 1 or plane == 2,
                (margins[plane, 0], margins[plane, 1], margins[plane, 2], margins[plane, 3]),
                (limits[plane, 0], limits[plane, 1]),
                candidates[:cells],
            )
            for k in range(starts[y], starts[y + 1]):
                if columns[k] % 2 == parity:
                    candidates[columns[k] // 2] = LISTED
                    found = np.uint8(1)
            if found == 0:
                continue
            for word in range(len(marked)):
                rest = marked[word]
                while rest != 0:
                    place = _first_byte(rest)
                    rest &= ~(np.uint64(255) << np.uint64(8 * place))
                    j = 8 * word + place
                    share = np.float32(1)
                    if candidates[j] != LISTED:
                        share = replaced_share(light, near, parity, j, plane, noise, limits)
                    if share > 0:
                        own = np.float32(light[near[3], parity, j + 2])
                        value = own + (predict(light, near, parity, j, plane, noise, around) - own) * share
                        value = np.floor(value * to_code[plane, 0] + to_code[plane, 1] + np.float32(0.5))
                        mended[plane, skip + j] = np.uint16(min(max(value, np.float32(0)), np.float32(defects.white)))
    return mended


@kernel(inline="always")
def _first_byte(word: np.uint64) -> int:
    """Which byte of a word is the first that is not 0; its lowest bit must be set, as it is in 1 and in `LISTED`."""
    below = np.uint64((word & (~word + np.uint64(1))) - np.uint64(1)) & np.uint64(0x0101_0101_0101_0101)
    # The sum of its bytes.
    return int(below % np.uint64(255))


@kernel
def _to_light(
    codes: U16Array, plane: int, skip: int, light: I16Array, row: int, to_light: NDArray[np.int32], shift: int
) -> None:
    """A row of pixels to light, its even columns from `plane`, its odd ones from the other plane of the row."""
    # The difference of any two still fits into 16 bits.
    lowest, highest, bits = np.int32(LOWEST_LIGHT), np.int32(HIGHEST_LIGHT), np.int32(shift)
    last = light.shape[2] - 3
    for parity in range(2):
        factor, offset = to_light[plane ^ parity, 0], to_light[plane ^ parity, 1]
        source, target = codes[plane ^ parity, skip:], light[row, parity, 2:-2]
        for j in range(len(target)):
            value = np.int32(np.int32(np.int32(source[j]) * factor - offset) >> bits)
            target[j] = np.int16(min(max(value, lowest), highest))
    # The margins: mirrored at the outermost pixels.
    light[row, 0, 0] = light[row, 0, 1] = light[row, 0, 3]
    light[row, 0, last + 1], light[row, 0, last + 2] = light[row, 0, last], light[row, 0, last - 1]
    light[row, 1, 0], light[row, 1, 1] = light[row, 1, 3], light[row, 1, 2]
    light[row, 1, last + 1] = light[row, 1, last + 2] = light[row, 1, last - 1]
