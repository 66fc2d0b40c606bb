"""A V4L2 device node: what it can do, its formats, and its requests with errors that say what to do."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Self

from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.abi import (
    BUF_TYPE_VIDEO_CAPTURE,
    BUF_TYPE_VIDEO_CAPTURE_MPLANE,
    CAP_DEVICE_CAPS,
    CAP_IO_MC,
    CAP_STREAMING,
    CAP_TIMEPERFRAME,
    CAP_VIDEO_CAPTURE,
    CAP_VIDEO_CAPTURE_MPLANE,
    FIELD_NONE,
    FRMIVAL_TYPE_DISCRETE,
    FRMSIZE_TYPE_DISCRETE,
    REQUEST_NAMES,
    VIDIOC_ENUM_FMT,
    VIDIOC_ENUM_FRAMEINTERVALS,
    VIDIOC_ENUM_FRAMESIZES,
    VIDIOC_G_FMT,
    VIDIOC_G_PARM,
    VIDIOC_QUERYCAP,
    VIDIOC_S_FMT,
    VIDIOC_S_PARM,
    Capability,
    Format,
    FormatDescription,
    FrameInterval,
    FrameSize,
    StreamParameters,
)
from edge_isp.cameras.v4l2.formats import CurrentFormat, fourcc, fourcc_name
from edge_isp.errors import CameraDisconnectedError, CameraError

# What a request's error means beyond its text, and what mends it.
_HINTS = {
    errno.EBUSY: "another program uses it; find it with: sudo fuser -v {path}",
    errno.ENOMEM: "not enough memory for its buffers; ask for fewer, or give the kernel more contiguous memory (cma=)",
    errno.EPIPE: "the formats along the media pipeline do not fit together; set them up with a file: setup=...",
    errno.ENOLINK: "no enabled link leads to it; set the media pipeline up with a file: setup=...",
    errno.EIO: "the driver has failed; see the kernel's messages (dmesg), then close the camera and open it again",
}
_OPEN_HINTS = {
    errno.EACCES: "this user may not use cameras; mend it with: sudo usermod -aG video $USER; then log in again",
    errno.ENOENT: "there is no such device; list cameras with: edge-isp devices",
    errno.EBUSY: "another program has the camera; find it with: sudo fuser -v {path}",
}
# A device node without a device behind it.
_GONE = (errno.ENODEV, errno.ENXIO)


@dataclass(frozen=True, slots=True)
class FrameSizes:
    """Sizes of a format: one, or a range in steps.

    Attributes:
        width: least, greatest and step, in pixels; a single size has a step of 0.
        height: likewise.
    """

    width: tuple[int, int, int]
    height: tuple[int, int, int]

    def __str__(self) -> str:
        smallest = f"{self.width[0]}x{self.height[0]}"
        if not (self.width[2] or self.height[2]):
            return smallest
        steps = f"{max(1, self.width[2])}x{max(1, self.height[2])}"
        return f"{smallest} to {self.width[1]}x{self.height[1]} in steps of {steps}"


class V4l2Device:
    """An open device node, a video device's or a sub-device's; a context manager.

    Args:
        path: of the node.

    Raises:
        CameraError: it cannot be opened.
        CameraDisconnectedError: no device is behind it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor: int | None = v4l2_kernel.open_device(path)
        except OSError as error:
            kind = CameraDisconnectedError if error.errno in _GONE else CameraError
            hint = _OPEN_HINTS.get(error.errno or 0, "see the kernel's messages (dmesg)").format(path=path)
            raise kind(f"{path}: cannot be opened: {_reason(error)}; {hint}") from error

    @property
    def descriptor(self) -> int:
        """The file descriptor.

        Raises:
            CameraError: the device is closed.
        """
        if self._descriptor is None:
            raise CameraError(f"{self.path}: the camera is closed")
        return self._descriptor

    def request(self, request: int, argument: ctypes.Structure | ctypes.c_int32, expected: tuple[int, ...] = ()) -> int:
        """One request.

        Args:
            request: the request's number.
            argument: structure that the kernel reads and fills.
            expected: error numbers that are an answer, not a failure.

        Returns:
            0, or the error number where it is one of `expected`.

        Raises:
            CameraDisconnectedError: the device is gone.
            CameraError: the request failed in another way that was not expected.
        """
        try:
            v4l2_kernel.ioctl(self.descriptor, request, argument)
        except OSError as error:
            number = error.errno or errno.EIO
            if number in expected:
                return number
            raise self.error(request, error) from error
        return 0

    def error(self, request: int, error: OSError) -> CameraError:
        """What a request's error number means, as an exception to raise.

        Args:
            request: the request's number.
            error: that the kernel answered with.
        """
        if error.errno in _GONE:
            return CameraDisconnectedError(
                f"{self.path}: the camera is gone ({REQUEST_NAMES[request]}: {_reason(error)}); "
                "close it, and open it again when it is back"
            )
        hint = _HINTS.get(error.errno or 0, "see the kernel's messages (dmesg)").format(path=self.path)
        return CameraError(f"{self.path}: {REQUEST_NAMES[request]} failed: {_reason(error)}; {hint}")

    def close(self) -> None:
        """Closes the node. Closing it again has no effect."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            v4l2_kernel.close_device(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class NotACaptureDeviceError(CameraError):
    """A video device that does not capture: an output, an encoder, a decoder."""


class CaptureDevice(V4l2Device):
    """A video device that captures, of one plane or of several.

    Args:
        path: of the node.

    Raises:
        NotACaptureDeviceError: it does not capture and stream.
        CameraError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            capability = Capability()
            if self.request(VIDIOC_QUERYCAP, capability, (errno.ENOTTY, errno.EINVAL)):
                raise CameraError(f"{path}: not a V4L2 device; list cameras with: edge-isp devices")
            self.driver = capability.driver.decode("utf-8", "replace")
            self.card = capability.card.decode("utf-8", "replace")
            self.bus = capability.bus_info.decode("utf-8", "replace")
            able = capability.device_caps if capability.capabilities & CAP_DEVICE_CAPS else capability.capabilities
            if not able & (CAP_VIDEO_CAPTURE | CAP_VIDEO_CAPTURE_MPLANE) or not able & CAP_STREAMING:
                raise NotACaptureDeviceError(
                    f"{path}: '{self.card}' does not capture video (capabilities {able:#010x}); "
                    "list cameras with: edge-isp devices"
                )
            self.follows_media_controller = bool(able & CAP_IO_MC)
            self.multiplanar = not able & CAP_VIDEO_CAPTURE
            self.buffer_type = BUF_TYPE_VIDEO_CAPTURE_MPLANE if self.multiplanar else BUF_TYPE_VIDEO_CAPTURE
        except BaseException:
            self.close()
            raise

    def codes(self, bus_format: int = 0) -> list[str]:
        """Four-character codes of its formats, in the driver's order.

        Args:
            bus_format: of the pad that it is linked to; 0 gives the formats of every pad format.
        """
        found = []
        description = FormatDescription(type=self.buffer_type, mbus_code=bus_format)
        while not self.request(VIDIOC_ENUM_FMT, description, (errno.EINVAL,)):
            found.append(fourcc_name(description.pixelformat))
            description = FormatDescription(type=self.buffer_type, mbus_code=bus_format, index=len(found))
        return found

    def sizes(self, code: str) -> list[FrameSizes]:
        """Sizes of a format; none where the driver does not report them.

        Args:
            code: four characters of the format.
        """
        return [
            FrameSizes((s.min_width, s.min_width, 0), (s.max_width, s.max_width, 0))
            if kind == FRMSIZE_TYPE_DISCRETE
            else FrameSizes((s.min_width, s.max_width, s.step_width), (s.min_height, s.max_height, s.step_height))
            for kind, s in self._sizes(code)
        ]

    def _sizes(self, code: str) -> Iterator[tuple[int, ctypes.Structure]]:
        index = 0
        while True:
            size = FrameSize(index=index, pixel_format=fourcc(code))
            if self.request(VIDIOC_ENUM_FRAMESIZES, size, (errno.EINVAL, errno.ENOTTY, errno.ENODATA)):
                return
            yield size.type, size.stepwise
            if size.type != FRMSIZE_TYPE_DISCRETE:
                return  # a range is the only one
            index += 1

    def rates(self, code: str, width: int, height: int) -> list[Fraction]:
        """Frame rates at a size, the fastest first; of a range its ends; none where the driver does not report them.

        Args:
            code: four characters of the format.
            width: of the frames, in pixels.
            height: of the frames, in pixels.
        """
        found: list[Fraction] = []
        index = 0
        while True:
            interval = FrameInterval(index=index, pixel_format=fourcc(code), width=width, height=height)
            if self.request(VIDIOC_ENUM_FRAMEINTERVALS, interval, (errno.EINVAL, errno.ENOTTY, errno.ENODATA)):
                break
            discrete = interval.type == FRMIVAL_TYPE_DISCRETE
            ends = (interval.min,) if discrete else (interval.min, interval.max)
            found += [Fraction(end.denominator, end.numerator) for end in ends if end.numerator]
            if not discrete:
                break
            index += 1
        return sorted(set(found), reverse=True)

    def format(self) -> CurrentFormat:
        """What it is set to."""
        content = Format(type=self.buffer_type)
        self.request(VIDIOC_G_FMT, content)
        return self._current(content)

    def set_format(self, code: str, width: int, height: int) -> CurrentFormat:
        """Asks for a progressive format; returns the one that the driver set.

        Args:
            code: four characters of the format.
            width: of the frames, in pixels.
            height: of the frames, in pixels.
        """
        content = Format(type=self.buffer_type)
        self.request(VIDIOC_G_FMT, content)  # colour spaces and such stay
        pixels = content.fmt.pix_mp if self.multiplanar else content.fmt.pix
        pixels.width, pixels.height, pixels.pixelformat, pixels.field = width, height, fourcc(code), FIELD_NONE
        planes = pixels.plane_fmt if self.multiplanar else [pixels]
        if self.multiplanar:
            pixels.num_planes = 1
        planes[0].bytesperline = planes[0].sizeimage = 0  # the driver's choice
        self.request(VIDIOC_S_FMT, content)
        return self._current(content)

    def _current(self, content: Format) -> CurrentFormat:
        if self.multiplanar:
            pixels, plane, planes = content.fmt.pix_mp, content.fmt.pix_mp.plane_fmt[0], content.fmt.pix_mp.num_planes
        else:
            pixels, plane, planes = content.fmt.pix, content.fmt.pix, 1
        return CurrentFormat(
            pixels.width,
            pixels.height,
            fourcc_name(pixels.pixelformat),
            plane.bytesperline,
            plane.sizeimage,
            planes,
            # A driver that has no choice may say 0, V4L2_FIELD_ANY, against the specification.
            pixels.field not in (0, FIELD_NONE),
        )

    def rate(self) -> Fraction | None:
        """The frame rate that it is set to; None where the driver does not report it."""
        parameters = StreamParameters(type=self.buffer_type)
        if self.request(VIDIOC_G_PARM, parameters, (errno.ENOTTY, errno.EINVAL)):
            return None
        return _rate(parameters)

    def set_rate(self, fps: float) -> Fraction | None:
        """Asks for a frame rate; returns the one that the driver set, or None where it cannot be set here.

        Args:
            fps: frames per second.
        """
        parameters = StreamParameters(type=self.buffer_type)
        if self.request(VIDIOC_G_PARM, parameters, (errno.ENOTTY, errno.EINVAL)):
            return None
        if not parameters.parm.capture.capability & CAP_TIMEPERFRAME:
            return None
        wanted = Fraction(fps).limit_denominator(1_000_000)
        parameters.parm.capture.timeperframe.numerator = wanted.denominator
        parameters.parm.capture.timeperframe.denominator = wanted.numerator
        self.request(VIDIOC_S_PARM, parameters)
        return _rate(parameters)


def _rate(parameters: StreamParameters) -> Fraction | None:
    period = parameters.parm.capture.timeperframe
    return Fraction(period.denominator, period.numerator) if period.numerator and period.denominator else None


def _reason(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, '?')}, {error.strerror}"
