"""The V4L2 camera over a fake kernel: layouts, leases, faults, and an answer to every error that a request can give."""

from __future__ import annotations

import errno
import gc
import os
import threading
import weakref
from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edge_isp.cameras.base import Controls
from edge_isp.cameras.v4l2 import abi
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.cameras.v4l2.device import CaptureDevice
from edge_isp.cameras.v4l2.formats import BAYER_FORMATS
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.kernels.unpack import unpack
from edge_isp.testing import check_camera
from tests.cameras.v4l2.fake_kernel import Control, FakeKernel, Filled, VideoNode, random_frame


def open_camera(**settings: Any) -> V4l2Camera:
    return V4l2Camera(0, **{"black_level": 0, **settings})


def read(camera: V4l2Camera) -> RawFrame:
    frame = camera.read(timeout_s=10)
    assert frame is not None
    return frame


@pytest.mark.parametrize("multiplanar", [False, True])
@pytest.mark.parametrize("code", [code for code in BAYER_FORMATS if not code.startswith(("PC1", "ip3"))])
def test_frames_of_every_bayer_format(kernel: FakeKernel, code: str, multiplanar: bool) -> None:
    node = kernel.add(VideoNode(codes=(code,), multiplanar=multiplanar, padding=12))
    layout = BAYER_FORMATS[code]
    with open_camera() as camera:
        assert (camera.format.cfa, camera.format.bit_depth) == (layout.cfa, layout.bit_depth)
        assert (camera.format.packing, camera.format.stride) == (layout.packing, node.stride)
        codes = np.random.default_rng(0).integers(0, 2**layout.bit_depth, (48, 64)).astype(np.uint16)
        data = pack(codes, packing=layout.packing, bit_depth=layout.bit_depth, stride=node.stride)
        offset = 16 if multiplanar else 0
        node.frames.append(Filled(data.tobytes(), data_offset=offset))
        with read(camera) as frame:
            assert frame.data.shape == (48, node.stride)
            assert frame.status is FrameStatus.OK
            assert (frame.black_level, frame.white_level) == ((0,) * 4, 2**layout.bit_depth - 1)
            found = unpack(frame.data, frame.format.layout)
            np.testing.assert_array_equal(found, codes)


def test_the_format_that_is_chosen(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(codes=("YUYV", "RGGB", "pRAA", "RG10", "RG16")))

    def chosen(**settings: Any) -> tuple[str, int, Packing]:
        with open_camera(**settings) as camera:
            return node.current[0], camera.format.bit_depth, camera.format.packing

    assert chosen() == ("RG16", 16, Packing.U16)
    assert chosen(bit_depth=10) == ("pRAA", 10, Packing.CSI2P)
    assert chosen() == ("pRAA", 10, Packing.CSI2P)  # as the device is set
    assert chosen(pixel_format="RGGB") == ("RGGB", 8, Packing.U8)
    assert chosen(bit_depth=12) == ("RG16", 12, Packing.U16_LEFT)  # as on Raspberry Pi 5
    with pytest.raises(FormatError, match="no Bayer format 'YUYV'; there are: RGGB, pRAA, RG10, RG16"):
        chosen(pixel_format="YUYV")
    with pytest.raises(FormatError, match="pRAA has 10 bits, asked for 12"):
        chosen(pixel_format="pRAA", bit_depth=12)
    node.codes = ("RG10",)
    with pytest.raises(FormatError, match="no Bayer format of 8 bits; there are: RG10"):
        chosen(bit_depth=8)
    node.codes = ("YUYV", "MJPG")
    with pytest.raises(FormatError, match="no Bayer format: it delivers YUYV, MJPG"):
        chosen()
    assert kernel.open_nodes == []


