"""A sensor profile out of a DNG file's tags (Adobe DNG Specification 1.7)."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import AwbPoint, ColourMatrix, Noise, Provenance, SensorProfile
from edge_isp.errors import MissingDependencyError, ProfileError

# Tags, by the names that the specification gives them.
_CFA_PATTERN, _MODEL, _CFA_REPEAT, _ORIENTATION = 33422, 272, 33421, 274
_UNIQUE_MODEL, _BLACK_REPEAT, _BLACK_LEVEL, _WHITE_LEVEL = 50708, 50713, 50714, 50717
_COLOR_MATRICES = (50721, 50722)
_ILLUMINANTS = (50778, 50779)
_AS_SHOT_NEUTRAL, _NOISE_PROFILE = 50728, 51041

# EXIF light sources of the calibration illuminants, in kelvin; where a DNG does not say, it means daylight (D65).
_LIGHT_SOURCES_K = {17: 2856.0, 18: 4874.0, 19: 6774.0, 20: 5503.0, 21: 6504.0, 22: 7504.0, 23: 5003.0}
_DAYLIGHT = 21
_PLAIN_LIGHT_SOURCES_K = {1: 5500.0, 2: 4000.0, 3: 2856.0, 9: 5500.0, 10: 6500.0, 11: 7500.0, 24: 3200.0}

# Linear sRGB to XYZ (IEC 61966-2-1).
_SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def load_dng_profile(path: str | Path) -> SensorProfile:
    """A profile with black and white level, colour and (where the DNG has a NoiseProfile) noise.

    Each ColorMatrix gives a colour matrix and a white-balance point at its calibration illuminant. AsShotNeutral, of
    light whose temperature the DNG does not say, gives the white-balance point only where there is no matrix. The
    NoiseProfile is that of the gain that the picture was taken at: it is read as of gain 1.

    Raises:
        ProfileError: the file is no DNG of a Bayer sensor, or its tags make no sense.
        MissingDependencyError: tifffile is not installed.
    """
    path = Path(path)
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{path}: reading a DNG's tags", "tifffile", "calibration") from error
    try:
        with _quiet("tifffile"), tifffile.TiffFile(path) as file:
            tags = _tags(file)
        return _profile(path, tags)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        tifffile.TiffFileError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        # A file made to hurt can break the TIFF reader anywhere.
        raise ProfileError(f"{path}: not a DNG of a Bayer sensor: {error!r}") from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """What a library logs of a damaged file is said by the one error that follows."""
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _tags(file: Any) -> dict[int, Any]:
    """Tags of the first picture's directory, those of its RAW picture's directory over them."""
    first = file.pages[0]
    pages = [first, *(first.pages or ())]
    raw = next((page for page in pages if page.tags.get(_CFA_PATTERN) is not None), None)
    if raw is None:
        raise ProfileError("not a DNG of a Bayer sensor: it has no CFAPattern")
    tags = {tag.code: tag.value for tag in first.tags}
    tags.update({tag.code: tag.value for tag in raw.tags})
    return tags


def _profile(path: Path, tags: dict[int, Any]) -> SensorProfile:
    cfa = _cfa(tags)
    white = _numbers("WhiteLevel", tags[_WHITE_LEVEL], 1)[0] if _WHITE_LEVEL in tags else None
    if white is None or not 0 < white < 1 << 16:
        raise ProfileError(f"WhiteLevel must be a code of 8 to 16 bits, found {white}")
    bit_depth = max(8, int(white).bit_length())
    matrices = _matrices(tags)
    points = tuple(AwbPoint(kelvin, float(n[0] / n[1]), float(n[2] / n[1])) for kelvin, _, n in matrices)
    if not points and _AS_SHOT_NEUTRAL in tags:
        red, green, blue = _rationals("AsShotNeutral", tags[_AS_SHOT_NEUTRAL], 3)
        if min(red, green, blue) <= 0:
            raise ProfileError(f"AsShotNeutral must be positive, found {red}, {green}, {blue}")
        points = (AwbPoint(_LIGHT_SOURCES_K[_DAYLIGHT], red / green, blue / green),)
    noise = _noise(tags)
    sections = {"black_level": True, "noise": noise, "awb": points, "colour_matrix": matrices}
    return SensorProfile(
        name=_name(path, tags),
        bit_depth=bit_depth,
        cfa=cfa,
        black_level=_black_level(tags, cfa),
        white_level=white,
        noise=noise,
        awb_curve=points,
        colour_matrices=tuple(ColourMatrix(kelvin, tuple(m.ravel().tolist())) for kelvin, m, _ in matrices),
        provenance=tuple(Provenance(s, f"tags of {path.name}") for s, found in sections.items() if found),
    )


def _cfa(tags: dict[int, Any]) -> str:
    if tuple(tags.get(_CFA_REPEAT, (2, 2))) != (2, 2):
        raise ProfileError(f"not a DNG of a Bayer sensor: CFARepeatPatternDim is {tags[_CFA_REPEAT]}")
    pattern = bytes(tags[_CFA_PATTERN])
    if sorted(pattern) != [0, 1, 1, 2]:
        raise ProfileError(f"not a DNG of a Bayer sensor: CFAPattern is {list(pattern)[:16]}")
    return "".join("RGB"[colour] for colour in pattern)


def _name(path: Path, tags: dict[int, Any]) -> str:
    name = str(tags.get(_UNIQUE_MODEL) or tags.get(_MODEL) or path.stem)
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in name).lower().split()) or "unnamed"


def _black_level(tags: dict[int, Any], cfa: str) -> tuple[float, float, float, float]:
    """Levels in the order R, Gr, Gb, B, whether the tag has one or four."""
    value = tags.get(_BLACK_LEVEL, 0)
    rows, columns = (int(v) for v in tags.get(_BLACK_REPEAT, (1, 1)))
    if (rows, columns) == (1, 1):
        level = _mixed("BlackLevel", value, 1)[0]
        return level, level, level, level
    if (rows, columns) != (2, 2):
        raise ProfileError(f"BlackLevelRepeatDim must be 1x1 or 2x2, found {rows}x{columns}")
    levels = _mixed("BlackLevel", value, 4)
    red_row = 0 if "R" in cfa[:2] else 1
    by_colour = {(colour, i // 2): level for i, (colour, level) in enumerate(zip(cfa, levels, strict=True))}
    return (
        by_colour["R", red_row],
        by_colour["G", red_row],
        by_colour["G", 1 - red_row],
        by_colour["B", 1 - red_row],
    )


def _matrices(tags: dict[int, Any]) -> list[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
    """Colour temperature, matrix (white-balanced camera RGB to linear sRGB) and neutral of each ColorMatrix."""
    found = []
    for matrix_tag, illuminant_tag in zip(_COLOR_MATRICES, _ILLUMINANTS, strict=True):
        if matrix_tag not in tags:
            continue
        xyz_to_camera = np.array(_rationals("ColorMatrix", tags[matrix_tag], 9)).reshape(3, 3)
        kelvin = _kelvin(int(tags.get(illuminant_tag, _DAYLIGHT)))
        # As dcraw and LibRaw do: camera RGB of sRGB's primaries, each channel scaled so that white is 1.
        srgb_to_camera = xyz_to_camera @ _SRGB_TO_XYZ
        white = srgb_to_camera.sum(axis=1)
        neutral = xyz_to_camera @ _white_xyz(kelvin)
        if min(*white, *neutral) <= 0 or abs(np.linalg.det(srgb_to_camera / white[:, None])) < 1e-6:
            raise ProfileError(f"ColorMatrix cannot be of a camera: {xyz_to_camera.ravel().tolist()}")
        found.append((kelvin, np.linalg.inv(srgb_to_camera / white[:, None]), neutral))
    found.sort(key=lambda entry: entry[0])
    if len(found) == 2 and found[0][0] == found[1][0]:
        raise ProfileError(f"both ColorMatrix tags are for light of {found[0][0]:g} K")
    return found


def _kelvin(light_source: int) -> float:
    known = _LIGHT_SOURCES_K | _PLAIN_LIGHT_SOURCES_K
    if light_source == 0:
        return known[_DAYLIGHT]
    if light_source not in known:
        raise ProfileError(f"CalibrationIlluminant must be an EXIF light source, found {light_source}")
    return known[light_source]


def _white_xyz(kelvin: float) -> NDArray[np.float64]:
    """XYZ of a white of a colour temperature (Y is 1): Planck's locus below 4000 K, daylight's above.

    Chromaticities by Kim et al. (US 7024034) and the CIE's daylight formula (CIE 15).
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


