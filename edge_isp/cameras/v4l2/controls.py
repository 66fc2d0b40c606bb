"""Controls of a V4L2 device by name: exposure, gain, test pattern, flips, blanking, and what else its driver has."""

from __future__ import annotations

import ctypes
import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge_isp.cameras.v4l2.abi import (
    CTRL_FLAG_DISABLED,
    CTRL_FLAG_NEXT_CTRL,
    CTRL_FLAG_READ_ONLY,
    CTRL_FLAG_WRITE_ONLY,
    CTRL_TYPE_BITMASK,
    CTRL_TYPE_BOOLEAN,
    CTRL_TYPE_BUTTON,
    CTRL_TYPE_INTEGER,
    CTRL_TYPE_INTEGER64,
    CTRL_TYPE_INTEGER_MENU,
    CTRL_TYPE_MENU,
    VIDIOC_G_EXT_CTRLS,
    VIDIOC_QUERY_EXT_CTRL,
    VIDIOC_QUERYMENU,
    VIDIOC_S_EXT_CTRLS,
    ExtendedControl,
    ExtendedControls,
    QueryControl,
    QueryMenu,
)
from edge_isp.cameras.v4l2.device import V4l2Device
from edge_isp.errors import CameraError

_MENUS = (CTRL_TYPE_MENU, CTRL_TYPE_INTEGER_MENU)
_KINDS = {
    CTRL_TYPE_INTEGER: "integer",
    CTRL_TYPE_BOOLEAN: "boolean",
    CTRL_TYPE_MENU: "menu",
    CTRL_TYPE_BUTTON: "button",
    CTRL_TYPE_INTEGER64: "integer",
    CTRL_TYPE_BITMASK: "bitmask",
    CTRL_TYPE_INTEGER_MENU: "menu",
}
_MODIFY_LAYOUT = 0x400


@dataclass(frozen=True, slots=True)
class V4l2Control:
    """One control of a driver.

    Attributes:
        name: as `v4l2-ctl --list-ctrls` writes it ("analogue_gain", "vertical_blanking").
        kind: "integer", "boolean", "menu", "button" or "bitmask".
        least: smallest value.
        greatest: largest value.
        step: between values.
        default: value at the start.
        menu: what each value of a menu is called.
        read_only: it can be read, not set.
        changes_layout: it changes the format of the frames (a flip changes the CFA order): to be set before the format.
        id: the kernel's number of it.
        wide: its value has 64 bits.
        write_only: it can be set, not read.
    """

    name: str
    kind: str
    least: int
    greatest: int
    step: int
    default: int
    menu: Mapping[int, str] = field(default_factory=dict)
    read_only: bool = False
    changes_layout: bool = False
    id: int = 0
    wide: bool = False
    write_only: bool = False


