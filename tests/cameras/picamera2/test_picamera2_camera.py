"""Picamera2Camera over the real picamera2 and a stand-in for libcamera."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.cameras import picamera2 as ours
from edge_isp.cameras.base import Controls
from edge_isp.cameras.picamera2.camera import Picamera2Camera
from edge_isp.cameras.picamera2.modes import raw_format
from edge_isp.cameras.spec import open_camera
from edge_isp.errors import CameraError, FormatError
from edge_isp.frame import FrameStatus, Packing, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.kernels.pack import pack
from edge_isp.kernels.unpack import unpack
from edge_isp.metering.exposure import AutoExposure
from edge_isp.plugins import load
from edge_isp.sensor_window import SensorWindow
from edge_isp.testing import check_camera

# picamera2's own.
pytestmark = pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")

Plug = Callable[..., Any]

METADATA: dict[str, Any] = {
    "SensorTimestamp": 5_000_000_000,
    "ExposureTime": 10_000,
    "AnalogueGain": 2.5,
    "DigitalGain": 1.1,
    "ColourGains": (1.75, 1.5),
    "ColourTemperature": 5200,
    "SensorBlackLevels": (4096, 4096, 4160, 4096),
}

PERIOD_NS = 33_333_333


def expose(device: Any, camera: Picamera2Camera, seed: int = 0, **more: Any) -> np.ndarray:
    """Has the stand-in expose random codes in the camera's layout; returns the codes."""
    layout = camera.format
    shape = (layout.height, layout.width)
    codes = np.random.default_rng(seed).integers(0, 2**layout.bit_depth, shape).astype(np.uint16)
    if layout.packing == "pisp-comp1":
        data = codes.astype(np.uint8).tobytes()
    else:
        data = pack(codes, packing=layout.packing, bit_depth=layout.bit_depth, stride=layout.stride).tobytes()
    passed_ns = (device.sequence + 1 + more.get("lost_before", 0)) * PERIOD_NS
    metadata = {**METADATA, "SensorTimestamp": METADATA["SensorTimestamp"] + passed_ns}
    device.expose(data, metadata=more.pop("metadata", metadata), **more)
    return codes


def read(camera: Picamera2Camera) -> RawFrame:
    frame = camera.read(timeout_s=10)
    assert frame is not None
    return frame


@pytest.mark.parametrize(
    ("board", "settings", "described", "stride"),
    [
        ("vc4", {}, "1640x60 RGGB 10 bit csi2p", 2080),
        ("vc4", {"packing": "u16"}, "1640x60 RGGB 10 bit u16", 3296),
        ("vc4", {"width": 640, "height": 48}, "640x48 RGGB 10 bit csi2p", 800),
        ("vc4", {"width": 640, "bit_depth": 8}, "640x48 RGGB 8 bit u8", 640),
        ("vc4", {"fps": 110}, "1332x50 RGGB 12 bit csi2p", 2016),
        ("vc4", {"width": 3280}, "3280x80 RGGB 10 bit csi2p", 4128),
        ("vc4", {"fps": 20}, "3280x80 RGGB 10 bit csi2p", 4128),
        ("pisp", {}, "1640x60 RGGB 10 bit u16-left", 3328),
        ("pisp", {"bit_depth": 12, "packing": "u16-left"}, "1332x50 RGGB 12 bit u16-left", 2688),
    ],
)
def test_frames_of_every_layout(plug: Plug, board: str, settings: dict[str, Any], described: str, stride: int) -> None:
    device = plug(board)
    with Picamera2Camera(0, **settings) as camera:
        layout = camera.format
        assert (str(layout), layout.stride) == (described, stride)
        codes = expose(device, camera)
        with read(camera) as frame:
            assert frame.data.shape == (layout.height, stride)
            assert frame.data.dtype == np.uint8
            found = unpack(frame.data, layout.layout)
            np.testing.assert_array_equal(found, codes)
            depth = layout.bit_depth
            assert frame.black_level == tuple(level / 2 ** (16 - depth) for level in (4096, 4096, 4160, 4096))
            assert frame.white_level == 2**depth - 1


