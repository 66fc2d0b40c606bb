"""Pictures to a v4l2loopback device, which other programs see as a camera."""

from __future__ import annotations

import ctypes
import errno
from contextlib import suppress
from typing import Literal

import numpy as np

from edge_isp.calibration.profile import SensorProfile
from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.abi import (
    BUF_TYPE_VIDEO_OUTPUT,
    CAP_DEVICE_CAPS,
    CAP_VIDEO_OUTPUT,
    COLORSPACE_SRGB,
    FIELD_NONE,
    QUANTIZATION_LIM_RANGE,
    VIDIOC_G_FMT,
    VIDIOC_QUERYCAP,
    VIDIOC_S_FMT,
    VIDIOC_STREAMON,
    XFER_FUNC_SRGB,
    YCBCR_ENC_601,
    Capability,
    Format,
)
from edge_isp.cameras.v4l2.formats import fourcc, fourcc_name
from edge_isp.errors import SinkError
from edge_isp.kernels.decode import rgb_to_i420, rgb_to_yuyv
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.pictures import Pictures
from edge_isp.sinks.timeline import check_size

_DRIVER = "v4l2 loopback"
_LOAD = "load the module: sudo modprobe v4l2loopback video_nr=10 card_label=edge_isp exclusive_caps=1"
_HINTS = {
    errno.ENOENT: _LOAD,
    errno.ENODEV: _LOAD,
    errno.ENXIO: _LOAD,
    errno.EACCES: "this user may not use video devices; mend it with: sudo usermod -aG video $USER; then log in again",
    errno.EINVAL: "another program has it open, and the driver keeps its format; find it with: sudo fuser -v {device}",
    errno.EBUSY: "another program uses it; find it with: sudo fuser -v {device}",
}
# Format names, the kernel's four characters, and bytes in a line of luma (YUYV: of all) for each pixel.
_FORMATS = {"i420": ("YU12", 1), "yuyv": ("YUYV", 2)}