def test_what_the_driver_adjusts_is_an_error(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    node = kernel.add(VideoNode())
    with pytest.raises(
        CameraError, match="asked for RG10 100x48, but the driver made it RG10 64x48; sizes of RG10: 64x48, 128x96"
    ):
        open_camera(width=100)
    with pytest.raises(CameraError, match="asked for 60 frames/s, but the driver made it 30; rates at 64x48: 30, 15"):
        open_camera(fps=60)
    with open_camera(width=128, height=96, fps=15) as camera:
        assert (camera.format.width, camera.format.height, node.rate) == (128, 96, (1, 15))
    node.rate = None
    with pytest.raises(CameraError, match="the frame rate of this camera cannot be set"):
        open_camera(fps=30)
    node.granted = 2
    with pytest.raises(
        CameraError, match="asked for 6 buffers, but the driver gives 2, .*cma=.*max_buffers of v4l2loopback"
    ):
        open_camera()
    node.granted = None

    def another_format(self: VideoNode, content: abi.Format) -> int:
        self.current = ("RG12", 64, 48)
        return self.VIDIOC_G_FMT(content)

    monkeypatch.setattr(VideoNode, "VIDIOC_S_FMT", another_format)
    with pytest.raises(CameraError, match="asked for RG10 128x96, but the driver made it RG12 64x48"):
        open_camera()
    assert kernel.open_nodes == []


def test_wrong_arguments() -> None:
    with pytest.raises(CameraError, match="buffers must be at least 3"):
        V4l2Camera(0, buffers=2)
    with pytest.raises(CameraError, match="fps must be a positive number"):
        V4l2Camera(0, fps=0)
    with pytest.raises(CameraError, match="give a device"):
        V4l2Camera()
    with pytest.raises(CameraError, match="not both"):
        V4l2Camera(0, setup="camera.toml")


def test_levels_come_from_the_sensor_or_its_user(kernel: FakeKernel) -> None:
    kernel.add(VideoNode()).frames.append(Filled())
    with V4l2Camera("/dev/video0", sensor="imx219") as camera, read(camera) as frame:
        assert (frame.black_level, frame.white_level) == ((64,) * 4, 1023)
    with pytest.raises(
        CameraError, match=r"reports no black level.* of 'none'; give the sensor .*imx219.*black_level="
    ):
        V4l2Camera(0)
    assert kernel.open_nodes == []


def test_buffers_are_lent_not_copied_and_given_back(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    with open_camera(buffers=4) as camera:
        first, second = read(camera), read(camera)
        before = first.data.copy()
        assert any(np.shares_memory(first.data, np.frombuffer(buffer, np.uint8)) for buffer in node.buffers)
        with pytest.raises(CameraError, match=r"2 frames are held.*release one.* more than buffers=4"):
            camera.read(timeout_s=1)
        np.testing.assert_array_equal(first.data, before)
        first.release()
        first.release()
        third = read(camera)
        assert third.sequence == 2
        assert len(node.free) + len(node.full) == 2
        second.release()
        third.release()
        assert len(node.free) + len(node.full) == 4


def test_frames_survive_the_camera(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode())
    camera = open_camera()
    data = random_frame(node)
    node.frames.append(Filled(data))
    frame = read(camera)
    camera.close()
    camera.close()
    assert frame.data.tobytes() == data
    frame.release()
    assert camera.read() is None
    for act in (lambda: camera.control(Controls(exposure_ns=1)), lambda: camera.limits):
        with pytest.raises(CameraError, match="the camera is closed"):
            act()
    assert kernel.open_nodes == []
    assert (node.calls[-2:], node.buffers) == (["VIDIOC_STREAMOFF", "VIDIOC_REQBUFS"], [])


def test_a_reader_that_waits_ends_when_the_camera_is_closed(kernel: FakeKernel) -> None:
    kernel.add(VideoNode())
    camera = open_camera()
    found: list[RawFrame | None] = []
    reader = threading.Thread(target=lambda: found.append(camera.read()))
    reader.start()
    camera.close()
    reader.join(10)
    assert found == [None]


def test_a_timeout_has_its_own_exception_and_loses_nothing(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode())
    with open_camera() as camera:
        with pytest.raises(CameraTimeoutError, match=r"v4l2:/dev/video0: no frame within 0.01 s"):
            camera.read(timeout_s=0.01)
        node.frames.append(Filled())
        with read(camera) as frame:
            assert frame.sequence == 0


def test_errors_of_a_frame_are_flags(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode())
    flags = Filled().flags
    with open_camera() as camera:
        node.frames += [
            Filled(),
            Filled(flags=flags | abi.BUF_FLAG_ERROR),
            Filled(bytesused=node.size - 1),
            Filled(bytesused=0, flags=flags | abi.BUF_FLAG_ERROR),
            Filled(sequence=6),
            Filled(timestamp_ns=node.clock_ns),
        ]
        statuses = []
        for _ in range(6):
            with read(camera) as frame:
                statuses.append(frame.status)
        status = FrameStatus
        assert statuses == [
            status.OK,
            status.CORRUPTED,
            status.TRUNCATED,
            status.CORRUPTED | status.TRUNCATED,
            status.GAP,
            status.BAD_TIMESTAMP,
        ]


def test_padding_after_the_last_row_may_be_missing(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(padding=32))
    with open_camera() as camera:
        node.frames.append(Filled(bytesused=node.size - 32))
        with read(camera) as frame:
            assert frame.status is FrameStatus.OK


def test_lost_frames_are_counted_where_the_driver_does_not(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode())
    lost, period_ns = {12, 20, 21}, 33_000_000
    with open_camera() as camera:
        delivered = [number for number in range(30) if number not in lost]
        node.frames += [Filled(sequence=7, timestamp_ns=number * period_ns) for number in delivered]
        frames = []
        for _ in delivered:
            with read(camera) as frame:
                frames.append(frame)
    steps = [after.sequence - before.sequence for before, after in pairwise(frames)]
    assert steps == [after - before for before, after in pairwise(delivered)]
    assert [FrameStatus.GAP in frame.status for frame in frames[1:]] == [step > 1 for step in steps]


def test_timestamps_are_the_start_of_exposure(kernel: FakeKernel) -> None:
    controls = (Control("Exposure Time, Absolute", 100, 1, 300),)
    node = kernel.add(VideoNode(controls=controls))
    monotonic = abi.BUF_FLAG_TIMESTAMP_MONOTONIC
    with open_camera() as camera:
        node.frames += [
            Filled(timestamp_ns=1_000_000_000, flags=monotonic | abi.BUF_FLAG_TSTAMP_SRC_SOE),
            Filled(timestamp_ns=2_000_000_000, flags=monotonic),
            Filled(timestamp_ns=0, flags=0),
        ]
        start, end, unknown = (read(camera) for _ in range(3))
        assert (start.timestamp_ns, start.exposure_ns) == (1_000_000_000, 10_000_000)
        assert end.timestamp_ns == 2_000_000_000 - 10_000_000
        assert unknown.timestamp_ns > end.timestamp_ns  # when it arrived


def test_a_camera_that_is_unplugged_and_comes_back(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    camera = open_camera()
    frame = read(camera)
    node.gone = True
    for _ in range(2):
        with pytest.raises(CameraDisconnectedError, match=r"the camera is gone \(VIDIOC_DQBUF: ENODEV.*open it again"):
            camera.read(timeout_s=1)
    frame.release()
    with pytest.raises(CameraDisconnectedError):
        camera.read(timeout_s=1)
    camera.close()
    assert kernel.open_nodes == []
    with pytest.raises(CameraDisconnectedError, match="cannot be opened: ENODEV"):
        open_camera()
    node.gone = False
    with open_camera() as camera, read(camera) as frame:
        assert frame.status is FrameStatus.OK


def test_nothing_keeps_the_device_once_it_is_closed(kernel: FakeKernel) -> None:
    """A driver goes for good when the last mapping of its buffers goes: not when the garbage collector comes."""
    node = kernel.add(VideoNode(period_ns=33_000_000))
    gc.disable()
    try:
        camera = open_camera()
        buffers = node.buffers
        frame, other = read(camera), read(camera)
        node.gone = True
        frame.release()
        with pytest.raises(CameraDisconnectedError):
            camera.read(timeout_s=1)
        camera.close()
        other.release()
        reference = weakref.ref(camera)
        del frame, other, camera
        assert reference() is None
        for buffer in buffers:
            buffer.release()  # a BufferError where an array of ours still looks at it
    finally:
        gc.enable()


def test_a_driver_that_has_failed(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    with open_camera() as camera:
        read(camera).release()
        node.queue_error = True
        with pytest.raises(CameraError, match=r"VIDIOC_DQBUF failed: EIO.*close the camera and open it again"):
            camera.read(timeout_s=1)
    node.queue_error = False
    with open_camera() as camera:
        read(camera).release()


def test_a_buffer_that_cannot_be_given_back_is_told_by_the_next_read(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    with open_camera() as camera:
        frame = read(camera)
        node.fail("VIDIOC_QBUF", errno.EIO)
        frame.release()
        with pytest.raises(CameraError, match="VIDIOC_QBUF failed: EIO"):
            camera.read(timeout_s=1)


def test_a_frame_announced_too_early_is_waited_for(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    with open_camera() as camera:
        node.fail("VIDIOC_DQBUF", errno.EAGAIN, errno.EAGAIN)
        with read(camera) as frame:
            assert frame.sequence == 0


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "EACCES.*sudo usermod -aG video"),
        (errno.ENOENT, "no such device; list cameras with: edge-isp devices"),
        (errno.EBUSY, "another program has the camera; find it with: sudo fuser -v /dev/video0"),
        (errno.EMFILE, "EMFILE.*dmesg"),
    ],
)
def test_a_device_that_cannot_be_opened(kernel: FakeKernel, number: int, message: str) -> None:
    kernel.add(VideoNode())
    kernel.open_errors["/dev/video0"] = number
    with pytest.raises(CameraError, match=message):
        open_camera()


OPENING = (
    "VIDIOC_QUERYCAP",
    "VIDIOC_QUERY_EXT_CTRL",
    "VIDIOC_QUERYMENU",
    "VIDIOC_G_EXT_CTRLS",
    "VIDIOC_ENUM_FMT",
    "VIDIOC_G_FMT",
    "VIDIOC_S_FMT",
    "VIDIOC_G_PARM",
    "VIDIOC_S_PARM",
    "VIDIOC_REQBUFS",
    "VIDIOC_QUERYBUF",
    "VIDIOC_QBUF",
    "VIDIOC_STREAMON",
)


@pytest.mark.parametrize("request_name", OPENING)
@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EIO, CameraError, "failed: EIO, .*dmesg"),
        (errno.EBUSY, CameraError, "failed: EBUSY, .*another program uses it; .*fuser -v /dev/video0"),
        (errno.ENOMEM, CameraError, "failed: ENOMEM, .*ask for fewer"),
        (errno.EPIPE, CameraError, "failed: EPIPE, .*formats along the media pipeline.*setup="),
        (errno.ENOLINK, CameraError, "failed: ENOLINK, .*no enabled link.*setup="),
        (errno.ENODEV, CameraDisconnectedError, r"the camera is gone \({}: ENODEV"),
        (errno.ENXIO, CameraDisconnectedError, r"the camera is gone \({}: ENXIO"),
    ],
)
def test_every_request_of_opening_may_fail(
    kernel: FakeKernel, request_name: str, number: int, kind: type[CameraError], message: str
) -> None:
    menu = Control("Test Pattern", 0, 0, 1, kind=abi.CTRL_TYPE_MENU, menu={0: "Disabled", 1: "Bars"})
    node = kernel.add(VideoNode(controls=(menu, Control("Exposure Time, Absolute", 100, 1, 300))))
    node.fail(request_name, number)
    with pytest.raises(kind, match=message.format(request_name)) as raised:
        open_camera(fps=30)
    assert request_name in str(raised.value)
    assert type(raised.value) is kind
    assert kernel.open_nodes == []
    with open_camera(fps=30) as camera:  # nothing is left behind
        node.frames.append(Filled())
        read(camera).release()


