"""From linear light to the values of a picture: the camera's own tone curve, or sRGB's transfer curve."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import FloatArray, srgb_decode, srgb_encode
from edge_isp.calibration.profile import TONE_SCALE, SensorProfile, load_profile
from edge_isp.errors import ProfileError, did_you_mean, shortened

# "camera": the curve that the sensor's profile has from its camera's tuning file, which raises contrast as cameras do.
# "srgb": the transfer curve alone, so that a picture can be compared with the light of its scene.
TONES = ("camera", "srgb")

# Of sensors whose profile has no curve. All nine tuning files that ship have the same one.
_GENERIC = "imx219"

Curve = tuple[tuple[float, float], ...]


def check_tone(tone: object) -> None:
    """Refuses what is no tone.

    Args:
        tone: one of `TONES`.

    Raises:
        ProfileError: it is something else.
    """
    if tone not in TONES:
        raise ProfileError(
            f"tone must be one of {', '.join(TONES)}, found '{shortened(str(tone))}'{did_you_mean(str(tone), TONES)}"
        )


def tone_curve(tone: str, profile: SensorProfile | None) -> Curve:
    """The curve of a tone.

    Args:
        tone: one of `TONES`.
        profile: of the sensor; without a curve in it the camera's is a generic one.

    Returns:
        See `SensorProfile.tone_curve`; empty for sRGB's.
    """
    if tone == "srgb":
        return ()
    return profile.tone_curve if profile is not None and profile.tone_curve else load_profile(_GENERIC).tone_curve


def tone_origin(tone: str, profile: SensorProfile | None) -> str:
    """Where a tone's curve comes from, in words.

    Args:
        tone: one of `TONES`.
        profile: see `tone_curve`.
    """
    if tone == "srgb":
        return "IEC 61966-2-1"
    return f"profile '{profile.name}'" if profile is not None and profile.tone_curve else f"generic: that of {_GENERIC}"


@lru_cache(maxsize=16)
def tone_table(curve: Curve, entries: int, brightness: float = 1.0) -> NDArray[np.uint8]:
    """8-bit picture values of linear light in equal steps from 0 to 1.

    Args:
        curve: see `tone_curve`.
        entries: number of steps.
        brightness: factor on the light before the curve.

    Returns:
        uint8 (entries,), read-only.
    """
    return _eight_bits(_values(curve, np.arange(entries) / (entries - 1) * brightness))


@lru_cache(maxsize=16)
def tone_of_srgb(curve: Curve, brightness: float = 1.0) -> NDArray[np.uint8]:
    """8-bit picture values in the place of 8-bit sRGB values.

    Args:
        curve: see `tone_curve`.
        brightness: factor on the light before the curve.

    Returns:
        uint8 (256,), read-only.
    """
    return _eight_bits(_values(curve, srgb_decode(np.arange(256) / 255) * brightness))


def _values(curve: Curve, light: FloatArray) -> FloatArray:
    """The picture's values, 0 to 1; a camera's curve is linear between its points, as libcamera's rpi.contrast is."""
    if not curve:
        return srgb_encode(light)
    points = np.array(curve) / TONE_SCALE
    return np.interp(light, points[:, 0], points[:, 1])


def _eight_bits(values: FloatArray) -> NDArray[np.uint8]:
    table: NDArray[np.uint8] = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    table.flags.writeable = False
    return table
