"""What a DNG file says of its picture: the one reader for replay and for sensor profiles.

Black level, white level, colour and orientation are those of the file's own tags (Adobe DNG Specification 1.7), never
those that a RAW converter's table has for the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.dng_colour import DAYLIGHT_K, Calibration, as_shot, read_calibrations
from edge_isp.calibration.dng_tags import DngTags, read_tags
from edge_isp.calibration.profile import (
    HIGHEST_MATRIX_ENTRY,
    AwbPoint,
    ColourMatrix,
    Noise,
    Provenance,
    SensorProfile,
)
from edge_isp.errors import ProfileError
from edge_isp.kernels.layout import CELL_PLANES
from edge_isp.sensor_window import SensorWindow

# As many codes of 16 bits as the largest frame has bytes; see `frame.LARGEST_FRAME_BYTES`.
_MOST_PIXELS = 1 << 28

Levels = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Dng:
    """What a DNG file says.

    Attributes:
        path: of the file.
        model: of the camera; "" where the file does not say.
        width: of the stored picture, in pixels.
        height: of the stored picture, in pixels.
        crop: left, top, width and height of the part to show in the stored picture, in pixels; sizes are even.
        window: the crop in the active area, which is taken for the whole sensor.
        cfa: colour order from the crop's upper left pixel.
        black_level: codes in the order R, Gr, Gb, B.
        black_level_columns: codes to add to the black level of each column of the crop; None for none.
        black_level_rows: codes to add to the black level of each row of the crop; None for none.
        white_level: code where the sensor clips.
        orientation: how to turn the picture upright, 1 to 8 as in EXIF; 1 is upright.
        colour_gains: white-balance gains red and blue (green is 1); None where the file does not say.
        colour_matrix: 3x3, row by row, white-balanced camera colour to linear sRGB under the picture's light; None
            where the file has no ColorMatrix.
        calibrations: the lights that the file's matrices are for.
        analogue_gain: ISO speed over 100; None where the file does not say.
        exposure_ns: None where the file does not say.
        taken_at: start of exposure, with its time zone where the file says it; None where the file says no time.
        noise_profile: variance = first * light + second of linear light (0 to 1) in this picture, the mean of the
            channels; None where the file does not say.
        baseline_exposure_ev: how much brighter than the codes the camera's maker shows the picture, in stops; None
            where the file does not say.
    """

    path: Path
    model: str
    width: int
    height: int
    crop: tuple[int, int, int, int]
    window: SensorWindow
    cfa: str
    black_level: Levels
    black_level_columns: NDArray[np.float64] | None
    black_level_rows: NDArray[np.float64] | None
    white_level: float
    orientation: int
    colour_gains: tuple[float, float] | None
    colour_matrix: tuple[float, ...] | None
    calibrations: tuple[Calibration, ...]
    analogue_gain: float | None
    exposure_ns: int | None
    taken_at: datetime | None
    noise_profile: tuple[float, float] | None
    baseline_exposure_ev: float | None

    def crop_codes(self, stored: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """The part to show of the stored codes, with what the black level of rows and columns differs by taken off.

        Args:
            stored: codes of the whole picture, (height, width).
        """
        left, top, width, height = self.crop
        codes = stored[top : top + height, left : left + width]
        if self.black_level_columns is None and self.black_level_rows is None:
            return codes
        shifted = codes.astype(np.float64)
        if self.black_level_columns is not None:
            shifted -= self.black_level_columns
        if self.black_level_rows is not None:
            shifted -= self.black_level_rows[:, None]
        return np.clip(np.rint(shifted), 0, 65535).astype(np.uint16)


def read_dng(path: str | Path) -> Dng:
    """Reads what a DNG file says of its picture; the codes themselves are read elsewhere.

    Args:
        path: of the file.

    Raises:
        FormatError: the file is no DNG of a Bayer sensor, or one of its tags is out of range.
        MissingDependencyError: tifffile is not installed.
    """
    tags = read_tags(Path(path))
    width, height = tags.whole("ImageWidth", 0), tags.whole("ImageLength", 0)
    if not (width > 0 and height > 0 and width * height <= _MOST_PIXELS):
        tags.fail(f"ImageWidth and ImageLength must be at most {_MOST_PIXELS} pixels, found {width}x{height}")
    active = _active_area(tags, width, height)
    crop = _crop(tags, active)
    # Patterns start at the active area's upper left pixel.
    shift = (crop[1] - active[1], crop[0] - active[0])
    pattern = _cfa(tags)
    cfa = _shifted(pattern, shift)
    white = _white_level(tags)
    black = _black_level(tags, pattern)
    if max(black) >= white:
        tags.fail(f"BlackLevel must be below WhiteLevel, found {max(black):g} and {white:g}")
    columns = _delta(tags, "BlackLevelDeltaH", active[2], shift[1], crop[2])
    rows = _delta(tags, "BlackLevelDeltaV", active[3], shift[0], crop[3])
    highest = max(black) + sum(float(each.max()) for each in (columns, rows) if each is not None)
    if highest >= white:
        tags.fail(
            f"BlackLevel with BlackLevelDeltaH and BlackLevelDeltaV must be below WhiteLevel, found {highest:g} and "
            f"{white:g}"
        )
    calibrations = read_calibrations(tags)
    gains, light = as_shot(tags, calibrations)
    matrix = None
    if light is not None:
        neutral = light.neutral() if gains is None else np.array([1 / gains[0], 1.0, 1 / gains[1]])
        matrix = tuple(light.srgb_matrix(neutral).ravel().tolist())
        if not all(abs(value) <= HIGHEST_MATRIX_ENTRY for value in matrix):
            tags.fail(
                f"the colour matrix must hold numbers of at most {HIGHEST_MATRIX_ENTRY:g}, found "
                f"{', '.join(f'{value:g}' for value in matrix)}: ColorMatrix or ForwardMatrix cannot be of a camera"
            )
    orientation = tags.whole("Orientation", 1)
    iso = tags.whole("ISOSpeedRatings", 0) if tags.values.get("ISOSpeedRatings") else 0
    exposure_s = tags.numbers("ExposureTime")[0] if tags.values.get("ExposureTime") else 0.0
    return Dng(
        path=tags.path,
        model=tags.text("UniqueCameraModel") or tags.text("Model"),
        width=width,
        height=height,
        crop=crop,
        window=SensorWindow(shift[1], shift[0], crop[2], crop[3], (active[2], active[3])),
        cfa=cfa,
        black_level=black,
        black_level_columns=columns,
        black_level_rows=rows,
        white_level=white,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        colour_gains=gains,
        colour_matrix=matrix,
        calibrations=calibrations,
        analogue_gain=iso / 100 if iso > 0 else None,
        exposure_ns=round(exposure_s * 1e9) if exposure_s > 0 else None,
        taken_at=_taken_at(tags),
        noise_profile=_noise_profile(tags),
        baseline_exposure_ev=tags.numbers("BaselineExposure", 1)[0] if tags.values.get("BaselineExposure") else None,
    )


def _taken_at(tags: DngTags) -> datetime | None:
    """The time of the exposure; what is no time, such as a date of zeros, counts as absent."""
    fraction = tags.text("SubsecTimeOriginal")
    found = tags.text("DateTimeOriginal")
    zone = tags.text("OffsetTimeOriginal").replace("Z", "+00:00")
    try:
        moment = datetime.strptime(found, "%Y:%m:%d %H:%M:%S")
        offset = datetime.strptime(zone, "%z").tzinfo if zone else None
    except ValueError:
        return None
    micro = int(fraction[:6].ljust(6, "0")) if fraction.isascii() and fraction.isdigit() else 0
    return moment.replace(microsecond=micro, tzinfo=offset)


def load_dng_profile(path: str | Path) -> SensorProfile:
    """A profile with black and white level, colour and (where the DNG has a NoiseProfile) noise.

    Each ColorMatrix gives a colour matrix and a white-balance point at its calibration illuminant. AsShotNeutral, of
    light whose temperature the DNG does not say, gives the white-balance point only where there is no matrix. The
    NoiseProfile is that of the gain that the picture was taken at: it is read as of gain 1.

    Args:
        path: of the DNG.

    Raises:
        FormatError: the file is no DNG of a Bayer sensor, or one of its tags is out of range.
        ProfileError: a figure is one that no sensor has.
        MissingDependencyError: tifffile is not installed.
    """
    dng = read_dng(path)
    neutrals = [entry.neutral() for entry in dng.calibrations]
    points = tuple(
        AwbPoint(entry.colour_temperature_k, float(n[0] / n[1]), float(n[2] / n[1]))
        for entry, n in zip(dng.calibrations, neutrals, strict=True)
    )
    if not points and dng.colour_gains is not None:
        points = (AwbPoint(DAYLIGHT_K, 1 / dng.colour_gains[0], 1 / dng.colour_gains[1]),)
    matrices = tuple(
        ColourMatrix(entry.colour_temperature_k, tuple(entry.srgb_matrix(n).ravel().tolist()))
        for entry, n in zip(dng.calibrations, neutrals, strict=True)
    )
    noise = None
    if dng.noise_profile is not None:
        noise = Noise(dng.noise_profile[0], read_post_gain=max(dng.noise_profile[1], 0.0))
    sections = {"black_level": True, "noise": noise, "awb": points, "colour_matrix": matrices}
    try:
        return SensorProfile(
            name=_name(dng),
            bit_depth=max(8, int(dng.white_level).bit_length()),
            cfa=dng.cfa,
            black_level=dng.black_level,
            white_level=dng.white_level,
            noise=noise,
            awb_curve=points,
            colour_matrices=matrices,
            provenance=tuple(Provenance(s, f"tags of {dng.path.name}") for s, found in sections.items() if found),
        )
    except ProfileError as error:
        raise ProfileError(f"{dng.path}: {error}") from error


def _name(dng: Dng) -> str:
    name = dng.model or dng.path.stem
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in name).lower().split()) or "unnamed"


def _cfa(tags: DngTags) -> str:
    repeat = tags.numbers("CFARepeatPatternDim") if "CFARepeatPatternDim" in tags else (2.0, 2.0)
    if tuple(repeat) != (2.0, 2.0):
        tags.fail(f"not a DNG of a Bayer sensor: CFARepeatPatternDim is {'x'.join(f'{n:g}' for n in repeat)}, not 2x2")
    if tags.whole("CFALayout", 1) != 1 or tags.whole("SamplesPerPixel", 1) != 1:
        tags.fail("not a DNG of a Bayer sensor: its picture is not one rectangular mosaic")
    pattern = tags.numbers("CFAPattern")
    cfa = "".join({0: "R", 1: "G", 2: "B"}.get(int(colour), "?") for colour in pattern)
    if cfa not in CELL_PLANES:
        tags.fail(f"not a DNG of a Bayer sensor: CFAPattern is {', '.join(f'{n:g}' for n in pattern[:16])}")
    return cfa


def _shifted(cfa: str, shift: tuple[int, int]) -> str:
    """Colour order from a pixel `shift` rows and columns further on."""
    rows, columns = shift
    return "".join(cfa[2 * ((y + rows) % 2) + (x + columns) % 2] for y in range(2) for x in range(2))


def _active_area(tags: DngTags, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the pixels that see light."""
    if not 0 < width <= 1 << 16 or not 0 < height <= 1 << 16:
        tags.fail(f"ImageWidth and ImageLength must be 1 to {1 << 16}, found {width} and {height}")
    top, left, bottom, right = tags.numbers("ActiveArea", 4) if "ActiveArea" in tags else (0, 0, height, width)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        tags.fail(
            f"ActiveArea must lie inside the picture of {width}x{height}, found rows {top:g} to {bottom:g} and columns "
            f"{left:g} to {right:g}"
        )
    return int(left), int(top), int(right - left), int(bottom - top)