def test_compressed_frames_on_demand(plug: Plug) -> None:
    device = plug("pisp")
    with Picamera2Camera(0, packing="pisp-comp1") as camera:
        assert (str(camera.format), camera.format.stride) == ("1640x60 RGGB 16 bit pisp-comp1", 1664)
        data = np.random.default_rng(0).integers(0, 256, (60, 1664)).astype(np.uint8)
        device.expose(data.tobytes(), metadata=METADATA)
        with read(camera) as frame:
            np.testing.assert_array_equal(frame.data, data)
            assert frame.black_level == (4096.0, 4096.0, 4160.0, 4096.0)
            assert frame.white_level == 1023 << 6


def test_padding_beyond_the_boards_own(plug: Plug) -> None:
    device = plug("vc4", cfa="BGGR")
    device.extra_padding = 96
    with Picamera2Camera(0) as camera:
        assert (str(camera.format), camera.format.stride) == ("1640x60 BGGR 10 bit csi2p", 2176)
        codes = expose(device, camera)
        with read(camera) as frame:
            found = unpack(frame.data, frame.format.layout)
        np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({}, (0, 0, 3280, 2464)),
        ({"width": 640, "bit_depth": 10}, (1000, 752, 1280, 960)),
        ({"fps": 110}, (0, 0, 1332, 990)),
    ],
)
def test_a_frame_says_what_part_of_the_sensor_it_shows(
    plug: Plug, settings: dict[str, Any], window: tuple[int, int, int, int]
) -> None:
    """That of the mode, whatever the digital zoom (ScalerCrop) of the picture that is not used."""
    device = plug()
    with Picamera2Camera(0, **settings) as camera:
        expose(device, camera, metadata=METADATA | {"ScalerCrop": (1200, 900, 100, 100)})
        with read(camera) as frame:
            assert frame.window == SensorWindow(*window)


@pytest.mark.parametrize(("rotation", "turned"), [(0, False), (180, True)])
def test_flips_that_the_colour_order_does_not_show(plug: Plug, rotation: int, turned: bool) -> None:
    """libcamera turns the pictures of a camera that is mounted upside down: the sensor is read out mirrored."""
    device = plug(model="imx462")
    for name in device.properties:
        if name.name == "Rotation":
            device.properties[name] = rotation
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        with read(camera) as frame:
            assert frame.window is not None
            assert frame.window.flips == Flips(vertical=turned, horizontal=turned)


def test_a_frame_says_what_the_camera_said(plug: Plug) -> None:
    device = plug()
    with load("cameras", "picamera2")("0") as camera:
        expose(device, camera)
        with read(camera) as frame:
            assert frame.source == "picamera2:0"
            assert frame.sensor == "imx219"
            assert frame.sequence == 0
            assert frame.timestamp_ns == 5_000_000_000 - 10_000_000  # the start of exposure
            assert frame.exposure_ns == 10_000_000
            assert frame.analogue_gain == 2.5
            assert frame.digital_gain == 1.1
            assert frame.colour_gains == (1.75, 1.5)
            assert frame.colour_temperature_k == 5200
            assert frame.status is FrameStatus.OK


def test_what_the_camera_does_not_say(plug: Plug) -> None:
    device = plug()
    device.timestamp_ns = 7_000_000_000
    with Picamera2Camera(0) as camera:
        expose(device, camera, metadata={})
        with read(camera) as frame:
            assert frame.timestamp_ns == 7_000_000_000  # of the buffer
            said = (frame.exposure_ns, frame.analogue_gain, frame.colour_gains, frame.colour_temperature_k)
            assert said == (None,) * 4
            assert frame.black_level == (64, 64, 64, 64)  # the sensor's profile


def test_no_black_level_and_no_profile_is_an_error_that_costs_no_buffer(plug: Plug) -> None:
    device = plug(model="imx999")
    with Picamera2Camera(0, buffers=4) as camera:
        for _ in range(6):
            expose(device, camera, metadata={})
            with pytest.raises(CameraError, match="reports no black levels .* no sensor profile of 'imx999'"):
                camera.read(timeout_s=10)
        device.wait_until_queued(4)


def test_frames_are_lent_without_a_copy(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0, buffers=3) as camera:
        addresses = set()
        for number in range(6):
            expose(device, camera, number)
            with read(camera) as frame:
                addresses.add(frame.data.ctypes.data)
                assert not frame.data.flags.owndata
                assert not frame.data.flags.writeable
        assert len(addresses) <= 3


def test_a_held_frame_does_not_change_while_others_come(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0, buffers=4) as camera:
        expose(device, camera, 1)
        held = read(camera)
        before = held.data.copy()
        for number in range(2, 9):
            expose(device, camera, number)
            read(camera).release()
        np.testing.assert_array_equal(held.data, before)
        held.release()
        held.release()
        device.wait_until_queued(4)


