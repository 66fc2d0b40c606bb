"""The colours of a DNG file, by its own matrices (Adobe DNG Specification 1.7, chapter 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.dng_tags import DngTags
from edge_isp.calibration.profile import SensorProfile

Matrix = NDArray[np.float64]

# EXIF light sources of the calibration illuminants, in kelvin, the middle where EXIF gives a range (fluorescent lamps,
# 12 to 16); where a DNG does not say, it means daylight (D65).
_LIGHT_SOURCES_K = {
    0: 6504.0,
    1: 5500.0,
    2: 4000.0,
    3: 2856.0,
    4: 5500.0,
    9: 5500.0,
    10: 6500.0,
    11: 7500.0,
    12: 6400.0,
    13: 5050.0,
    14: 4150.0,
    15: 3525.0,
    16: 2925.0,
    17: 2856.0,
    18: 4874.0,
    19: 6774.0,
    20: 5503.0,
    21: 6504.0,
    22: 7504.0,
    23: 5003.0,
    24: 3200.0,
}
DAYLIGHT, TUNGSTEN = 21, 17
DAYLIGHT_K = _LIGHT_SOURCES_K[DAYLIGHT]

# Linear sRGB to XYZ (IEC 61966-2-1).
_XYZ_OF_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_SRGB_WHITE = _XYZ_OF_SRGB.sum(axis=1)
_D50 = np.array([0.9642, 1.0, 0.8251])
_D50_XY = (0.3457, 0.3585)
# Cone responses of XYZ (Bradford; Lindbloom).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# The specification's iteration from neutral to temperature ends after this number of steps at the latest.
_MOST_STEPS = 30


@dataclass(frozen=True, slots=True)
class Calibration:
    """One of the lights that a DNG was calibrated under.

    Attributes:
        colour_temperature_k: of the light.
        camera_of_xyz: 3x3, ColorMatrix with AnalogBalance and CameraCalibration before it.
        camera: 3x3, AnalogBalance times CameraCalibration: of the reference camera to this one.
        forward: 3x3, ForwardMatrix: white-balanced reference camera to XYZ of D50; None where the file has none.
    """

    colour_temperature_k: float
    camera_of_xyz: Matrix
    camera: Matrix
    forward: Matrix | None

    def neutral(self) -> Matrix:
        """What the camera makes of white under this light, (3,)."""
        return self.camera_of_xyz @ white_xyz(self.colour_temperature_k)

    def srgb_matrix(self, neutral: Matrix) -> Matrix:
        """White-balanced camera RGB to linear sRGB, 3x3; white stays white.

        A ForwardMatrix is adapted from D50 to sRGB's white (Bradford). Of a ColorMatrix alone, each row of the
        camera's response to sRGB's primaries is scaled so that white is 1, as dcraw and LibRaw do: that holds where
        the white balance that was taken is not that of the matrix's light.

        Args:
            neutral: the camera RGB (3,) that white balance makes white.
        """
        if self.forward is None:
            camera_of_srgb = self.camera_of_xyz @ _XYZ_OF_SRGB
            return np.asarray(np.linalg.inv(camera_of_srgb / camera_of_srgb.sum(axis=1)[:, None]))
        # The specification's D * inverse(AnalogBalance * CameraCalibration), of white-balanced colour.
        to_reference = np.linalg.inv(self.camera)
        balance = np.diag(1 / (to_reference @ neutral)) @ to_reference @ np.diag(neutral)
        matrix = np.linalg.inv(_XYZ_OF_SRGB) @ _adaptation(_D50, _SRGB_WHITE) @ self.forward @ balance
        return np.asarray(matrix / matrix.sum(axis=1)[:, None])


@dataclass(frozen=True, slots=True)
class CameraMatrices:
    """The colours of a camera under one light, as a DNG states them.

    Attributes:
        illuminant: CalibrationIlluminant, EXIF's number of the light.
        camera_of_xyz: 3x3, ColorMatrix.
        forward: 3x3, ForwardMatrix.
    """

    illuminant: int
    camera_of_xyz: Matrix
    forward: Matrix


def camera_matrices(
    matrix: Matrix, neutral: Matrix | None, profile: SensorProfile | None
) -> tuple[CameraMatrices, ...]:
    """The tags of a camera's colours, so that every converter shows the frame in the colours of its own light.

    ColorMatrix is that of the frame's light for each illuminant, since dcraw and LibRaw take one of them alone.
    Converters that interpolate take their colours from ForwardMatrix: there the two differ as the profile's do, and
    between them, at the frame's own light, lies the frame's matrix. So the colours follow a changed white balance.

    Args:
        matrix: 3x3, white-balanced camera colour to linear sRGB under the frame's light.
        neutral: (3,), the camera RGB of white in the frame, see `as_shot`; None where nothing says it.
        profile: of the sensor, or None.

    Returns:
        Those for tungsten light and for daylight; for daylight only where the profile does not say what the camera
        makes of white under both.
    """
    to_xyz = _XYZ_OF_SRGB @ (matrix / matrix.sum(axis=1)[:, None])
    if profile is None or len(profile.awb_curve) < 2:
        white = np.ones(3) if neutral is None else neutral / neutral[1]
        return (CameraMatrices(DAYLIGHT, _camera_of_xyz(to_xyz, white, DAYLIGHT_K), _forward(matrix)),)
    lights = []
    for light in (TUNGSTEN, DAYLIGHT):
        kelvin = _LIGHT_SOURCES_K[light]
        red, blue = profile.colour_gains(kelvin)
        camera_of_xyz = _camera_of_xyz(to_xyz, np.array([1 / red, 1.0, 1 / blue]), kelvin)
        calibrated = profile.colour_matrix(kelvin) if profile.colour_matrices else matrix
        lights.append(Calibration(kelvin, camera_of_xyz, np.eye(3), _forward(calibrated)))
    tungsten, daylight = lights
    assert tungsten.forward is not None
    assert daylight.forward is not None
    kelvin = _temperature_of_xy(*_D50_XY) if neutral is None else _temperature_of_neutral((tungsten, daylight), neutral)
    share = _share(tungsten, daylight, kelvin)
    rest = _forward(matrix) - share * tungsten.forward - (1 - share) * daylight.forward
    return (
        CameraMatrices(TUNGSTEN, tungsten.camera_of_xyz, tungsten.forward + rest),
        CameraMatrices(DAYLIGHT, daylight.camera_of_xyz, daylight.forward + rest),
    )


def _camera_of_xyz(to_xyz: Matrix, neutral: Matrix, kelvin: float) -> Matrix:
    """ColorMatrix of a camera with this neutral under a light, from its colours in XYZ of sRGB's white."""
    found = np.diag(neutral) @ np.linalg.inv(to_xyz) @ _adaptation(white_xyz(kelvin), _SRGB_WHITE)
    return np.asarray(found)