def _crop(tags: DngTags, active: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """DefaultCropOrigin and DefaultCropSize, which are relative to the active area, in the stored picture."""
    x, y = tags.numbers("DefaultCropOrigin", 2) if "DefaultCropOrigin" in tags else (0.0, 0.0)
    width, height = tags.numbers("DefaultCropSize", 2) if "DefaultCropSize" in tags else (active[2] - x, active[3] - y)
    left, top, columns, rows = round(x), round(y), int(width) // 2 * 2, int(height) // 2 * 2
    if left < 0 or top < 0 or columns < 2 or rows < 2 or left + columns > active[2] or top + rows > active[3]:
        tags.fail(
            f"DefaultCrop must lie inside the active area of {active[2]}x{active[3]}, found origin {x:g}, {y:g} and "
            f"size {width:g}x{height:g}"
        )
    return active[0] + left, active[1] + top, columns, rows


def _white_level(tags: DngTags) -> float:
    """WhiteLevel; the largest code where the file does not say."""
    table = tags.numbers("LinearizationTable") if "LinearizationTable" in tags else None
    bits = tags.whole("BitsPerSample", 16)
    default = max(table) if table else float(2 ** min(max(bits, 1), 16) - 1)
    # One for each sample; a mosaic has one.
    white = tags.numbers("WhiteLevel")[0] if "WhiteLevel" in tags else default
    if not 0 < white < 1 << 16:
        tags.fail(f"WhiteLevel must be a code of 8 to 16 bits, found {white:g}")
    return white


def _black_level(tags: DngTags, cfa: str) -> Levels:
    """BlackLevel in the order R, Gr, Gb, B; its pattern may repeat over any number of rows and columns."""
    if "BlackLevel" not in tags:
        return (0.0, 0.0, 0.0, 0.0)
    repeat = tags.numbers("BlackLevelRepeatDim", 2) if "BlackLevelRepeatDim" in tags else (1.0, 1.0)
    rows, columns = (int(n) for n in repeat)
    if not (1 <= rows <= 64 and 1 <= columns <= 64):
        tags.fail(f"BlackLevelRepeatDim must be 1x1 to 64x64, found {repeat[0]:g}x{repeat[1]:g}")
    levels = np.array(tags.numbers("BlackLevel", rows * columns)).reshape(rows, columns)
    if levels.min() < 0:
        tags.fail(f"BlackLevel must not be negative, found {levels.min():g}")
    even = np.tile(levels, (2 if rows % 2 else 1, 2 if columns % 2 else 1))
    cell = even[:2, :2]
    if not np.array_equal(even, np.tile(cell, (even.shape[0] // 2, even.shape[1] // 2))):
        tags.fail(
            f"BlackLevel must be the same for each 2x2 cell, found a pattern of {rows}x{columns}: "
            f"{', '.join(f'{level:g}' for level in levels.ravel()[:16])}"
        )
    red_row = 0 if "R" in cfa[:2] else 1
    by_colour = {(cfa[2 * y + x], y): float(cell[y, x]) for y in range(2) for x in range(2)}
    return (
        by_colour["R", red_row],
        by_colour["G", red_row],
        by_colour["G", 1 - red_row],
        by_colour["B", 1 - red_row],
    )


def _delta(tags: DngTags, name: str, active: int, start: int, count: int) -> NDArray[np.float64] | None:
    """What the black level of the crop's rows or columns differs by; None where it does not."""
    if name not in tags:
        return None
    deltas = np.array(tags.numbers(name, active))[start : start + count]
    return deltas if deltas.any() else None


def _noise_profile(tags: DngTags) -> tuple[float, float] | None:
    """NoiseProfile: variance = S * x + O of linear light, for all channels or for each; the mean of them."""
    if "NoiseProfile" not in tags:
        return None
    values = tags.numbers("NoiseProfile")
    if len(values) % 2:
        tags.fail(f"NoiseProfile must be pairs of numbers, found {len(values)} numbers")
    shot, read = np.array(values).reshape(-1, 2).mean(axis=0)
    if not 0 < shot < 1 or not -1 < read < 1:
        tags.fail(f"NoiseProfile must be variances of linear light below 1, found {shot:g} and {read:g}")
    return float(shot), float(read)
