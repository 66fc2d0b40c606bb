"""What a camera is opened with: focus, HDR, synchronisation and any other of libcamera's controls, checked first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from edge_isp.errors import CameraError, did_you_mean, shortened

Autofocus = Literal["continuous", "auto", "manual"]
Hdr = Literal["off", "sensor", "single-exposure", "multi-exposure", "night"]
Sync = Literal["server", "client"]
Advertised = Mapping[str, tuple[Any, Any, Any]]

# libcamera's values, by our names.
_AF_MODES = {"manual": 0, "auto": 1, "continuous": 2}
_HDR_MODES = {"off": 0, "sensor": 0, "multi-exposure": 2, "single-exposure": 3, "night": 4}
_SYNC_MODES = {"server": 1, "client": 2}
_AF_TRIGGER_START = 0
# picamera2's name for FrameDurationLimits in frames per second, and what the camera's own arguments set.
_OWN = {"FrameRate": "fps", "FrameDurationLimits": "fps", "AfMode": "af", "LensPosition": "lens_position"}


def focus_controls(
    af: Autofocus | None, lens_position: float | None, advertised: Advertised, source: str
) -> dict[str, Any]:
    """The controls of the lens: by default it focuses continuously where there is one.

    Args:
        af: mode that the user asks for; None for the default.
        lens_position: in dioptres, the reciprocal of the distance in metres; None leaves it to `af`.
        advertised: what the camera offers: least value, greatest and default, by name.
        source: the camera, for messages.

    Raises:
        CameraError: the camera has no lens that moves, or the two arguments contradict each other.
    """
    if "AfMode" not in advertised:
        if af is None and lens_position is None:
            return {}
        name = "af" if af is not None else "lens_position"
        raise CameraError(f"{source}: {name} cannot be set: this camera has no lens that can be focused")
    if lens_position is not None:
        if af not in (None, "manual"):
            raise CameraError(f"{source}: lens_position is for af=manual, found af={af}")
        _check_limits("lens_position", lens_position, advertised["LensPosition"], source)
        return {"AfMode": _AF_MODES["manual"], "LensPosition": float(lens_position)}
    found: dict[str, Any] = {"AfMode": _AF_MODES[_one_of("af", af or "continuous", _AF_MODES, source)]}
    if af == "auto":
        found["AfTrigger"] = _AF_TRIGGER_START
    return found


def hdr_controls(hdr: Hdr | None, advertised: Advertised, source: str) -> dict[str, Any]:
    """The control of HDR.

    Args:
        hdr: mode that the user asks for; None leaves it as it is.
        advertised: see `focus_controls`.
        source: the camera, for messages.

    Raises:
        CameraError: the camera has none.
    """
    if hdr is None:
        return {}
    value = _HDR_MODES[_one_of("hdr", hdr, _HDR_MODES, source)]
    if "HdrMode" not in advertised:
        if hdr in ("off", "sensor"):
            return {}
        raise CameraError(f"{source}: hdr cannot be set: libcamera offers no HdrMode for this camera")
    return {"HdrMode": value}


def sync_controls(sync: Sync | None, advertised: Advertised, source: str) -> dict[str, Any]:
    """The control that has two Raspberry Pis expose at the same moments.

    Args:
        sync: part that this camera takes; None for no synchronisation.
        advertised: see `focus_controls`.
        source: the camera, for messages.

    Raises:
        CameraError: the camera has none.
    """
    if sync is None:
        return {}
    value = _SYNC_MODES[_one_of("sync", sync, _SYNC_MODES, source)]
    if "SyncMode" not in advertised:
        raise CameraError(f"{source}: sync cannot be set: libcamera offers no SyncMode for this camera")
    return {"SyncMode": value}


def other_controls(wanted: Mapping[str, Any], advertised: Advertised, source: str) -> dict[str, Any]:
    """Any other controls, by libcamera's names.

    Args:
        wanted: values, or texts that are converted: a number, "yes" or "no", the name of a value ("Daylight"), or
            numbers with colons between them for several ("0:0:1640:1232").
        advertised: see `focus_controls`.
        source: the camera, for messages.

    Raises:
        CameraError: there is no such control, or a value is not one of its values.
    """
    found = {}
    for name, value in wanted.items():
        if name in _OWN and name in {*advertised, "FrameRate"}:
            raise CameraError(f"{source}: control.{name} is set with {_OWN[name]}=...")
        if name not in advertised:
            close = did_you_mean(name, advertised)
            raise CameraError(
                f"{source}: libcamera offers no control '{shortened(name)}' for this camera{close}; it has: "
                f"{', '.join(sorted(advertised)) or 'none'}"
            )
        found[name] = _value(name, value, advertised[name], source)
    return found


def tuning_of(tuning: str | Path | None, module: Any, source: str) -> Any:
    """A tuning file as picamera2 takes it: its path, or the content of one of libcamera's own.

    Args:
        tuning: path of the file, or the name of one that comes with libcamera ("imx219_noir.json"); None for the
            sensor's own.
        module: the module picamera2.
        source: the camera, for messages.

    Raises:
        CameraError: there is no such file.
    """
    if tuning is None:
        return None
    path = Path(tuning).expanduser()
    if path.is_file():
        return str(path.resolve())
    if path.name == str(tuning):
        try:
            return module.Picamera2.load_tuning_file(str(tuning))
        except (RuntimeError, OSError, ValueError) as error:
            raise CameraError(
                f"{source}: tuning must be a file, or the name of one that comes with libcamera, found "
                f"'{shortened(str(tuning))}' ({error})"
            ) from error
    raise CameraError(f"{source}: tuning must be a file, found '{shortened(str(tuning))}', which is none")


def _value(name: str, value: Any, limits: tuple[Any, Any, Any], source: str) -> Any:
    """A value of a control's type and within its limits."""
    least, greatest, default = limits
    example = next((each for each in (default, least, greatest) if each is not None), None)
    if isinstance(example, tuple | list):
        return _several(name, value, source)
    if isinstance(example, bool):
        texts = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() in texts:
            return texts[str(value).lower()]
        raise CameraError(f"{source}: control.{name} must be yes or no, found '{shortened(str(value))}'")
    if isinstance(value, str) and value.lower() in (known := _named(name)):
        return known[value.lower()]
    try:
        number = float(value) if isinstance(example, float) else int(value)
    except (TypeError, ValueError, OverflowError):
        names = ", ".join(_named(name)) or ("a number" if isinstance(example, float) else "a whole number")
        kind = "one of " if _named(name) else ""
        close = did_you_mean(str(value), _named(name))
        raise CameraError(
            f"{source}: control.{name} must be {kind}{names}, found '{shortened(str(value))}'{close}"
        ) from None
    _check_limits(f"control.{name}", number, limits, source)
    return number


