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
from edge_isp.calibration.shading import ColourShading, Shading
from edge_isp.errors import ProfileError
from edge_isp.kernels.layout import CELL_PLANES, mirrored_cfa

# Sections of a profile that can say where they come from.
SECTIONS = ("black_level", "noise", "awb", "colour_matrix", "shading", "defects")

# A profile is a text of some 20 kB; whoever hands over more does not hand over a profile.
_LARGEST_FILE_BYTES = 1 << 22

# No sensor's colour matrix holds more; beyond it arithmetic overflows.
_HIGHEST_MATRIX_ENTRY = 100.0


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of a sensor; variances are of linear light (0 to 1), so they hold at any bit depth.

    variance(x, gain) = shot * gain * x + read_pre_gain * gain**2 + read_post_gain

    Attributes:
        shot: shot-noise coefficient at analogue gain 1; 1 / shot is the number of photo-electrons at
            white level.
        read_pre_gain: read-noise variance that the analogue gain amplifies, at gain 1.
        read_post_gain: read-noise variance added after the analogue gain.
        pixel_response: photo-response non-uniformity (PRNU): standard deviation of the pixels' gains, the
            mean being 1.
        row: standard deviation of what a whole row is off by, anew in each frame, at gain 1; the analogue gain
            amplifies it.
    """

    shot: float
    read_pre_gain: float = 0.0
    read_post_gain: float = 0.0
    pixel_response: float = 0.0
    row: float = 0.0

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
class Defect:
    """A pixel that does not see as the others do: it shows response * light + offset.

    A dead pixel has response 0 and offset 0, a stuck one response 0 and the linear light that it is stuck at, a
    hot one response 1 and the linear light of its dark current.

    Attributes:
        x, y: column and row in the frame as the sensor sends it, unflipped.
    """

    x: int
    y: int
    response: float = 0.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the figures of a profile's section come from.

    Attributes:
        section: one of `SECTIONS`.
        source: "measured", or the file or publication.
        date: ISO 8601 day, or empty.
        conditions: in words.
        confidence: in words, with the statistical error where it was measured.
    """

    section: str
    source: str
    date: str = ""
    conditions: str = ""
    confidence: str = ""


@dataclass(frozen=True, slots=True)
class SensorProfile:
    """What is known of one sensor.

    Attributes:
        name: as the kernel driver names it, lower case ("imx219").
        bit_depth: of the codes that `black_level` and `white_level` are given in.
        cfa: colour order from pixel (0,0), unflipped.
        cfa_follows_flips: whether a flip of the readout moves the colours; where it does not, the sensor shifts
            its window so that the order stays.
        bit_depths: that the sensor can send; empty where only `bit_depth` is known.
        black_level: codes at `bit_depth`, in the order R, Gr, Gb, B.
        black_level_drift: codes that each black level rises by for each 1 of analogue gain above 1.
        white_level: code at `bit_depth` where the sensor clips.
        noise: None where nothing is known.
        awb_curve: by rising colour temperature; empty where nothing is known.
        colour_matrices: by rising colour temperature; empty where nothing is known.
        shading: None where nothing is known.
        defects: pixels known to be defective.
        provenance: where the sections come from, as far as it was noted.
    """

    name: str
    bit_depth: int
    cfa: str
    black_level: tuple[float, float, float, float]
    white_level: float
    noise: Noise | None = None
    awb_curve: tuple[AwbPoint, ...] = ()
    colour_matrices: tuple[ColourMatrix, ...] = ()
    shading: Shading | None = None
    defects: tuple[Defect, ...] = ()
    black_level_drift: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    cfa_follows_flips: bool = True
    bit_depths: tuple[int, ...] = ()
    provenance: tuple[Provenance, ...] = ()

    def __post_init__(self) -> None:
        _validate(self)

    def at_bit_depth(self, bit_depth: int) -> SensorProfile:
        """The same sensor read out with another number of bits: levels are scaled."""
        factor = 2.0 ** (bit_depth - self.bit_depth)
        return replace(
            self,
            bit_depth=bit_depth,
            black_level=_scaled(self.black_level, factor),
            black_level_drift=_scaled(self.black_level_drift, factor),
            white_level=(self.white_level + 1) * factor - 1,
        )

    def black_level_at(self, analogue_gain: float) -> tuple[float, float, float, float]:
        """Black level at an analogue gain: codes in the order R, Gr, Gb, B."""
        red, green_red, green_blue, blue = (
            level + drift * (analogue_gain - 1)
            for level, drift in zip(self.black_level, self.black_level_drift, strict=True)
        )
        return red, green_red, green_blue, blue

    def flipped_cfa(self, *, vertical: bool, horizontal: bool) -> str:
        """Colour order from pixel (0,0) of the sensor read out mirrored."""
        if not self.cfa_follows_flips:
            return self.cfa
        return mirrored_cfa(self.cfa, vertical=vertical, horizontal=horizontal)

    def with_section(self, provenance: Provenance, **figures: Any) -> SensorProfile:
        """A copy with a section's figures (attributes by name) replaced, and where they come from."""
        others = tuple(entry for entry in self.provenance if entry.section != provenance.section)
        return replace(self, provenance=(*others, provenance), **figures)

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

    def colour_temperature_of_gains(self, red: float, blue: float) -> float:
        """The colour temperature, in kelvin, whose point of the AWB curve is nearest to white-balance gains.

        Green's gain is 1. Nearest as the eye sees it: the curve is taken evenly in the inverse of the temperature,
        distances in the logarithms of the gains.

        Raises:
            ProfileError: the profile has no AWB curve.
        """
        if not self.awb_curve:
            raise ProfileError(f"sensor profile '{self.name}' has no AWB curve")
        coolest, warmest = (1e6 / point.colour_temperature_k for point in (self.awb_curve[-1], self.awb_curve[0]))
        temperatures = 1e6 / np.linspace(coolest, warmest, max(2, math.ceil(warmest - coolest) + 1))
        distances = [
            math.hypot(math.log(red / own_red), math.log(blue / own_blue))
            for own_red, own_blue in map(self.colour_gains, temperatures)
        ]
        return float(temperatures[int(np.argmin(distances))])

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