@pytest.mark.parametrize("index", range(6))
def test_a_failure_in_the_middle_of_the_buffers(kernel: FakeKernel, index: int) -> None:
    node = kernel.add(VideoNode())
    for request in ("VIDIOC_QUERYBUF", "VIDIOC_QBUF"):
        node.fail(request, *[0] * index, errno.EIO)
        with pytest.raises(CameraError, match=request):
            open_camera()
    kernel.map_error = errno.ENOMEM
    with pytest.raises(CameraError, match="buffer 0 cannot be mapped: Cannot allocate memory"):
        open_camera()
    assert kernel.open_nodes == []


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL, errno.EIO, errno.EBUSY])
@pytest.mark.parametrize("request_name", ["VIDIOC_STREAMOFF", "VIDIOC_REQBUFS"])
def test_closing_never_fails(kernel: FakeKernel, request_name: str, number: int) -> None:
    node = kernel.add(VideoNode())
    camera = open_camera()
    node.fail(request_name, number)
    camera.close()
    assert kernel.open_nodes == []


def test_what_is_no_camera(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(capabilities=abi.CAP_STREAMING))
    with pytest.raises(CameraError, match="'Fake camera' does not capture video"):
        open_camera()
    node.fail("VIDIOC_QUERYCAP", errno.ENOTTY)
    with pytest.raises(CameraError, match="not a V4L2 device"):
        open_camera()


