"""The tags of a DNG file, read with tifffile; every value is checked, and every fault is one FormatError."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import FormatError, MissingDependencyError
from edge_isp.files import check_regular

# Numbers of the tags, by the names that the specification gives them (Adobe DNG Specification 1.7; TIFF/EP; EXIF).
TAGS = {
    "ImageWidth": 256,
    "ImageLength": 257,
    "BitsPerSample": 258,
    "Model": 272,
    "Orientation": 274,
    "SamplesPerPixel": 277,
    "CFARepeatPatternDim": 33421,
    "CFAPattern": 33422,
    "ExposureTime": 33434,
    "DateTimeOriginal": 36867,
    "OffsetTimeOriginal": 36881,
    "SubsecTimeOriginal": 37521,
    "ExifTag": 34665,
    "ISOSpeedRatings": 34855,
    "UniqueCameraModel": 50708,
    "CFALayout": 50711,
    "LinearizationTable": 50712,
    "BlackLevelRepeatDim": 50713,
    "BlackLevel": 50714,
    "BlackLevelDeltaH": 50715,
    "BlackLevelDeltaV": 50716,
    "WhiteLevel": 50717,
    "DefaultCropOrigin": 50719,
    "DefaultCropSize": 50720,
    "ColorMatrix1": 50721,
    "ColorMatrix2": 50722,
    "CameraCalibration1": 50723,
    "CameraCalibration2": 50724,
    "AnalogBalance": 50727,
    "AsShotNeutral": 50728,
    "AsShotWhiteXY": 50729,
    "BaselineExposure": 50730,
    "CalibrationIlluminant1": 50778,
    "CalibrationIlluminant2": 50779,
    "ActiveArea": 50829,
    "CameraCalibrationSignature": 50931,
    "ProfileCalibrationSignature": 50932,
    "ForwardMatrix1": 50964,
    "ForwardMatrix2": 50965,
    "NoiseProfile": 51041,
}
_NAMES = {number: name for name, number in TAGS.items()}

_OF_EXIF = ("ISOSpeedRatings", "ExposureTime", "DateTimeOriginal", "OffsetTimeOriginal", "SubsecTimeOriginal")

_RATIONAL, _SIGNED_RATIONAL = 5, 10

# No tag that is read here has more numbers; the longest are a LinearizationTable and the black level of each column.
_MOST_NUMBERS = 1 << 16


@dataclass(frozen=True, slots=True)
class DngTags:
    """The tags that edge_isp reads, by name: those of the first picture, those of the RAW picture over them.

    Attributes:
        path: of the file.
        values: each tag's value; numbers as a tuple of floats, texts as they are.
    """

    path: Path
    values: Mapping[str, Any] = field(repr=False)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def fail(self, message: str) -> NoReturn:
        """Raises FormatError.

        Args:
            message: what is wrong; the file's name is put before it.
        """
        raise FormatError(f"{self.path}: {message}")

    def numbers(self, name: str, count: int | None = None) -> tuple[float, ...]:
        """A tag's finite numbers; those of a fraction are already divided.

        Args:
            name: of the tag, one of `TAGS`.
            count: how many there must be; None for any, but at least one.
        """
        found = self.values.get(name, ())
        right_count = isinstance(found, tuple) and (len(found) == count if count is not None else len(found) > 0)
        if not right_count or not all(math.isfinite(value) for value in found):
            expected = f"{count} finite numbers" if count is not None else "finite numbers"
            self.fail(f"{name} must be {expected}, found {_shown(found)}")
        return tuple(found)

    def whole(self, name: str, default: int) -> int:
        """A tag's first number, which must be whole.

        Args:
            name: of the tag, one of `TAGS`.
            default: where the file has no such tag.
        """
        if name not in self.values:
            return default
        found = self.numbers(name)[0]
        if not found.is_integer():
            self.fail(f"{name} must be a whole number, found {found:g}")
        return int(found)

    def matrix(self, name: str) -> NDArray[np.float64]:
        """A tag's 3x3 matrix.

        Args:
            name: of the tag, one of `TAGS`.
        """
        return np.array(self.numbers(name, 9)).reshape(3, 3)

    def text(self, name: str) -> str:
        """A tag's text; "" where the file has no such tag.

        Args:
            name: of the tag, one of `TAGS`.
        """
        found = self.values.get(name, "")
        return found.strip("\0 ") if isinstance(found, str) else ""


def read_tags(path: Path) -> DngTags:
    """Reads a DNG's tags.

    Args:
        path: of the file.

    Raises:
        FormatError: it cannot be read, or is no DNG of a colour filter array.
        MissingDependencyError: tifffile is not installed.
    """
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{path}: reading a DNG's tags", "tifffile", "dng") from error
    check_regular(path, FormatError)
    try:
        with _quiet("tifffile"), tifffile.TiffFile(path) as file:
            return DngTags(path, _tags(file))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
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
        raise FormatError(f"{path}: not a DNG file: {str(error)[:200]!r}") from error


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


def _tags(file: Any) -> dict[str, Any]:
    first = file.pages[0]
    pages = [first, *(first.pages or ())]
    mosaics = [page for page in pages if page.tags.get(TAGS["CFAPattern"]) is not None]
    if not mosaics:
        raise FormatError("not a DNG of a Bayer sensor: it has no CFAPattern")
    # The largest, as LibRaw takes it: others are smaller versions for quick looks.
    raw = max(mosaics, key=lambda page: int(page.imagewidth) * int(page.imagelength))
    exif = first.tags.get(TAGS["ExifTag"])
    values: dict[str, Any] = {}
    if exif is not None and isinstance(exif.value, dict):
        values.update({name: _exif(exif.value[name]) for name in _OF_EXIF if name in exif.value})
    for page in (first, raw):
        for tag in page.tags:
            if tag.code in _NAMES and tag.code != TAGS["ExifTag"]:
                values[_NAMES[tag.code]] = _value(tag)
    # Orientation is that of the first directory, for all pictures of the file.
    if first.tags.get(TAGS["Orientation"]) is not None:
        values["Orientation"] = _value(first.tags[TAGS["Orientation"]])
    return values


def _exif(value: Any) -> str | tuple[float, ...]:
    """A text or number of tifffile's dictionary of EXIF tags: whole, or numerator and denominator."""
    if isinstance(value, str):
        return value
    flat = [float(each) for each in (value if isinstance(value, tuple) else (value,))]
    return (flat[0] / flat[1],) if len(flat) == 2 and flat[1] else tuple(flat[:1])


def _value(tag: Any) -> Any:
    value = tag.value
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return tuple(float(each) for each in value[:_MOST_NUMBERS])
    if not isinstance(value, Sequence | np.ndarray):
        return (float(value),)
    if len(value) > 2 * _MOST_NUMBERS:
        raise FormatError(f"{_NAMES[tag.code]} must be at most {_MOST_NUMBERS} numbers, found {len(value)}")
    flat = [float(each) for each in value]
    if int(tag.dtype) not in (_RATIONAL, _SIGNED_RATIONAL):
        return tuple(flat)
    # Fractions come flat: numerator, denominator, numerator, ...
    if any(bottom == 0 for bottom in flat[1::2]):
        # Magic Lantern writes 0/0 for what it does not know.
        if not any(flat):
            return ()
        raise FormatError(f"{_NAMES[tag.code]} must be fractions, found {_shown(flat)}")
    return tuple(top / bottom for top, bottom in zip(flat[0::2], flat[1::2], strict=True))


def _shown(values: Any) -> str:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return repr(values)[:80]
    if not values:
        return "none"
    return ", ".join(f"{value:g}" for value in values[:18]) + (", ..." if len(values) > 18 else "")