def _scaled(levels: tuple[float, float, float, float], factor: float) -> tuple[float, float, float, float]:
    red, green_red, green_blue, blue = (level * factor for level in levels)
    return red, green_red, green_blue, blue


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
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ProfileError(f"{path}: not a sensor profile: larger than {_LARGEST_FILE_BYTES} bytes")
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
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ProfileError(f"{where}: not a TOML file: {error}") from error
    try:
        return _from_document(document)
    except ProfileError as error:
        raise ProfileError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ProfileError(f"{where}: not a sensor profile: {error!r}") from error


def _from_document(document: Mapping[str, Any]) -> SensorProfile:
    sensor = document["sensor"]
    return SensorProfile(
        name=str(sensor["name"]),
        bit_depth=int(sensor["bit_depth"]),
        cfa=str(sensor["cfa"]),
        black_level=_four(sensor["black_level"]),
        white_level=float(sensor["white_level"]),
        noise=_noise(document.get("noise")),
        awb_curve=tuple(AwbPoint(float(t), float(r), float(b)) for t, r, b in document.get("awb", {}).get("curve", [])),
        colour_matrices=tuple(
            ColourMatrix(float(entry["colour_temperature_k"]), tuple(float(v) for v in entry["matrix"]))
            for entry in document.get("colour_matrix", [])
        ),
        shading=_shading(document.get("shading")),
        defects=tuple(
            Defect(int(x), int(y), float(response), float(offset))
            for x, y, response, offset in document.get("defects", {}).get("pixels", [])
        ),
        black_level_drift=_four(sensor.get("black_level_drift", (0.0, 0.0, 0.0, 0.0))),
        cfa_follows_flips=_flag(sensor, "cfa_follows_flips", True),
        bit_depths=tuple(int(depth) for depth in sensor.get("bit_depths", [])),
        provenance=tuple(
            Provenance(str(section), **{key: str(text) for key, text in entry.items()})
            for section, entry in document.get("provenance", {}).items()
        ),
    )


def _flag(section: Mapping[str, Any], key: str, default: bool) -> bool:
    value = section.get(key, default)
    if not isinstance(value, bool):
        raise ProfileError(f"{key} must be true or false, found {value!r}")
    return value


def _four(levels: Any) -> tuple[float, float, float, float]:
    red, green_red, green_blue, blue = (float(level) for level in levels)
    return red, green_red, green_blue, blue