def _several(name: str, value: Any, source: str) -> tuple[float, ...]:
    parts = value.split(":") if isinstance(value, str) else value
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        raise CameraError(
            f"{source}: control.{name} must be numbers with colons between them, found '{shortened(str(value))}'"
        ) from None
    return tuple(int(number) if number.is_integer() else number for number in numbers)


def _named(name: str) -> dict[str, int]:
    """The values of an enumerated control by their names in lower case; none where it has no names."""
    controls = import_module("libcamera").controls
    for group in (controls, getattr(controls, "rpi", None), getattr(controls, "draft", None)):
        members = getattr(getattr(group, f"{name}Enum", None), "__members__", None)
        if members:
            return {each.lower(): int(getattr(member, "value", member)) for each, member in members.items()}
    return {}


def _check_limits(name: str, value: float, limits: tuple[Any, Any, Any], source: str) -> None:
    least, greatest, _ = limits
    numbers = [each for each in (least, greatest) if isinstance(each, int | float)]
    if not math.isfinite(value) or (len(numbers) == 2 and not numbers[0] <= value <= numbers[1]):
        raise CameraError(f"{source}: {name} must be from {least} to {greatest}, found {value}")


def _one_of(name: str, value: str, known: Mapping[str, int], source: str) -> str:
    if value not in known:
        close = did_you_mean(value, known)
        raise CameraError(f"{source}: {name} must be one of {', '.join(known)}, found '{shortened(value)}'{close}")
    return value
