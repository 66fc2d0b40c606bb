"""Small DNG files with any tags: a writer of uncompressed TIFF with one directory."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.dng_tags import TAGS

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12
_FORMATS = {BYTE: "B", SHORT: "H", LONG: "I", DOUBLE: "d"}

MATRIX = (0.7, -0.22, -0.06, -0.45, 1.25, 0.22, -0.1, 0.25, 0.6)
WARM_MATRIX = (0.8, -0.3, -0.05, -0.35, 1.15, 0.2, -0.05, 0.2, 0.45)

Tag = tuple[int, Sequence[Any]]


def tags_of_a_camera() -> dict[str, Tag]:
    """What a camera with one colour matrix writes."""
    return {
        "Model": (ASCII, "Test"),
        "Orientation": (SHORT, [1]),
        "CFARepeatPatternDim": (SHORT, [2, 2]),
        "CFAPattern": (BYTE, [0, 1, 1, 2]),
        "UniqueCameraModel": (ASCII, "Test Case"),
        "BlackLevel": (LONG, [256]),
        "WhiteLevel": (LONG, [4095]),
        "ColorMatrix1": (SIGNED_RATIONAL, MATRIX),
        "CalibrationIlluminant1": (SHORT, [21]),
        "AsShotNeutral": (RATIONAL, [0.5, 1, 0.65]),
    }


def write_dng(path: Path, codes: NDArray[np.uint16], tags: Mapping[str, Tag | None] | None = None) -> Path:
    """Writes a DNG of a mosaic.

    Args:
        path: of the file.
        codes: uint16 (height, width).
        tags: type and values by name, over those of `tags_of_a_camera`; None leaves a tag out.

    Returns:
        `path`.
    """
    height, width = codes.shape
    entries: dict[int, Tag] = {
        254: (LONG, [0]),
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [16]),
        259: (SHORT, [1]),
        262: (SHORT, [32803]),
        271: (ASCII, "Test"),
        273: (LONG, [0]),
        277: (SHORT, [1]),
        278: (LONG, [height]),
        279: (LONG, [2 * codes.size]),
        284: (SHORT, [1]),
        50706: (BYTE, [1, 4, 0, 0]),
        50707: (BYTE, [1, 1, 0, 0]),
    }
    entries.update({TAGS[n]: t for n, t in (tags_of_a_camera() | dict(tags or {})).items() if t is not None})
    after = 8 + 2 + 12 * len(entries) + 4
    packed = {number: _packed(*tag) for number, tag in entries.items()}
    long_values = {number: value for number, (_, value) in packed.items() if len(value) > 4}
    places, at = {}, after
    for number, value in long_values.items():
        places[number] = at
        at += len(value) + len(value) % 2
    packed[273] = (1, struct.pack("<I", at))
    content = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for number in sorted(entries):
        count, value = packed[number]
        shown = struct.pack("<I", places[number]) if number in places else value.ljust(4, b"\0")
        content += struct.pack("<HHI", number, entries[number][0], count) + shown
    content += struct.pack("<I", 0)
    content += b"".join(value + b"\0" * (len(value) % 2) for value in long_values.values())
    path.write_bytes(content + codes.astype("<u2").tobytes())
    return path


def _packed(kind: int, values: Sequence[Any]) -> tuple[int, bytes]:
    """Count and bytes of a tag's values."""
    if kind == ASCII:
        text = str(values).encode() + b"\0"
        return len(text), text
    if kind in (RATIONAL, SIGNED_RATIONAL):
        pair = "<II" if kind == RATIONAL else "<ii"
        fractions = [Fraction(value).limit_denominator(1_000_000) for value in values]
        return len(values), b"".join(struct.pack(pair, f.numerator, f.denominator) for f in fractions)
    return len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