def _noise(section: Mapping[str, Any] | None) -> Noise | None:
    if section is None:
        return None
    optional = ("read_pre_gain", "read_post_gain", "pixel_response", "row")
    return Noise(float(section["shot"]), **{key: float(section.get(key, 0.0)) for key in optional})


def _shading(section: Mapping[str, Any] | None) -> Shading | None:
    if section is None:
        return None
    return Shading(
        rows=int(section["rows"]),
        columns=int(section["columns"]),
        luminance=_table(section["luminance"]),
        colour=tuple(
            ColourShading(float(entry["colour_temperature_k"]), _table(entry["red"]), _table(entry["blue"]))
            for entry in section.get("colour", [])
        ),
        luminance_strength=float(section.get("luminance_strength", 1.0)),
    )


def _table(rows: Any) -> tuple[float, ...]:
    """Numbers row after row, of rows of numbers."""
    return tuple(float(gain) for row in rows for gain in row)


def _validate(profile: SensorProfile) -> None:
    if not 8 <= profile.bit_depth <= 16:
        raise ProfileError(f"bit_depth must be 8 to 16, found {profile.bit_depth}")
    if profile.cfa not in CELL_PLANES:
        raise ProfileError(f"cfa must be one of {', '.join(CELL_PLANES)}, found '{profile.cfa}'")
    highest = 2**profile.bit_depth - 1
    if not 0 < profile.white_level <= highest:
        raise ProfileError(f"white_level must be above 0 and at most {highest}, found {profile.white_level}")
    if not all(0 <= level < profile.white_level for level in profile.black_level):
        raise ProfileError(
            f"black_level must be from 0 to below white_level {profile.white_level}, found {profile.black_level}"
        )
    if not all(abs(drift) < highest for drift in profile.black_level_drift):
        raise ProfileError(f"black_level_drift must be codes below {highest}, found {profile.black_level_drift}")
    if not all(8 <= depth <= 16 for depth in profile.bit_depths):
        raise ProfileError(f"bit_depths must be 8 to 16, found {profile.bit_depths}")
    noise = profile.noise
    if noise is not None and not (
        all(0 <= v < 1 for v in (noise.read_pre_gain, noise.read_post_gain, noise.pixel_response, noise.row))
        and 0 < noise.shot < 1
    ):
        raise ProfileError(f"noise must be positive variances and deviations of linear light below 1, found {noise}")
    for point in profile.awb_curve:
        if not all(
            math.isfinite(v) and v > 0
            for v in (point.colour_temperature_k, point.red_over_green, point.blue_over_green)
        ):
            raise ProfileError(f"awb curve must hold positive numbers, found {point}")
    for entry in profile.colour_matrices:
        if not 0 < entry.colour_temperature_k < math.inf:
            raise ProfileError(f"colour temperature must be positive, found {entry.colour_temperature_k}")
        if len(entry.matrix) != 9 or not all(abs(v) <= _HIGHEST_MATRIX_ENTRY for v in entry.matrix):
            raise ProfileError(
                f"colour matrix at {entry.colour_temperature_k} K must be 9 numbers of at most "
                f"{_HIGHEST_MATRIX_ENTRY:g}, found {entry.matrix}"
            )
        if abs(np.linalg.det(np.array(entry.matrix).reshape(3, 3))) < 1e-6:
            raise ProfileError(f"colour matrix at {entry.colour_temperature_k} K cannot be inverted")
    for what, temperatures in (
        ("awb curve", [p.colour_temperature_k for p in profile.awb_curve]),
        ("colour matrices", [m.colour_temperature_k for m in profile.colour_matrices]),
    ):
        if any(a >= b for a, b in pairwise(temperatures)):
            raise ProfileError(f"{what} must be in order of rising colour temperature, found {temperatures}")
    for defect in profile.defects:
        if not (
            0 <= defect.x < 1 << 16
            and 0 <= defect.y < 1 << 16
            and abs(defect.response) < 10
            and abs(defect.offset) < 10
        ):
            raise ProfileError(f"a defect must be a place in the frame, a response and an offset, found {defect}")
    for origin in profile.provenance:
        if origin.section not in SECTIONS:
            raise ProfileError(f"provenance must be of one of {', '.join(SECTIONS)}, found '{origin.section}'")
