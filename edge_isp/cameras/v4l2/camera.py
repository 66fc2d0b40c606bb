"""Any camera that Linux drives and that delivers Bayer frames: V4L2, with the driver's buffers lent without a copy."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.profile import profile_of, shipped_profiles
from edge_isp.cameras.base import CameraDevice, CameraMode, ControlLimits
from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.abi import (
    BUF_FLAG_ERROR,
    BUF_FLAG_TIMESTAMP_MASK,
    BUF_FLAG_TIMESTAMP_MONOTONIC,
    BUF_FLAG_TSTAMP_SRC_MASK,
    BUF_FLAG_TSTAMP_SRC_SOE,
    MEMORY_MMAP,
    VIDIOC_DQBUF,
    VIDIOC_EXPBUF,
    VIDIOC_QBUF,
    VIDIOC_QUERYBUF,
    VIDIOC_REQBUFS,
    VIDIOC_STREAMOFF,
    VIDIOC_STREAMON,
    Buffer,
    ExportBuffer,
    Plane,
    RequestBuffers,
)
from edge_isp.cameras.v4l2.continuity import Continuity
from edge_isp.cameras.v4l2.controls import V4l2Controls
from edge_isp.cameras.v4l2.device import CaptureDevice, CurrentFormat, V4l2Device
from edge_isp.cameras.v4l2.formats import BAYER_FORMATS, PixelLayout
from edge_isp.cameras.v4l2.media import apply_setup, read_setup, subdevice_size
from edge_isp.cameras.v4l2.sensor import SensorSettings
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import FrameStatus, Packing, RawFormat, RawFrame

# One buffer is being filled, and the driver wants to know the next one before it is done.
_BUFFERS_OF_THE_DRIVER = 2

# Frames from a setting to the one that shows it, as with Sony's sensors and the drivers of libcamera: the next frame is
# being exposed already, but can still be amplified otherwise.
_EXPOSURE_DELAY, _GAIN_DELAY = 2, 1


@dataclass(frozen=True, slots=True)
class _DriverBuffer:
    """A buffer of the driver, mapped once for all; `offset` and `length` in bytes."""

    data: NDArray[np.uint8]
    length: int


class V4l2Camera:
    """Delivers the RAW frames of a video device, in order and without copying them.

    Args:
        device: number or path of the video device (0 is "/dev/video0"; "/dev/v4l/by-path/..." stays the same when the
            camera is plugged in again). Not with a `setup` file, which names it.
        setup: TOML file that sets up a media pipeline first; see docs/cameras.md.
        width, height: in pixels; by default as the device is set.
        fps: frames a second; by default as the device is set.
        pixel_format: V4L2's four characters ("RG10", "pRAA"); by default as the device is set if that is Bayer, else
            the most bits, and of these the smallest packing.
        bit_depth: of the sensor. Of formats with as many bits one is chosen; in a 16-bit format fewer bits are
            left-aligned, as on Raspberry Pi 5.
        sensor: its name ("imx219"), for black level and gain; by default that of the sensor's sub-device.
        black_level: code of no light at the format's bit depth, where there is no profile of the sensor.
        buffers: how many the driver is asked for. Two fewer can be held at a time.

    Attributes:
        format: of the frames, as the driver gave it back.
        controls: of the sensor's sub-device, or of the video device where the driver has them there.

    `sequence` counts frames; a lost one is missing in it, by the driver's count and by the time stamps (see
    `Continuity`), and the next frame has `FrameStatus.GAP`. `timestamp_ns` is the driver's. Where the driver says that
    it is the end of the frame (most do), readout and exposure are subtracted if the sensor's controls tell them.

    Raises:
        CameraError: there is no such device, or it cannot do what is asked.
        CameraDisconnectedError: it is gone.
        FormatError: its layout is none of Bayer.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        setup: str | Path | None = None,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        bit_depth: int | None = None,
        sensor: str | None = None,
        black_level: float | None = None,
        buffers: int = 6,
    ) -> None:
        if buffers <= _BUFFERS_OF_THE_DRIVER:
            raise CameraError(
                f"camera 'v4l2': buffers must be at least {_BUFFERS_OF_THE_DRIVER + 1}, since the driver keeps "
                f"{_BUFFERS_OF_THE_DRIVER} for itself, found {buffers}"
            )
        if fps is not None and not fps > 0:
            raise CameraError(f"camera 'v4l2': fps must be positive, found {fps}")
        path, sensor_path = _paths(device, setup)
        self._source = f"v4l2:{path}"
        self._lock = threading.Lock()  # of _closed, _leases and _failure
        self._reading = threading.Lock()  # held while the device is waited for
        self._closed = threading.Event()
        # To give a buffer back: kind and text. The exception itself would keep the stack that it was raised in, and so
        # frames and with them the device, alive until the garbage collector comes.
        self._failure: tuple[type[CameraError], str] | None = None
        self._leases: dict[int, RawFrame] = {}
        self._buffers: list[_DriverBuffer] = []
        self._continuity = Continuity()
        self._pending: list[tuple[int, str, float | None]] = []  # from which frame on, what, its value
        self._last_sequence = -1
        self._subdevice: V4l2Device | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._device = CaptureDevice(path)
        except BaseException:
            os.close(self._wake)
            raise
        try:
            if sensor_path is not None:
                self._subdevice = V4l2Device(sensor_path)
            self.controls = V4l2Controls(self._subdevice or self._device)
            self.format = self._set_format(width, height, pixel_format, bit_depth)
            self._sensor = sensor or (_sensor_name(sensor_path) if sensor_path else None)
            self._black_level, self._white_level = self._levels(black_level)
            size = subdevice_size(self._subdevice) if self._subdevice else (self.format.width, self.format.height)
            self._settings = SensorSettings(self.controls, self._sensor, *size, self._source)
            if fps is not None:
                self._set_rate(fps)
            self._noted_changes = self.controls.changes
            self._conditions: dict[str, float | None] = {
                "exposure_ns": self._settings.exposure_ns(),
                "analogue_gain": self._settings.analogue_gain(),
            }
            self._start(buffers)
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame; see `Camera.read`. Frames wait in the driver's buffers while nobody reads.

        Raises:
            CameraTimeoutError: no frame within `timeout_s`.
            CameraDisconnectedError: the camera is gone.
            CameraError: the driver has failed, or as many frames are held as the camera can spare.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._reading:
            while not self._closed.is_set():
                self._check_leases()
                wait_s = None if deadline_s is None else deadline_s - time.monotonic()
                ready = v4l2_kernel.wait_readable(self._device.descriptor, self._wake, wait_s)
                if self._closed.is_set():
                    break
                if ready and (buffer := self._dequeue()) is not None:
                    return self._frame(*buffer)
                if deadline_s is not None and time.monotonic() >= deadline_s:
                    raise CameraTimeoutError(
                        f"{self._source}: no frame within {timeout_s} s; see the kernel's messages (dmesg), and "
                        "whether the camera's cable sits well"
                    )
        return None

    @property
    def limits(self) -> ControlLimits:
        """As the sensor's driver gives them; the longest exposure is that of the frame period."""
        self._check_open()
        return self._settings.limits()

    def control(
        self,
        *,
        exposure_ns: int | None = None,
        analogue_gain: float | None = None,
        fps: float | None = None,
        colour_gains: tuple[float, float] | None = None,
        auto_exposure: bool | None = None,
        auto_white_balance: bool | None = None,
    ) -> None:
        """Sets the sensor's exposure, gain and frame rate; see `Camera.control`.

        Exposure is set in whole lines and gain in the sensor's steps. Frames report the new exposure from the second
        frame after this call on, and the new gain from the first; other sensors may take longer.

        Raises:
            CameraError: white balance or automatics are asked for (the driver has none; see `AutoExposure`), or what
                is asked cannot be set.
        """
        self._check_open()
        if any(setting is not None for setting in (colour_gains, auto_exposure, auto_white_balance)):
            raise CameraError(
                f"{self._source}: only exposure_ns, analogue_gain and fps can be set; AutoExposure does the rest"
            )
        asked = exposure_ns is not None or analogue_gain is not None
        if asked and fps is None:
            self._settings.limits().check(exposure_ns=exposure_ns, analogue_gain=analogue_gain)
        if fps is not None:
            if not fps > 0:
                raise CameraError(f"{self._source}: fps must be positive, found {fps}")
            before = self._rate()
            self._set_rate(fps)
            try:
                if asked:
                    self._settings.limits().check(exposure_ns=exposure_ns, analogue_gain=analogue_gain)
            except CameraError:
                if before is not None:
                    self._set_rate(before)
                raise
        if asked:
            self.controls.set(self._settings.codes(exposure_ns=exposure_ns, analogue_gain=analogue_gain))

    def export_dma_buf(self, frame: RawFrame) -> int:
        """The buffer of a frame that is held, as a DMA-BUF for a GPU, an NPU or an encoder.

        Returns:
            a new file descriptor, the caller's to close (`os.close`). Its content is the frame's until `release`.

        Raises:
            CameraError: the frame is not held, or the driver cannot export buffers.
        """
        with self._lock:
            index = next((number for number, held in self._leases.items() if held is frame), None)
            if index is None or self._closed.is_set():
                raise CameraError(
                    f"{self._source}: frame {frame.sequence} is not held: its buffer is the driver's again"
                )
            request = ExportBuffer(type=self._device.buffer_type, index=index, flags=os.O_CLOEXEC | os.O_RDWR)
            if self._device.request(VIDIOC_EXPBUF, request, (errno.ENOTTY, errno.EINVAL)):
                raise CameraError(f"{self._source}: the driver cannot export its buffers as DMA-BUF")
            return int(request.fd)

    def close(self) -> None:
        """Stops the camera and lets it go. Frames still held may be read on; their memory goes with the last one."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        os.eventfd_write(self._wake, 1)  # a `read` that waits ends
        with self._reading, self._lock:
            try:
                # The device may be gone, or never have begun.
                failures = (errno.EINVAL, errno.EBUSY, errno.EIO)
                kind = ctypes.c_int32(self._device.buffer_type)
                self._device.request(VIDIOC_STREAMOFF, kind, failures)
                self._buffers.clear()  # unmaps those that no frame holds
                self._device.request(VIDIOC_REQBUFS, self._request_buffers(0), failures)
            except CameraDisconnectedError:
                pass  # there is nothing to stop any more
            finally:
                self._buffers.clear()
                self._leases.clear()
                self._device.close()
                if self._subdevice is not None:
                    self._subdevice.close()
                os.close(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def devices() -> list[CameraDevice]:
        """The machine's video devices that capture, each with its Bayer modes or the reason why it has none."""
        found = []
        for path in v4l2_kernel.nodes("video"):
            spec = f"v4l2:{path}"
            try:
                with CaptureDevice(path) as device:
                    codes = device.codes()
                    modes = tuple(mode for code in codes if code in BAYER_FORMATS for mode in _modes(device, code))
                    bayer = any(code in BAYER_FORMATS for code in codes)
                    problem = None if bayer else f"no Bayer format: it delivers {', '.join(codes) or 'nothing'}"
                    found.append(CameraDevice(spec, f"{device.card} ({device.driver}, {device.bus})", modes, problem))
            except CameraError as error:
                if "does not capture video" not in str(error):
                    found.append(CameraDevice(spec, path, (), str(error)))
        return found

    def _set_format(
        self, width: int | None, height: int | None, pixel_format: str | None, bit_depth: int | None
    ) -> RawFormat:
        """Chooses a format, sets it, and reads back what came of it."""
        current = self._device.format()
        code = _choose(self._device, self._source, current.code, pixel_format, bit_depth)
        wanted = (width or current.width, height or current.height)
        found = self._device.set_format(code, *wanted)
        if found.code != code or (width, height) != (
            found.width if width else None,
            found.height if height else None,
        ):
            sizes = ", ".join(str(each) for each in self._device.sizes(code)) or "what it does not tell"
            raise CameraError(
                f"{self._source}: asked for {code} {wanted[0]}x{wanted[1]}, but the driver made it "
                f"{found.code} {found.width}x{found.height}; sizes of {code}: {sizes}"
            )
        return _raw_format(found, BAYER_FORMATS[code], bit_depth, self._source)

    def _levels(self, black_level: float | None) -> tuple[tuple[float, float, float, float], float]:
        """Black and white level at the format's bit depth."""
        layout = self.format
        if black_level is not None:
            return (black_level,) * 4, float(2**layout.bit_depth - 1)
        profile = profile_of(self._sensor)
        if profile is not None:
            profile = profile.at_bit_depth(layout.bit_depth)
            return profile.black_level, profile.white_level
        raise CameraError(
            f"{self._source}: V4L2 tells no black level, and there is no sensor profile of '{self._sensor or 'none'}'; "
            f"give the sensor (sensor=..., one of {', '.join(shipped_profiles())}) or its black level (black_level=...)"
        )

    def _rate(self) -> float | None:
        """Frames a second that are set, where the video device or the sensor tells."""
        rate, period_ns = self._device.rate(), self._settings.period_ns
        if rate is not None:
            return float(rate)
        return None if period_ns is None else 1e9 / period_ns

    def _set_rate(self, fps: float) -> None:
        """Asks the video device for a frame rate, or the sensor's blanking."""
        found = self._device.set_rate(fps)
        if found is None:
            self._settings.set_rate(fps)
        elif abs(found / Fraction(fps) - 1) > 0.01:
            rates = self._device.rates(_code_of(self._device), self.format.width, self.format.height)
            there_are = ", ".join(f"{float(rate):g}" for rate in rates) or "what it does not tell"
            raise CameraError(
                f"{self._source}: asked for {fps:g} frames/s, but the driver made it {float(found):g}; "
                f"rates at {self.format.width}x{self.format.height}: {there_are}"
            )
        self._continuity.restart_period()

    def _note_settings(self) -> None:
        """Notes which frames have the exposure and gain that were set since the last one, however they were set."""
        if self.controls.changes == self._noted_changes:
            return
        self._noted_changes = self.controls.changes
        self._pending += [
            (self._last_sequence + _EXPOSURE_DELAY, "exposure_ns", self._settings.exposure_ns()),
            (self._last_sequence + _GAIN_DELAY, "analogue_gain", self._settings.analogue_gain()),
        ]

    def _request_buffers(self, count: int) -> RequestBuffers:
        return RequestBuffers(count=count, type=self._device.buffer_type, memory=MEMORY_MMAP)

    def _start(self, wanted: int) -> None:
        """Maps the driver's buffers, hands them to it and starts the stream."""
        request = self._request_buffers(wanted)
        self._device.request(VIDIOC_REQBUFS, request)
        if request.count <= _BUFFERS_OF_THE_DRIVER:
            raise CameraError(
                f"{self._source}: asked for {wanted} buffers, but the driver has memory for {request.count}; "
                "give the kernel more contiguous memory (cma=), or take a smaller size"
            )
        for index in range(request.count):
            buffer, planes = self._buffer(index)
            self._device.request(VIDIOC_QUERYBUF, buffer)
            offset = planes[0].m.mem_offset if planes is not None else buffer.m.offset
            length = planes[0].length if planes is not None else buffer.length
            if length < self.format.frame_bytes:
                raise FormatError(
                    f"{self._source}: a buffer of {length} bytes cannot hold a frame of {self.format}, "
                    f"stride {self.format.stride}: {self.format.frame_bytes} bytes"
                )
            try:
                memory = v4l2_kernel.map_buffer(self._device.descriptor, length, offset)
            except OSError as error:
                raise CameraError(
                    f"{self._source}: buffer {index} cannot be mapped: {error.strerror}; see the kernel's "
                    "messages (dmesg)"
                ) from error
            self._buffers.append(_DriverBuffer(np.frombuffer(memory, np.uint8), length))
        for index in range(request.count):
            self._queue(index)
        self._device.request(VIDIOC_STREAMON, ctypes.c_int32(self._device.buffer_type))

    def _buffer(self, index: int) -> tuple[Buffer, ctypes.Array[Plane] | None]:
        """A structure for a request about a buffer, and its planes, to be kept alive with it."""
        buffer = Buffer(index=index, type=self._device.buffer_type, memory=MEMORY_MMAP)
        if not self._device.multiplanar:
            return buffer, None
        planes = (Plane * 8)()
        buffer.m.planes, buffer.length = ctypes.addressof(planes), len(planes)
        return buffer, planes

    def _queue(self, index: int) -> None:
        buffer, _planes = self._buffer(index)
        self._device.request(VIDIOC_QBUF, buffer)

    def _dequeue(self) -> tuple[Buffer, int, int] | None:
        """A filled buffer, its bytes and the offset of the first; None where there is none after all."""
        buffer, planes = self._buffer(0)
        if self._device.request(VIDIOC_DQBUF, buffer, (errno.EAGAIN,)):
            return None
        if planes is None:
            return buffer, buffer.bytesused, 0
        return buffer, planes[0].bytesused - planes[0].data_offset, planes[0].data_offset

    def _frame(self, buffer: Buffer, used: int, offset: int) -> RawFrame:
        """The frame of a filled buffer, which is the frame's from now on."""
        layout, index = self.format, buffer.index
        mapped = self._buffers[index]
        stamp_ns = buffer.timestamp.tv_sec * 1_000_000_000 + buffer.timestamp.tv_usec * 1000
        if buffer.flags & BUF_FLAG_TIMESTAMP_MASK != BUF_FLAG_TIMESTAMP_MONOTONIC:
            stamp_ns = time.monotonic_ns()  # of another clock, or none
        sequence, status = self._continuity.next(buffer.sequence, stamp_ns)
        if buffer.flags & BUF_FLAG_ERROR:
            status |= FrameStatus.CORRUPTED
        # Padding after the last row may be missing.
        if used < layout.frame_bytes - (layout.stride - layout.row_bytes):
            status |= FrameStatus.TRUNCATED
        if offset + layout.frame_bytes > mapped.length:
            status, offset = status | FrameStatus.TRUNCATED, 0
        self._note_settings()
        self._last_sequence = sequence
        self._conditions.update({name: value for start, name, value in self._pending if start <= sequence})
        self._pending = [change for change in self._pending if change[0] > sequence]
        exposure_ns, gain = self._conditions["exposure_ns"], self._conditions["analogue_gain"]
        if buffer.flags & BUF_FLAG_TSTAMP_SRC_MASK != BUF_FLAG_TSTAMP_SRC_SOE and exposure_ns is not None:
            stamp_ns -= int(exposure_ns) + (self._settings.readout_ns or 0)
        frame = RawFrame(
            data=mapped.data[offset : offset + layout.frame_bytes].reshape(layout.height, layout.stride),
            format=layout,
            source=self._source,
            sequence=sequence,
            timestamp_ns=stamp_ns,
            black_level=self._black_level,
            white_level=self._white_level,
            sensor=self._sensor,
            exposure_ns=None if exposure_ns is None else int(exposure_ns),
            analogue_gain=gain,
            status=status,
            on_release=lambda: self._give_back(index),
        )
        with self._lock:
            self._leases[index] = frame
        return frame

    def _give_back(self, index: int) -> None:
        """Hands a frame's buffer to the driver again."""
        with self._lock:
            if self._leases.pop(index, None) is None or self._closed.is_set():
                return
            try:
                self._queue(index)
            except CameraError as error:
                self._failure = type(error), str(error)  # the next `read` raises it

    def _check_leases(self) -> None:
        """Raises CameraError where a buffer could not be given back, or all that the driver can spare are held."""
        lendable = len(self._buffers) - _BUFFERS_OF_THE_DRIVER
        with self._lock:
            held, failure = len(self._leases), self._failure
        if failure is not None:
            kind, text = failure
            raise kind(text)
        if held >= lendable:
            raise CameraError(
                f"{self._source}: {held} frames are held, which is all that the camera can spare; release one before "
                f"reading the next, or open the camera with more than buffers={len(self._buffers)}"
            )

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CameraError(f"{self._source}: the camera is closed")