def _noise(tags: dict[int, Any]) -> Noise | None:
    """NoiseProfile: variance = S * x + O of linear light, for all channels or for each; the mean of them."""
    if _NOISE_PROFILE not in tags:
        return None
    values = np.atleast_1d(np.array(tags[_NOISE_PROFILE], np.float64))
    if len(values) % 2 or not np.isfinite(values).all():
        raise ProfileError(f"NoiseProfile must be pairs of numbers, found {values.tolist()[:8]}")
    shot, read = values.reshape(-1, 2).mean(axis=0)
    return Noise(float(shot), read_post_gain=max(float(read), 0.0))


def _numbers(name: str, value: Any, count: int) -> list[float]:
    values = [float(v) for v in (value if isinstance(value, Sequence) else [value])]
    # WhiteLevel may come once a sample; the first stands for all.
    if len(values) < count or not all(math.isfinite(v) for v in values):
        raise ProfileError(f"{name} must be {count} numbers, found {values[:8]}")
    return values[:count]


def _rationals(name: str, value: Any, count: int) -> list[float]:
    """Rationals come flat: numerator, denominator, numerator, ..."""
    flat = list(value)
    if len(flat) != 2 * count or any(int(bottom) == 0 for bottom in flat[1::2]):
        raise ProfileError(f"{name} must be {count} fractions, found {flat[:18]}")
    return [int(top) / int(bottom) for top, bottom in zip(flat[0::2], flat[1::2], strict=True)]


def _mixed(name: str, value: Any, count: int) -> list[float]:
    """Whole numbers or rationals."""
    flat = list(value) if isinstance(value, Sequence) else [value]
    return _rationals(name, flat, count) if len(flat) == 2 * count else _numbers(name, flat, count)
