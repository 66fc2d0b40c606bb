"""Finding and opening cameras through picamera2, with errors that say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_isp.cameras.base import CameraDevice, CameraMode
from edge_isp.cameras.picamera2.modes import SensorMode, size_text
from edge_isp.errors import CameraDisconnectedError, CameraError, EdgeIspError

# Where the kernel gives out memory for buffers on boards other than Raspberry Pi; picamera2 knows only the heaps there.
_OTHER_HEAP = "/dev/dma_heap/system"
# Where the kernel lists its character devices, by their numbers.
_CHARACTER_DEVICES = Path("/sys/dev/char")


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


@contextmanager
def translated(doing: str, opened: Any = None) -> Iterator[None]:
    """Turns what picamera2 and libcamera raise, which may be anything, into a CameraError.

    Args:
        doing: what failed, for the message ("picamera2:0: the camera cannot be started").
        opened: picamera2's object, to see whether the camera is still there.

    Raises:
        CameraDisconnectedError: the camera is gone.
        CameraError: something else was raised.
    """
    try:
        yield
    except EdgeIspError:
        raise
    except Exception as error:
        if opened is not None and is_gone(opened):
            raise CameraDisconnectedError(f"{doing}: the camera is gone; close it, and open it again later") from error
        cause = list(_causes(error))[-1]
        text = str(cause) if isinstance(cause, RuntimeError) else f"{type(cause).__name__}: {cause}"
        raise CameraError(f"{doing}: {text}; {_hint(error)}") from error


def is_gone(opened: Any) -> bool:
    """Whether a camera that is open is no longer there.

    libcamera takes it off its list when udev says so, which takes seconds on a loaded machine, and never happens in a
    container without udev. The kernel's own list of devices is right at once.

    Args:
        opened: picamera2's object.
    """
    camera = opened.camera
    if camera is None:
        return False
    if all(camera is not known for known in opened.camera_manager.cameras):
        return True
    numbers = opened.camera_properties.get("SystemDevices") or ()
    # 0 stands for an entity without a device node.
    nodes = [_CHARACTER_DEVICES / f"{os.major(number)}:{os.minor(number)}" for number in numbers if number]
    return _CHARACTER_DEVICES.is_dir() and not all(node.exists() for node in nodes)


def open_device(module: Any, number: int, source: str, tuning: Any = None) -> Any:
    """picamera2's object for a camera.

    Args:
        module: the module picamera2.
        number: of the camera.
        source: the camera, for messages.
        tuning: path of a tuning file, or its content; None for libcamera's own.

    Raises:
        CameraError: there is no such camera, or it cannot be opened.
    """
    with translated(f"{source}: cannot be opened"):
        found = module.Picamera2.global_camera_info()
        if not found:
            raise CameraError(
                f"{source}: libcamera finds no camera; check the cable with the power off, then that "
                "/boot/firmware/config.txt has camera_auto_detect=1, and list cameras with: rpicam-hello --list-cameras"
            )
        if number >= len(found):
            there_are = ", ".join(f"{index} ({_model(camera)})" for index, camera in enumerate(found))
            raise CameraError(f"{source}: no camera of this number; there are: {there_are}")
        _add_heap()
        return module.Picamera2(number, tuning=tuning)


def list_devices(module: Any) -> list[CameraDevice]:
    """The cameras that libcamera finds, each with its sensor's modes; each is opened for a moment.

    Args:
        module: the module picamera2.

    Raises:
        CameraError: libcamera cannot be asked.
    """
    found = []
    with translated("camera 'picamera2': libcamera cannot list its cameras"):
        known = list(module.Picamera2.global_camera_info())
    for number, info in enumerate(known):
        spec, name = f"picamera2:{number}", _model(info)
        try:
            modes = _modes(module, number, spec)
        except CameraError as error:
            found.append(CameraDevice(spec, name, (), str(error)))
        else:
            found.append(CameraDevice(spec, name, modes, None if modes else "not a camera with a RAW stream"))
    return found


def sensor_modes(opened: Any, source: str) -> list[SensorMode]:
    """The modes that deliver RAW frames; none of a camera without a RAW stream.

    Args:
        opened: picamera2's object.
        source: the camera, for messages.

    Raises:
        CameraError: they cannot be read.
    """
    if "ColorFilterArrangement" not in opened.camera_properties:
        return []  # not a sensor but a camera with an ISP of its own, such as one on USB
    advertised = opened.camera_controls
    with translated(f"{source}: its sensor modes cannot be read", opened):
        if all(name in advertised for name in ("FrameDurationLimits", "ScalerCrop", "ExposureTime")):
            return [
                SensorMode(
                    str(mode["unpacked"]),
                    _pair(mode["size"]),
                    int(mode["bit_depth"]),
                    float(mode["fps"]),
                    _view(mode.get("crop_limits")),
                    str(mode["format"]),
                )
                for mode in opened.sensor_modes
                if "size" in mode
            ]
        return _modes_of_formats(opened)


def close_device(opened: Any) -> None:
    """Stops and releases a camera, in whatever state it is: gone, stopped by a loose cable, never started.

    Args:
        opened: picamera2's object.
    """
    # First the thread that the requests go through: it may have ended with an exception, and `stop` would wait for it.
    with suppress(Exception):
        opened.stop_preview()
    with suppress(Exception):
        opened.stop()
    # Where `stop` has failed there is nothing left to stop, and `close` must not try it again.
    opened.started = False
    with translated(f"picamera2:{opened.camera_idx}: the camera cannot be closed"):
        opened.close()


def _modes_of_formats(opened: Any) -> list[SensorMode]:
    """Modes by the RAW formats and sizes alone, where libcamera advertises nothing else of them.

    picamera2's own list cannot be had there: it needs the limits of frame rate, crop and exposure.
    """
    libcamera, names = import_module("libcamera"), import_module("picamera2.formats")
    sensor_format = import_module("picamera2.sensor_format").SensorFormat
    configuration = opened.camera.generate_configuration([libcamera.StreamRole.Raw])
    if configuration is None:
        return []
    formats = configuration.at(0).formats
    found = []
    for pixel_format in formats.pixel_formats:
        if not names.is_raw(str(pixel_format)):
            continue
        described = sensor_format(str(pixel_format))
        for size in formats.sizes(pixel_format):
            found.append(
                SensorMode(described.unpacked, (size.width, size.height), described.bit_depth, listed=str(pixel_format))
            )
    return found


def _modes(module: Any, number: int, spec: str) -> tuple[CameraMode, ...]:
    opened = open_device(module, number, spec)
    try:
        return tuple(
            CameraMode(mode.format, size_text(mode.size), () if mode.fps is None else (mode.fps,))
            for mode in sensor_modes(opened, spec)
        )
    finally:
        close_device(opened)


def _add_heap() -> None:
    """Lets picamera2 take its buffers from the kernel's own heap where there is none of a Raspberry Pi's."""
    names = import_module("picamera2.dma_heap").heapNames
    if not any(Path(name).exists() for name in names) and Path(_OTHER_HEAP).exists():
        names.append(_OTHER_HEAP)


def _hint(error: BaseException) -> str:
    """What mends an exception of picamera2 or libcamera."""
    text = " ".join(str(cause) for cause in _causes(error)).lower()
    if "busy" in text:
        return "another program has the camera; find it with: sudo fuser -v /dev/media* /dev/video*"
    if any(isinstance(cause, PermissionError) for cause in _causes(error)) or "permission denied" in text:
        return "this user may not use cameras; mend it with: sudo usermod -aG video $USER; then log in again"
    if "dmaheap" in text or "dma heap" in text:
        return (
            "picamera2 takes its buffers from /dev/dma_heap, and there is no heap that it knows (CONFIG_DMABUF_HEAPS)"
        )
    if "allocat" in text or "memory" in text:
        return "not enough memory for its buffers: ask for fewer, or give the kernel more contiguous memory (cma=)"
    return "see the kernel's messages (dmesg), and list cameras with: rpicam-hello --list-cameras"


def _model(info: Any) -> str:
    return str(info.get("Model") or info.get("Id") or "unknown")


def _pair(size: Any) -> tuple[int, int]:
    width, height = size
    return int(width), int(height)


def _view(limits: Any) -> tuple[int, int, int, int] | None:
    if limits is None:
        return None
    left, top, width, height = (int(value) for value in limits)
    return left, top, width, height


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