def _forward(matrix: Matrix) -> Matrix:
    """ForwardMatrix of a matrix from white-balanced camera colour to linear sRGB."""
    return np.asarray(_adaptation(_SRGB_WHITE, _D50) @ _XYZ_OF_SRGB @ (matrix / matrix.sum(axis=1)[:, None]))


def read_calibrations(tags: DngTags) -> tuple[Calibration, ...]:
    """The lights that a DNG was calibrated under, none to two, by rising colour temperature.

    Args:
        tags: of the file.

    Raises:
        FormatError: a matrix cannot be that of a camera, or a light source is not known.
    """
    balance = np.diag(tags.numbers("AnalogBalance", 3)) if "AnalogBalance" in tags else np.eye(3)
    # CameraCalibration is only for the profile whose signature the camera names.
    applies = tags.text("CameraCalibrationSignature") == tags.text("ProfileCalibrationSignature")
    found = []
    for number in "12":
        if f"ColorMatrix{number}" not in tags:
            continue
        name = f"CameraCalibration{number}"
        camera = balance @ tags.matrix(name) if applies and name in tags else balance
        colour = tags.matrix(f"ColorMatrix{number}")
        forward = tags.matrix(f"ForwardMatrix{number}") if f"ForwardMatrix{number}" in tags else None
        kelvin = _kelvin(tags, f"CalibrationIlluminant{number}")
        calibration = Calibration(kelvin, camera @ colour, camera, forward)
        _check(tags, number, calibration)
        found.append(calibration)
    found.sort(key=lambda entry: entry.colour_temperature_k)
    if len(found) == 2 and found[0].colour_temperature_k == found[1].colour_temperature_k:
        tags.fail(f"both ColorMatrix tags are for light of {found[0].colour_temperature_k:g} K")
    return tuple(found)


