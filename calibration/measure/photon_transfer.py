"""Noise from flat frames at several exposures: the photon transfer curve.

Differences of frames of the same flat field hold noise in time only; its variance rises with the mean by the
shot noise's coefficient, and starts from the read noise (EMVA 1288; Janesick, Photon Transfer, 2007).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.measure.black_level import SMALLEST_NOISE_CODES, measure_dark, noise_in_time
from edge_isp.calibration.measure.stack import Stack, describe, require_frames, require_steady, require_unclipped
from edge_isp.calibration.profile import Defect, Noise, Provenance, SensorProfile
from edge_isp.calibration.shading import expand
from edge_isp.errors import CalibrationError

_LEAST_FRAMES = 2
_LEAST_EXPOSURES = 4
# The brightest exposure must be this many times as bright as the darkest for a slope to be seen.
_LEAST_RANGE = 3.0
# Cells, in pixels of a plane, over which brightness is taken as even when pixels are compared.
_CELL = 8
# Pixels that answer to light by less or more than this are defective.
_RESPONSE = (0.5, 1.5)


@dataclass(frozen=True, slots=True)
class TransferPoint:
    """One channel under one exposure, in codes at the frames' bit depth."""

    analogue_gain: float
    signal: float
    variance: float
    variance_error: float


@dataclass(frozen=True, slots=True)
class GainFit:
    """variance = codes_per_electron * signal + read_variance at one analogue gain, in codes."""

    analogue_gain: float
    codes_per_electron: float
    codes_per_electron_error: float
    read_variance: float
    read_variance_error: float


@dataclass(frozen=True, slots=True)
class NoiseMeasurement:
    """What the photon transfer shows.

    Attributes:
        noise: for the profile; the variances of linear light.
        fits: by rising analogue gain.
        points: that were fitted.
        full_well_electrons: at white level, at the lowest gain measured.
        read_noise_electrons: at each fit's gain.
        linearity: largest deviation of the signal from proportionality with exposure, as a share of the
            brightest; None where the exposures are not known.
        dead: pixels that do not answer to light as the others do.
    """

    noise: Noise
    fits: tuple[GainFit, ...]
    points: tuple[TransferPoint, ...]
    full_well_electrons: float
    read_noise_electrons: tuple[float, ...]
    linearity: float | None
    dead: tuple[Defect, ...]


def measure_noise(flats: Sequence[Stack], darks: Sequence[Stack], profile: SensorProfile) -> NoiseMeasurement:
    """Noise from pairs (or more) of flat frames at several exposures.

    Args:
        flats: at least four exposures for each analogue gain, each of at least two frames.
        darks: dark frames of the same gains, for a better read noise; may be empty.
        profile: for black level, at the flats' bit depth.

    Raises:
        CalibrationError: too few frames or exposures, saturated, moving, flickering, or noise does not grow with
            light.
    """
    _require_exposures(flats, profile)
    points: list[TransferPoint] = []
    # By signal: shot noise hides the rows' own, so the darkest frames tell.
    row_deviations: dict[float, float] = {}
    for stack in flats:
        black = profile.black_level_at(stack.gain)
        require_frames(stack, _LEAST_FRAMES)
        require_unclipped(stack)
        require_steady(stack, black)
        measured, row_deviation = _transfer(stack, black)
        points.extend(measured)
        row_deviations[measured[0].signal] = row_deviation / _range(stack, black) / stack.gain
    for stack in darks:
        dark = measure_dark(stack)
        count = stack.codes.size * (1 - 1 / len(stack.codes))
        if dark.variance >= SMALLEST_NOISE_CODES**2:
            points.append(
                TransferPoint(stack.gain, 0.0, dark.variance, (dark.variance + 1 / 12) * math.sqrt(3 / count))
            )
        row_deviations[0.0] = dark.row_deviation / _range(stack, profile.black_level_at(stack.gain)) / stack.gain
    gains = sorted({stack.gain for stack in flats})
    fits = tuple(_fit(gain, [point for point in points if point.analogue_gain == gain]) for gain in gains)
    brightest = max((s for s in flats if s.gain == gains[0]), key=lambda s: float(s.codes[0].mean()))
    black = profile.black_level_at(gains[0])
    pixel_response, dead = _response(brightest, black, fits[0])
    light = _range(brightest, black)
    noise = _noise(fits, light)
    return NoiseMeasurement(
        noise=replace(noise, pixel_response=pixel_response, row=row_deviations[min(row_deviations)]),
        fits=fits,
        points=tuple(points),
        full_well_electrons=light / fits[0].codes_per_electron,
        read_noise_electrons=tuple(math.sqrt(f.read_variance) / f.codes_per_electron for f in fits),
        linearity=_linearity([s for s in flats if s.gain == gains[0]], black),
        dead=dead,
    )