def _paths(device: str | int | None, setup: str | Path | None) -> tuple[str, str | None]:
    """Paths of the video device and of the sensor's sub-device."""
    if setup is not None:
        if device is not None:
            raise CameraError(f"camera 'v4l2': give a device or a set-up file, not both; found {device} and {setup}")
        return apply_setup(read_setup(setup))
    if device is None:
        raise CameraError(
            "camera 'v4l2': give a device, such as v4l2:0, or setup=FILE; list them with: edge-isp devices"
        )
    text = str(device)
    return (f"/dev/video{text}" if text.isdecimal() else text), None


def _choose(device: CaptureDevice, source: str, current: str, pixel_format: str | None, bit_depth: int | None) -> str:
    """The code of the format to set."""
    codes = device.codes()
    bayer = [code for code in codes if code in BAYER_FORMATS]
    if not bayer:
        raise FormatError(f"{source}: no Bayer format: it delivers {', '.join(codes) or 'nothing'}")
    if pixel_format is not None:
        if pixel_format not in bayer:
            raise FormatError(f"{source}: no Bayer format '{pixel_format}'; there are: {', '.join(bayer)}")
        return pixel_format
    fitting = bayer
    if bit_depth is not None:
        exact = [code for code in bayer if BAYER_FORMATS[code].bit_depth == bit_depth]
        fitting = exact or [code for code in bayer if BAYER_FORMATS[code].bit_depth == 16]
        if not fitting:
            raise FormatError(f"{source}: no Bayer format of {bit_depth} bits; there are: {', '.join(bayer)}")
    if current in fitting:
        return current
    return max(fitting, key=_preference)


