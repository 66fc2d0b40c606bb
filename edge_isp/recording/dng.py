"""Frames as DNG files, complete as Adobe's specification asks (DNG 1.4), for any RAW converter.

The codes are stored uncompressed in 16 bits each, exactly as the sensor sent them: readers agree on nothing better.
Where a frame's metadata count as absent (see `edge_isp.frame_check`), the file does not have them.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.dng_colour import camera_matrices
from edge_isp.calibration.frame_colour import colour_matrix
from edge_isp.calibration.profile import SensorProfile, profile_of
from edge_isp.errors import FormatError, SinkError
from edge_isp.files import write_file
from edge_isp.frame import RawFrame, RecordedFrame
from edge_isp.frame_check import check_frame
from edge_isp.kernels.layout import CELL_PLANES, PLANE_COLOURS
from edge_isp.kernels.unpack import unpack
from edge_isp.orientation import upright_picture
from edge_isp.recording.gain_map import gain_maps
from edge_isp.recording.tiff import TiffDirectory, TiffTag, TiffType, tiff_bytes
from edge_isp.results import Picture
from edge_isp.wall_clock import SYSTEM_WALL_CLOCK

# What readers of 2009 and later understand; older ones do not apply GainMap opcodes.
_VERSION, _BACKWARD_VERSION = bytes((1, 4, 0, 0)), bytes((1, 3, 0, 0))

# The long side of a thumbnail, in pixels, as the specification recommends it.
_THUMBNAIL = 256

_CFA, _RGB = 32803, 2
_EXIF_IFD = 34665

# Of a colour matrix that can be inverted.
_LEAST_DETERMINANT = 1e-6

# How an upright thumbnail is turned to lie as the frame does: 6 and 8 undo each other, each other one itself.
_UNDONE_BY = {6: 8, 8: 6}

BYTE, ASCII, SHORT, LONG, RATIONAL = TiffType.BYTE, TiffType.ASCII, TiffType.SHORT, TiffType.LONG, TiffType.RATIONAL
UNDEFINED, SIGNED_RATIONAL, DOUBLE = TiffType.UNDEFINED, TiffType.SIGNED_RATIONAL, TiffType.DOUBLE


def write_dng(
    path: str | Path,
    frame: RawFrame,
    *,
    profile: SensorProfile | None = None,
    thumbnail: Picture | None = None,
    taken_at: datetime | None = None,
) -> None:
    """Writes a frame as a DNG file, which appears under its name only when it is whole; no file is replaced.

    Args:
        path: of the file; should end in ".dng".
        frame: to write; not released.
        profile: of its sensor; None is the shipped profile of the frame's sensor.
        thumbnail: a picture of the same frame, of any size, for viewers that do not develop.
        taken_at: start of the exposure, with its time zone where it is known; None takes that of a `RecordedFrame`, and
            `timestamp_ns` of any other frame as this machine's CLOCK_MONOTONIC.

    Raises:
        FormatError: the frame cannot be read.
        SinkError: a file of that name is there, or it cannot be written.
    """
    path = Path(path)
    content = dng_bytes(frame, profile=profile, thumbnail=thumbnail, taken_at=taken_at)
    try:
        write_file(path, content, overwrite=False)
    except FileExistsError as error:
        raise SinkError(f"{path}: is there already; choose another name") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SinkError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


def dng_bytes(
    frame: RawFrame,
    *,
    profile: SensorProfile | None = None,
    thumbnail: Picture | None = None,
    taken_at: datetime | None = None,
) -> bytes:
    """The content of a frame's DNG file; see `write_dng`.

    Args:
        frame: to write; not released.
        profile: of its sensor; None is the shipped profile of the frame's sensor.
        thumbnail: a picture of the same frame, of any size, for viewers that do not develop.
        taken_at: start of the exposure, with its time zone where it is known; None takes that of a `RecordedFrame`, and
            `timestamp_ns` of any other frame as this machine's CLOCK_MONOTONIC.

    Raises:
        FormatError: the frame cannot be read.
    """
    frame, unusable = check_frame(frame)
    damage = [each.reason for each in unusable if each.name in ("data", "black_level")]
    if damage:
        raise FormatError(f"{frame.source}: frame {frame.sequence} cannot be written as a DNG: {damage[0]}")
    profile = profile_of(frame.sensor, profile)
    codes = unpack(frame.data, frame.format.layout)
    taken_at = taken_at or _taken_at(frame)
    camera = _camera_tags(frame, profile, taken_at)
    mosaic = TiffDirectory(
        {
            **_picture_tags(frame.format.width, frame.format.height, samples=1, bits=16, photometric=_CFA),
            **_mosaic_tags(frame, profile),
        },
        codes.astype("<u2", copy=False).tobytes(),
    )
    exif = {_EXIF_IFD: TiffDirectory(_exif_tags(frame, taken_at))}
    if thumbnail is None:
        return tiff_bytes(TiffDirectory({**camera, **mosaic.tags}, mosaic.strip, linked=exif))
    small = _thumbnail(thumbnail, frame.orientation)
    height, width = small.shape[:2]
    tags = _picture_tags(width, height, samples=3, bits=8, photometric=_RGB)
    return tiff_bytes(TiffDirectory({**camera, **tags}, small.tobytes(), (mosaic,), exif))


def _picture_tags(width: int, height: int, *, samples: int, bits: int, photometric: int) -> dict[int, TiffTag]:
    """What a directory says of the layout of its picture, which is one strip."""
    return {
        254: TiffTag(LONG, [int(photometric != _CFA)]),  # NewSubfileType: the picture itself, or a small version
        256: TiffTag(LONG, [width]),
        257: TiffTag(LONG, [height]),
        258: TiffTag(SHORT, [bits] * samples),
        259: TiffTag(SHORT, [1]),  # not compressed
        262: TiffTag(SHORT, [photometric]),
        277: TiffTag(SHORT, [samples]),
        278: TiffTag(LONG, [height]),  # RowsPerStrip
        282: TiffTag(RATIONAL, [(72, 1)]),
        283: TiffTag(RATIONAL, [(72, 1)]),
        284: TiffTag(SHORT, [1]),  # PlanarConfiguration: chunky
        296: TiffTag(SHORT, [2]),  # ResolutionUnit: inch
    }


def _camera_tags(frame: RawFrame, profile: SensorProfile | None, taken_at: datetime | None) -> dict[int, TiffTag]:
    """The tags of the first directory: what the camera is, and its colours."""
    name = frame.sensor or (profile.name if profile else "") or "unknown sensor"
    tags = {
        271: TiffTag(ASCII, "edge_isp"),  # Make
        272: TiffTag(ASCII, name),  # Model
        274: TiffTag(SHORT, [frame.orientation]),
        305: TiffTag(ASCII, "edge_isp"),  # Software
        50706: TiffTag(BYTE, _VERSION),
        50707: TiffTag(BYTE, _BACKWARD_VERSION),
        50708: TiffTag(ASCII, name),  # UniqueCameraModel
    }
    if taken_at is not None:
        tags[306] = TiffTag(ASCII, _exif_time(taken_at))
    matrix = colour_matrix(frame, profile)
    if matrix.sum(axis=1).min() <= 0 or abs(np.linalg.det(matrix)) < _LEAST_DETERMINANT:
        raise FormatError(
            f"{frame.source}: frame {frame.sequence} cannot be written as a DNG: its colour matrix must keep white and "
            f"have an inverse, found {matrix.round(4).tolist()}"
        )
    neutral = _as_shot_neutral(frame, profile)
    white = None if neutral is None else np.array(neutral)
    for number, entry in enumerate(camera_matrices(matrix, white, profile)):
        tags[50721 + number] = TiffTag(SIGNED_RATIONAL, entry.camera_of_xyz.ravel().tolist())  # ColorMatrix
        tags[50964 + number] = TiffTag(SIGNED_RATIONAL, entry.forward.ravel().tolist())  # ForwardMatrix
        tags[50778 + number] = TiffTag(SHORT, [entry.illuminant])  # CalibrationIlluminant
    if neutral is not None:
        tags[50728] = TiffTag(RATIONAL, neutral)
    brighter = (frame.baseline_exposure_ev or 0.0) + math.log2((frame.digital_gain or 1.0) * frame.auto_brightness)
    if brighter:
        tags[50730] = TiffTag(SIGNED_RATIONAL, [brighter])  # BaselineExposure
    return tags


def _mosaic_tags(frame: RawFrame, profile: SensorProfile | None) -> dict[int, TiffTag]:
    """The tags of the directory of the codes: where the colours lie, levels, noise, lens shading."""
    layout = frame.format
    planes = CELL_PLANES[layout.cfa]
    levels = [float(frame.black_level[plane]) for plane in planes]
    white = round(frame.white_level)
    if min(levels) < 0 or not max(levels) < white <= 0xFFFF:
        raise FormatError(
            f"{frame.source}: frame {frame.sequence} cannot be written as a DNG: its levels must be codes from 0 to "
            f"{0xFFFF}, black below white, found black {frame.black_level} and white {frame.white_level}"
        )
    tags = {
        33421: TiffTag(SHORT, [2, 2]),  # CFARepeatPatternDim
        33422: TiffTag(BYTE, bytes(PLANE_COLOURS[plane] for plane in planes)),  # CFAPattern
        50710: TiffTag(BYTE, bytes((0, 1, 2))),  # CFAPlaneColor
        50711: TiffTag(SHORT, [1]),  # CFALayout: rectangular
        50713: TiffTag(SHORT, [2, 2]),  # BlackLevelRepeatDim
        50714: TiffTag(RATIONAL, levels),  # BlackLevel
        50717: TiffTag(LONG, [white]),  # WhiteLevel
        50718: TiffTag(RATIONAL, [(1, 1), (1, 1)]),  # DefaultScale
        50719: TiffTag(LONG, [0, 0]),  # DefaultCropOrigin
        50720: TiffTag(LONG, [layout.width, layout.height]),  # DefaultCropSize
        50829: TiffTag(LONG, [0, 0, layout.height, layout.width]),  # ActiveArea
    }
    opcodes = gain_maps(frame, profile)
    if opcodes:
        tags[51009] = TiffTag(UNDEFINED, opcodes)  # OpcodeList2
    noise = _noise(frame, profile)
    if noise is not None:
        tags[51041] = TiffTag(DOUBLE, noise)  # NoiseProfile
    return tags


def _as_shot_neutral(frame: RawFrame, profile: SensorProfile | None) -> tuple[float, float, float] | None:
    """What the camera makes of white, the largest 1; None where nothing says it."""
    gains = frame.colour_gains
    if gains is None and frame.colour_temperature_k is not None and profile is not None and profile.awb_curve:
        gains = profile.colour_gains(frame.colour_temperature_k)
    if gains is None:
        return None
    red, blue = 1 / gains[0], 1 / gains[1]
    largest = max(red, 1.0, blue)
    return red / largest, 1 / largest, blue / largest


def _noise(frame: RawFrame, profile: SensorProfile | None) -> tuple[float, float] | None:
    """Variance = first * light + second of linear light, at the frame's gain."""
    if frame.noise_profile is not None:
        return frame.noise_profile
    if profile is None or profile.noise is None or frame.analogue_gain is None:
        return None
    return profile.noise.shot * frame.analogue_gain, profile.noise.read_variance(frame.analogue_gain)


