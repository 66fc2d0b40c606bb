"""Colour matrix from a 24-patch chart (ColorChecker Classic), in CIEDE2000.

References of the patches, chromatic adaptation and colour differences are colour-science's; the extra `calibration`
installs it, and colour-checker-detection, which finds a chart in a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.measure.stack import Stack, describe
from edge_isp.calibration.profile import AwbPoint, ColourMatrix, Provenance, SensorProfile
from edge_isp.errors import CalibrationError, MissingDependencyError

ROWS, COLUMNS = 4, 6
PATCHES = ROWS * COLUMNS

# The neutral patches that white balance and exposure are taken from: neither the brightest, which may clip,
# nor the darkest, which stray light lifts.
_GREYS = (19, 20, 21, 22)

# Share of a patch's pitch, about its centre, that is looked at.
_WINDOW = 0.3
# A patch that varies by more is not a patch.
_UNEVEN = 0.25
# The references of the chart under D50 (colour-science's name).
_CHART = "ColorChecker24 - After November 2014"
_DARKEST_SIGNAL_CODES = 2.0

# Column and row of each patch.
_GRID = np.array([(u, v) for v in range(ROWS) for u in range(COLUMNS)], np.float64)

# Width of the picture that colour-checker-detection works on, and how many of the patches it has to see.
_WORKING_WIDTH = 1440
_LEAST_SWATCHES = 14

Corners = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class ColourFit:
    """What a chart shows.

    Attributes:
        matrix: white-balanced camera RGB to linear sRGB (3, 3); rows sum to 1.
        gains: white-balance gains (red, green, blue), green 1, that make the greys grey.
        camera: white-balanced, exposed camera RGB of the patches (24, 3).
        errors: CIEDE2000 of each patch through `matrix`, which was fitted to the same patches.
        centres: of the patches in the frame, (24, 2), x and y.
    """

    matrix: NDArray[np.float64]
    gains: tuple[float, float, float]
    camera: NDArray[np.float64]
    errors: NDArray[np.float64]
    centres: NDArray[np.float64]


def reference_srgb() -> NDArray[np.float64]:
    """Linear sRGB of the chart's patches (24, 3) under D65, row by row from dark skin; some lie outside 0 to 1.

    Raises:
        MissingDependencyError: colour-science is not installed.
    """
    colour = _colour()
    chart = colour.CCS_COLOURCHECKERS[_CHART]
    xyz = colour.xyY_to_XYZ(np.array(list(chart.data.values())))
    srgb: NDArray[np.float64] = colour.XYZ_to_sRGB(
        xyz, illuminant=chart.illuminant, chromatic_adaptation_transform="Bradford", apply_cctf_encoding=False
    )
    return srgb


def colour_errors(linear_srgb: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIEDE2000 of colours, (n,).

    Args:
        linear_srgb: colours, linear sRGB (n, 3).
        reference: the colours that they should be, linear sRGB (n, 3).
    """
    errors: NDArray[np.float64] = _colour().delta_E(_lab(linear_srgb), _lab(reference), method="CIE 2000")
    return errors


def measure_colour(stack: Stack, profile: SensorProfile, corners: Corners) -> ColourFit:
    """Colour matrix from frames of a chart.

    Args:
        stack: frames of the chart.
        profile: for black level, at the frames' bit depth.
        corners: centres of the chart's corner patches in the frame, x and y in pixels: dark skin, bluish green,
            black and white (the chart's own top left, top right, bottom right, bottom left).

    Raises:
        CalibrationError: the chart is not inside the frame, too dark, saturated, or not a chart.
        MissingDependencyError: colour-science is not installed.
    """
    centres = patch_centres(corners)
    patches = _patches(stack, profile, centres)
    return fit_colour(patches, centres)