class VirtualCameraSink:
    """Writes pictures to a v4l2loopback device: browsers, OBS, OpenCV and GStreamer see a camera.

    The device gets its format with the first picture. Where the size of the pictures changes it is closed and opened
    again, since the module keeps the format of a program that has written; a program that reads keeps it in force.

    Args:
        device: path of the device node, such as /dev/video10.
        format: "yuyv" (4:2:2), which every program reads, or "i420" (4:2:0), which is smaller.
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Attributes:
        needs_raw: see `Sink`.

    Raises:
        ProfileError: there is no such tone.
        SinkError: the device is missing or no v4l2loopback device, or this user may not use it.
    """

    needs_raw = "detections"

    def __init__(
        self,
        device: str,
        *,
        format: Literal["yuyv", "i420"] = "yuyv",
        overlay: bool = False,
        profile: SensorProfile | None = None,
        tone: str = "camera",
    ) -> None:
        self._device, self._format = device, format
        self._pictures = Pictures(profile, tone, overlay=overlay)
        self._size = (0, 0)
        self._frame = np.empty((0, 0), np.uint8)
        self._descriptor: int | None = None
        try:
            self._descriptor = v4l2_kernel.open_device(device)
            self._check_output(self._descriptor)
        except OSError as error:
            self.close()
            raise self._failure("cannot be opened", error) from error
        except BaseException:
            self.close()
            raise

    def write(self, result: FrameResult) -> None:
        """Shows a result's picture.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: the device is gone or keeps another format, or the sink is closed.
        """
        if self._descriptor is None:
            raise SinkError(f"{self._device}: the sink is closed")
        picture = self._pictures.of(result)
        height, width, _ = picture.rgb.shape
        try:
            if (width, height) != self._size:
                check_size(self._device, width, height)
                self._set_format(self._without_format(self._descriptor), width, height)
            self._convert(picture)
            taken = v4l2_kernel.write_device(self._descriptor, self._frame.data.cast("B"))
        except OSError as error:
            raise self._failure("cannot be written", error) from error
        if taken != self._frame.nbytes:
            raise SinkError(f"{self._device}: the driver took {taken} of the {self._frame.nbytes} bytes of a frame")

    def close(self) -> None:
        """Ends the writing. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            v4l2_kernel.close_device(descriptor)

    def _check_output(self, descriptor: int) -> None:
        capability = Capability()
        v4l2_kernel.ioctl(descriptor, VIDIOC_QUERYCAP, capability)
        able = capability.device_caps if capability.capabilities & CAP_DEVICE_CAPS else capability.capabilities
        card, driver = (bytes(name).decode("utf-8", "replace") for name in (capability.card, capability.driver))
        # With exclusive_caps the module does not say that it takes video, once a program has written and closed it.
        if not able & CAP_VIDEO_OUTPUT and driver != _DRIVER:
            raise SinkError(f"{self._device}: '{card}' takes no video (capabilities {able:#010x}); {_LOAD}")

    def _without_format(self, descriptor: int) -> int:
        """The open device, opened again where a picture was written to it."""
        if self._size != (0, 0):
            self._size, self._descriptor = (0, 0), None
            v4l2_kernel.close_device(descriptor)
            self._descriptor = descriptor = v4l2_kernel.open_device(self._device)
        return descriptor

    def _set_format(self, descriptor: int, width: int, height: int) -> None:
        code, line = _FORMATS[self._format]
        frame = np.empty((height, 2 * width) if self._format == "yuyv" else (height // 2 * 3, width), np.uint8)
        content = Format(type=BUF_TYPE_VIDEO_OUTPUT)
        v4l2_kernel.ioctl(descriptor, VIDIOC_G_FMT, content)
        pixels = content.fmt.pix
        pixels.width, pixels.height, pixels.pixelformat, pixels.field = width, height, fourcc(code), FIELD_NONE
        pixels.bytesperline, pixels.sizeimage = line * width, frame.nbytes
        # The numbers of the kernels: BT.601, studio range, of sRGB.
        pixels.colorspace, pixels.ycbcr_enc = COLORSPACE_SRGB, YCBCR_ENC_601
        pixels.quantization, pixels.xfer_func = QUANTIZATION_LIM_RANGE, XFER_FUNC_SRGB
        v4l2_kernel.ioctl(descriptor, VIDIOC_S_FMT, content)
        found = (fourcc_name(pixels.pixelformat), pixels.width, pixels.height, pixels.bytesperline)
        if found != (code, width, height, line * width) or pixels.sizeimage < frame.nbytes:
            raise SinkError(
                f"{self._device}: asked for {code} {width}x{height}, but the driver keeps {found[0]} "
                f"{found[1]}x{found[2]} with lines of {found[3]} bytes: a program that reads or writes it holds that "
                f"format; find it with: sudo fuser -v {self._device}"
            )
        # With exclusive_caps the module (0.12.7) takes video again after this program's end only if it has streamed.
        with suppress(OSError):  # other versions ask for buffers first, and do not need it
            v4l2_kernel.ioctl(descriptor, VIDIOC_STREAMON, ctypes.c_int32(BUF_TYPE_VIDEO_OUTPUT))
        self._frame, self._size = frame, (width, height)

    def _convert(self, picture: Picture) -> None:
        (rgb_to_yuyv if self._format == "yuyv" else rgb_to_i420)(np.ascontiguousarray(picture.rgb), self._frame)

    def _failure(self, what: str, error: OSError) -> SinkError:
        number = error.errno or errno.EIO
        hint = _HINTS.get(number, "see the kernel's messages (dmesg)").format(device=self._device)
        if number == errno.ENOTTY:
            hint = f"it is no video device; {_LOAD}"
        return SinkError(f"{self._device}: {what}: {errno.errorcode.get(number, '?')}, {error.strerror}; {hint}")
