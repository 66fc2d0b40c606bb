"""Black level, its drift with gain, patterns and hot pixels, from dark frames (lens cap on)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.measure.stack import Stack, describe, require_frames
from edge_isp.calibration.profile import Defect, Provenance, SensorProfile
from edge_isp.errors import CalibrationError

_LEAST_FRAMES = 4

# Dark frames beyond this share of the range, or uneven by more than that, have seen light.
_DARK = 0.2
_EVEN = 0.005
_CLIPPED_SHARE = 0.005

# A hot pixel stands out from the others' spread by this many standard deviations, and by this many codes.
_HOT_SIGMAS = 8.0
_HOT_CODES = 2.0

# Below this standard deviation in codes, rounding hides how large the noise is.
SMALLEST_NOISE_CODES = 0.2


@dataclass(frozen=True, slots=True)
class DarkFrames:
    """What the dark frames of one analogue gain show. All in codes at the frames' bit depth.

    Attributes:
        level: of the channels R, Gr, Gb, B.
        level_error: standard error of each.
        variance: of a pixel in time, rounding and row noise taken out; mean of the channels.
        row_deviation: standard deviation of what a whole row is off by, anew in each frame.
        column_deviation: standard deviation of the columns' fixed pattern.
        row_profile: mean of each row, less the channels' levels.
        column_profile: mean of each column, less the channels' levels.
        hot: hot pixels; their offset is linear light.
    """

    analogue_gain: float
    level: tuple[float, float, float, float]
    level_error: tuple[float, float, float, float]
    variance: float
    row_deviation: float
    column_deviation: float
    row_profile: NDArray[np.float64]
    column_profile: NDArray[np.float64]
    hot: tuple[Defect, ...]


@dataclass(frozen=True, slots=True)
class BlackLevel:
    """Black level over the analogue gains that were measured.

    Attributes:
        level: codes at gain 1, in the order R, Gr, Gb, B.
        drift: codes for each 1 of gain above 1; zeros where only one gain was measured.
        by_gain: what each gain's frames show.
        hot: all hot pixels, by row and column.
    """

    level: tuple[float, float, float, float]
    drift: tuple[float, float, float, float]
    by_gain: tuple[DarkFrames, ...]
    hot: tuple[Defect, ...]


def measure_black_level(stacks: Sequence[Stack]) -> BlackLevel:
    """Black level from dark frames of one or more analogue gains.

    Args:
        stacks: dark frames, one stack for each gain.

    Raises:
        CalibrationError: too few frames, light gets in, or the codes are clipped at 0.
    """
    measured = sorted((measure_dark(stack) for stack in stacks), key=lambda dark: dark.analogue_gain)
    gains = np.array([dark.analogue_gain for dark in measured])
    levels = np.array([dark.level for dark in measured])
    slope = np.zeros(4)
    if len(set(gains)) > 1:
        slope = np.polyfit(gains - 1, levels, 1)[0]
    at_one = (levels - slope * (gains - 1)[:, None]).mean(axis=0)
    hot = {(d.y, d.x): d for dark in reversed(measured) for d in dark.hot}
    return BlackLevel(_four(at_one), _four(slope), tuple(measured), tuple(hot[place] for place in sorted(hot)))


def with_black_level(profile: SensorProfile, stacks: list[Stack], found: BlackLevel, date: str) -> SensorProfile:
    """The profile with the measured black level, its drift and the hot pixels.

    Args:
        profile: at the bit depth of the frames.
        stacks: the frames that the black level was measured from.
        found: what was measured.
        date: of the measurement, ISO 8601.
    """
    error = max(error for dark in found.by_gain for error in dark.level_error)
    measured = profile.with_section(
        Provenance(
            "black_level",
            "measured",
            date,
            describe(stacks),
            f"standard error {error:.3f} codes; rows vary by {found.by_gain[0].row_deviation:.3f}, columns by "
            f"{found.by_gain[0].column_deviation:.3f} codes",
        ),
        black_level=found.level,
        black_level_drift=found.drift,
    )
    if not found.hot:
        return measured
    places = {(d.x, d.y) for d in found.hot}
    kept = [d for d in profile.defects if (d.x, d.y) not in places]
    return measured.with_section(
        Provenance("defects", "measured", date, describe(stacks), f"{len(found.hot)} hot pixels in dark frames"),
        defects=tuple(sorted([*kept, *found.hot], key=lambda d: (d.y, d.x))),
    )


def measure_dark(stack: Stack) -> DarkFrames:
    """What the dark frames of one gain show.

    Args:
        stack: the dark frames.

    Raises:
        CalibrationError: too few frames, light gets in, or the codes are clipped at 0.
    """
    require_frames(stack, _LEAST_FRAMES)
    planes = stack.planes()
    _check_dark(stack, planes)
    frames, rows, columns = planes.shape[1:]
    mean = planes.mean(axis=1, dtype=np.float64)
    hot_mask = _hot(mean)
    typical = np.array([plane[~mask].mean() for plane, mask in zip(mean, hot_mask, strict=True)])
    pixel_variance, row_variance = noise_in_time(planes, hot_mask)
    exact = [unrounded(level, variance) for level, variance in zip(typical, pixel_variance, strict=True)]
    level = np.array([mean_code for mean_code, _ in exact])
    flat = np.where(hot_mask, 0, mean - typical[:, None, None])
    # The fixed pattern of the columns, less what noise leaves in their mean.
    noise = pixel_variance.mean() / (frames * rows)
    column_variance = float(flat.mean(axis=1).var(axis=1).mean()) - noise
    error = np.sqrt(pixel_variance / (frames * rows * columns) + row_variance / (frames * rows))
    return DarkFrames(
        analogue_gain=stack.gain,
        level=_four(level),
        level_error=_four(error),
        variance=float(np.mean([variance for _, variance in exact])),
        row_deviation=math.sqrt(max(float(row_variance.mean()), 0.0)),
        column_deviation=math.sqrt(max(column_variance, 0.0)),
        row_profile=_interleaved(stack, flat.mean(axis=2), 0),
        column_profile=_interleaved(stack, flat.mean(axis=1), 1),
        hot=_defects(stack, hot_mask, mean, typical),
    )


def noise_in_time(
    planes: NDArray[np.float32], without: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance in time of a pixel and of a whole row, by channel, from the differences of successive frames: fixed
    patterns and slow drifts cancel.

    Args:
        planes: (4, frames, rows, columns).
        without: (4, rows, columns), pixels to leave out.

    Returns:
        Two arrays (4,): a pixel's own variance, and that of its row.
    """
    frames, rows, columns = planes.shape[1:]
    own, shared = np.zeros(4), np.zeros(4)
    for index in range(frames - 1):
        difference = planes[:, index + 1].astype(np.float64) - planes[:, index]
        if without is not None:
            difference[without] = 0
        of_rows = difference.mean(axis=2)
        own += ((difference - of_rows[..., None]) ** 2).sum(axis=(1, 2)) / (rows * (columns - 1))
        shared += of_rows.var(axis=1, ddof=1)
    # A difference has twice the variance of a frame; a row's mean still holds a share of its pixels' noise.
    own /= 2 * (frames - 1)
    shared /= 2 * (frames - 1)
    return own, np.maximum(shared - own / columns, 0)


