"""SensorProfile: the figures of one image sensor, and the TOML file that holds them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import check_colour_temperature, normalise_gains
from edge_isp.calibration.shading import ColourShading, Shading
from edge_isp.errors import ProfileError, did_you_mean, shortened
from edge_isp.kernels.layout import CELL_PLANES, mirrored_cfa
from edge_isp.toml_file import TomlTable, describe, parse_toml, read_toml

_log = logging.getLogger(__name__)

# Sections of a profile that can say where they come from.
SECTIONS = ("black_level", "noise", "awb", "colour_matrix", "tone", "shading", "defects")

NO_DRIFT = (0.0, 0.0, 0.0, 0.0)

# Of the tone curve's two axes.
TONE_SCALE = 65535

# No sensor's colour matrix holds more; beyond it arithmetic overflows.
HIGHEST_MATRIX_ENTRY = 100.0


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
        """Variance of a pixel.

        Args:
            linear: the pixel's mean light, 0 to 1.
            analogue_gain: of the exposure.
        """
        return self.shot * analogue_gain * linear + self.read_variance(analogue_gain)

    def read_variance(self, analogue_gain: float) -> float:
        """Variance of a dark pixel.

        Args:
            analogue_gain: of the exposure.
        """
        return self.read_pre_gain * analogue_gain**2 + self.read_post_gain


# Of a sensor that nothing is known of: about that of the Raspberry Pi's.
UNKNOWN_NOISE = Noise(shot=2e-4, read_pre_gain=3.3e-8, read_post_gain=1.0e-7)


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
    """A pixel that does not respond as the others do: it shows response * light + offset.

    A dead pixel has response 0 and offset 0, a stuck one response 0 and the linear light that it is stuck at, a
    hot one response 1 and the linear light of its dark current.

    Attributes:
        x: column in the frame as the sensor sends it, unflipped.
        y: row in the frame as the sensor sends it, unflipped.
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
        size: width and height of the whole sensor, in pixels; None where it is not known. Lens shading and defective
            pixels of frames that show a part of it need it.
        black_level: codes at `bit_depth`, in the order R, Gr, Gb, B.
        black_level_drift: codes that each black level rises by for each 1 of analogue gain above 1.
        white_level: code at `bit_depth` where the sensor clips.
        noise: None where nothing is known.
        awb_curve: by rising colour temperature; empty where nothing is known.
        colour_matrices: by rising colour temperature; empty where nothing is known.
        tone_curve: points (linear light, picture value) of the camera's own tone curve, both 0 to `TONE_SCALE`, by
            rising light; empty where nothing is known. It takes the place of sRGB's transfer curve.
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
    tone_curve: tuple[tuple[float, float], ...] = ()
    shading: Shading | None = None
    defects: tuple[Defect, ...] = ()
    black_level_drift: tuple[float, float, float, float] = NO_DRIFT
    cfa_follows_flips: bool = True
    bit_depths: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    provenance: tuple[Provenance, ...] = ()

    def __post_init__(self) -> None:
        _validate(self)

    def at_bit_depth(self, bit_depth: int) -> SensorProfile:
        """The same sensor read out with another number of bits: levels are scaled.

        Args:
            bit_depth: of the codes.
        """
        factor = 2.0 ** (bit_depth - self.bit_depth)
        return replace(
            self,
            bit_depth=bit_depth,
            black_level=_scaled(self.black_level, factor),
            black_level_drift=_scaled(self.black_level_drift, factor),
            white_level=(self.white_level + 1) * factor - 1,
        )

    def black_level_at(self, analogue_gain: float) -> tuple[float, float, float, float]:
        """Black level at an analogue gain: codes in the order R, Gr, Gb, B.

        Args:
            analogue_gain: of the exposure.
        """
        red, green_red, green_blue, blue = (
            level + drift * (analogue_gain - 1)
            for level, drift in zip(self.black_level, self.black_level_drift, strict=True)
        )
        return red, green_red, green_blue, blue

    def flipped_cfa(self, *, vertical: bool, horizontal: bool) -> str:
        """Colour order from pixel (0,0) of the sensor read out mirrored.

        Args:
            vertical: bottom row first.
            horizontal: right column first.
        """
        if not self.cfa_follows_flips:
            return self.cfa
        return mirrored_cfa(self.cfa, vertical=vertical, horizontal=horizontal)

    def with_section(self, provenance: Provenance, **figures: Any) -> SensorProfile:
        """A copy with a section's figures replaced, and where they come from.

        Args:
            provenance: of the new figures; it names the section.
            **figures: attributes of the profile, by name.
        """
        others = tuple(entry for entry in self.provenance if entry.section != provenance.section)
        return replace(self, provenance=(*others, provenance), **figures)

    def colour_gains(self, colour_temperature_k: float) -> tuple[float, float]:
        """White-balance gains (red, blue; green is 1) of the AWB curve at a colour temperature.

        The ratios are interpolated linearly between the curve's points, as libcamera does, and clamped
        beyond its ends.

        Args:
            colour_temperature_k: of the light.

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

        Args:
            red: white-balance gain of red.
            blue: white-balance gain of blue.

        Raises:
            ProfileError: the profile has no AWB curve.
        """
        if not self.awb_curve:
            raise ProfileError(f"sensor profile '{self.name}' has no AWB curve")
        temperatures, log_gains = _awb_locus(self.awb_curve)
        distances = np.square(log_gains - (math.log(red), math.log(blue))).sum(1)
        return float(temperatures[int(np.argmin(distances))])

    def normalised_gains(self, colour_temperature_k: float) -> tuple[float, float, float]:
        """White-balance gains (red, green, blue), the smallest 1, at a colour temperature.

        Args:
            colour_temperature_k: of the light.
        """
        red, blue = self.colour_gains(colour_temperature_k)
        return normalise_gains(red, 1.0, blue)

    def colour_matrix(self, colour_temperature_k: float) -> NDArray[np.float64]:
        """3x3 matrix, white-balanced camera RGB to linear sRGB, at a colour temperature.

        Interpolated linearly between the nearest calibrated temperatures and clamped beyond the ends,
        as libcamera's Raspberry Pi IPA does (rpi.ccm).

        Args:
            colour_temperature_k: of the light.

        Raises:
            ProfileError: the profile has no colour matrices.
        """
        if not self.colour_matrices:
            raise ProfileError(f"sensor profile '{self.name}' has no colour matrices")
        temperatures = [entry.colour_temperature_k for entry in self.colour_matrices]
        entries = np.array([entry.matrix for entry in self.colour_matrices])
        interpolated = [np.interp(colour_temperature_k, temperatures, entries[:, i]) for i in range(9)]
        return np.array(interpolated).reshape(3, 3)


