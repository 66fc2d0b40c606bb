"""What a camera is opened with: focus, HDR, synchronisation and any other of libcamera's controls, checked first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from edge_isp.errors import CameraError, did_you_mean, shortened

Autofocus = Literal["continuous", "auto", "manual"]
Hdr = Literal["off", "sensor", "single-exposure", "multi-exposure", "night"]
Sync = Literal["server", "client"]
# libcamera's size of an array that may have any.
_ANY_SIZE = 2**64 - 1
# Arrays of a known length, for a libcamera whose Python module does not say what is one.
_KNOWN_LENGTHS = {"ColourGains": 2, "ColourCorrectionMatrix": 9}


@dataclass(frozen=True, slots=True)
class Advertised:
    """What libcamera says of a control.

    Attributes:
        least: value; of an array that of one of its numbers.
        greatest: value, likewise.
        default: value; None where there is none.
        values: of an enumerated control those that it takes, as numbers; empty for any other.
        length: of an array; 0 for any length, None where the control is one value.
        is_rectangle: whether it is a rectangle, or an array of them.
    """

    least: Any
    greatest: Any
    default: Any
    values: tuple[int, ...] = ()
    length: int | None = None
    is_rectangle: bool = False

    def takes(self, value: int) -> bool:
        """Whether a value of an enumeration is one of those that the control takes.

        Args:
            value: as libcamera numbers it.
        """
        return value in self.values if self.values else self.least <= value <= self.greatest


def advertised_controls(opened: Any) -> dict[str, Advertised]:
    """What libcamera advertises for a camera now, by the controls' names.

    Args:
        opened: picamera2's object.
    """
    limits, rectangle = opened.camera_controls, import_module("libcamera").ControlType.Rectangle
    found = {}
    for name, (control, info) in opened.camera_ctrl_info.items():
        least, greatest, default = limits[name]
        found[name] = Advertised(
            least,
            greatest,
            default,
            tuple(each for each in getattr(info, "values", ()) if isinstance(each, int) and not isinstance(each, bool)),
            _length(name, control, info.default),
            control.type == rectangle,
        )
    return found


def _length(name: str, control: Any, default: Any) -> int | None:
    """The length of an array, 0 for any; None of one value."""
    if not hasattr(control, "isArray"):
        return _KNOWN_LENGTHS.get(name, 0 if isinstance(default, tuple | list) else None)
    if not control.isArray:
        return None
    return 0 if control.size == _ANY_SIZE else int(control.size)


# libcamera's values, by our names.
_AF_MODES = {"manual": 0, "auto": 1, "continuous": 2}
_HDR_MODES = {"off": 0, "sensor": 0, "multi-exposure": 2, "single-exposure": 3, "night": 4}
_SYNC_MODES = {"server": 1, "client": 2}
_AF_TRIGGER_START = 0
# picamera2's name for FrameDurationLimits in frames per second, and what the camera's own arguments set.
_OWN = {"FrameRate": "fps", "FrameDurationLimits": "fps", "AfMode": "af", "LensPosition": "lens_position"}


def focus_controls(
    af: Autofocus | None, lens_position: float | None, advertised: Mapping[str, Advertised], source: str
) -> dict[str, Any]:
    """The controls of the lens: by default it focuses continuously where there is one.

    Args:
        af: mode that the user asks for; None for the default.
        lens_position: in dioptres, the reciprocal of the distance in metres; None leaves it to `af`.
        advertised: what the camera offers, by name.
        source: the camera, for messages.

    Raises:
        CameraError: the camera has no lens that moves or no such mode, or the two arguments contradict each other.
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
    modes = {name: mode for name, mode in _AF_MODES.items() if advertised["AfMode"].takes(mode)}
    if af is None and "continuous" not in modes:
        return {}
    found: dict[str, Any] = {"AfMode": modes[_one_of("af", af or "continuous", modes, source)]}
    if af == "auto":
        found["AfTrigger"] = _AF_TRIGGER_START
    return found


def hdr_controls(hdr: Hdr | None, advertised: Mapping[str, Advertised], source: str) -> dict[str, Any]:
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


def sync_controls(sync: Sync | None, advertised: Mapping[str, Advertised], source: str) -> dict[str, Any]:
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


def other_controls(wanted: Mapping[str, Any], advertised: Mapping[str, Advertised], source: str) -> dict[str, Any]:
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