def fit_colour(patches: NDArray[np.float64], centres: NDArray[np.float64]) -> ColourFit:
    """White balance and colour matrix from the patches.

    Args:
        patches: camera RGB (24, 3), linear light.
        centres: of the patches in the frame, (24, 2), x and y.
    """
    reference = reference_srgb()
    greys = patches[list(_GREYS)]
    shares = (greys / greys[:, 1:2]).mean(axis=0)
    balanced = patches / shares
    # The exposure that puts the greys' green where the reference has it.
    wanted = reference[list(_GREYS)].mean(axis=1)
    exposure = float((wanted * balanced[list(_GREYS), 1]).sum() / (balanced[list(_GREYS), 1] ** 2).sum())
    camera = balanced * exposure
    matrix = _fit_matrix(camera, reference)
    red, _, blue = 1 / shares
    gains = (float(red), 1.0, float(blue))
    return ColourFit(matrix, gains, camera, colour_errors(camera @ matrix.T, reference), centres)


def left_out_errors(found: ColourFit) -> NDArray[np.float64]:
    """CIEDE2000 of each patch through a matrix fitted to the other 23: what colours off the chart may expect."""
    reference = reference_srgb()
    errors = np.empty(PATCHES)
    for i in range(PATCHES):
        others = np.arange(PATCHES) != i
        matrix = _fit_matrix(found.camera[others], reference[others])
        errors[i] = colour_errors(found.camera[i : i + 1] @ matrix.T, reference[i : i + 1])[0]
    return errors


def with_colour(
    profile: SensorProfile, stack: Stack, found: ColourFit, date: str, *, colour_temperature_k: float
) -> SensorProfile:
    """The profile with the measured colour matrix and white-balance point in the place of those of that colour
    temperature; matrices and points of others stay."""
    matrices = [m for m in profile.colour_matrices if m.colour_temperature_k != colour_temperature_k]
    matrices.append(ColourMatrix(colour_temperature_k, tuple(found.matrix.ravel().tolist())))
    points = [p for p in profile.awb_curve if p.colour_temperature_k != colour_temperature_k]
    points.append(AwbPoint(colour_temperature_k, 1 / found.gains[0], 1 / found.gains[2]))
    conditions = describe([stack], colour_temperature=f"{colour_temperature_k:g} K")
    confidence = (
        f"CIEDE2000 of 24 patches: mean {found.errors.mean():.2f}, largest {found.errors.max():.2f}; each through the "
        f"matrix of the other 23: mean {left_out_errors(found).mean():.2f}"
    )
    measured = profile.with_section(
        Provenance("colour_matrix", "measured", date, conditions, confidence),
        colour_matrices=tuple(sorted(matrices, key=lambda m: m.colour_temperature_k)),
    )
    return measured.with_section(
        Provenance("awb", "measured", date, conditions, "from the chart's grey patches"),
        awb_curve=tuple(sorted(points, key=lambda p: p.colour_temperature_k)),
    )


def patch_centres(corners: Corners) -> NDArray[np.float64]:
    """Centres of the 24 patches (24, 2), x and y, by the perspective that the corner patches' centres give.

    Raises:
        CalibrationError: three of the corners lie on a line.
    """
    chart = np.array([(0, 0), (COLUMNS - 1, 0), (COLUMNS - 1, ROWS - 1), (0, ROWS - 1)], np.float64)
    return _project(_homography(chart, np.array(corners, np.float64)), _GRID)


def find_chart(stack: Stack, profile: SensorProfile) -> Corners:
    """Corners of the chart in the first frame, as colour-checker-detection finds it.

    Raises:
        CalibrationError: none is found; then the corners have to be given.
        MissingDependencyError: colour-checker-detection is not installed.
    """
    try:
        from colour_checker_detection import segmenter_default
    except ModuleNotFoundError as error:
        raise MissingDependencyError("finding a colour chart", "colour-checker-detection", "calibration") from error
    picture = _preview(stack, profile)
    scale = stack.codes.shape[2] / _WORKING_WIDTH
    found = segmenter_default(picture.astype(np.float32), additional_data=True, working_width=_WORKING_WIDTH)
    swatches = np.array([np.asarray(swatch, np.float64).reshape(-1, 2).mean(axis=0) for swatch in found.swatches])
    candidates: list[tuple[float, Corners]] = []
    for cluster in found.clusters:
        corners = _grid_corners(np.asarray(cluster, np.float64).reshape(4, 2), swatches.reshape(-1, 2))
        # The grid does not say which end is up: the chart's colours do.
        for turned in () if corners is None else (corners, np.roll(corners, 2, axis=0)):
            turn: Corners = tuple((float(x) * scale, float(y) * scale) for x, y in turned)  # type: ignore[assignment]
            try:
                candidates.append((float(measure_colour(stack, profile, turn).errors.mean()), turn))
            except CalibrationError:
                continue
    if not candidates:
        raise CalibrationError(f"{stack.source}: no colour chart found; give the centres of its corner patches")
    return min(candidates)[1]