def as_shot(
    tags: DngTags, calibrations: tuple[Calibration, ...]
) -> tuple[tuple[float, float] | None, Calibration | None]:
    """White balance and calibration of the light that a DNG was taken under.

    Args:
        tags: of the file.
        calibrations: see `read_calibrations`.

    Returns:
        White-balance gains of red and blue (green is 1), None where the file does not say; and the calibration,
        interpolated between the two of the file by the light's colour temperature, None where the file has none.

    Raises:
        FormatError: AsShotNeutral or AsShotWhiteXY is out of range.
    """
    neutral = _neutral(tags)
    xy = _white_xy(tags) if neutral is None else None
    if not calibrations:
        return None if neutral is None else _gains(neutral), None
    if neutral is not None:
        light = _interpolated(calibrations, _temperature_of_neutral(calibrations, neutral))
        return _gains(neutral), light
    light = _interpolated(calibrations, _temperature_of_xy(*(_D50_XY if xy is None else xy)))
    if xy is None:
        return None, light
    x, y = xy
    found = light.camera_of_xyz @ np.array([x / y, 1.0, (1 - x - y) / y])
    if found.min() <= 0:
        tags.fail(f"AsShotWhiteXY must be a light that the camera sees as white, found {x:g}, {y:g}")
    return _gains(found), light


def white_xyz(kelvin: float) -> Matrix:
    """XYZ of a white of a colour temperature (Y is 1): Planck's locus below 4000 K, daylight's above.

    Chromaticities by Kim et al. (US 7024034) and the CIE's daylight formula (CIE 15).

    Args:
        kelvin: the colour temperature.
    """
    t = 1000 / kelvin
    if kelvin < 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        if kelvin <= 7000:
            x = -4.6070 * t**3 + 2.9678 * t**2 + 0.09911 * t + 0.244063
        else:
            x = -2.0064 * t**3 + 1.9018 * t**2 + 0.24748 * t + 0.237040
        y = -3.0 * x**2 + 2.87 * x - 0.275
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(from_white: Matrix, to_white: Matrix) -> Matrix:
    """3x3, XYZ under one white to XYZ of the same colours under another (Bradford)."""
    scale = np.diag((_BRADFORD @ to_white) / (_BRADFORD @ from_white))
    return np.asarray(np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD)


def _neutral(tags: DngTags) -> Matrix | None:
    if not tags.values.get("AsShotNeutral"):
        return None
    found = np.array(tags.numbers("AsShotNeutral", 3))
    if found.min() <= 0:
        tags.fail(f"AsShotNeutral must be 3 positive numbers, found {found.tolist()}")
    return found


def _white_xy(tags: DngTags) -> tuple[float, float] | None:
    if not tags.values.get("AsShotWhiteXY"):
        return None
    x, y = tags.numbers("AsShotWhiteXY", 2)
    if not (0 < x < 1 and 0 < y < 1 and x + y < 1):
        tags.fail(f"AsShotWhiteXY must be a chromaticity, found {x:g}, {y:g}")
    return x, y


