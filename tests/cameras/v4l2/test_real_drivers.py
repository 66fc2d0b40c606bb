"""What drivers of real boards do: what they stamp, formats that follow the pads, left-aligned and compact codes."""

from __future__ import annotations

import errno
import gc
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_isp.cameras import continuity
from edge_isp.cameras.base import Controls
from edge_isp.cameras.delayed_controls import delays_of
from edge_isp.cameras.sensor_name import sensor_name
from edge_isp.cameras.spec import open_camera as open_by_spec
from edge_isp.cameras.v4l2 import abi
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.cameras.v4l2.formats import BUS_FORMATS
from edge_isp.cameras.v4l2.media import read_setup
from edge_isp.cli.main import app
from edge_isp.errors import CameraError, FormatError
from edge_isp.frame import FrameStatus, Packing, RawFrame
from edge_isp.kernels.unpack import unpack
from tests.cameras.v4l2.fake_kernel import (
    Control,
    FakeKernel,
    Filled,
    MediaNode,
    SubdeviceNode,
    VideoNode,
    random_frame,
)

RGGB10 = BUS_FORMATS["SRGGB10_1X10"]
SENSOR = "imx219 10-0010"
END_OF_FRAME = abi.BUF_FLAG_TIMESTAMP_MONOTONIC  # without the flag of the start of exposure
PIXEL_RATE = 182_400_000

# Of the imx219: width, height, horizontal blanking.
MODES = [(1640, 1232, 1808), (3280, 2464, 168), (640, 480, 2808)]


def read(camera: V4l2Camera) -> RawFrame:
    frame = camera.read(timeout_s=10)
    assert frame is not None
    return frame


def sensor_node(width: int, height: int, blanking: int, path: str = "/dev/v4l-subdev0") -> SubdeviceNode:
    node = SubdeviceNode(
        path,
        SENSOR,
        size=(width, height),
        controls=(
            Control("Exposure", 500, 4, 1759),
            Control("Analogue Gain", 0, 0, 232),
            Control("Vertical Blanking", 531, 4, 64303),
            Control("Horizontal Blanking", blanking, blanking, blanking, flags=0x4),
            Control("Pixel Rate", PIXEL_RATE, 0, 1 << 40, kind=abi.CTRL_TYPE_INTEGER64, flags=0x4),
        ),
    )
    node.bus[0] = (RGGB10, width, height)
    return node


def board(kernel: FakeKernel, driver: str, mode: tuple[int, int, int] = MODES[0]) -> tuple[VideoNode, SubdeviceNode]:
    """A sensor that a receiver of a driver's name is linked to, as the Raspberry Pi 4's unicam is."""
    # Its video device is set to something else at first.
    video = kernel.add(VideoNode(codes=("BG10", "RG10", "pRAA"), sizes=((64, 48),), rates=()))
    video.driver = driver
    sensor = kernel.add(sensor_node(*mode))
    video.follow_media_controller({RGGB10: ("pRAA", "RG10"), BUS_FORMATS["SBGGR10_1X10"]: ("BG10",)}, sensor, 0)
    kernel.add(
        MediaNode(
            "/dev/media0",
            {SENSOR: (sensor, abi.MEDIA_ENT_F_CAM_SENSOR), "image": (video, 0)},
            [[SENSOR, 0, "image", 0, abi.MEDIA_LNK_FL_ENABLED | abi.MEDIA_LNK_FL_IMMUTABLE]],
            driver=driver,
        )
    )
    return video, sensor


def setup_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "camera.toml"
    path.write_text(text)
    return path


