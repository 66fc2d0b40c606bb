"""The conformance suite of cameras: what every `Camera` must do, ours and others'."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_isp.cameras.base import Camera, ControlLimits, Controls
from edge_isp.errors import CameraError, CameraTimeoutError
from edge_isp.frame import FrameStatus, RawFormat, RawFrame

OpenCamera = Callable[[], Camera]


def check_camera(
    open_camera: OpenCamera,
    *,
    frames: int = 8,
    timeout_s: float = 10.0,
    before_read: Callable[[Camera], object] | None = None,
) -> None:
    """Checks a camera against the protocol `edge_isp.Camera`; to be called from a test.

        def test_my_camera():
            check_camera(lambda: MyCamera(0))

    It opens the camera about ten times, and checks: what frames say of themselves (shapes, levels, numbers, times,
    statuses); that a frame that is held does not change while others are read, nor when the camera is closed; that
    frames given back can be filled again; time-outs; settings and their limits; closing, also while another thread
    reads; and that file descriptors and threads are as before when the camera is closed.

    Args:
        open_camera: opens it, always in the same way. A recording must have two frames at least.
        frames: how many to read in each check; a recording may have fewer.
        timeout_s: in which a frame must come.
        before_read: called before each read that must have a frame, for a camera that is triggered.

    Raises:
        AssertionError: the camera does not do what it must; the message says what, and where in the protocol.
    """

    def read(camera: Camera) -> RawFrame | None:
        if before_read is not None:
            before_read(camera)
        return camera.read(timeout_s=timeout_s)

    _check_frames(open_camera, read, frames)
    _check_leases(open_camera, read, frames)
    _check_timeout(open_camera, timeout_s)
    _check_control(open_camera)
    _check_close(open_camera, read)
    _check_close_while_reading(open_camera, timeout_s)
    _check_resources(open_camera, read, timeout_s)


Read = Callable[[Camera], RawFrame | None]


def _check_frames(open_camera: OpenCamera, read: Read, count: int) -> None:
    """What frames say of themselves, and of the frame before."""
    with open_camera() as camera:
        last: RawFrame | None = None
        for number in range(count):
            frame = read(camera)
            if frame is None:
                _require(number >= 2, f"read: the end (None) came after {number} frames; two at least are needed")
                break
            with frame:
                _check_frame(frame)
                if last is not None and last.source == frame.source:
                    _check_order(last, frame)
            last = frame


def _check_frame(frame: RawFrame) -> None:
    layout = frame.format
    _require(isinstance(layout, RawFormat), f"RawFrame.format: must be a RawFormat, found {layout!r}")
    data, shape = frame.data, (layout.height, layout.stride)
    _require(
        isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == shape,
        f"RawFrame.data: must be uint8 {shape} (height, stride), found {getattr(data, 'dtype', type(data))} "
        f"{getattr(data, 'shape', '')}",
    )
    _require(data.strides[1] == 1, "RawFrame.data: the bytes of a row must follow each other")
    _require(bool(frame.source), "RawFrame.source: must say what delivered the frame")
    greatest = 2**layout.bit_depth - 1
    _require(
        len(frame.black_level) == 4 and all(0 <= level < frame.white_level for level in frame.black_level),
        f"RawFrame.black_level: must be four codes from 0 to below white_level {frame.white_level}, "
        f"found {frame.black_level}",
    )
    _require(
        frame.white_level <= greatest,
        f"RawFrame.white_level: must be a code of {layout.bit_depth} bits, found {frame.white_level}",
    )
    now_ns = time.monotonic_ns()
    _require(
        0 <= frame.timestamp_ns <= now_ns,
        f"RawFrame.timestamp_ns: the start of exposure is past, on CLOCK_MONOTONIC: expected up to {now_ns}, "
        f"found {frame.timestamp_ns}",
    )
    _require(frame.sequence >= 0, f"RawFrame.sequence: must not be negative, found {frame.sequence}")
    for name in ("exposure_ns", "analogue_gain", "colour_temperature_k"):
        value = getattr(frame, name)
        _require(value is None or value > 0, f"RawFrame.{name}: must be positive or None, found {value}")
    gains = frame.colour_gains
    _require(
        gains is None or (len(gains) == 2 and min(gains) > 0),
        f"RawFrame.colour_gains: must be two positive numbers (red, blue) or None, found {gains}",
    )


def _check_order(last: RawFrame, frame: RawFrame) -> None:
    _require(
        frame.sequence > last.sequence,
        f"RawFrame.sequence: must increase, found {frame.sequence} after {last.sequence}",
    )
    gap = frame.sequence != last.sequence + 1
    _require(
        gap == (FrameStatus.GAP in frame.status),
        f"RawFrame.status: must have GAP just where numbers are missing in sequence, found {frame.status} for "
        f"{frame.sequence} after {last.sequence}",
    )
    _require(
        gap or FrameStatus.SKIPPED not in frame.status,
        f"RawFrame.status: SKIPPED says that frames before it are missing, found it for {frame.sequence} after "
        f"{last.sequence}",
    )
    backwards = frame.timestamp_ns <= last.timestamp_ns
    _require(
        backwards <= (FrameStatus.BAD_TIMESTAMP in frame.status),
        f"RawFrame.timestamp_ns: must increase, or the status have BAD_TIMESTAMP; found {frame.timestamp_ns} after "
        f"{last.timestamp_ns}",
    )


def _check_leases(open_camera: OpenCamera, read: Read, count: int) -> None:
    """Frames that are held do not change; given back, the camera goes on."""
    with open_camera() as camera:
        held: list[tuple[RawFrame, bytes]] = []
        refused = False
        for _ in range(count):
            try:
                frame = read(camera)
            except CameraTimeoutError as error:
                raise AssertionError(
                    f"read: with {len(held)} frames held it must deliver, or say so with a CameraError; found a "
                    f"time-out: {error}"
                ) from error
            except CameraError:
                _require(bool(held), "read: a CameraError before the first frame")
                refused = True
                break
            if frame is None:
                break
            held.append((frame, frame.data.tobytes()))
        for frame, content in held:
            _require(
                frame.data.tobytes() == content,
                f"read: frame {frame.sequence} changed while it was held: its buffer was given to the sensor again",
            )
        for frame, _ in held:
            frame.release()
            frame.release()
        if refused:
            after = read(camera)
            _require(after is not None, "read: no frame any more after all were released")
            if after is not None:
                after.release()


def _check_timeout(open_camera: OpenCamera, timeout_s: float) -> None:
    with open_camera() as camera:
        begun_s = time.monotonic()
        try:
            frame = camera.read(timeout_s=0.0)
        except CameraTimeoutError:
            pass
        except CameraError as error:
            raise AssertionError(f"read: a time-out must be a CameraTimeoutError, found {error!r}") from error
        else:
            if frame is not None:
                frame.release()
        waited_s = time.monotonic() - begun_s
        _require(waited_s < timeout_s, f"read: timeout_s=0 must not wait, took {waited_s:.1f} s")


def _check_control(open_camera: OpenCamera) -> None:
    with open_camera() as camera:
        camera.control(Controls())  # nothing is asked: nothing happens
        try:
            limits = camera.limits
        except CameraError:
            _require_refused(camera, Controls(exposure_ns=10_000_000))
            _require_refused(camera, Controls(analogue_gain=2.0))
            return
        _require(isinstance(limits, ControlLimits), f"limits: must be ControlLimits, found {limits!r}")
        for name, (least, greatest) in (("exposure_ns", limits.exposure_ns), ("analogue_gain", limits.analogue_gain)):
            _require(0 < least <= greatest, f"limits.{name}: must be positive and in order, found {least}, {greatest}")
        (shortest_ns, longest_ns), (least_gain, greatest_gain) = limits.exposure_ns, limits.analogue_gain
        for exposure_ns in (shortest_ns // 2, longest_ns * 2):
            _require_refused(camera, Controls(exposure_ns=exposure_ns))
        for gain in (least_gain / 2, greatest_gain * 2):
            _require_refused(camera, Controls(analogue_gain=gain))
        camera.control(Controls(exposure_ns=limits.exposure_ns[0], analogue_gain=limits.analogue_gain[0]))
        camera.control(Controls(exposure_ns=limits.exposure_ns[1], analogue_gain=limits.analogue_gain[1]))


def _require_refused(camera: Camera, controls: Controls) -> None:
    try:
        camera.control(controls)
    except CameraError:
        return
    raise AssertionError(f"control: {controls} is not within limits and must be a CameraError")


def _check_close(open_camera: OpenCamera, read: Read) -> None:
    camera = open_camera()
    with camera as entered:
        _require(entered is camera, "__enter__: must return the camera")
        frame = read(camera)
        _require(frame is not None, "read: no first frame")
        content = frame.data.tobytes() if frame is not None else b""
    camera.close()
    _require(camera.read(timeout_s=0.0) is None, "read: must return None once the camera is closed")
    if frame is not None:
        _require(frame.data.tobytes() == content, "close: a frame that was held has changed")
        frame.release()


def _check_close_while_reading(open_camera: OpenCamera, timeout_s: float) -> None:
    camera = open_camera()
    reading = threading.Event()
    failures: list[BaseException] = []

    def read_all() -> None:
        try:
            reading.set()
            while (frame := camera.read()) is not None:
                frame.release()
        except CameraError:
            pass
        except Exception as error:  # noqa: BLE001 (reported below)
            failures.append(error)

    reader = threading.Thread(target=read_all, daemon=True)
    reader.start()
    reading.wait()
    camera.close()
    reader.join(timeout_s)
    _require(not reader.is_alive(), f"close: a thread in `read` still waits {timeout_s:g} s after it")
    _require(not failures, f"close: a thread in `read` ends with None or a CameraError, found {failures!r}")


def _check_resources(open_camera: OpenCamera, read: Read, timeout_s: float) -> None:
    """File descriptors and threads are the same after opening, reading and closing once and again."""

    def once() -> None:
        with open_camera() as camera:
            frame = read(camera)
            if frame is not None:
                frame.release()

    once()  # what is made once for all (a camera manager, a cache)
    gc.collect()
    before = _descriptors(), threading.active_count()
    for _ in range(3):
        once()
    gc.collect()
    deadline_s = time.monotonic() + timeout_s
    while (after := (_descriptors(), threading.active_count())) > before and time.monotonic() < deadline_s:
        threading.Event().wait(0.01)  # a thread may take a moment to end
    _require(
        after[0] <= before[0] and after[1] <= before[1],
        f"close: file descriptors and threads were {before}, and are {after} after three more openings",
    )


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
