"""A writer of small TIFF files (TIFF 6.0, little-endian) whose directories may have directories below them.

tifffile writes no EXIF directory, and RAW converters look for exposure and time nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class TiffType(IntEnum):
    """Types of a tag's values."""

    BYTE = 1
    ASCII = 2
    SHORT = 3
    LONG = 4
    RATIONAL = 5
    UNDEFINED = 7
    SIGNED_RATIONAL = 10
    DOUBLE = 12


_FORMATS = {TiffType.SHORT: "H", TiffType.LONG: "I", TiffType.DOUBLE: "d"}
_SUB_IFDS = 330
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279

# Of fractions, the finest first; the finest one that a value fits is taken.
_DENOMINATORS = (1_000_000, 1_000, 1)
_LARGEST = {TiffType.RATIONAL: (0, 0xFFFFFFFF), TiffType.SIGNED_RATIONAL: (-0x80000000, 0x7FFFFFFF)}


@dataclass(frozen=True, slots=True)
class TiffTag:
    """A tag's type and values.

    Attributes:
        kind: of the values.
        values: a text for ASCII, bytes for BYTE and UNDEFINED, else numbers; fractions as real numbers or as pairs of
            whole ones.
    """

    kind: TiffType
    values: str | bytes | Sequence[float] | Sequence[tuple[int, int]]

    def packed(self) -> tuple[int, bytes]:
        """How many values there are, and their bytes."""
        if isinstance(self.values, str):
            text = self.values.encode("ascii", "replace") + b"\0"
            return len(text), text
        if isinstance(self.values, bytes):
            return len(self.values), self.values
        if self.kind in _LARGEST:
            pair = "<II" if self.kind is TiffType.RATIONAL else "<ii"
            return len(self.values), b"".join(struct.pack(pair, *_fraction(self.kind, v)) for v in self.values)
        return len(self.values), struct.pack(f"<{len(self.values)}{_FORMATS[self.kind]}", *self.values)


@dataclass(frozen=True, slots=True)
class TiffDirectory:
    """One directory of a TIFF file.

    Attributes:
        tags: by number; those of the strip and of the directories below are added.
        strip: bytes of the picture, in one strip; None for a directory without a picture.
        sub_directories: pictures that belong to this one (SubIFDs).
        linked: other directories below this one, by the number of the tag that points to each.
    """

    tags: Mapping[int, TiffTag]
    strip: bytes | None = None
    sub_directories: tuple[TiffDirectory, ...] = ()
    linked: Mapping[int, TiffDirectory] = field(default_factory=dict)


def tiff_bytes(first: TiffDirectory) -> bytes:
    """The content of a TIFF file.

    Args:
        first: its first directory.
    """
    out = bytearray(struct.pack("<2sHI", b"II", 42, 8))
    _append(out, first)
    return bytes(out)


def _append(out: bytearray, directory: TiffDirectory) -> int:
    """Appends a directory, its values, those below it and its picture; returns where it begins."""
    numbers = {*directory.tags, *directory.linked}
    numbers |= {_SUB_IFDS} if directory.sub_directories else set()
    numbers |= {_STRIP_OFFSETS, _STRIP_BYTES} if directory.strip is not None else set()
    begin = len(out)
    out += bytes(2 + 12 * len(numbers) + 4)
    tags = dict(directory.tags)
    for number, below in directory.linked.items():
        tags[number] = TiffTag(TiffType.LONG, [_append(out, below)])
    if directory.sub_directories:
        tags[_SUB_IFDS] = TiffTag(TiffType.LONG, [_append(out, below) for below in directory.sub_directories])
    if directory.strip is not None:
        tags[_STRIP_OFFSETS] = TiffTag(TiffType.LONG, [_append_value(out, directory.strip)])
        tags[_STRIP_BYTES] = TiffTag(TiffType.LONG, [len(directory.strip)])
    struct.pack_into("<H", out, begin, len(tags))
    for index, number in enumerate(sorted(tags)):
        count, value = tags[number].packed()
        stored = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", _append_value(out, value))
        struct.pack_into("<HHI4s", out, begin + 2 + 12 * index, number, tags[number].kind, count, stored)
    return begin


def _append_value(out: bytearray, value: bytes) -> int:
    """Appends bytes at an even place, as TIFF wants values and directories; returns the place."""
    begin = len(out)
    out += value + b"\0" * (len(value) % 2)
    return begin


def _fraction(kind: TiffType, value: float | tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, tuple):
        return value
    least, greatest = _LARGEST[kind]
    for denominator in _DENOMINATORS:
        numerator = round(value * denominator)
        if least <= numerator <= greatest:
            return numerator, denominator
    return (least if value < 0 else greatest), 1