def check_colour_gains(gains: tuple[float, float], advertised: Mapping[str, Advertised], source: str) -> None:
    """Compares white-balance gains with their limits.

    Args:
        gains: red and blue.
        advertised: see `focus_controls`.
        source: the camera, for messages.

    Raises:
        CameraError: a gain is out of the limits.
    """
    known = advertised.get("ColourGains")
    if known is not None and not all(_is_within(gain, known) for gain in gains):
        raise CameraError(f"{source}: colour_gains must be from {known.least} to {known.greatest}, found {gains}")


def _value(name: str, value: Any, known: Advertised, source: str) -> Any:
    """A value of a control's kind and within its limits."""
    if known.length is not None or known.is_rectangle:
        return _several(name, value, known, source)
    example = next((each for each in (known.default, known.least, known.greatest) if each is not None), None)
    if isinstance(example, bool):
        texts = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() in texts:
            return texts[str(value).lower()]
        raise CameraError(f"{source}: control.{name} must be yes or no, found '{shortened(str(value))}'")
    names = {each: number for each, number in _named(name).items() if known.takes(number)}
    if isinstance(value, str) and value.lower() in names:
        return names[value.lower()]
    try:
        number = float(value) if isinstance(example, float) else _whole(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (known.values and not known.takes(int(number))):
        there_are = ", ".join(names) or ("a number" if isinstance(example, float) else "a whole number")
        kind = "one of " if names else ""
        close = did_you_mean(str(value), names)
        raise CameraError(f"{source}: control.{name} must be {kind}{there_are}, found '{shortened(str(value))}'{close}")
    _check_limits(f"control.{name}", number, known, source)
    return number


def _several(name: str, value: Any, known: Advertised, source: str) -> Any:
    """A rectangle, or an array of numbers or rectangles.

    libcamera ends the process where it is given one value in the place of an array.
    """
    whole, each = known.is_rectangle, 4 if known.is_rectangle else 1
    wanted = each if known.length is None else each * known.length
    try:
        parts = value.split(":") if isinstance(value, str) else list(_flat(value))
        numbers = [_whole(part) if whole or isinstance(known.least, int) else float(part) for part in parts]
        fits = len(numbers) == wanted if wanted else len(numbers) > 0 and len(numbers) % each == 0
        if not fits or (whole and min(numbers) < 0):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        count = "" if (wanted or each) == 1 else f"{wanted or each} "
        raise CameraError(
            f"{source}: control.{name} must be {count}{'whole ' if whole else ''}numbers with colons between them, "
            f"found '{shortened(str(value))}'"
        ) from None
    if not whole:
        for number in numbers:
            _check_limits(f"control.{name}", number, known, source)
        return tuple(numbers)
    rectangles = [tuple(numbers[begin : begin + 4]) for begin in range(0, len(numbers), 4)]
    return rectangles[0] if known.length is None else rectangles


def _flat(value: Any) -> Iterator[Any]:
    """The numbers of a list, or of a list of lists."""
    for part in value:
        if isinstance(part, list | tuple):
            yield from part
        else:
            yield part


def _whole(value: Any) -> int:
    """A whole number; raises ValueError for any other."""
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError
    return number


def _named(name: str) -> dict[str, int]:
    """The values of an enumerated control by their names in lower case; none where it has no names."""
    controls = import_module("libcamera").controls
    for group in (controls, getattr(controls, "rpi", None), getattr(controls, "draft", None)):
        members = getattr(getattr(group, f"{name}Enum", None), "__members__", None)
        if members:
            return {each.lower(): int(getattr(member, "value", member)) for each, member in members.items()}
    return {}


def _check_limits(name: str, value: float, known: Advertised, source: str) -> None:
    if not _is_within(value, known):
        raise CameraError(f"{source}: {name} must be from {known.least} to {known.greatest}, found {value}")


def _is_within(value: float, known: Advertised) -> bool:
    """Whether a number is within a control's limits, where it has some."""
    limits = [each for each in (known.least, known.greatest) if isinstance(each, int | float)]
    return math.isfinite(value) and (len(limits) != 2 or limits[0] <= value <= limits[1])


def _one_of(name: str, value: str, known: Mapping[str, int], source: str) -> str:
    if value not in known:
        close = did_you_mean(value, known)
        raise CameraError(f"{source}: {name} must be one of {', '.join(known)}, found '{shortened(value)}'{close}")
    return value
