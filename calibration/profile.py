"""SensorProfile: the figures of one image sensor, and the TOML file that holds them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import normalise_gains
from edge_isp.errors import ProfileError

CFA_ORDERS = ("RGGB", "GRBG", "GBRG", "BGGR")


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of a sensor; variances are of linear light (0 to 1), so they hold at any bit depth.

    variance(x, gain) = shot * gain * x + read_pre_gain * gain**2 + read_post_gain

    Attributes:
        shot: shot-noise coefficient at analogue gain 1; 1 / shot is the number of photo-electrons at
            white level.
        read_pre_gain: read-noise variance that the analogue gain amplifies, at gain 1.
        read_post_gain: read-noise variance added after the analogue gain.
    """

    shot: float
    read_pre_gain: float = 0.0
    read_post_gain: float = 0.0

    def variance(self, linear: float, analogue_gain: float) -> float:
        """Variance of a pixel of mean `linear` (0 to 1) at `analogue_gain`."""
        return self.shot * analogue_gain * linear + self.read_variance(analogue_gain)

    def read_variance(self, analogue_gain: float) -> float:
        """Variance of a dark pixel at `analogue_gain`."""
        return self.read_pre_gain * analogue_gain**2 + self.read_post_gain


@dataclass(frozen=True, slots=True)
class AwbPoint:
    """One point of the AWB curve: the camera's response to grey, as ratios to green."""

    colour_temperature_k: float
    red_over_green: float
    blue_over_green: float


@dataclass(frozen=True, slots=True)
class ColourMatrix:
    """Camera RGB after white balance to linear sRGB, row by row; rows sum to 1."""

    colour_temperature_k: float
    matrix: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SensorProfile:
    """What is known of one sensor.

    Attributes:
        name: as the kernel driver names it, lower case ("imx219").
        bit_depth: of the codes that `black_level` and `white_level` are given in.
        cfa: colour order from pixel (0,0), unflipped.
        black_level: codes at `bit_depth`, in the order R, Gr, Gb, B.
        white_level: code at `bit_depth` where the sensor clips.
        noise: None where nothing is known.
        awb_curve: by rising colour temperature; empty where nothing is known.
        colour_matrices: by rising colour temperature; empty where nothing is known.
    """

    name: str
    bit_depth: int
    cfa: str
    black_level: tuple[float, float, float, float]
    white_level: float
    noise: Noise | None = None
    awb_curve: tuple[AwbPoint, ...] = ()
    colour_matrices: tuple[ColourMatrix, ...] = ()

    def __post_init__(self) -> None:
        _validate(self)

    def at_bit_depth(self, bit_depth: int) -> SensorProfile:
        """The same sensor read out with another number of bits: levels are scaled."""
        factor = 2.0 ** (bit_depth - self.bit_depth)
        red, green_red, green_blue, blue = (level * factor for level in self.black_level)
        return replace(
            self,
            bit_depth=bit_depth,
            black_level=(red, green_red, green_blue, blue),
            white_level=(self.white_level + 1) * factor - 1,
        )

    def colour_gains(self, colour_temperature_k: float) -> tuple[float, float]:
        """White-balance gains (red, blue; green is 1) of the AWB curve at a colour temperature.

        The ratios are interpolated linearly between the curve's points, as libcamera does, and held
        beyond its ends.

        Raises:
            ProfileError: the profile has no AWB curve.
        """
        if not self.awb_curve:
            raise ProfileError(f"sensor profile '{self.name}' has no AWB curve")
        temperatures = [point.colour_temperature_k for point in self.awb_curve]
        red = np.interp(colour_temperature_k, temperatures, [point.red_over_green for point in self.awb_curve])
        blue = np.interp(colour_temperature_k, temperatures, [point.blue_over_green for point in self.awb_curve])
        return 1 / float(red), 1 / float(blue)

    def normalised_gains(self, colour_temperature_k: float) -> tuple[float, float, float]:
        """White-balance gains (red, green, blue), the smallest 1, at a colour temperature."""
        red, blue = self.colour_gains(colour_temperature_k)
        return normalise_gains(red, 1.0, blue)

    def colour_matrix(self, colour_temperature_k: float) -> NDArray[np.float64]:
        """3x3 matrix, white-balanced camera RGB to linear sRGB, at a colour temperature.

        Interpolated linearly between the nearest calibrated temperatures and held beyond the ends,
        as libcamera's Raspberry Pi IPA does (rpi.ccm).

        Raises:
            ProfileError: the profile has no colour matrices.
        """
        if not self.colour_matrices:
            raise ProfileError(f"sensor profile '{self.name}' has no colour matrices")
        temperatures = [entry.colour_temperature_k for entry in self.colour_matrices]
        entries = np.array([entry.matrix for entry in self.colour_matrices])
        interpolated = [np.interp(colour_temperature_k, temperatures, entries[:, i]) for i in range(9)]
        return np.array(interpolated).reshape(3, 3)