class V4l2Controls:
    """The controls of a device, by name; iterating gives the names.

    Args:
        device: a video device or a sub-device, open.

    Attributes:
        changes: how often controls were set here.
    """

    def __init__(self, device: V4l2Device) -> None:
        self._device = device
        self.changes = 0
        self._controls = {control.name: control for control in _enumerate(device)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._controls)

    def __contains__(self, name: object) -> bool:
        return name in self._controls

    def describe(self, name: str) -> V4l2Control:
        """What is known of a control.

        Args:
            name: of the control.

        Raises:
            CameraError: the device has none of that name.
        """
        if name not in self._controls:
            raise CameraError(
                f"{self._device.path}: no control '{name}'; it has: {', '.join(sorted(self._controls)) or 'none'}"
            )
        return self._controls[name]

    def refresh(self) -> None:
        """Asks the driver again: limits of exposure follow blanking, limits of blanking the format."""
        self._controls = {control.name: control for control in _enumerate(self._device)}

    def get(self, name: str) -> int:
        """The value of a control.

        Args:
            name: of the control.

        Raises:
            CameraError: there is none of that name, or it cannot be read.
        """
        control = self.describe(name)
        if control.write_only:
            raise CameraError(f"{self._device.path}: control '{name}' can be set, not read")
        content = ExtendedControl(id=control.id)
        self._device.request(VIDIOC_G_EXT_CTRLS, _controls(content))
        return int(content.content.value64 if control.wide else content.content.value)

    def set(self, values: Mapping[str, int | str]) -> None:
        """Sets controls, all of them at once, and reads them back.

        Args:
            values: by name; for a menu also what its item is called. A button takes any value.

        Raises:
            CameraError: there is none of that name, it cannot be set, the value is out of its limits (nothing is
                changed then), or the driver made another value of it.
        """
        wanted = {name: self._checked(name, value) for name, value in values.items()}
        if not wanted:
            return
        array = (ExtendedControl * len(wanted))()
        for content, (name, value) in zip(array, wanted.items(), strict=True):
            control = self._controls[name]
            content.id = control.id
            if control.wide:
                content.content.value64 = value
            else:
                content.content.value = ctypes.c_int32(value).value
        request = ExtendedControls(count=len(wanted), controls=array)
        refused = self._device.request(
            VIDIOC_S_EXT_CTRLS, request, (errno.EACCES, errno.EBUSY, errno.ERANGE, errno.EINVAL)
        )
        if refused:
            # An index equal to the count means that the request was refused as a whole.
            names = list(wanted)[request.error_idx : request.error_idx + 1] or list(wanted)
            raise CameraError(
                f"{self._device.path}: the driver refuses {', '.join(f'{name} = {wanted[name]}' for name in names)} "
                f"({errno.errorcode[refused]}){_BUSY_HINT if refused == errno.EBUSY else ''}"
            )
        self.changes += 1
        for name, value in wanted.items():
            control = self._controls[name]
            if control.kind != "button" and not control.write_only and (found := self.get(name)) != value:
                raise CameraError(f"{self._device.path}: asked for {name} = {value}, but the driver made it {found}")

    def _checked(self, name: str, value: int | str) -> int:
        """The value to set, within the control's limits."""
        control, path = self.describe(name), self._device.path
        if control.read_only:
            raise CameraError(f"{path}: control '{name}' can be read, not set")
        if control.kind == "button":
            return 0
        if isinstance(value, str):
            numbers = {text: number for number, text in control.menu.items()}
            if value not in numbers:
                known = ", ".join(f"{number} ({text})" for number, text in control.menu.items()) or "whole numbers"
                raise CameraError(f"{path}: {name} must be one of {known}, found '{value}'")
            return numbers[value]
        step = max(1, control.step) if control.kind == "integer" else 1
        if not control.least <= value <= control.greatest or (value - control.least) % step:
            steps = f" in steps of {step}" if step > 1 else ""
            raise CameraError(
                f"{path}: {name} must be from {control.least} to {control.greatest}{steps}, found {value}"
            )
        return int(value)


_BUSY_HINT = "; it cannot be changed while the camera streams: set it when the camera is opened"


def _controls(content: ExtendedControl) -> ExtendedControls:
    return ExtendedControls(count=1, controls=ctypes.pointer(content))


def _enumerate(device: V4l2Device) -> list[V4l2Control]:
    found = []
    query = QueryControl(id=CTRL_FLAG_NEXT_CTRL)
    # ENOTTY: a device without controls.
    while not device.request(VIDIOC_QUERY_EXT_CTRL, query, (errno.EINVAL, errno.ENOTTY)):
        if query.type in _KINDS and not query.flags & CTRL_FLAG_DISABLED:
            found.append(
                V4l2Control(
                    name=_name(query.name.decode("utf-8", "replace")),
                    kind=_KINDS[query.type],
                    least=query.minimum,
                    greatest=query.maximum,
                    step=query.step,
                    default=query.default_value,
                    menu=_menu(device, query) if query.type in _MENUS else {},
                    read_only=bool(query.flags & CTRL_FLAG_READ_ONLY),
                    changes_layout=bool(query.flags & _MODIFY_LAYOUT),
                    id=query.id,
                    wide=query.type == CTRL_TYPE_INTEGER64,
                    write_only=bool(query.flags & CTRL_FLAG_WRITE_ONLY),
                )
            )
        query = QueryControl(id=query.id | CTRL_FLAG_NEXT_CTRL)
    return found


def _menu(device: V4l2Device, query: QueryControl) -> dict[int, str]:
    found = {}
    for index in range(query.minimum, query.maximum + 1):
        item = QueryMenu(id=query.id, index=index)
        if device.request(VIDIOC_QUERYMENU, item, (errno.EINVAL,)):
            continue  # menus may have holes
        content = bytes(item.name)
        if query.type == CTRL_TYPE_INTEGER_MENU:
            found[index] = str(int.from_bytes(content[:8], "little", signed=True))
        else:
            found[index] = content.split(b"\0")[0].decode("utf-8", "replace")
    return found


def _name(text: str) -> str:
    """A control's name as `v4l2-ctl` writes it: "Exposure Time, Absolute" is exposure_time_absolute."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