def test_a_restarted_counter_gives_back_the_right_buffer(plug: Plug) -> None:
    """Two frames have the same number of libcamera's: each gives back its own buffer."""
    device = plug()
    with Picamera2Camera(0, buffers=4) as camera:
        expose(device, camera, 1)
        first = read(camera)
        device.sequence = -1
        expose(device, camera, 2, metadata={**METADATA, "SensorTimestamp": METADATA["SensorTimestamp"] + PERIOD_NS})
        second = read(camera)
        kept = second.data.copy()
        first.release()
        for number in range(3, 7):
            expose(device, camera, number)
            read(camera).release()
            np.testing.assert_array_equal(second.data, kept)
        second.release()
        device.wait_until_queued(4)


def test_time_stamps_that_go_backwards_are_said(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        statuses = []
        for time_ns in (10**9, 2 * 10**9, 2 * 10**9, 10**9, 3 * 10**9, 4 * 10**9):
            expose(device, camera, metadata={**METADATA, "SensorTimestamp": time_ns})
            with read(camera) as frame:
                statuses.append(FrameStatus.BAD_TIMESTAMP in frame.status)
        assert statuses == [False, False, True, True, False, False]


def test_a_number_that_jumps_by_millions_is_no_loss(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        numbers: list[int] = []
        for jump in (0, 3_999_999_997, 0, 1):
            expose(
                device,
                camera,
                lost_before=jump,
                metadata={**METADATA, "SensorTimestamp": METADATA["SensorTimestamp"] + len(numbers) * PERIOD_NS},
            )
            with read(camera) as frame:
                numbers.append(frame.sequence)
        assert numbers == [0, 1, 2, 4]


def test_no_more_frames_are_held_than_the_camera_can_spare(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0, buffers=4) as camera:
        held = []
        for number in range(2):
            expose(device, camera, number)
            held.append(read(camera))
        with pytest.raises(CameraError, match=r"2 frames are held, which is all .* more than buffers=4"):
            camera.read(timeout_s=10)
        held.pop(0).release()
        expose(device, camera, 3)
        with read(camera) as frame:
            assert frame.sequence == 2
        held.pop().release()
        device.wait_until_queued(4)


def test_lost_and_damaged_frames_are_said(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        for status in ("Startup", "Startup"):
            expose(device, camera, status=status)
        seen = []
        for how in (
            {},
            {"lost_before": 2},
            {"status": "Error"},  # libcamera discards it
            {},
            {"raw_status": "Startup"},
            {},
            {"raw_status": "Error"},
            {},
        ):
            expose(device, camera, **how)
            if "status" not in how and how.get("raw_status") != "Startup":
                with read(camera) as frame:
                    seen.append((frame.sequence, frame.status))
        ok, gap, corrupted = FrameStatus.OK, FrameStatus.GAP, FrameStatus.CORRUPTED
        assert seen == [(2, ok), (5, gap), (7, gap), (9, gap), (10, corrupted), (11, ok)]
        device.wait_until_queued(6)


def test_a_frame_that_comes_after_its_time_out_is_not_lost(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        for _ in range(3):
            with pytest.raises(CameraError, match=r"picamera2:0: no frame within 0.01 s; see .*dmesg"):
                camera.read(timeout_s=0.01)
        expose(device, camera)
        with read(camera) as frame:
            assert frame.sequence == 0
        with pytest.raises(CameraError, match="no frame within"):
            camera.read(timeout_s=0.01)
        expose(device, camera)  # comes, and nobody reads it
    assert camera.read() is None


def test_closing_wakes_a_reader_and_takes_every_buffer_back(plug: Plug) -> None:
    device = plug()
    camera = Picamera2Camera(0)
    codes = expose(device, camera)
    held = read(camera)
    results: list[RawFrame | None] = []
    reader = threading.Thread(target=lambda: results.append(camera.read()))
    reader.start()
    camera.close()
    reader.join(10)
    assert results == [None]
    camera.close()
    # What was held can still be looked at, and released.
    found = unpack(held.data, held.format.layout)
    np.testing.assert_array_equal(found, codes)
    held.release()
    with pytest.raises(CameraError, match="picamera2:0: the camera is closed"):
        _ = camera.limits
    with pytest.raises(CameraError, match="picamera2:0: the camera is closed"):
        camera.control(Controls(fps=10))


def test_modes_change_from_one_opening_to_the_next(plug: Plug) -> None:
    device = plug()
    for settings in ({"width": 640, "fps": 100}, {"packing": "u16"}, {"fps": 21}, {"width": 640, "bit_depth": 8}):
        with Picamera2Camera(0, **settings) as camera:
            codes, layout = expose(device, camera), camera.format
            held = read(camera)
        found = unpack(held.data, layout.layout)
        np.testing.assert_array_equal(found, codes)


def test_the_command_line_names_the_mode(plug: Plug) -> None:
    plug()
    device = plug(model="imx477")
    with open_camera("picamera2:1,width=640,fps=100,packing=u16,buffers=4") as camera:
        assert isinstance(camera, Picamera2Camera)
        expose(device, camera)
        with read(camera) as frame:
            assert (frame.source, str(frame.format)) == ("picamera2:1", "640x48 RGGB 10 bit u16")


def test_the_loop_drives_the_camera(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        expose(device, camera, metadata=METADATA | {"ExposureTime": 20_000, "AnalogueGain": 1.0})  # mean about 0.5
        with read(camera) as frame:
            assert AutoExposure().adjust(frame, camera) is frame
        expose(device, camera)
        read(camera).release()
    assert device.applied["ExposureTime"] == pytest.approx(20_000 * 0.18 / 0.47, rel=0.02)
    assert device.applied["AnalogueGain"] == pytest.approx(1.0)


def test_several_cameras(plug: Plug) -> None:
    devices = [plug(), plug(model="imx477", cfa="BGGR")]
    with Picamera2Camera(0) as first, Picamera2Camera(1) as second:
        codes = [expose(devices[0], first, 1), expose(devices[1], second, 2)]
        for camera, expected, sensor in ((second, codes[1], "imx477"), (first, codes[0], "imx219")):
            with read(camera) as frame:
                assert frame.sensor == sensor
                found = unpack(frame.data, frame.format.layout)
                np.testing.assert_array_equal(found, expected)
    with pytest.raises(CameraError, match=r"no camera of this number; there are: 0 \(imx219\), 1 \(imx477\)"):
        Picamera2Camera(2)


def test_controls_reach_the_camera(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0, fps=25) as camera:
        assert device.applied["FrameDurationLimits"] == (40_000, 40_000)
        assert camera.limits.exposure_ns == (75_000, 40_000_000)
        assert camera.limits.analogue_gain == (1.0, 10.67)
        camera.control(Controls(exposure_ns=12_345_678, analogue_gain=4.0, colour_gains=(1.5, 2.0)))
        expose(device, camera)
        read(camera).release()
        applied = device.applied
        assert (applied["ExposureTime"], applied["AnalogueGain"], applied["ColourGains"]) == (12_345, 4.0, (1.5, 2.0))
        assert (applied["ExposureTimeMode"], applied["AnalogueGainMode"]) == (1, 1)
        camera.control(Controls(fps=10, auto_exposure=False, auto_white_balance=True, exposure_ns=90_000_000))
        expose(device, camera)
        read(camera).release()
        assert (applied["AeEnable"], applied["AwbEnable"]) == (False, True)
        assert applied["FrameDurationLimits"] == (100_000, 100_000)
        assert applied["ExposureTime"] == 90_000
        assert camera.limits.exposure_ns == (75_000, 100_000_000)
        camera.control(Controls(auto_exposure=True))
        expose(device, camera)
        read(camera).release()
        assert (applied["AeEnable"], applied["ExposureTimeMode"], applied["AnalogueGainMode"]) == (True, 0, 0)


def test_controls_that_cannot_be(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0, fps=25) as camera:
        with pytest.raises(CameraError, match="exposure_ns must be from 75000 to 40000000 at this frame rate, found 4"):
            camera.control(Controls(exposure_ns=40_000_001))
        with pytest.raises(CameraError, match=r"analogue_gain must be from 1.0 to 10.67 .* found 16"):
            camera.control(Controls(analogue_gain=16.0))
        with pytest.raises(CameraError, match="fps must be a positive number"):
            camera.control(Controls(fps=0))
        assert camera.limits.exposure_ns[1] == 40_000_000
    device.lacks |= {"AwbEnable", "AnalogueGain"}
    with Picamera2Camera(0) as camera:
        with pytest.raises(CameraError, match="libcamera offers no AwbEnable for this camera"):
            camera.control(Controls(auto_white_balance=True))
        with pytest.raises(CameraError, match="the exposure and gain of this camera cannot be set"):
            camera.control(Controls(analogue_gain=2.0))


def test_what_cannot_be_opened(plug: Plug) -> None:
    with pytest.raises(CameraError, match="libcamera finds no camera; check the cable"):
        Picamera2Camera(0)
    device = plug()
    for arguments, message in (
        ((("front",), {}), "expected the camera's number, from 0 on, found 'front'"),
        (((0,), {"fps": 0}), "fps must be a positive number, found 0"),
        (((0,), {"buffers": 2}), "buffers must be at least 3, .* found 2"),
        (((0,), {"packing": "zip"}), "packing must be one of .*csi2p.*, found 'zip'"),
        (
            ((0,), {"width": 1000}),
            "imx219 has no mode of 1000xany, any bits; it has: 1640x60, 10 bits",
        ),
        (((0,), {"fps": 500}), "no mode of anyxany, any bits, 500 frames/s"),
        (((0,), {"packing": "u16-left"}), r"asked for packing 'u16-left', but this board gives 'u16' .* csi2p, u16"),
    ):
        with pytest.raises(CameraError, match=message):
            Picamera2Camera(*arguments[0], **arguments[1])
    with Picamera2Camera(0) as camera:  # nothing of all this has kept the camera
        expose(device, camera)
        read(camera).release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_camera_that_another_program_has(plug: Plug) -> None:
    device = plug()
    device.busy = True
    with pytest.raises(CameraError, match="Device or resource busy; another program has the camera; .* sudo fuser"):
        Picamera2Camera(0)
    device.busy = False
    gc.collect()  # picamera2 leaves a pipe to the garbage collector, which warns
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        read(camera).release()


def test_a_board_that_gives_another_packing(plug: Plug) -> None:
    plug("pisp")
    with pytest.raises(CameraError, match=r"asked for packing 'csi2p', but this board gives 'pisp-comp1' .*PISP_COMP1"):
        Picamera2Camera(0, packing="csi2p")


def test_a_monochrome_sensor_has_no_colours(plug: Plug) -> None:
    plug(mono=True)
    with pytest.raises(FormatError, match="RAW format R10_CSI2P is not known; expected a Bayer format"):
        Picamera2Camera(0)


@pytest.mark.parametrize(
    ("name", "packing", "bit_depth", "stride"),
    [
        ("SBGGR12_CSI2P", Packing.CSI2P, 12, 2464),
        ("SGBRG12", Packing.U16, 12, 3328),
        ("SGRBG16", Packing.U16_LEFT, 12, 3328),
        ("SRGGB8", Packing.U8, 8, 1664),
        ("GRBG_PISP_COMP1", Packing.PISP_COMP1, 16, 1664),
    ],
)
def test_stream_formats(name: str, packing: Packing, bit_depth: int, stride: int) -> None:
    found = raw_format({"format": name, "size": (1640, 1232), "stride": stride}, 12)
    assert (found.packing, found.bit_depth, found.stride) == (packing, bit_depth, stride)
    assert found.cfa in name


def test_no_private_name_of_picamera2_is_touched() -> None:
    """Neither by the camera nor by its tests: private names change without notice."""
    paths = [*Path(*ours.__path__).glob("*.py"), *Path(__file__).parent.glob("*.py")]
    assert len(paths) > 6
    for path in paths:
        text = path.read_text()
        for line in text.splitlines():
            for owner in ("_picamera2._", "picam2._", "request._", "Picamera2._", "allocator._", "package._"):
                assert owner not in line or "for owner in" in line, f"{path.name}: {line}"


def test_conformance(plug: Plug) -> None:
    device = plug()
    times_ns = itertools.count(5_000_000_000, 33_000_000)

    def expose_next(camera: Any) -> None:
        expose(device, camera, metadata={**METADATA, "SensorTimestamp": next(times_ns)})

    check_camera(lambda: Picamera2Camera(0), before_read=expose_next)


def test_devices_with_their_modes(plug: Plug) -> None:
    plug()
    first, *others = Picamera2Camera.devices()
    assert (first.spec, first.name, first.problem, others) == ("picamera2:0", "imx219", None, [])
    assert ("SRGGB10", "1640x60", (41.85,)) in [(mode.format, mode.size, mode.fps) for mode in first.modes]
