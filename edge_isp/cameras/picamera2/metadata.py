"""What libcamera says of a frame, as `RawFrame` has it: values that are absent, 0 or not numbers are None."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

# Statuses of a buffer that libcamera's Python module names. There is a fourth, without a name: frames of a Raspberry
# Pi's camera while its exposure and white balance start up.
_KNOWN_STATUSES = ("Success", "Error", "Cancelled")

# With a field of their own.
_FIELDS = (
    "SensorTimestamp",
    "ExposureTime",
    "AnalogueGain",
    "DigitalGain",
    "ColourGains",
    "ColourTemperature",
    "ColourCorrectionMatrix",
    "SensorBlackLevels",
)


def is_startup(status: Any) -> bool:
    """Whether a buffer's status is that of a frame while the camera starts up.

    Args:
        status: `FrameMetadata.status`.
    """
    return status.name not in _KNOWN_STATUSES


def positive(value: Any) -> float | None:
    """A number above 0, as gains and exposure times are; None for anything else.

    Args:
        value: as libcamera gives it.
    """
    found = _number(value)
    return found if found is not None and found > 0 else None


def gains(value: Any) -> tuple[float, float] | None:
    """White-balance gains red and blue; None where there are none, as before white balance has run.

    Args:
        value: as libcamera gives it.
    """
    found = _numbers(value, 2)
    return (found[0], found[1]) if found is not None and min(found) > 0 else None


def matrix(value: Any) -> tuple[float, ...] | None:
    """libcamera's colour matrix, 3x3 row by row; None where there is none.

    Args:
        value: as libcamera gives it.
    """
    found = _numbers(value, 9)
    return found if found is not None and any(found) else None


def black_levels(value: Any, bit_depth: int) -> tuple[float, float, float, float] | None:
    """Black levels R, Gr, Gb and B in codes; None where there are none.

    Args:
        value: as libcamera gives them: on a scale of 16 bits at any depth.
        bit_depth: of the codes.
    """
    found = _numbers(value, 4)
    if found is None:
        return None
    red, green_red, green_blue, blue = (level / 2.0 ** (16 - bit_depth) for level in found)
    return red, green_red, green_blue, blue


def others(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What has no field of its own in `RawFrame`, by libcamera's names, as values that can be written as JSON.

    Args:
        metadata: of a request.
    """
    found = {name: _plain(value) for name, value in metadata.items() if name not in _FIELDS}
    state = found.get("AfState")
    if isinstance(state, int):
        names = {int(_plain(each.value)): each.name for each in _members("AfStateEnum")}
        found["AfState"] = names.get(state, state)
    return {name: value for name, value in found.items() if value is not None}


def _members(enumeration: str) -> list[Any]:
    found = getattr(import_module("libcamera").controls, enumeration, None)
    return [] if found is None else list(getattr(found, "__members__", {}).values())


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if not isinstance(value, tuple | list) or len(value) != count:
        return None
    found = [number for number in map(_number, value) if number is not None]
    return tuple(found) if len(found) == count else None


def _number(value: Any) -> float | None:
    """A finite number; None for what is none, or more than a float holds, as JSON may have it."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


def _plain(value: Any) -> Any:
    """A number, a text or a list of them; None for what cannot be written as JSON."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    for attribute in ("value", "__int__"):  # a member of an enumeration
        if hasattr(value, attribute):
            return int(getattr(value, attribute) if attribute == "value" else value)
    return None
