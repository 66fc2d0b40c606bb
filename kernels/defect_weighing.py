"""The second step towards defective pixels: candidates are weighed one by one, in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defect_candidates import I16Array, Near, seconds

F32Array = NDArray[np.float32]

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


@kernel(inline="always")
def mirrored(y: int, height: int) -> int:
    """Row `y`, mirrored at the first and the last row."""
    y = abs(y)
    return y if y < height else 2 * height - 2 - y


@kernel(inline="always")
def _variance(lowest: np.float32, highest: np.float32, plane: int, noise: F32Array) -> np.float32:
    """Variance of the noise halfway between the second lowest and the second highest neighbour."""
    middle = max((lowest + highest) * np.float32(0.5), np.float32(0))
    return np.float32(noise[plane, 0] * middle + noise[plane, 1])


@kernel(inline="always")
def replaced_share(
    light: I16Array, near: Near, parity: int, j: int, plane: int, noise: F32Array, limits: I16Array
) -> np.float32:
    """How much of a candidate is replaced, 0 to 1; as `kernels.defects_reference` has it.

    Args:
        light: see `DefectRows`.
        near: the rows around the candidate.
        parity: of its column.
        j: its cell.
        plane: its colour.
        noise: see `DefectPlan`.
        limits: see `DefectPlan`.
    """
    highest, lowest = _near_seconds(light, near, parity, j, plane)
    own = np.float32(light[near[3], parity, j + 2])
    deviation = np.sqrt(_variance(lowest, highest, plane, noise))
    threshold = np.float32(NOISE) * deviation
    beyond = max(own - highest, lowest - own)
    if beyond <= threshold:
        return np.float32(0)
    if own >= limits[plane, 0]:
        spread = max(highest - lowest - np.float32(SPREAD_NOISE) * deviation, np.float32(0))
        sign = np.float32(1) if own > highest else np.float32(-1)
        texture = np.float32(SPREAD) * spread + _texture(light, near, parity, j, plane, sign, noise)
        if own >= limits[plane, 1] and highest < np.float32(WHITE_CONTRAST) * own:
            texture *= np.float32(WHITE_SHARE)
        threshold += texture
    return min(max((beyond - threshold) / (np.float32(FADE) * threshold), np.float32(0)), np.float32(1))


@kernel(inline="always")
def _near_seconds(light: I16Array, near: Near, parity: int, j: int, plane: int) -> tuple[np.float32, np.float32]:
    """The second highest and the second lowest of the eight nearest pixels of a pixel's own colour."""
    _, above2, above, here, below, below2, _ = near
    if plane == 1 or plane == 2:
        other, left = 1 - parity, j + 1 + parity
        a, b = light[above, other, left], light[below, other, left + 1]
        c, d = light[above, other, left + 1], light[below, other, left]
    else:
        a, b = light[above2, parity, j + 1], light[below2, parity, j + 3]
        c, d = light[above2, parity, j + 3], light[below2, parity, j + 1]
    highest, lowest = seconds(
        light[here, parity, j + 1],
        light[here, parity, j + 3],
        light[above2, parity, j + 2],
        light[below2, parity, j + 2],
        a,
        b,
        c,
        d,
    )
    return np.float32(highest), np.float32(lowest)


@kernel(inline="always")
def _texture(
    light: I16Array, near: Near, parity: int, j: int, plane: int, sign: np.float32, noise: F32Array
) -> np.float32:
    """By how much a pixel may stand out because the other colours change around it.

    Each of the four adjacent pixels is compared with the median of the three of its colour that lie away from the
    candidate.
    """
    above3, above2, above, here, below, below2, below3 = near
    # The pixel's column, and of those in the other columns the one to its left and the one to its right.
    column, left, right, other = j + 2, j + 1 + parity, j + 2 + parity, 1 - parity
    rise_1, variance_1 = _rise(
        light[below, parity, column],
        light[below3, parity, column],
        light[below, parity, column + 1],
        light[below, parity, column - 1],
        plane ^ 2,
        noise,
    )
    rise_2, variance_2 = _rise(
        light[above, parity, column],
        light[above3, parity, column],
        light[above, parity, column + 1],
        light[above, parity, column - 1],
        plane ^ 2,
        noise,
    )
    rise_3, variance_3 = _rise(
        light[here, other, right],
        light[here, other, right + 1],
        light[above2, other, right],
        light[below2, other, right],
        plane ^ 1,
        noise,
    )
    rise_4, variance_4 = _rise(
        light[here, other, left],
        light[here, other, left - 1],
        light[above2, other, left],
        light[below2, other, left],
        plane ^ 1,
        noise,
    )
    activity = max(
        max(_activity(rise_1, variance_1), _activity(rise_2, variance_2)),
        max(_activity(rise_3, variance_3), _activity(rise_4, variance_4)),
    )
    variance = variance_1 + variance_2 + variance_3 + variance_4
    common = (rise_1 + rise_2 + rise_3 + rise_4) * sign - np.float32(COMMON_NOISE) * np.sqrt(variance)
    return np.float32(
        np.float32(ACTIVITY) * max(activity, np.float32(0)) + np.float32(COMMON) * max(common, np.float32(0))
    )


@kernel(inline="always")
def _rise(
    adjacent: np.int16, a: np.int16, b: np.int16, c: np.int16, plane: int, noise: F32Array
) -> tuple[np.float32, np.float32]:
    """How far a pixel rises above the median of three of its colour, and the variance of its noise."""
    median = np.float32(max(min(a, b), min(max(a, b), c)))
    variance = noise[plane, 0] * max(median, np.float32(0)) + noise[plane, 1]
    return np.float32(np.float32(adjacent) - median), np.float32(variance)


@kernel(inline="always")
def _activity(rise: np.float32, variance: np.float32) -> np.float32:
    return np.float32(abs(rise) - np.float32(ACTIVITY_NOISE) * np.sqrt(variance))


@kernel
def predict(
    light: I16Array, near: Near, parity: int, j: int, plane: int, noise: F32Array, around: F32Array
) -> np.float32:
    """The light that a pixel's neighbours let expect, between the second lowest and the second highest of its colour.

    Args:
        light: see `DefectRows`.
        near: the rows around the pixel.
        parity: of its column.
        j: its cell.
        plane: its colour.
        noise: see `DefectPlan`.
        around: (7, 7), scratch.
    """
    for row in range(7):
        for dx in range(-3, 4):
            column = 2 * j + parity + dx + 4
            around[row, 3 + dx] = light[near[row], column % 2, column // 2]
    highest, lowest = _near_seconds(light, near, parity, j, plane)
    along = _along_directions(around, plane == 1 or plane == 2, _variance(lowest, highest, plane, noise))
    return min(max(along, lowest), highest)


@kernel
def _along_directions(around: F32Array, green: bool, variance: np.float32) -> np.float32:
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