def with_noise(profile: SensorProfile, stacks: list[Stack], found: NoiseMeasurement, date: str) -> SensorProfile:
    """The profile with the measured noise, and the pixels that do not answer to light."""
    fit = found.fits[0]
    read_error = fit.read_variance_error / max(fit.read_variance, 1e-12) / 2
    confidence = (
        f"shot coefficient within {fit.codes_per_electron_error / fit.codes_per_electron:.2%}, read noise within "
        f"{read_error:.1%} (standard errors at gain {fit.analogue_gain:g}); full well {found.full_well_electrons:.0f} "
        f"electrons, read noise {found.read_noise_electrons[0]:.2f} electrons"
    )
    if found.linearity is not None:
        confidence += f"; linear within {found.linearity:.2%}"
    if len(found.fits) == 1:
        confidence += "; one gain only: how read noise changes with gain was not measured"
    measured = profile.with_section(
        Provenance("noise", "measured", date, describe(stacks), confidence), noise=found.noise
    )
    if not found.dead:
        return measured
    places = {(d.x, d.y) for d in found.dead}
    kept = [d for d in profile.defects if (d.x, d.y) not in places]
    return measured.with_section(
        Provenance("defects", "measured", date, describe(stacks), f"{len(found.dead)} dead pixels in flat frames"),
        defects=tuple(sorted([*kept, *found.dead], key=lambda d: (d.y, d.x))),
    )


def _range(stack: Stack, black: tuple[float, ...]) -> float:
    return stack.white_level - float(np.mean(black))


def _transfer(stack: Stack, black: tuple[float, ...]) -> tuple[list[TransferPoint], float]:
    """Signal and variance in time of each channel, and the deviation of whole rows."""
    planes = stack.planes()
    own, rows = noise_in_time(planes)
    signal = planes.mean(axis=(1, 2, 3), dtype=np.float64) - np.array(black)
    pixels = planes.shape[2] * planes.shape[3]
    # Differences of neighbouring pairs share a frame: their variance estimates are correlated, by 3/2 in all.
    count = pixels * (planes.shape[1] - 1)
    error = own * math.sqrt(2 / count * 1.5)
    points = [
        TransferPoint(stack.gain, float(s), float(v - 1 / 12), float(e))
        for s, v, e in zip(signal, own, error, strict=True)
    ]
    return points, math.sqrt(float(rows.mean()))


def _fit(gain: float, points: Sequence[TransferPoint]) -> GainFit:
    """Straight line through the points, each weighted by its standard error."""
    signal = np.array([point.signal for point in points])
    variance = np.array([point.variance for point in points])
    error = np.array([max(point.variance_error, 1e-9) for point in points])
    design = np.stack([signal, np.ones_like(signal)], axis=1) / error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope, offset = covariance @ design.T @ (variance / error)
    if slope <= 0:
        raise CalibrationError(
            f"noise does not grow with light at gain {gain:g}: the frames are averaged, denoised or not RAW"
        )
    return GainFit(
        analogue_gain=gain,
        codes_per_electron=float(slope),
        codes_per_electron_error=math.sqrt(covariance[0, 0]),
        read_variance=max(float(offset), 0.0),
        read_variance_error=math.sqrt(covariance[1, 1]),
    )


