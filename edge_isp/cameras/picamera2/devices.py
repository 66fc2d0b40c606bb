"""Finding and opening cameras through picamera2, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge_isp.cameras.base import CameraDevice, CameraMode
from edge_isp.cameras.picamera2.modes import raw_modes, size_text
from edge_isp.errors import CameraError


def camera_number(camera: int | str) -> int:
    """A camera's number.

    Args:
        camera: as the user wrote it.

    Raises:
        CameraError: it is not a number from 0 on.
    """
    try:
        number = int(camera)
    except ValueError:
        number = -1
    if number < 0:
        raise CameraError(f"camera 'picamera2': expected the camera's number, from 0 on, found '{camera}'")
    return number


def open_device(module: Any, number: int, source: str) -> Any:
    """picamera2's object for a camera.

    Args:
        module: the module picamera2.
        number: of the camera.
        source: the camera, for messages.

    Raises:
        CameraError: there is no such camera, or it cannot be opened.
    """
    try:
        found = module.Picamera2.global_camera_info()
        if not found:
            raise CameraError(
                f"{source}: libcamera finds no camera; check the cable with the power off, then that "
                "/boot/firmware/config.txt has camera_auto_detect=1, and list cameras with: rpicam-hello --list-cameras"
            )
        if number >= len(found):
            there_are = ", ".join(f"{index} ({camera['Model']})" for index, camera in enumerate(found))
            raise CameraError(f"{source}: no camera of this number; there are: {there_are}")
        return module.Picamera2(number)
    except (RuntimeError, OSError) as error:
        causes = list(_causes(error))
        if any("busy" in str(cause).lower() for cause in causes):
            hint = "another program has the camera; find it with: sudo fuser -v /dev/media* /dev/video*"
        elif any(isinstance(cause, PermissionError) for cause in causes):
            hint = "this user may not use cameras; mend it with: sudo usermod -aG video $USER; then log in again"
        else:
            hint = "list cameras with: rpicam-hello --list-cameras"
        raise CameraError(f"{source}: cannot be opened: {causes[-1]}; {hint}") from error


def list_devices(module: Any) -> list[CameraDevice]:
    """The cameras that libcamera finds, each with its sensor's modes; each is opened for a moment.

    Args:
        module: the module picamera2.
    """
    found = []
    for number, info in enumerate(module.Picamera2.global_camera_info()):
        spec, name = f"picamera2:{number}", str(info["Model"])
        try:
            modes = _modes(module, number, spec)
        except CameraError as error:
            found.append(CameraDevice(spec, name, (), str(error)))
        else:
            found.append(CameraDevice(spec, name, modes, None if modes else "not a camera with a RAW stream"))
    return found


def _modes(module: Any, number: int, spec: str) -> tuple[CameraMode, ...]:
    opened = open_device(module, number, spec)
    try:
        return tuple(
            CameraMode(str(mode["unpacked"]), size_text(mode), (float(mode["fps"]),))
            for mode in raw_modes(opened.sensor_modes)
        )
    except (RuntimeError, OSError, LookupError) as error:
        raise CameraError(f"{spec}: its sensor modes cannot be read: {type(error).__name__}: {error}") from error
    finally:
        opened.close()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