def test_a_buffer_smaller_than_a_frame(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.add(VideoNode())
    monkeypatch.setattr(VideoNode, "size", property(lambda self: 100))
    with pytest.raises(
        FormatError, match="a buffer of 116 bytes cannot hold a frame of 48 rows, stride 128: 6144 bytes"
    ):
        open_camera()


def test_dma_buf(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    with open_camera() as camera:
        frame = read(camera)
        descriptor = camera.export_dma_buf(frame)
        os.close(descriptor)
        node.fail("VIDIOC_EXPBUF", errno.ENOTTY)
        with pytest.raises(CameraError, match="cannot export its buffers as DMA-BUF"):
            camera.export_dma_buf(frame)
        frame.release()
        with pytest.raises(CameraError, match="frame 0 is not held"):
            camera.export_dma_buf(frame)


def test_devices_and_their_modes(kernel: FakeKernel) -> None:
    kernel.add(VideoNode("/dev/video0", codes=("YUYV", "RG10", "pRAA")))
    kernel.add(VideoNode("/dev/video1", codes=("YUYV",)))
    kernel.add(VideoNode("/dev/video2", capabilities=0))
    kernel.add(VideoNode("/dev/video3"))
    kernel.open_errors["/dev/video3"] = errno.EACCES
    first, second, fourth = V4l2Camera.devices()
    assert (first.spec, first.name, first.problem) == ("v4l2:/dev/video0", "Fake camera (fake, platform:fake)", None)
    assert [(mode.format, mode.size, mode.fps) for mode in first.modes] == [
        (code, size, (30.0, 15.0)) for code in ("RG10", "pRAA") for size in ("64x48", "128x96")
    ]
    assert (second.modes, second.problem) == ((), "no Bayer format: it delivers YUYV")
    assert fourth.problem
    assert "usermod" in fourth.problem
    assert kernel.open_nodes == []


def test_ranges_of_sizes_and_rates(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.add(VideoNode())

    def sizes(self: VideoNode, size: abi.FrameSize) -> int:
        size.type = 3
        step = size.stepwise
        step.min_width, step.max_width, step.step_width = 16, 4096, 8
        step.min_height, step.max_height, step.step_height = 16, 2160, 2
        return errno.EINVAL if size.index else 0

    def intervals(self: VideoNode, interval: abi.FrameInterval) -> int:
        interval.type = 3
        interval.min.numerator, interval.min.denominator = 1, 120
        interval.max.numerator, interval.max.denominator = 1, 1
        return errno.EINVAL if interval.index else 0

    monkeypatch.setattr(VideoNode, "VIDIOC_ENUM_FRAMESIZES", sizes)
    monkeypatch.setattr(VideoNode, "VIDIOC_ENUM_FRAMEINTERVALS", intervals)
    with CaptureDevice("/dev/video0") as device:
        assert [str(size) for size in device.sizes("RG10")] == ["16x16 to 4096x2160 in steps of 8x2"]
        assert [float(rate) for rate in device.rates("RG10", 64, 48)] == [120.0, 1.0]


def test_cfa_orders_are_those_of_the_codes() -> None:
    assert {code: layout.cfa for code, layout in BAYER_FORMATS.items() if layout.bit_depth == 8} == {
        "BA81": Cfa.BGGR,
        "GBRG": Cfa.GBRG,
        "GRBG": Cfa.GRBG,
        "RGGB": Cfa.RGGB,
    }
    assert len(BAYER_FORMATS) == 4 * 10
    assert deque(BAYER_FORMATS, maxlen=1)


@pytest.mark.parametrize("multiplanar", [False, True])
def test_conformance(kernel: FakeKernel, multiplanar: bool) -> None:
    kernel.add(VideoNode(period_ns=33_000_000, multiplanar=multiplanar))
    check_camera(open_camera)
    assert kernel.open_nodes == []