def _thumbnail(picture: Picture, orientation: int) -> NDArray[np.uint8]:
    """The picture made small, lying as the frame does: the file's orientation turns both."""
    from PIL import Image

    image = Image.fromarray(picture.rgb)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return upright_picture(np.array(image), _UNDONE_BY.get(orientation, orientation))


def _taken_at(frame: RawFrame) -> datetime | None:
    """The start of the exposure; None where nothing says it, as where `timestamp_ns` is none of this machine's."""
    if isinstance(frame, RecordedFrame):
        return frame.taken_at
    if not 0 < frame.timestamp_ns <= time.monotonic_ns():
        return None
    return datetime.fromtimestamp(SYSTEM_WALL_CLOCK.convert_ns(frame.timestamp_ns) / 1e9, UTC)


def _exif_time(taken_at: datetime) -> str:
    return taken_at.isoformat(" ", "seconds")[:19].replace("-", ":")


def _exif_tags(frame: RawFrame, taken_at: datetime | None) -> dict[int, TiffTag]:
    """The tags of the EXIF directory."""
    tags = {36864: TiffTag(UNDEFINED, b"0231")}  # ExifVersion
    if frame.exposure_ns is not None:
        tags[33434] = TiffTag(RATIONAL, [_exposure(frame.exposure_ns)])
    if frame.analogue_gain is not None:
        iso = min(max(round(100 * frame.analogue_gain), 1), 0xFFFF)
        tags[34855] = TiffTag(SHORT, [iso])
    if taken_at is not None:
        tags[36867] = TiffTag(ASCII, _exif_time(taken_at))  # DateTimeOriginal
        if taken_at.tzinfo is not None:
            zone = taken_at.strftime("%z")
            tags[36881] = TiffTag(ASCII, f"{zone[:3]}:{zone[3:5]}")  # OffsetTimeOriginal
        tags[37521] = TiffTag(ASCII, f"{taken_at.microsecond:06d}")  # SubSecTimeOriginal
    return tags


def _exposure(exposure_ns: float) -> tuple[int, int]:
    """Seconds as a fraction of 32-bit numbers: to the nanosecond up to four seconds, to the millisecond beyond."""
    if exposure_ns <= 0xFFFFFFFF:
        return round(exposure_ns), 1_000_000_000
    return min(round(exposure_ns / 1e6), 0xFFFFFFFF), 1_000
