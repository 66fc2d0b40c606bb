"""The second step towards defective pixels: candidates are weighed one by one, in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_isp.kernels.compiled import kernel
from edge_isp.kernels.defect_candidates import I16Array, Lines, seconds

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
def beyond_noise(lines: Lines, parity: int, j: int, plane: int, noise: F32Array) -> bool:
    """Whether a candidate stands out by more than the noise explains: most do not."""
    above2, above, own, below, below2 = lines
    column, left = j + 2, j + 1 + parity
    if plane == 1 or plane == 2:
        a, b = above[1 - parity, left], below[1 - parity, left + 1]
        c, d = above[1 - parity, left + 1], below[1 - parity, left]
    else:
        a, b = above2[parity, column - 1], below2[parity, column + 1]
        c, d = above2[parity, column + 1], below2[parity, column - 1]
    highest, lowest = seconds(
        own[parity, column - 1], own[parity, column + 1], above2[parity, column], below2[parity, column], a, b, c, d
    )
    light = np.float32(own[parity, column])
    beyond = max(light - np.float32(highest), np.float32(lowest) - light)
    deviation = np.sqrt(_variance(np.float32(lowest), np.float32(highest), plane, noise))
    return bool(beyond > np.float32(NOISE) * deviation)


@kernel(inline="always")
def _variance(lowest: np.float32, highest: np.float32, plane: int, noise: F32Array) -> np.float32:
    """Variance of the noise halfway between the second lowest and the second highest neighbour."""
    middle = max((lowest + highest) * np.float32(0.5), np.float32(0))
    return np.float32(noise[plane, 0] * middle + noise[plane, 1])


@kernel
def surroundings(light: I16Array, height: int, y: int, x: int, around: F32Array) -> None:
    """The 7x7 pixels around one, from `DefectRows.light` to `around`."""
    for dy in range(-3, 4):
        row = mirrored(y + dy, height) % 8
        for dx in range(-3, 4):
            column = x + dx + 4
            around[3 + dy, 3 + dx] = light[row, column % 2, column // 2]


@kernel
def weigh(
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
    highest, lowest = seconds(
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
    return np.float32(texture)