# 3: time stamps.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("driver", "flags", "moment"),
    [
        ("unicam", END_OF_FRAME, "readout"),
        ("rp1-cfe", END_OF_FRAME, "readout"),
        ("isys", END_OF_FRAME, "readout"),
        ("mxc-isi", END_OF_FRAME, "end"),
        ("unicam", END_OF_FRAME | abi.BUF_FLAG_TSTAMP_SRC_SOE, "exposure"),
    ],
)
def test_the_age_of_a_frame_by_what_its_driver_stamps(
    kernel: FakeKernel, tmp_path: Path, driver: str, flags: int, moment: str, mode: tuple[int, int, int]
) -> None:
    video, _ = board(kernel, driver, mode)
    line_ns = (mode[0] + mode[2]) * 1e9 / PIXEL_RATE
    begun_ns, exposure_ns = 5_000_000_000, 500 * line_ns
    stamp_ns = begun_ns + {"exposure": 0, "readout": exposure_ns, "end": exposure_ns + mode[1] * line_ns}[moment]
    setup = setup_file(tmp_path, f'media = "{driver}"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    with V4l2Camera(setup=setup) as camera:
        video.frames.append(Filled(timestamp_ns=round(stamp_ns), flags=flags))
        with read(camera) as frame:
            assert frame.timestamp_ns == pytest.approx(begun_ns, abs=100_000)


def test_a_pixel_rate_of_0_is_not_known(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(controls=tuple(sensor_node(*MODES[0]).by_name.values())))
    node.by_name["Pixel Rate"].value = 0
    with V4l2Camera(0, sensor="imx219") as camera:
        node.frames.append(Filled(timestamp_ns=5_000_000_000, flags=END_OF_FRAME))
        with read(camera) as frame:
            assert (frame.exposure_ns, frame.timestamp_ns) == (None, 5_000_000_000)


def test_stamps_that_count_a_suspended_machine(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver of the Rockchip ISP stamps CLOCK_BOOTTIME and calls it CLOCK_MONOTONIC."""
    node = kernel.add(VideoNode())
    real = time.clock_gettime_ns
    suspended_ns = 7_000_000_000
    monkeypatch.setattr(
        time, "clock_gettime_ns", lambda clock: real(time.CLOCK_MONOTONIC) + suspended_ns if clock == 7 else real(clock)
    )
    for driver, expected_ns in (("rkisp1", 3_000_000_000), ("fake", 10_000_000_000)):
        node.driver = driver
        with V4l2Camera(0, black_level=0) as camera:
            node.frames.append(Filled(timestamp_ns=10_000_000_000))
            with read(camera) as frame:
                assert frame.timestamp_ns == pytest.approx(expected_ns, abs=50_000_000)


# 5: delays.


@pytest.mark.parametrize(
    ("sensor", "gain"),
    [
        ("imx219", 1),
        ("imx283", 1),
        ("imx290", 2),
        ("imx296", 2),
        ("imx462", 2),
        ("imx477", 2),
        ("imx708_wide", 2),
        ("IMX708", 2),
        ("ov5647", 2),
        ("unknown", 1),
        (None, 1),
    ],
)
def test_delays_are_the_sensors(sensor: str | None, gain: int) -> None:
    assert delays_of(sensor) == {"exposure_ns": 2, "analogue_gain": gain}


@pytest.mark.parametrize(("sensor", "seen"), [("imx219", [1.0, 2.0, 2.0]), ("ov5647", [0.0625, 0.0625, 2.0])])
def test_a_gain_is_reported_when_it_takes_effect(kernel: FakeKernel, sensor: str, seen: list[float]) -> None:
    kernel.add(VideoNode(period_ns=33_000_000, controls=(Control("Analogue Gain", int(sensor == "ov5647"), 0, 232),)))
    code = {"imx219": 128, "ov5647": 32}[sensor]
    with V4l2Camera(0, sensor=sensor) as camera:
        found = []
        for number in range(3):
            with read(camera) as frame:
                found.append(frame.analogue_gain)
            if number == 0:
                camera.controls.set({"analogue_gain": code})
    assert found == seen


# 7: rates.


@pytest.mark.parametrize("fps", [5000.0, 1e300, 2.0**32 + 30, 0.01, 1e-9, 1e-310, float("inf"), float("nan"), 0.0])
def test_rates_that_a_device_does_not_have_are_refused(kernel: FakeKernel, fps: float) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    with pytest.raises(CameraError, match=r"fps must be|frames/s, but the driver made it"):
        V4l2Camera(0, black_level=0, fps=fps)
    node.rate = (1, 15)
    with V4l2Camera(0, black_level=0) as camera:
        with pytest.raises(CameraError, match=r"fps must be|frames/s, but the driver made it"):
            camera.control(Controls(fps=fps))
        assert node.rate == (1, 15), "what is refused changes nothing"


@pytest.mark.parametrize("fps", [5000.0, 1e300, 0.01, 1e-9, 1e-310])
def test_rates_that_a_sensors_blanking_does_not_have_are_refused(
    kernel: FakeKernel, tmp_path: Path, fps: float
) -> None:
    _, sensor = board(kernel, "unicam")
    setup = setup_file(tmp_path, f'media = "unicam"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    with pytest.raises(CameraError, match="fps must be from 0.81 to 42.80 at this size"):
        V4l2Camera(setup=setup, fps=fps)
    with V4l2Camera(setup=setup) as camera:
        with pytest.raises(CameraError, match="fps must be from 0.81 to 42.80 at this size"):
            camera.control(Controls(fps=fps))
        assert sensor.by_name["Vertical Blanking"].value == 531
        camera.control(Controls(fps=20))
        assert sensor.by_name["Vertical Blanking"].value == 1413  # 50 ms of lines of 18.904 us, less 1232


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("control.vertical_flip=1", "Vertical Flip", 1),
        ("control.test_pattern=Color Bars", "Test Pattern", 1),
        ("control.test_pattern=0", "Test Pattern", 0),
    ],
)
def test_a_drivers_control_in_a_specification(kernel: FakeKernel, setting: str, name: str, value: int) -> None:
    menu = {0: "Disabled", 1: "Color Bars"}
    node = kernel.add(
        VideoNode(
            controls=(
                Control("Test Pattern", 0, 0, 1, kind=abi.CTRL_TYPE_MENU, menu=menu),
                Control("Vertical Flip", 0, 0, 1, kind=abi.CTRL_TYPE_BOOLEAN, flags=0x400),
            )
        )
    )
    with open_by_spec(f"v4l2:0,black_level=0,{setting}"):
        assert node.by_name[name].value == value
        sets = [call for call in node.calls if call in ("VIDIOC_S_EXT_CTRLS", "VIDIOC_S_FMT")]
        assert sets == (["VIDIOC_S_EXT_CTRLS", "VIDIOC_S_FMT"] if "flip" in setting else sets)
    with pytest.raises(CameraError, match="no control 'vertical_flop'; it has: test_pattern, vertical_flip"):
        open_by_spec("v4l2:0,black_level=0,control.vertical_flop=1")
    assert kernel.open_nodes == []


# 9: set-up files that need nothing said twice.


@pytest.mark.parametrize("by_device", [False, True])
def test_the_video_nodes_format_follows_its_pad(kernel: FakeKernel, tmp_path: Path, by_device: bool) -> None:
    video, _ = board(kernel, "unicam")
    setup = setup_file(tmp_path, f'media = "unicam"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    camera = V4l2Camera(0, sensor="imx219") if by_device else V4l2Camera(setup=setup)
    with camera:
        assert video.current == ("pRAA", 1640, 1232)
        assert str(camera.format) == "1640x1232 RGGB 10 bit csi2p"
        assert video.streaming


def test_a_size_that_contradicts_the_pad_is_an_error(kernel: FakeKernel, tmp_path: Path) -> None:
    board(kernel, "rp1-cfe")
    setup = setup_file(tmp_path, f'media = "rp1-cfe"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    with pytest.raises(CameraError, match="width must be 1640, since the pad .* is set to SRGGB10_1X10 1640x1232"):
        V4l2Camera(setup=setup, width=640)
    with pytest.raises(FormatError, match="no Bayer format 'BG10'; there are: pRAA, RG10"):
        V4l2Camera(setup=setup, pixel_format="BG10")
    assert kernel.open_nodes == []


def two_boards(kernel: FakeKernel) -> None:
    """Two media devices of one driver; the second one has the sensor."""
    kernel.add(MediaNode("/dev/media0", {"other": (None, 0)}, [], driver="rp1-cfe", bus="platform:1f00110000.csi"))
    board(kernel, "rp1-cfe")
    media = kernel.all.pop("/dev/media0")
    assert isinstance(media, MediaNode)
    other = MediaNode("/dev/media0", {"other": (None, 0)}, [], driver="rp1-cfe", bus="platform:1f00110000.csi")
    other.number = 1
    media.path, media.bus = "/dev/media1", "platform:1f00128000.csi"
    kernel.add(other)
    kernel.add(media)


@pytest.mark.parametrize("media", ["rp1-cfe", "platform:1f00128000.csi", "/dev/media1"])
def test_of_two_media_devices_the_one_with_the_entities(kernel: FakeKernel, tmp_path: Path, media: str) -> None:
    two_boards(kernel)
    setup = setup_file(tmp_path, f'media = "{media}"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    with V4l2Camera(setup=setup) as camera:
        assert camera.source == "v4l2:/dev/video0"
    with pytest.raises(CameraError, match="/dev/media0: no entity 'image'"):
        V4l2Camera(setup=setup_file(tmp_path, 'media = "platform:1f00110000.csi"\nvideo = "image"\n'))
    with pytest.raises(CameraError, match=r"there are: /dev/media0 \(rp1-cfe, platform:1f00110000.csi\), /dev/media1"):
        V4l2Camera(setup=setup_file(tmp_path, 'media = "unicam"\nvideo = "image"\n'))
    assert kernel.open_nodes == []


@pytest.mark.parametrize("call", ["MEDIA_IOC_DEVICE_INFO", "MEDIA_IOC_G_TOPOLOGY"])
@pytest.mark.parametrize("by_device", [False, True])
def test_another_media_device_that_fails_is_passed_over(
    kernel: FakeKernel, tmp_path: Path, by_device: bool, call: str
) -> None:
    two_boards(kernel)
    broken = kernel.all["/dev/media0"]
    broken.fail(call, errno.EIO)
    setup = setup_file(tmp_path, f'media = "rp1-cfe"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    with V4l2Camera(0, sensor="imx219") if by_device else V4l2Camera(setup=setup) as camera:
        assert str(camera.format) == "1640x1232 RGGB 10 bit csi2p"
    for path in ("/dev/media0", "/dev/media1"):
        kernel.all[path].fail(call, errno.EIO)
    with pytest.raises(CameraError, match=f"{call} failed: EIO"):  # its pads are not known then
        V4l2Camera(0, sensor="imx219") if by_device else V4l2Camera(setup=setup)
    assert kernel.open_nodes == []


def test_formats_are_not_said_twice(kernel: FakeKernel, tmp_path: Path) -> None:
    _, sensor = board(kernel, "unicam")
    isp = kernel.add(SubdeviceNode("/dev/v4l-subdev1", "isp", size=(1640, 1232)))
    media = kernel.all["/dev/media0"]
    assert isinstance(media, MediaNode)
    media.entities["isp"] = (isp, 0)
    text = f"""media = "unicam"
video = "image"
sensor = "{SENSOR}"
[[format]]
entity = "{SENSOR}"
pad = 0
code = "SRGGB10_1X10"
width = 1640
height = 1232
[[format]]
entity = "isp"
pad = 0
[[format]]
entity = "isp"
pad = 1
code = "YUYV8_2X8"
"""
    V4l2Camera(setup=setup_file(tmp_path, text)).close()
    assert sensor.bus[0] == isp.bus[0] == (RGGB10, 1640, 1232)
    assert isp.bus[1] == (BUS_FORMATS["YUYV8_2X8"], 1640, 1232)
    with pytest.raises(CameraError, match=r"format\[0\].* lacks code"):
        read_setup(setup_file(tmp_path, text.replace('code = "SRGGB10_1X10"\n', "", 1)))


# 10: left-aligned and compact words.


@pytest.mark.parametrize("settings", ["packing=u16-left", "packing=u16-left,pixel_format=RG10,bit_depth=10"])
def test_left_aligned_codes_under_a_right_aligned_name(kernel: FakeKernel, settings: str) -> None:
    node = kernel.add(VideoNode(codes=("RG10",)))
    codes = np.random.default_rng(0).integers(0, 1024, (48, 64)).astype("<u2")
    with open_by_spec(f"v4l2:0,sensor=imx219,{settings}") as camera:
        assert isinstance(camera, V4l2Camera)
        node.frames.append(Filled((codes << 6).tobytes()))
        with read(camera) as frame:
            assert (frame.format.packing, frame.format.bit_depth, frame.white_level) == (Packing.U16_LEFT, 10, 1023)
            np.testing.assert_array_equal(unpack(frame.data, frame.format.layout), codes)


@pytest.mark.parametrize(
    ("settings", "code"), [("packing=csi2p", "pRAA"), ("packing=u8", "RGGB"), ("packing=u16", "RG16")]
)
def test_a_format_by_its_packing(kernel: FakeKernel, settings: str, code: str) -> None:
    node = kernel.add(VideoNode(codes=("RGGB", "pRAA", "RG10", "RG16")))
    with open_by_spec(f"v4l2:0,black_level=0,{settings}"):
        assert node.current[0] == code


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("packing=zip", "packing must be one of u8, u16, u16-left, csi2p, pisp-comp1, found 'zip'"),
        ("packing=csi2p", "no Bayer format of packing 'csi2p'; there are: RG10"),
        ("packing=csi2p,pixel_format=RG10", "RG10 has packing 'u16', asked for 'csi2p'"),
    ],
)
def test_packings_that_are_not_there(kernel: FakeKernel, settings: str, message: str) -> None:
    kernel.add(VideoNode(codes=("RG10",)))
    with pytest.raises((CameraError, FormatError), match=message):
        open_by_spec(f"v4l2:0,black_level=0,{settings}")


@pytest.mark.parametrize(("shift", "warned"), [(6, True), (0, False)])
def test_codes_that_exceed_the_depth_are_said_once(
    kernel: FakeKernel, caplog: pytest.LogCaptureFixture, shift: int, warned: bool
) -> None:
    node = kernel.add(VideoNode())
    codes = np.full((48, 64), 512 << shift, "<u2")
    with V4l2Camera(0, black_level=0) as camera, caplog.at_level(logging.WARNING):
        for _ in range(3):
            node.frames.append(Filled(codes.tobytes()))
            read(camera).release()
    found = [message for message in caplog.messages if "codes exceed the bit depth: the highest is 32768" in message]
    assert len(found) == int(warned)


def as_bits(codes: np.ndarray, bits: int, group: int, group_bytes: int) -> np.ndarray:
    """Codes as one stream of bits, low bits first, by Python's own whole numbers."""
    rows = []
    for row in codes:
        data = b""
        for begin in range(0, len(row), group):
            number = sum(int(code) << (bits * place) for place, code in enumerate(row[begin : begin + group]))
            data += number.to_bytes(group_bytes, "little")
        rows.append(np.frombuffer(data, np.uint8))
    return np.stack(rows)


@pytest.mark.parametrize(
    ("code", "bits", "group", "group_bytes", "width"),
    [("RG10", 10, 4, 5, 64), ("RG12", 12, 2, 3, 64), ("ip3r", 10, 25, 32, 64), ("ip3r", 10, 25, 32, 100)],
)
@pytest.mark.parametrize("padding", [0, 16])
def test_compact_codes_are_expanded(
    kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    bits: int,
    group: int,
    group_bytes: int,
    width: int,
    padding: int,
) -> None:
    node = kernel.add(VideoNode(codes=(code,), sizes=((width, 48),)))
    row = -(-width // group) * group_bytes
    monkeypatch.setattr(VideoNode, "stride", property(lambda self: row + padding))
    codes = np.random.default_rng(0).integers(0, 2**bits, (48, width)).astype(np.uint16)
    data = np.pad(as_bits(codes, bits, group, group_bytes), ((0, 0), (0, padding)))
    with V4l2Camera(0, black_level=0) as camera:
        node.frames.append(Filled(data.tobytes()))
        frame = read(camera)
        assert (frame.format.bit_depth, frame.format.packing) == (bits, Packing.U16)
        np.testing.assert_array_equal(unpack(frame.data, frame.format.layout), codes)
        assert len(node.free) == 6, "a copied frame's buffer is the driver's again"
        frame.release()
        assert len(node.free) == 6


# 11: small things.


@pytest.mark.parametrize("field", [4, 7, 2])
def test_interlaced_frames_are_refused(kernel: FakeKernel, field: int) -> None:
    node = kernel.add(VideoNode())
    node.field = field
    with pytest.raises(FormatError, match="RG10 is interlaced; a Bayer frame is progressive"):
        V4l2Camera(0, black_level=0)
    assert kernel.open_nodes == []


def test_a_ring_that_its_writer_goes_on_with_is_copied(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    node.driver = "v4l2 loopback"
    with V4l2Camera(0, black_level=0) as camera:
        node.frames.append(Filled(random_frame(node)))
        with read(camera) as frame:
            before = frame.data.copy()
            for buffer in node.buffers:
                buffer[:] = bytes(len(buffer))
            np.testing.assert_array_equal(frame.data, before)


def test_a_dropped_camera_frees_its_device(kernel: FakeKernel) -> None:
    kernel.add(VideoNode(period_ns=33_000_000))
    camera = V4l2Camera(0, black_level=0)
    read(camera).release()
    del camera
    gc.collect()
    assert kernel.open_nodes == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("imx219 10-0010", "imx219"),
        ("m00_b_imx219 4-0010", "imx219"),
        ("m01_f_imx415 1-001a-1", "imx415"),
        ("imx708_wide 4-001a", "imx708_wide"),
        ("IMX708_WIDE_NOIR", "imx708_wide_noir"),
        ("", None),
        (None, None),
        ("  ", None),
    ],
)
def test_sensor_names(text: str | None, name: str | None) -> None:
    assert sensor_name(text) == name


def test_a_variants_name_reaches_the_frame(kernel: FakeKernel, tmp_path: Path) -> None:
    _, sensor = board(kernel, "unicam")
    sensor.name = "m00_b_imx708_wide 4-001a"
    setup = setup_file(tmp_path, f'media = "unicam"\nvideo = "image"\nsensor = "{SENSOR}"\n')
    with V4l2Camera(setup=setup) as camera:
        kernel.all["/dev/video0"].frames.append(Filled())  # type: ignore[attr-defined]
        with read(camera) as frame:
            assert (frame.sensor, frame.analogue_gain) == ("imx708_wide", 1.0)


def test_frames_after_a_suspended_process_are_stale(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the process stood still, the driver filled the buffers that it had; then frames were lost."""
    node = kernel.add(VideoNode())
    now_ns = [0]
    real: Callable[[], Any] = continuity.Staleness
    monkeypatch.setattr("edge_isp.cameras.v4l2.camera.Staleness", lambda: real(lambda: now_ns[0]))  # type: ignore[call-arg]
    with V4l2Camera(0, black_level=0) as camera:
        stale = []
        for stamp_ms, read_ms in ((100, 101), (133, 134), (166, 9_000), (200, 9_001), (9_010, 9_011), (9_043, 9_700)):
            node.frames.append(Filled(timestamp_ns=stamp_ms * 10**6))
            now_ns[0] = read_ms * 10**6
            with read(camera) as frame:
                stale.append(FrameStatus.STALE in frame.status)
    assert stale == [False, False, True, True, False, False]


def test_a_media_device_that_fails_is_no_reason_not_to_open(kernel: FakeKernel) -> None:
    """A device by its path asks the media devices only where its format follows them."""
    node = kernel.add(VideoNode())
    media = kernel.add(MediaNode("/dev/media0", {}, []))
    media.fail("MEDIA_IOC_G_TOPOLOGY", errno.EIO)
    V4l2Camera(0, black_level=0).close()
    assert node.calls
    assert media.calls == []


# `edge-isp devices --media`.


def test_the_graph_is_drawn_and_a_set_up_file_proposed(kernel: FakeKernel, tmp_path: Path) -> None:
    video = kernel.add(VideoNode(codes=("pRAA",), sizes=((64, 48),), rates=()))
    sensor = kernel.add(sensor_node(*MODES[0]))
    receiver = kernel.add(SubdeviceNode("/dev/v4l-subdev1", "csi2", size=(1640, 1232)))
    receiver.bus[1] = (RGGB10, 1640, 1232)
    video.follow_media_controller({RGGB10: ("pRAA",)}, receiver, 1)
    kernel.add(
        MediaNode(
            "/dev/media0",
            {
                "statistics": (None, 0),
                SENSOR: (sensor, abi.MEDIA_ENT_F_CAM_SENSOR),
                "csi2": (receiver, 0),
                "rp1-cfe-csi2_ch0": (video, 0),
            },
            [
                [SENSOR, 0, "csi2", 0, abi.MEDIA_LNK_FL_ENABLED | abi.MEDIA_LNK_FL_IMMUTABLE],
                ["csi2", 0, "statistics", 0, 0],
                ["csi2", 1, "rp1-cfe-csi2_ch0", 0, 0],
            ],
            driver="rp1-cfe",
        )
    )
    broken = kernel.add(MediaNode("/dev/media1", {}, []))
    broken.fail("MEDIA_IOC_DEVICE_INFO", errno.EIO)
    result = CliRunner().invoke(app, ["devices", "--media"])
    assert result.exit_code == 0, result.output
    assert "/dev/media0: rp1-cfe, Fake board, platform:fake" in result.stdout
    assert f"  {SENSOR} (/dev/v4l-subdev0), sensor" in result.stdout
    assert "1 -> 'rp1-cfe-csi2_ch0':0 [off] SRGGB10_1X10 1640x1232" in result.stdout
    assert "/dev/media1: MEDIA_IOC_DEVICE_INFO failed: EIO" in result.stdout
    broken.failures.clear()
    first, second = json.loads(CliRunner().invoke(app, ["devices", "--media", "--json"]).stdout)
    assert second["setup"] is None
    with V4l2Camera(setup=setup_file(tmp_path, first["setup"])) as camera:
        assert str(camera.format) == "1640x1232 RGGB 10 bit csi2p"
        assert video.streaming


def test_no_media_device(kernel: FakeKernel) -> None:
    assert "no media device" in CliRunner().invoke(app, ["devices", "--media"]).stdout


SETUPS = sorted((Path(__file__).parents[3] / "examples/setups").glob("*.toml"))


@pytest.mark.parametrize("path", SETUPS, ids=lambda path: path.stem)
def test_the_files_for_common_boards_can_be_read(path: Path) -> None:
    setup = read_setup(path)
    assert setup.sensor is not None
    assert setup.formats[0][:2] == (setup.sensor, 0)
    assert "not verified" in path.read_text().splitlines()[0]


def test_there_are_files_for_common_boards() -> None:
    assert [path.stem for path in SETUPS] == ["am62a", "imx8mp-isi", "pi4-unicam", "pi5-cfe", "rk3588-rkcif"]
