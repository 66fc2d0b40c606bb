"""The virtual camera against a fake of the v4l2loopback module; tests/vm has the real one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from edge_isp.cameras.v4l2 import abi
from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.formats import fourcc, fourcc_name
from edge_isp.errors import SinkError
from edge_isp.kernels import reference
from edge_isp.sinks.spec import open_sink
from edge_isp.testing import check_sink
from edge_isp.testing.sink import picture_result
from tests.sinks.streams import moving_result

PATH = "/dev/video10"
BITS = {"YU12": 12, "YUYV": 16}


class Loopback:
    """A v4l2loopback device; a format that a reader holds stays, without an error, as the module does it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.format: tuple[str, int, int] = ("BGR4", 640, 480)
        self.held = False
        self.frames: list[bytes] = []
        self.formats: list[tuple[str, int, int]] = []
        self.driver = b"v4l2 loopback"
        self.capabilities = 0x85200003
        self.device_caps = 0x05200003
        self.errors: dict[str, int] = {}
        self.taken: int | None = None
        self.open: set[int] = set()
        self.streamed = False
        self.colours: tuple[int, ...] = ()
        for name in ("open_device", "close_device", "ioctl", "write_device"):
            monkeypatch.setattr(v4l2_kernel, name, getattr(self, name))

    def fail(self, what: str) -> None:
        if number := self.errors.get(what):
            raise OSError(number, os.strerror(number))

    def open_device(self, path: str) -> int:
        self.fail("open")
        assert path == PATH
        descriptor = os.memfd_create("device")  # a real number, so that a wrong one is found
        self.open.add(descriptor)
        return descriptor

    def close_device(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        os.close(descriptor)
        if self.device_caps == 0x05200001:  # seen with 0.12.7
            self.device_caps = 0x05200002 if self.streamed else 0x05200000

    def ioctl(self, descriptor: int, request: int, argument: Any) -> None:
        assert descriptor in self.open
        name = abi.REQUEST_NAMES[request]
        self.fail(name)
        if name == "VIDIOC_QUERYCAP":
            argument.driver, argument.card = self.driver, b"edge_isp"
            argument.capabilities, argument.device_caps = self.capabilities, self.device_caps
            return
        if name == "VIDIOC_STREAMON":
            self.streamed = True
            return
        if not self.device_caps & 0x3:  # the kernel's own check
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        assert argument.type == abi.BUF_TYPE_VIDEO_OUTPUT
        pixels = argument.fmt.pix
        if name == "VIDIOC_S_FMT" and not self.held:
            if len(self.open) > 1:  # the buffers are in use
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.format = (fourcc_name(pixels.pixelformat), pixels.width, pixels.height)
            self.formats.append(self.format)
            self.colours = (pixels.colorspace, pixels.ycbcr_enc, pixels.quantization, pixels.xfer_func)
        code, width, height = self.format
        pixels.pixelformat, pixels.width, pixels.height, pixels.field = fourcc(code), width, height, abi.FIELD_NONE
        pixels.bytesperline = width * BITS.get(code, 32) // 8 if code != "YU12" else width
        pixels.sizeimage = -(-width * height * BITS.get(code, 32) // 8 // 4096) * 4096  # whole pages

    def write_device(self, descriptor: int, content: memoryview) -> int:
        assert descriptor in self.open
        self.fail("write")
        code, width, height = self.format
        taken = min(len(content), width * height * BITS[code] // 8)  # the module cuts what is too long
        self.frames.append(bytes(content[:taken]))
        self.device_caps = 0x05200001  # with exclusive_caps
        return taken if self.taken is None else self.taken


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Loopback:
    return Loopback(monkeypatch)


@pytest.mark.parametrize("form", ["i420", "yuyv"])
def test_it_conforms(device: Loopback, form: str) -> None:
    check_sink(lambda: open_sink(f"virtual:{PATH},format={form}"), spec=f"virtual:{PATH},format={form}")
    assert not device.open


@pytest.mark.parametrize(
    ("spec", "code", "convert"),
    [
        (f"virtual:{PATH}", "YUYV", reference.rgb_to_yuyv),
        (f"virtual:{PATH},format=yuyv", "YUYV", reference.rgb_to_yuyv),
        (f"virtual:{PATH},format=i420", "YU12", reference.rgb_to_i420),
    ],
)
def test_the_very_pixels(device: Loopback, spec: str, code: str, convert: Callable[[Any], Any]) -> None:
    sink = open_sink(spec)
    results = [moving_result(number) for number in range(3)]
    for result in results:
        sink.write(result)
    sink.close()
    assert device.formats == [(code, 128, 96)]
    assert device.frames == [convert(result.picture.rgb).tobytes() for result in results]
    assert device.colours == (abi.COLORSPACE_SRGB, abi.YCBCR_ENC_601, abi.QUANTIZATION_LIM_RANGE, abi.XFER_FUNC_SRGB)


def test_it_is_opened_again_after_the_module_forgot_that_it_takes_video(device: Loopback) -> None:
    for _ in range(2):
        sink = open_sink(f"virtual:{PATH}")
        sink.write(picture_result(0))
        sink.close()
    assert len(device.frames) == 2


def test_another_size_is_another_format(device: Loopback) -> None:
    sink = open_sink(f"virtual:{PATH}")
    for size in ((128, 96), (128, 96), (96, 128)):
        sink.write(moving_result(0, size=size))
    assert device.formats == [("YUYV", 128, 96), ("YUYV", 96, 128)]
    assert [len(frame) for frame in device.frames] == [128 * 96 * 2] * 3


def test_a_device_that_is_open_elsewhere_keeps_its_size(device: Loopback) -> None:
    """The module answers EINVAL then (seen with 0.12.7)."""
    other = device.open_device(PATH)
    sink = open_sink(f"virtual:{PATH}")
    with pytest.raises(SinkError, match="EINVAL, Invalid argument; another program has it open"):
        sink.write(picture_result(0))
    device.close_device(other)
    sink.write(picture_result(1))
    sink.close()
    assert len(device.frames) == 1


def test_a_format_that_a_reader_holds_is_an_error_and_not_a_torn_picture(device: Loopback) -> None:
    device.held = True
    sink = open_sink(f"virtual:{PATH}")
    message = r"asked for YUYV 64x48, but the driver keeps BGR4 640x480 with lines of 2560 bytes: .*fuser"
    with pytest.raises(SinkError, match=message):
        sink.write(picture_result(0))
    assert device.frames == []
    device.held = False
    sink.write(picture_result(1))
    assert len(device.frames) == 1


@pytest.mark.parametrize(
    ("where", "number", "message"),
    [
        ("open", errno.ENOENT, "cannot be opened: ENOENT.*sudo modprobe v4l2loopback"),
        ("open", errno.EACCES, "usermod -aG video"),
        ("open", errno.EBUSY, "sudo fuser -v /dev/video10"),
        ("VIDIOC_QUERYCAP", errno.ENOTTY, "it is no video device; load the module"),
        ("VIDIOC_S_FMT", errno.EBUSY, "cannot be written: EBUSY.*fuser"),
        ("VIDIOC_G_FMT", errno.EINVAL, "cannot be written: EINVAL.*another program has it open"),
        ("write", errno.ENODEV, "cannot be written: ENODEV.*modprobe"),
        ("write", errno.EIO, "cannot be written: EIO"),
    ],
)
def test_the_drivers_errors_say_what_to_do(device: Loopback, where: str, number: int, message: str) -> None:
    device.errors[where] = number

    def use() -> None:
        sink = open_sink(f"virtual:{PATH}")
        try:
            sink.write(picture_result(0))
        finally:
            sink.close()

    with pytest.raises(SinkError, match=f"^{PATH}: .*{message}"):
        use()
    assert not device.open


def test_a_real_camera_is_not_written_to(device: Loopback) -> None:
    device.device_caps, device.driver = 0x04200001, b"uvcvideo"
    with pytest.raises(SinkError, match="'edge_isp' takes no video .*sudo modprobe v4l2loopback"):
        open_sink(f"virtual:{PATH}")
    assert not device.open
    device.capabilities, device.device_caps = 0x00000002, 0  # a driver that does not tell its node's own
    open_sink(f"virtual:{PATH}").close()


def test_a_frame_that_was_taken_in_part_is_an_error(device: Loopback) -> None:
    device.taken = 1000
    with pytest.raises(SinkError, match="took 1000 of the 6144 bytes"):
        open_sink(f"virtual:{PATH}").write(picture_result(0))


def test_an_odd_size_is_an_error(device: Loopback) -> None:
    with pytest.raises(SinkError, match="even width and height, found 127x96"):
        open_sink(f"virtual:{PATH}").write(moving_result(0, size=(127, 96)))
    assert device.frames == []


def test_an_unknown_format_is_an_error(device: Loopback) -> None:
    with pytest.raises(SinkError, match="format must be one of yuyv, i420, found 'nv12'"):
        open_sink(f"virtual:{PATH},format=nv12")


def test_a_missing_device_of_this_machine() -> None:
    with pytest.raises(SinkError, match="/dev/edge-isp-none: cannot be opened: ENOENT.*modprobe v4l2loopback"):
        open_sink("virtual:/dev/edge-isp-none")
    with pytest.raises(SinkError, match="/dev/null: cannot be opened: ENOTTY.*it is no video device"):
        open_sink("virtual:/dev/null")