def _require_exposures(flats: Sequence[Stack], profile: SensorProfile) -> None:
    if not flats:
        raise CalibrationError("too few exposures: expected flat frames, found none")
    for gain in {stack.gain for stack in flats}:
        black = profile.black_level_at(gain)
        signals = sorted(float(stack.codes.mean()) - float(np.mean(black)) for stack in flats if stack.gain == gain)
        if len(signals) < _LEAST_EXPOSURES:
            raise CalibrationError(
                f"{flats[0].source}: too few exposures at gain {gain:g}: expected at least {_LEAST_EXPOSURES}, "
                f"found {len(signals)}"
            )
        if signals[0] <= 0 or signals[-1] < _LEAST_RANGE * signals[0]:
            raise CalibrationError(
                f"{flats[0].source}: the brightest exposure at gain {gain:g} must be at least {_LEAST_RANGE:g} times "
                f"the darkest, found {signals[-1]:.1f} and {signals[0]:.1f} codes above black level"
            )


def _noise(fits: Sequence[GainFit], light: float) -> Noise:
    """Fits in codes, at several gains, to the profile's coefficients of linear light."""
    gains = np.array([fit.analogue_gain for fit in fits])
    shots = np.array([fit.codes_per_electron for fit in fits]) / light / gains
    weights = np.array([(fit.codes_per_electron / fit.codes_per_electron_error) ** 2 for fit in fits])
    read = np.array([fit.read_variance for fit in fits]) / light**2
    before, after = 0.0, float(read[0])
    if len(fits) > 1:
        relative = 1 / np.maximum(read, 1e-12)
        design = np.stack([gains**2, np.ones_like(gains)], axis=1) * relative[:, None]
        before, after = (float(v) for v in np.linalg.lstsq(design, read * relative, rcond=None)[0])
        if before < 0:
            before, after = 0.0, float(read.mean())
        elif after < 0:
            before, after = float((read / gains**2).mean()), 0.0
    return Noise(float((shots * weights).sum() / weights.sum()), before, after)


def _response(stack: Stack, black: tuple[float, ...], fit: GainFit) -> tuple[float, tuple[Defect, ...]]:
    """PRNU as a share, and the pixels whose response is far from the others'."""
    planes = stack.planes()
    mean = planes.mean(axis=1, dtype=np.float64) - np.array(black)[:, None, None]
    ratio = np.stack([plane / _local_mean(plane) for plane in mean])
    bad = (ratio < _RESPONSE[0]) | (ratio > _RESPONSE[1])
    left = (fit.codes_per_electron * np.maximum(mean, 1) + fit.read_variance + 1 / 12) / planes.shape[1]
    noise = float((left / np.maximum(mean, 1) ** 2)[~bad].mean())
    # The local mean is of the pixel's own cell, and takes a share of its deviation away.
    variance = float(ratio[~bad].var()) / (1 - 1 / _CELL**2) - noise
    dead = []
    for plane, row, column in np.argwhere(bad):
        x, y = stack.place(int(plane), int(row), int(column))
        dead.append(Defect(x, y, float(max(ratio[plane, row, column], 0.0)), 0.0))
    return math.sqrt(max(variance, 0.0)), tuple(sorted(dead, key=lambda d: (d.y, d.x)))


def _local_mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness around each pixel: the median of cells, which defects do not move, and bilinear between them."""
    rows, columns = plane.shape[0] // _CELL, plane.shape[1] // _CELL
    height, width = rows * _CELL, columns * _CELL
    cells = plane[:height, :width].reshape(rows, _CELL, columns, _CELL).transpose(0, 2, 1, 3)
    medians = np.median(cells.reshape(rows, columns, -1), axis=-1)
    inner = expand(medians, height, width).astype(np.float64)
    around = np.pad(inner, ((0, plane.shape[0] - height), (0, plane.shape[1] - width)), mode="edge")
    return np.maximum(around, 1.0)


def _linearity(stacks: Sequence[Stack], black: tuple[float, ...]) -> float | None:
    """Largest deviation from proportionality with exposure, as a share of the brightest signal."""
    if any(stack.exposure_ns is None for stack in stacks) or len({s.exposure_ns for s in stacks}) < 2:
        return None
    exposure = np.array([float(stack.exposure_ns or 0) for stack in stacks])
    signal = np.array([float(stack.codes.mean()) for stack in stacks]) - float(np.mean(black))
    slope = (signal / exposure).mean()
    return float(np.abs(signal - slope * exposure).max() / signal.max())
