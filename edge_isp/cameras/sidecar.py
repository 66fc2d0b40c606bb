"""The TOML sidecar of a `.raw` recording: layout, sensor, and the circumstances of each frame.

[format]
width = 1920
height = 1080
cfa = "RGGB"                  # from pixel (0,0)
bit_depth = 10                # 16 for pisp-comp1
packing = "csi2p"             # csi2p | u16 | u16-left | u8 | pisp-comp1
stride = 2400                 # bytes; without it: no padding
[sensor]
name = "imx219"               # a profile; the keys below override it, or stand alone
black_level = [64, 64, 64, 64]  # R, Gr, Gb, B, at bit_depth
white_level = 1023
[frame]                       # for all frames; or [[frame]], once a frame
colour_gains = [1.75, 1.43]   # red, blue; without them: grey world
colour_temperature_k = 5700
analogue_gain = 1.0
exposure_ns = 10_000_000
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_isp.calibration.profile import load_profile, shipped_profiles
from edge_isp.errors import FormatError, ProfileError
from edge_isp.frame import RawFormat

_KEYS = {
    "format": {"width", "height", "cfa", "bit_depth", "packing", "stride"},
    "sensor": {"name", "black_level", "white_level"},
    "frame": {"colour_gains", "colour_temperature_k", "analogue_gain", "exposure_ns"},
}


@dataclass(frozen=True, slots=True)
class FrameConditions:
    """What a sidecar says of one frame; see `RawFrame`."""

    colour_gains: tuple[float, float] | None = None
    colour_temperature_k: float | None = None
    analogue_gain: float | None = None
    exposure_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar's content; `conditions` has one entry for all frames, or one a frame."""

    format: RawFormat
    sensor: str | None
    black_level: tuple[float, float, float, float]
    white_level: float
    conditions: tuple[FrameConditions, ...]


def read_sidecar(path: Path) -> Sidecar:
    """Reads a sidecar.

    Raises:
        FormatError: it is missing, malformed, or says something that cannot be.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file; a .raw recording needs a sidecar of the same name") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FormatError(f"{path}: cannot be read as TOML: {error}") from error
    try:
        return _parse(document)
    except (FormatError, ProfileError) as error:
        raise FormatError(f"{path}: {error}") from error


def _parse(document: Mapping[str, Any]) -> Sidecar:
    _check_keys("the sidecar", document, set(_KEYS))
    layout = _table(document, "format")
    missing = _KEYS["format"] - {"stride"} - layout.keys()
    if missing:
        raise FormatError(f"[format] lacks {', '.join(sorted(missing))}")
    raw_format = RawFormat(
        width=_number(layout, "width", int),
        height=_number(layout, "height", int),
        cfa=layout["cfa"],
        bit_depth=_number(layout, "bit_depth", int),
        packing=layout["packing"],
        stride=_stride(layout),
    )
    name, black_level, white_level = _sensor(_table(document, "sensor"), raw_format.bit_depth)
    frames = document.get("frame", {})
    entries = frames if isinstance(frames, list) else [frames]
    return Sidecar(raw_format, name, black_level, white_level, tuple(_conditions(entry) for entry in entries))


def _stride(layout: Mapping[str, Any]) -> int:
    if "stride" not in layout:
        return 0
    stride = int(_number(layout, "stride", int))
    if stride < 1:
        raise FormatError(f"stride must be at least 1 byte, found {stride}")
    return stride


def _sensor(sensor: Mapping[str, Any], bit_depth: int) -> tuple[str | None, tuple[float, float, float, float], float]:
    name = sensor.get("name")
    if name is not None and not isinstance(name, str):
        raise FormatError(f"[sensor] name must be text, found {name!r}")
    black, white = sensor.get("black_level"), sensor.get("white_level")
    if black is None or white is None:
        if name is None or name.lower() not in shipped_profiles():
            raise FormatError(
                f"[sensor] must give black_level and white_level, or name a profile "
                f"({', '.join(shipped_profiles())}), found name {name!r}"
            )
        profile = load_profile(name).at_bit_depth(bit_depth)
        black = list(profile.black_level) if black is None else black
        white = profile.white_level if white is None else white
    red, green_red, green_blue, blue = _numbers(black, 4, "black_level")
    (white,) = _numbers([white], 1, "white_level")
    if not 0 < white < 2**bit_depth or not all(0 <= b < white for b in (red, green_red, green_blue, blue)):
        raise FormatError(
            f"black_level and white_level must be codes of {bit_depth} bits, black below white, "
            f"found {black} and {white}"
        )
    return name.lower() if name else None, (red, green_red, green_blue, blue), white


def _conditions(frame: Any) -> FrameConditions:
    if not isinstance(frame, dict):
        raise FormatError(f"[frame] must be a table, found {frame!r}")
    _check_keys("[frame]", frame, _KEYS["frame"])
    gains = None
    if "colour_gains" in frame:
        red, blue = _numbers(frame["colour_gains"], 2, "colour_gains")
        if red <= 0 or blue <= 0:
            raise FormatError(f"colour_gains must be positive, found {frame['colour_gains']}")
        gains = (red, blue)
    return FrameConditions(
        colour_gains=gains,
        colour_temperature_k=_positive(frame, "colour_temperature_k", float),
        analogue_gain=_positive(frame, "analogue_gain", float),
        exposure_ns=_positive(frame, "exposure_ns", int),
    )


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise FormatError(f"[{name}] must be a table, found {table!r}")
    _check_keys(f"[{name}]", table, _KEYS[name])
    return table


def _check_keys(where: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = table.keys() - known
    if unknown:
        raise FormatError(f"{where} has unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")


def _number(table: Mapping[str, Any], key: str, kind: type[int] | type[float]) -> Any:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise FormatError(f"{key} must be {'a whole number' if kind is int else 'a number'}, found {value!r}")
    return kind(value)


def _positive(table: Mapping[str, Any], key: str, kind: type[int] | type[float]) -> Any:
    if key not in table:
        return None
    value = _number(table, key, kind)
    if not 0 < value < float("inf"):
        raise FormatError(f"{key} must be positive, found {value}")
    return value


def _numbers(values: Any, count: int, key: str) -> Sequence[float]:
    good = isinstance(values, list) and len(values) == count
    if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise FormatError(f"{key} must be {count} number{'s' if count > 1 else ''}, found {values!r}")
    return [float(v) for v in values]