def unrounded(mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of a normal distribution whose rounded values have these.

    Sheppard's correction (variance - 1/12) holds from a deviation of about 0.5 on; below, rounding moves mean and
    variance by where the mean lies between two codes, which is solved for. What rounding hides altogether comes
    back as variance 0.

    Args:
        mean: of the rounded values, in codes.
        variance: of the rounded values, in codes squared.
    """
    centre, spread = mean, max(variance - 1 / 12, 1e-3)
    if spread > 1:
        return centre, spread
    for _ in range(200):
        found_mean, found_variance = _rounded_moments(centre, spread)
        step_mean, step_variance = mean - found_mean, variance - found_variance
        centre += 0.7 * step_mean
        spread = max(spread + 0.7 * step_variance, 1e-4)
        if abs(step_mean) < 1e-6 and abs(step_variance) < 1e-6:
            break
    if abs(centre - mean) > 0.5:  # all codes alike: the mean may be anywhere between two roundings
        centre = mean
    return centre, spread if spread > SMALLEST_NOISE_CODES**2 / 4 else 0.0


def _rounded_moments(centre: float, variance: float) -> tuple[float, float]:
    deviation = math.sqrt(variance)
    codes = np.arange(math.floor(centre - 6 * deviation) - 1, math.ceil(centre + 6 * deviation) + 2)
    scale = deviation * math.sqrt(2)
    below = np.array([0.5 * (1 + math.erf((edge - centre) / scale)) for edge in [codes[0] - 0.5, *(codes + 0.5)]])
    chance = np.diff(below)
    mean = float((chance * codes).sum())
    return mean, float((chance * (codes - mean) ** 2).sum())


def _check_dark(stack: Stack, planes: NDArray[np.float32]) -> None:
    mean = planes.mean(axis=1, dtype=np.float64)
    typical = np.median(mean, axis=(1, 2))
    if typical.max() > _DARK * stack.white_level:
        raise CalibrationError(
            f"{stack.source}: not dark: the frames' level is {typical.max():.1f} of {stack.white_level:g} codes; "
            "cover the lens"
        )
    clipped = float(np.mean(stack.codes == 0))
    if clipped > _CLIPPED_SHARE:
        raise CalibrationError(
            f"{stack.source}: {clipped:.1%} of the codes are clipped at 0: black level cannot be seen; raise the "
            "sensor's black-level offset"
        )
    rows, columns = (size // 4 for size in mean.shape[1:])
    corners = mean[:, : rows * 4, : columns * 4].reshape(4, 4, rows, 4, columns)
    parts = np.median(corners.transpose(0, 1, 3, 2, 4).reshape(4, 16, -1), axis=-1)
    uneven = float(np.ptp(parts, axis=1).max())
    allowed = max(_EVEN * stack.white_level, 1.5)
    if uneven > allowed:
        raise CalibrationError(
            f"{stack.source}: not evenly dark: parts of the frame differ by {uneven:.1f} codes, expected at most "
            f"{allowed:.1f}; light gets in"
        )


def _hot(mean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pixels of the mean frame (4, rows, columns) stand out upwards."""
    middle = np.median(mean, axis=(1, 2), keepdims=True)
    spread = 1.4826 * np.median(np.abs(mean - middle), axis=(1, 2), keepdims=True)
    hot: NDArray[np.bool_] = mean - middle > np.maximum(_HOT_SIGMAS * spread, _HOT_CODES)
    return hot


def _defects(
    stack: Stack, mask: NDArray[np.bool_], mean: NDArray[np.float64], typical: NDArray[np.float64]
) -> tuple[Defect, ...]:
    found = []
    for plane, row, column in np.argwhere(mask):
        x, y = stack.place(int(plane), int(row), int(column))
        offset = (mean[plane, row, column] - typical[plane]) / (stack.white_level - typical[plane])
        found.append(Defect(x, y, 1.0, float(offset)))
    return tuple(sorted(found, key=lambda d: (d.y, d.x)))


def _interleaved(stack: Stack, profile: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Profiles of the planes (4, length) to one of the frame: the mean of the two channels in each row or column."""
    out = np.zeros(2 * profile.shape[1])
    for plane in range(4):
        x, y = stack.place(plane, 0, 0)
        out[(y, x)[axis] :: 2] += profile[plane] / 2
    return out


def _four(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    red, green_red, green_blue, blue = (float(value) for value in values)
    return red, green_red, green_blue, blue