def _preference(code: str) -> tuple[int, bool]:
    """Greater for better: lossless, bits, then packed."""
    layout = BAYER_FORMATS[code]
    lossless_bits = 0 if layout.packing is Packing.PISP_COMP1 else layout.bit_depth
    return lossless_bits, layout.packing is Packing.CSI2P


def _raw_format(found: CurrentFormat, layout: PixelLayout, bit_depth: int | None, source: str) -> RawFormat:
    """The layout of the frames that a device is set to deliver."""
    if found.planes != 1:
        raise FormatError(f"{source}: {found.code} in {found.planes} planes; a Bayer frame is one")
    packing, bits = layout.packing, layout.bit_depth
    if bit_depth is not None and bit_depth != bits:
        if packing is not Packing.U16 or bits != 16:
            raise FormatError(f"{source}: {found.code} has {bits} bits, asked for {bit_depth}")
        packing, bits = Packing.U16_LEFT, bit_depth
    stride = found.bytes_per_line or found.size_bytes // found.height
    return RawFormat(found.width, found.height, layout.cfa, bits, packing, stride)


def _code_of(device: CaptureDevice) -> str:
    return device.format().code


def _sensor_name(path: str) -> str | None:
    """The sensor's name from that of its sub-device: "imx219 10-0010" is an imx219."""
    match = re.match(r"[a-z0-9]+", v4l2_kernel.node_name(path).lower())
    return match.group() if match else None


def _modes(device: CaptureDevice, code: str) -> Sequence[CameraMode]:
    """Sizes and rates of a format."""
    modes = []
    for sizes in device.sizes(code):
        greatest = (sizes.width[1], sizes.height[1])
        rates = tuple(float(rate) for rate in device.rates(code, *greatest))
        modes.append(CameraMode(code, str(sizes), rates))
    return modes or [CameraMode(code, "", ())]
