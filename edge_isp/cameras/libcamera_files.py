"""Descriptions of `.raw` files that rpicam-raw, libcamera's tools and picamera2 wrote, as JSON beside the file.

rpicam-raw writes what libcamera says of each frame (`--metadata NAME.json --metadata-format json`): a list of objects.
From picamera2 the same objects come as dictionaries, and the layout as that of the RAW stream:

    json.dump({"raw": picam2.camera_configuration()["raw"], "sensor": "imx219", "metadata": [metadata, ...]}, file)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge_isp.calibration.profile import profile_of
from edge_isp.cameras.picamera2.metadata import black_levels, gains, matrix, positive
from edge_isp.cameras.picamera2.modes import raw_format, white_level
from edge_isp.cameras.sidecar import FrameConditions, Sidecar
from edge_isp.corrections import Origins
from edge_isp.errors import FormatError
from edge_isp.files import read_file

_LARGEST_BYTES = 1 << 28


def with_metadata(path: Path, sidecar: Sidecar) -> Sidecar:
    """A sidecar's description, with what libcamera says of each frame.

    Args:
        path: of the JSON file.
        sidecar: of the same recording; its levels stay.

    Raises:
        FormatError: the file is not what rpicam-raw or picamera2 writes.
    """
    document = _read(path)
    conditions = tuple(_conditions(path, entry) for entry in _entries(path, document))
    return replace(sidecar, conditions=conditions or sidecar.conditions)


def read_description(path: Path) -> Sidecar:
    """A description from the JSON file alone: it must hold the layout of the RAW stream.

    Args:
        path: of the JSON file.

    Raises:
        FormatError: it does not, or is not what rpicam-raw or picamera2 writes.
    """
    document = _read(path)
    stream = document.get("raw") if isinstance(document, dict) else None
    if not isinstance(stream, dict):
        raise FormatError(
            f"{path}: says nothing of the frames' layout: add a sidecar {path.with_suffix('.toml').name} with "
            '[format], or "raw": {"format": "SRGGB10_CSI2P", "size": [1920, 1080], "stride": 2400}'
        )
    assert isinstance(document, dict)
    sensor = document.get("sensor")
    if sensor is not None and not isinstance(sensor, str):
        raise FormatError(f"{path}: sensor must be a name, found {str(sensor)[:80]}")
    profile = profile_of(sensor)
    bit_depth = document.get("bit_depth", profile.bit_depth if profile else 16)
    try:
        layout = raw_format(_stream(stream), int(bit_depth))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            f'{path}: "raw" must have a format, a size [width, height] and a stride, found {str(stream)[:200]}'
        ) from error
    entries = _entries(path, document)
    origins = Origins("file")
    black = black_levels(entries[0].get("SensorBlackLevels"), layout.bit_depth) if entries else None
    if black is None and profile is not None:
        black = profile.at_bit_depth(layout.bit_depth).black_level
        origins = origins.with_others(black_level=f"profile '{profile.name}'")
    if black is None:
        raise FormatError(
            f"{path}: no SensorBlackLevels, and no profile of sensor '{sensor}': add a sidecar "
            f"{path.with_suffix('.toml').name} with [sensor] black_level"
        )
    return Sidecar(
        format=layout,
        sensor=sensor.lower() if sensor else None,
        black_level=black,
        white_level=white_level(layout, profile.bit_depth if profile else layout.bit_depth),
        conditions=tuple(_conditions(path, entry) for entry in entries) or (FrameConditions(),),
        offset=0,
        frame_bytes=max(_whole(stream.get("framesize")), layout.frame_bytes),
        window=None,
        lens_shading=True,
        origins=origins,
    )


def _read(path: Path) -> Any:
    content = read_file(path, FormatError, _LARGEST_BYTES)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: not the JSON that rpicam-raw writes with --metadata-format json, or cut off: {str(error)[:200]}"
        ) from error


def _entries(path: Path, document: Any) -> list[Mapping[str, Any]]:
    """What libcamera says of each frame."""
    found: Any = document
    if isinstance(document, dict):
        found = document.get("metadata", [] if "raw" in document else [document])
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise FormatError(f"{path}: expected an object of libcamera's metadata per frame, found {str(found)[:80]}")
    return found


def _conditions(path: Path, entry: Mapping[str, Any]) -> FrameConditions:
    """One frame's, as the camera itself reads them; what cannot be used is found out when the frame arrives."""
    exposure_us, sensor_ns = positive(entry.get("ExposureTime")), entry.get("SensorTimestamp")
    exposure_ns = round(exposure_us * 1000) if exposure_us is not None and exposure_us < 1e12 else None
    return FrameConditions(
        colour_gains=gains(entry.get("ColourGains")),
        colour_temperature_k=positive(entry.get("ColourTemperature")),
        analogue_gain=positive(entry.get("AnalogueGain")),
        exposure_ns=exposure_ns,
        digital_gain=positive(entry.get("DigitalGain")),
        colour_matrix=matrix(entry.get("ColourCorrectionMatrix")),
        # libcamera's is the end of the first row's exposure.
        timestamp_ns=sensor_ns - (exposure_ns or 0) if isinstance(sensor_ns, int) and 0 < sensor_ns < 2**63 else None,
        taken_at=_taken_at(entry.get("FrameWallClock"), exposure_ns or 0),
    )


def _taken_at(wall_ns: Any, exposure_ns: int) -> datetime | None:
    """The start of the exposure by FrameWallClock: the same moment as SensorTimestamp, in nanoseconds of UTC."""
    if not isinstance(wall_ns, int) or not 0 < wall_ns - exposure_ns < 2**63:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=(wall_ns - exposure_ns) // 1000)


def _stream(stream: Mapping[str, Any]) -> dict[str, Any]:
    """A RAW stream's layout, its numbers checked."""
    width, height = stream["size"]
    return {
        "format": str(stream["format"])[:40],
        "size": (int(width), int(height)),
        "stride": int(stream.get("stride", 0)),
    }


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0
