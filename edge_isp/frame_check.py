"""What of a frame can be used: metadata out of range count as absent, and a frame that cannot be read as damaged.

Drivers report gains of 0 before their first measurement, temperatures of NaN, black levels of another bit depth. None
of it may end a stream, and kernels are not where it is found out: a pipeline checks each frame once, on arrival.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any

import numpy as np

from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.sensor_window import SensorWindow

# Smallest and largest value that can be used. What is outside is a driver's mistake, not a setting of a sensor.
RANGES: dict[str, tuple[float, float]] = {
    "exposure_ns": (1, 1e13),
    "analogue_gain": (1e-3, 1e5),
    "digital_gain": (1e-3, 1e5),
    "colour_gains": (1e-3, 1e3),
    "colour_temperature_k": (1_000, 25_000),
    "colour_matrix": (-1e3, 1e3),
    "noise_profile": (0, 1),
    "baseline_exposure_ev": (-20, 20),
    "auto_brightness": (1e-3, 1e3),
    "orientation": (1, 8),
}
# Fields of another type, and what each is where it has a wrong one.
_TYPES: dict[str, tuple[tuple[type, ...], str, Any]] = {
    "source": ((str,), "a text", "camera"),
    "sensor": ((str, NoneType), "a text or None", None),
    "window": ((SensorWindow, NoneType), "a SensorWindow or None", None),
    "lens_shading": ((bool, np.bool_), "true or false", True),
    "status": ((FrameStatus,), "a FrameStatus", FrameStatus.OK),
}
# How many numbers a field has that has more than one.
_NUMBERS = {"colour_gains": 2, "colour_matrix": 9, "noise_profile": 2}
# Fields that cannot be None, and what each is without a usable value.
_NEEDED: dict[str, Any] = {"orientation": 1, "auto_brightness": 1.0}
# Fields that are whole numbers.
_WHOLE = frozenset({"orientation"})


@dataclass(frozen=True, slots=True)
class Unusable:
    """A field of a frame that cannot be used.

    Attributes:
        name: the field's.
        reason: what was expected, what was found, and what follows from it.
    """

    name: str
    reason: str


def check_frame(frame: RawFrame) -> tuple[RawFrame, list[Unusable]]:
    """Replaces what cannot be used of a frame.

    Metadata out of `RANGES`, NaN or of another type become None (the orientation 1); lists and arrays become tuples. A
    frame whose data have not the shape of its format, or whose levels cannot be, gets `FrameStatus.CORRUPTED`.

    Args:
        frame: a camera's.

    Returns:
        The frame, itself if all of it can be used, else another one that shares its lease (either may be released,
        once); and what could not be used.
    """
    found: list[Unusable] = []
    changes: dict[str, Any] = {}
    for name, (types, expected, absent) in _TYPES.items():
        value = getattr(frame, name)
        if not isinstance(value, types):
            changes[name] = absent
            found.append(Unusable(name, f"{name} must be {expected}, found {value!r}: it counts as {absent!r}"))
    for name in ("black_level", *_NUMBERS):
        value = getattr(frame, name)
        if isinstance(value, list | np.ndarray):  # as drivers give them; elsewhere they are compared and hashed
            changes[name] = tuple(np.ravel(np.asarray(value, object)).tolist())
    if changes:
        frame, changes = replace(frame, **changes), {}
    for name, (least, greatest) in RANGES.items():
        value = getattr(frame, name)
        if (value is None and name not in _NEEDED) or is_usable(name, value):
            continue
        changes[name] = _NEEDED.get(name)
        whole = "a whole number " if name in _WHOLE else ""
        found.append(
            Unusable(name, f"{name} must be {whole}from {least:g} to {greatest:g}, found {value}: it counts as absent")
        )
    damage = _damage(frame)
    if damage is not None:
        changes["status"] = frame.status | FrameStatus.CORRUPTED
        found.append(damage)
    return (replace(frame, **changes) if changes else frame), found


def is_usable(name: str, value: Any) -> bool:
    """Whether a value of a frame's field can be used; None cannot.

    Args:
        name: of the field, one of `RANGES`.
        value: a number, or a sequence of numbers where the field has several.
    """
    least, greatest = RANGES[name]
    count = _NUMBERS.get(name)
    whole: bool = isinstance(value, int | np.integer)
    if name in _WHOLE and not whole:
        return False
    if count is None:
        return _within(value, least, greatest)
    return _are_numbers(value, count) and all(_within(each, least, greatest) for each in value)


def _damage(frame: RawFrame) -> Unusable | None:
    """Why a frame cannot be read, or None."""
    data, shape = frame.data, (frame.format.height, frame.format.stride)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
        seen = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        return Unusable("data", f"data must be uint8 {shape} (height, stride), found {seen}: the frame is damaged")
    if data.strides[1] != 1 or data.strides[0] < shape[1]:
        return Unusable(
            "data", f"rows of data must be contiguous and in order, found strides {data.strides}: the frame is damaged"
        )
    black, white = frame.black_level, frame.white_level
    if (
        not _within(white, -1e9, 1e9)
        or not _are_numbers(black, 4)
        or not all(_within(level, -1e9, 1e9) and level < white for level in black)
    ):
        return Unusable(
            "black_level",
            f"black_level must be four codes below white_level {white}, found {black}: the frame is damaged",
        )
    return None


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, Sequence) and len(value) == count


def _within(value: Any, least: float, greatest: float) -> bool:
    try:
        # Comparisons with NaN are false.
        return bool(math.isfinite(value) and least <= value <= greatest)
    except (TypeError, ValueError, OverflowError):
        return False