def _grid_corners(quadrilateral: NDArray[np.float64], swatches: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Centres of the corner patches (4, 2), clockwise, of the swatches inside a quadrilateral; None where too few
    were seen to tell the chart's rows and columns."""
    (first_x, first_y), (second_x, second_y) = np.diff(quadrilateral[:3], axis=0)
    if first_x * second_y < first_y * second_x:
        quadrilateral = quadrilateral[::-1]
    sides = np.linalg.norm(np.roll(quadrilateral, -1, axis=0) - quadrilateral, axis=1)
    if sides[0] + sides[2] < sides[1] + sides[3]:
        quadrilateral = np.roll(quadrilateral, -1, axis=0)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    place = _project(_homography(quadrilateral, square), swatches)
    inside = np.all((place > 0) & (place < 1), axis=1)
    if inside.sum() < _LEAST_SWATCHES:
        return None
    place, seen = place[inside], swatches[inside]
    low, high = place.min(axis=0), place.max(axis=0)
    index = np.rint((place - low) / (high - low) * np.array([COLUMNS - 1, ROWS - 1]))
    return _project(_homography(index, seen), _GRID[[0, COLUMNS - 1, PATCHES - 1, PATCHES - COLUMNS]])


def _homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The perspective (3, 3) that takes points (n, 2) to others, n at least 4, by least squares.

    Raises:
        CalibrationError: the points lie on a line.
    """
    rows = []
    for (u, v), (x, y) in zip(source, target, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -u * x, -v * x], [0, 0, 0, u, v, 1, -u * y, -v * y]]
    system = np.array(rows)
    solution, _, rank, _ = np.linalg.lstsq(system, target.ravel(), rcond=1e-9)
    if rank < 8:
        raise CalibrationError(f"the chart's corners must span a quadrilateral, found {target.tolist()}")
    return np.append(solution, 1).reshape(3, 3)


def _project(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    projected = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return projected[:, :2] / projected[:, 2:]


def _colour() -> Any:
    try:
        import colour
    except ModuleNotFoundError as error:
        raise MissingDependencyError("measuring colour", "colour-science", "calibration") from error
    return colour


def _lab(linear_srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE Lab under D65 of linear sRGB."""
    colour = _colour()
    xyz = colour.sRGB_to_XYZ(linear_srgb, apply_cctf_decoding=False)
    lab: NDArray[np.float64] = colour.XYZ_to_Lab(xyz, colour.CCS_ILLUMINANTS["cie_2_1931"]["D65"])
    return lab


def _fit_matrix(camera: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix, rows summing to 1, with the least squared CIEDE2000."""
    from scipy.optimize import least_squares

    # Least squares of linear light to start from: with rows that sum to 1, what is left are differences to green.
    against_green = camera[:, [0, 2]] - camera[:, 1:2]
    start = np.linalg.lstsq(against_green, reference - camera[:, 1:2], rcond=None)[0].T

    def residuals(free: NDArray[np.float64]) -> NDArray[np.float64]:
        return colour_errors(camera @ _matrix(free).T, reference)

    # CIEDE2000 has a corner at 0, where derivatives say nothing: a hundredth is near enough.
    return _matrix(least_squares(residuals, start.ravel(), ftol=1e-3, xtol=1e-4, max_nfev=20).x)


def _matrix(free: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red and blue entries (6,) to the matrix whose green entries make the rows sum to 1."""
    red, blue = free.reshape(3, 2).T
    return np.stack([red, 1 - red - blue, blue], axis=1)


def _patches(stack: Stack, profile: SensorProfile, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera RGB of the patches (24, 3), linear light, mean of all frames."""
    height, width = stack.codes.shape[1:]
    grid = centres.reshape(ROWS, COLUMNS, 2)
    pitch = min(
        float(np.linalg.norm(np.diff(grid, axis=0), axis=-1).min()),
        float(np.linalg.norm(np.diff(grid, axis=1), axis=-1).min()),
    )
    half = int(pitch * _WINDOW) // 2  # of a plane's pixels
    inside = (centres.min(axis=0) >= 2 * half) & (centres.max(axis=0) < np.array([width, height]) - 2 * half)
    if half < 1 or not inside.all():
        raise CalibrationError(
            f"{stack.source}: the chart must lie inside the {width}x{height} frame, its patches at least "
            f"{math.ceil(4 / _WINDOW)} pixels apart; found {pitch:.0f} pixels, corners "
            f"{centres[[0, 5, 23, 18]].round(1).tolist()}"
        )
    black = np.array(profile.black_level_at(stack.gain))
    planes = stack.planes()
    out = np.empty((PATCHES, 3))
    for index, (x, y) in enumerate(centres):
        row, column = int(y / 2), int(x / 2)
        window = planes[:, :, row - half : row + half + 1, column - half : column + half + 1]
        clipped = float(np.mean(window >= math.floor(stack.white_level)))
        if clipped > 0.01:
            raise CalibrationError(f"{stack.source}: saturated: {clipped:.0%} of patch {index + 1}; expose less")
        signal = np.median(window.mean(axis=1), axis=(1, 2)) - black
        spread = float(_low_frequency_spread(window.mean(axis=1)).max()) / max(float(signal.max()), 1.0)
        if spread > _UNEVEN and index not in (22, 23):
            raise CalibrationError(
                f"{stack.source}: patch {index + 1} is not even ({spread:.0%}): are the corners those of the chart?"
            )
        mean = window.mean(axis=(1, 2, 3), dtype=np.float64) - black
        light = mean / (stack.white_level - black)
        out[index] = light[0], (light[1] + light[2]) / 2, light[3]
    greys = out[list(_GREYS)]
    if greys.min() * stack.white_level < _DARKEST_SIGNAL_CODES or np.any(np.diff(greys[:, 1]) >= 0):
        raise CalibrationError(
            f"{stack.source}: the grey patches must grow darker one after the other, found green light of "
            f"{', '.join(f'{g:.3f}' for g in greys[:, 1])}: too dark, or the corners are not those of the chart "
            "(dark skin, bluish green, black, white)"
        )
    return out


def _low_frequency_spread(window: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far the quarters of a window (4, rows, columns) differ, by channel."""
    rows, columns = window.shape[1] // 2, window.shape[2] // 2
    quarters = [
        window[:, y : y + rows, x : x + columns].mean(axis=(1, 2), dtype=np.float64)
        for y in (0, window.shape[1] - rows)
        for x in (0, window.shape[2] - columns)
    ]
    spread: NDArray[np.float64] = np.ptp(np.stack(quarters), axis=0)
    return spread


def _preview(stack: Stack, profile: SensorProfile) -> NDArray[np.float64]:
    """A picture (height / 2, width / 2, 3), 0 to 1, sRGB-like, balanced by its own mean: for finding things in."""
    planes = stack.planes()[:, 0].astype(np.float64) - np.array(profile.black_level)[:, None, None]
    rgb = np.stack([planes[0], (planes[1] + planes[2]) / 2, planes[3]], axis=-1).clip(0)
    rgb = rgb / np.maximum(rgb.mean(axis=(0, 1)), 1e-6)
    picture: NDArray[np.float64] = np.clip(rgb / np.percentile(rgb, 99), 0, 1) ** (1 / 2.2)
    return picture