def _gains(neutral: Matrix) -> tuple[float, float]:
    return float(neutral[1] / neutral[0]), float(neutral[1] / neutral[2])


def _kelvin(tags: DngTags, name: str) -> float:
    light_source = tags.whole(name, DAYLIGHT)
    if light_source not in _LIGHT_SOURCES_K:
        tags.fail(f"{name} must be an EXIF light source of a known colour, found {light_source}")
    return _LIGHT_SOURCES_K[light_source]


def _check(tags: DngTags, number: str, calibration: Calibration) -> None:
    camera_of_srgb = calibration.camera_of_xyz @ _XYZ_OF_SRGB
    white = camera_of_srgb.sum(axis=1)
    if min(*white, *calibration.neutral()) <= 0 or abs(np.linalg.det(camera_of_srgb / white[:, None])) < 1e-6:
        shown = tags.values[f"ColorMatrix{number}"]
        tags.fail(f"ColorMatrix{number} cannot be of a camera: {', '.join(f'{value:g}' for value in shown)}")
    if abs(np.linalg.det(calibration.camera)) < 1e-6:
        tags.fail(f"AnalogBalance or CameraCalibration{number} cannot be inverted")
    if calibration.forward is not None and (
        calibration.forward.sum(axis=1).min() <= 0 or abs(np.linalg.det(calibration.forward)) < 1e-6
    ):
        tags.fail(f"ForwardMatrix{number} cannot be of a camera")


def _interpolated(calibrations: tuple[Calibration, ...], kelvin: float) -> Calibration:
    """Between the two calibrations, linearly in the inverse of the temperature; clamped beyond them."""
    if len(calibrations) == 1:
        return calibrations[0]
    low, high = calibrations
    kelvin = min(max(kelvin, low.colour_temperature_k), high.colour_temperature_k)
    share = _share(low, high, kelvin)
    forwards = [each.forward for each in calibrations if each.forward is not None]
    forward = None
    if forwards:
        forward = forwards[0] * share + forwards[-1] * (1 - share)
    return Calibration(
        kelvin,
        low.camera_of_xyz * share + high.camera_of_xyz * (1 - share),
        low.camera * share + high.camera * (1 - share),
        forward,
    )


def _share(low: Calibration, high: Calibration, kelvin: float) -> float:
    """The weight of the first of two calibrations, 0 to 1."""
    kelvin = min(max(kelvin, low.colour_temperature_k), high.colour_temperature_k)
    span = 1 / low.colour_temperature_k - 1 / high.colour_temperature_k
    return (1 / kelvin - 1 / high.colour_temperature_k) / span


def _temperature_of_neutral(calibrations: tuple[Calibration, ...], neutral: Matrix) -> float:
    """The light's temperature: the matrix depends on it, and it on the matrix, so both are found in turn."""
    if len(calibrations) == 1:
        return calibrations[0].colour_temperature_k
    xy = np.array(_D50_XY)
    previous = xy
    for _ in range(_MOST_STEPS):
        light = _interpolated(calibrations, _temperature_of_xy(*xy))
        xyz = np.linalg.solve(light.camera_of_xyz, neutral)
        if xyz.min() <= 0:
            break
        previous, xy = xy, xyz[:2] / xyz.sum()
        if np.abs(xy - previous).sum() < 1e-7:
            return _temperature_of_xy(*xy)
    # It goes to and fro between two lights: the specification takes the middle.
    return _temperature_of_xy(*((xy + previous) / 2))


def _temperature_of_xy(x: float, y: float) -> float:
    """Correlated colour temperature in kelvin, 1000 to 25000 (McCamy 1992)."""
    n = (x - 0.3320) / (0.1858 - y) if y != 0.1858 else 0.0
    kelvin = 449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33
    return float(min(max(kelvin, 1000.0), 25000.0))