def shipped_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with edge_isp."""
    folder = resources.files("edge_isp.calibration") / "profiles"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_profile(name_or_path: str | Path) -> SensorProfile:
    """A shipped profile by its sensor's name, or a profile's TOML file by its path.

    Raises:
        ProfileError: there is none of that name, or the file is not a sensor profile.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ProfileError(f"{path}: no such sensor profile")
        return parse_profile(path.read_bytes(), str(path))
    name = str(name_or_path).lower()
    if name not in shipped_profiles():
        raise ProfileError(
            f"no sensor profile '{name_or_path}'; there are: {', '.join(shipped_profiles())}; "
            "a .toml profile can be given by its path"
        )
    shipped = resources.files("edge_isp.calibration") / "profiles" / f"{name}.toml"
    return parse_profile(shipped.read_bytes(), f"{name}.toml")


def parse_profile(content: bytes, where: str) -> SensorProfile:
    """A profile from the content of its TOML file; `where` names the file in errors.

    Raises:
        ProfileError: it is not a sensor profile.
    """
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{where}: not a TOML file: {error}") from error
    try:
        return _from_document(document)
    except ProfileError as error:
        raise ProfileError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfileError(f"{where}: not a sensor profile: {error!r}") from error


def _from_document(document: Mapping[str, Any]) -> SensorProfile:
    sensor = document["sensor"]
    noise = document.get("noise")
    red, green_red, green_blue, blue = (float(level) for level in sensor["black_level"])
    return SensorProfile(
        name=str(sensor["name"]),
        bit_depth=int(sensor["bit_depth"]),
        cfa=str(sensor["cfa"]),
        black_level=(red, green_red, green_blue, blue),
        white_level=float(sensor["white_level"]),
        noise=None
        if noise is None
        else Noise(
            float(noise["shot"]),
            float(noise.get("read_pre_gain", 0.0)),
            float(noise.get("read_post_gain", 0.0)),
        ),
        awb_curve=tuple(AwbPoint(float(t), float(r), float(b)) for t, r, b in document.get("awb", {}).get("curve", [])),
        colour_matrices=tuple(
            ColourMatrix(float(entry["colour_temperature_k"]), tuple(float(v) for v in entry["matrix"]))
            for entry in document.get("colour_matrix", [])
        ),
    )


def _validate(profile: SensorProfile) -> None:
    if not 8 <= profile.bit_depth <= 16:
        raise ProfileError(f"bit_depth must be 8 to 16, found {profile.bit_depth}")
    if profile.cfa not in CFA_ORDERS:
        raise ProfileError(f"cfa must be one of {', '.join(CFA_ORDERS)}, found '{profile.cfa}'")
    highest = 2**profile.bit_depth - 1
    if not 0 < profile.white_level <= highest:
        raise ProfileError(f"white_level must be above 0 and at most {highest}, found {profile.white_level}")
    if not all(0 <= level < profile.white_level for level in profile.black_level):
        raise ProfileError(
            f"black_level must be from 0 to below white_level {profile.white_level}, found {profile.black_level}"
        )
    noise = profile.noise
    if noise is not None and not (
        all(math.isfinite(v) and v >= 0 for v in (noise.read_pre_gain, noise.read_post_gain)) and 0 < noise.shot < 1
    ):
        raise ProfileError(f"noise must be positive variances of linear light, found {noise}")
    for point in profile.awb_curve:
        if not all(
            math.isfinite(v) and v > 0
            for v in (point.colour_temperature_k, point.red_over_green, point.blue_over_green)
        ):
            raise ProfileError(f"awb curve must hold positive numbers, found {point}")
    for entry in profile.colour_matrices:
        if len(entry.matrix) != 9 or not all(math.isfinite(v) for v in entry.matrix):
            raise ProfileError(
                f"colour matrix at {entry.colour_temperature_k} K must be 9 numbers, found {entry.matrix}"
            )
        if abs(np.linalg.det(np.array(entry.matrix).reshape(3, 3))) < 1e-6:
            raise ProfileError(f"colour matrix at {entry.colour_temperature_k} K cannot be inverted")
    for what, temperatures in (
        ("awb curve", [p.colour_temperature_k for p in profile.awb_curve]),
        ("colour matrices", [m.colour_temperature_k for m in profile.colour_matrices]),
    ):
        if any(a >= b for a, b in pairwise(temperatures)):
            raise ProfileError(f"{what} must be in order of rising colour temperature, found {temperatures}")