@lru_cache(maxsize=64)
def _awb_locus(curve: tuple[AwbPoint, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An AWB curve in steps of one mired.

    Returns:
        Colour temperatures in kelvin, (n,), and the logarithms of the gains of red and blue there, (n, 2).
    """
    coolest, warmest = (1e6 / point.colour_temperature_k for point in (curve[-1], curve[0]))
    temperatures = 1e6 / np.linspace(coolest, warmest, max(2, math.ceil(warmest - coolest) + 1))
    points = [point.colour_temperature_k for point in curve]
    ratios = [[point.red_over_green for point in curve], [point.blue_over_green for point in curve]]
    return temperatures, -np.log(np.stack([np.interp(temperatures, points, ratio) for ratio in ratios], 1))


def _scaled(levels: tuple[float, float, float, float], factor: float) -> tuple[float, float, float, float]:
    red, green_red, green_blue, blue = (level * factor for level in levels)
    return red, green_red, green_blue, blue


@lru_cache(maxsize=1)
def shipped_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with edge_isp."""
    folder = resources.files("edge_isp.calibration") / "profiles"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_profile(name_or_path: str | Path) -> SensorProfile:
    """A shipped profile by its sensor's name, or a profile's TOML file by its path.

    Args:
        name_or_path: a name of `shipped_profiles`, or a path that ends in ".toml".

    Raises:
        ProfileError: there is none of that name, or the file is not a sensor profile.
    """
    if str(name_or_path).endswith(".toml"):
        return _from_table(read_toml(name_or_path, ProfileError))
    name = str(name_or_path).lower()
    if name not in shipped_profiles():
        raise ProfileError(
            f"no sensor profile '{shortened(str(name_or_path))}'; there are: {', '.join(shipped_profiles())}; "
            f"a .toml profile can be given by its path{did_you_mean(name, shipped_profiles())}"
        )
    return _shipped_profile(name)


def profile_of(sensor: str | None, given: SensorProfile | None = None) -> SensorProfile | None:
    """The profile of a frame's sensor: the one look-up that cameras, tasks and metering share.

    A variant of a sensor ("imx708_wide_noir", "imx477_16mm") that has no profile of its own takes that of the longest
    name it begins with, part by part ("imx708_wide", "imx477"). Without its infrared filter ("noir") a sensor's
    colours are no longer those of the profile, which is logged once. A monochrome variant ("imx296_mono") takes none.

    Args:
        sensor: the sensor's name, in any case; None where it is not known.
        given: a profile that is used for every sensor, whatever its name.

    Returns:
        The profile, or None where there is none.
    """
    if given is not None or not sensor:
        return given
    return _best_profile(sensor.lower())


@lru_cache(maxsize=64)
def _best_profile(sensor: str) -> SensorProfile | None:
    parts = sensor.split("_")
    if "mono" in parts:
        return None
    shipped = shipped_profiles()
    for count in range(len(parts), 0, -1):
        name = "_".join(parts[:count])
        if name in shipped:
            if "noir" in parts[count:]:
                _log.warning(
                    "sensor '%s' has no infrared filter and no profile of its own: the profile '%s' is used, and "
                    "colours will be off",
                    sensor,
                    name,
                )
            return _shipped_profile(name)
    return None


@lru_cache(maxsize=64)
def _shipped_profile(name: str) -> SensorProfile:
    shipped = resources.files("edge_isp.calibration") / "profiles" / f"{name}.toml"
    return parse_profile(shipped.read_bytes(), f"{name}.toml")


def parse_profile(content: bytes, file: str) -> SensorProfile:
    """A profile from the content of its TOML file.

    Args:
        content: of the file.
        file: the file's name, for errors.

    Raises:
        ProfileError: it is not a sensor profile.
    """
    return _from_table(parse_toml(content, file, ProfileError))


def _from_table(document: TomlTable) -> SensorProfile:
    known = ("sensor", "noise", "awb", "colour_matrix", "tone", "shading", "defects", "provenance")
    document.check_keys(known, required=("sensor",))
    sensor = document.table("sensor")
    required = ("name", "bit_depth", "cfa", "black_level", "white_level")
    sensor.check_keys((*required, "black_level_drift", "cfa_follows_flips", "bit_depths", "size"), required)
    try:
        return SensorProfile(
            name=sensor.text("name"),
            bit_depth=sensor.whole("bit_depth"),
            cfa=sensor.text("cfa"),
            black_level=_four(sensor, "black_level"),
            white_level=sensor.number("white_level"),
            noise=_noise(document),
            awb_curve=tuple(AwbPoint(t, r, b) for t, r, b in _section_rows(document, "awb", "curve", 3)),
            colour_matrices=tuple(_colour_matrix(entry) for entry in document.tables("colour_matrix")),
            tone_curve=tuple((x, y) for x, y in _section_rows(document, "tone", "curve", 2)),
            shading=_shading(document),
            defects=tuple(
                Defect(int(x), int(y), response, offset)
                for x, y, response, offset in _section_rows(document, "defects", "pixels", 4)
            ),
            black_level_drift=_four(sensor, "black_level_drift") if "black_level_drift" in sensor else NO_DRIFT,
            cfa_follows_flips=sensor.flag("cfa_follows_flips", True),
            bit_depths=sensor.wholes("bit_depths") if "bit_depths" in sensor else (),
            size=_size(sensor),
            provenance=_provenance(document.table("provenance")),
        )
    except ProfileError as error:
        if str(error).startswith(f"{document.file}: "):
            raise
        raise ProfileError(f"{document.file}: {error}") from error


def _four(table: TomlTable, key: str) -> tuple[float, float, float, float]:
    red, green_red, green_blue, blue = table.numbers(key, 4)
    return red, green_red, green_blue, blue


def _size(table: TomlTable) -> tuple[int, int] | None:
    if "size" not in table:
        return None
    width, height = table.wholes("size", 2)
    return width, height


def _section_rows(document: TomlTable, section: str, key: str, count: int) -> tuple[tuple[float, ...], ...]:
    """Rows of numbers of a section that holds nothing else; none where the section is missing."""
    if section not in document:
        return ()
    table = document.table(section)
    table.check_keys((key,), required=(key,))
    return table.rows(key, count)


def _noise(document: TomlTable) -> Noise | None:
    if "noise" not in document:
        return None
    table = document.table("noise")
    optional = ("read_pre_gain", "read_post_gain", "pixel_response", "row")
    table.check_keys(("shot", *optional), required=("shot",))
    return Noise(table.number("shot"), **{key: table.number(key, 0.0) for key in optional})


def _colour_matrix(table: TomlTable) -> ColourMatrix:
    table.check_keys(("colour_temperature_k", "matrix"))
    return ColourMatrix(table.number("colour_temperature_k"), table.numbers("matrix"))


def _shading(document: TomlTable) -> Shading | None:
    if "shading" not in document:
        return None
    table = document.table("shading")
    table.check_keys(("rows", "columns", "luminance", "luminance_strength", "colour"))
    entries = table.tables("colour")
    for entry in entries:
        entry.check_keys(("colour_temperature_k", "red", "blue"))
    return Shading(
        rows=table.whole("rows"),
        columns=table.whole("columns"),
        luminance=_flat(table.rows("luminance")),
        colour=tuple(
            ColourShading(entry.number("colour_temperature_k"), _flat(entry.rows("red")), _flat(entry.rows("blue")))
            for entry in entries
        ),
        luminance_strength=table.number("luminance_strength", 1.0),
    )


def _flat(rows: Iterable[Iterable[float]]) -> tuple[float, ...]:
    """The numbers of rows, one row after the other."""
    return tuple(number for row in rows for number in row)


def _provenance(table: TomlTable) -> tuple[Provenance, ...]:
    found = []
    for section in table.values:
        if section not in SECTIONS:
            table.fail(f"provenance must be of one of {', '.join(SECTIONS)}, found {describe(section)}")
        entry = table.table(section)
        entry.check_keys(("source", "date", "conditions", "confidence"), required=("source",))
        texts = {key: entry.text(key, "") for key in ("date", "conditions", "confidence")}
        found.append(Provenance(section, entry.text("source"), **texts))
    return tuple(found)


def _validate(profile: SensorProfile) -> None:
    _check_levels(profile)
    _check_noise(profile.noise)
    _check_awb_curve(profile.awb_curve)
    _check_colour_matrices(profile.colour_matrices)
    _check_tone_curve(profile.tone_curve)
    for defect in profile.defects:
        inside = 0 <= defect.x < 1 << 16 and 0 <= defect.y < 1 << 16
        if not (inside and abs(defect.response) < 10 and abs(defect.offset) < 10):
            raise ProfileError(f"a defect must be a place in the frame, a response and an offset, found {defect}")
    for origin in profile.provenance:
        if origin.section not in SECTIONS:
            raise ProfileError(f"provenance must be of one of {', '.join(SECTIONS)}, found '{origin.section}'")


def _check_levels(profile: SensorProfile) -> None:
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
    if profile.size is not None and not all(2 <= side <= 1 << 16 for side in profile.size):
        raise ProfileError(f"size must be the sensor's width and height in pixels, 2 to 65536, found {profile.size}")
    if not all(8 <= depth <= 16 for depth in profile.bit_depths):
        raise ProfileError(f"bit_depths must be 8 to 16, found {profile.bit_depths}")


def _check_noise(noise: Noise | None) -> None:
    if noise is None:
        return
    others = (noise.read_pre_gain, noise.read_post_gain, noise.pixel_response, noise.row)
    if not (0 < noise.shot < 1 and all(0 <= value < 1 for value in others)):
        raise ProfileError(f"noise must be positive variances and deviations of linear light below 1, found {noise}")


def _check_awb_curve(curve: Sequence[AwbPoint]) -> None:
    for point in curve:
        values = (point.colour_temperature_k, point.red_over_green, point.blue_over_green)
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise ProfileError(f"awb curve must hold positive numbers, found {point}")
        check_colour_temperature("awb curve: colour temperature", point.colour_temperature_k)
    _check_rising("awb curve", [point.colour_temperature_k for point in curve])


def _check_colour_matrices(matrices: Sequence[ColourMatrix]) -> None:
    for entry in matrices:
        check_colour_temperature("colour matrix: colour temperature", entry.colour_temperature_k)
        if len(entry.matrix) != 9 or not all(abs(value) <= HIGHEST_MATRIX_ENTRY for value in entry.matrix):
            raise ProfileError(
                f"colour matrix at {entry.colour_temperature_k} K must be 9 numbers of at most "
                f"{HIGHEST_MATRIX_ENTRY:g}, found {entry.matrix}"
            )
        if abs(np.linalg.det(np.array(entry.matrix).reshape(3, 3))) < 1e-6:
            raise ProfileError(f"colour matrix at {entry.colour_temperature_k} K cannot be inverted")
    _check_rising("colour matrices", [entry.colour_temperature_k for entry in matrices])


def _check_rising(what: str, temperatures: list[float]) -> None:
    if any(a >= b for a, b in pairwise(temperatures)):
        raise ProfileError(f"{what} must be in order of rising colour temperature, found {temperatures}")


def _check_tone_curve(curve: Sequence[tuple[float, float]]) -> None:
    if not curve:
        return
    inside = all(0 <= value <= TONE_SCALE for point in curve for value in point)
    rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(curve))
    if len(curve) < 2 or not inside or not rising:
        raise ProfileError(
            f"tone curve must be at least two rising points of 0 to {TONE_SCALE}, found {list(curve)[:8]}"
        )
