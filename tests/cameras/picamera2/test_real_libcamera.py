"""What real libcamera does and its stand-in once did not: other boards, gone cameras, lenses, flips, controls."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.cameras.base import Controls
from edge_isp.cameras.picamera2 import camera as camera_module
from edge_isp.cameras.picamera2 import devices as devices_module
from edge_isp.cameras.picamera2.camera import Picamera2Camera
from edge_isp.cameras.spec import open_camera
from edge_isp.errors import CameraDisconnectedError, CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.kernels.unpack import unpack
from edge_isp.recording.recorder import Recorder
from edge_isp.sensor_window import SensorWindow
from tests.cameras.picamera2.test_picamera2_camera import METADATA, Plug, expose, read
from tests.support.recorded_frames import assert_identical

# picamera2's own.
pytestmark = pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")

READ_WITHOUT_A_LIMIT: Callable[[Picamera2Camera], RawFrame | None] = lambda camera: camera.read()  # noqa: E731


def frame_with(plug: Plug, metadata: dict[str, Any], **settings: Any) -> RawFrame:
    """A copy of a frame of which libcamera says something."""
    device = plug()
    with Picamera2Camera(0, **settings) as camera:
        expose(device, camera, metadata=METADATA | metadata)
        with read(camera) as frame:
            return frame.copy()


# 1: boards without a Raspberry Pi's pipeline.


def test_a_board_that_advertises_neither_rate_nor_exposure(plug: Plug) -> None:
    device = plug("simple")
    with Picamera2Camera(0, width=640, bit_depth=10) as camera:
        assert str(camera.format) == "640x48 RGGB 10 bit u16"
        codes = expose(device, camera)
        with read(camera) as frame:
            np.testing.assert_array_equal(unpack(frame.data, frame.format.layout), codes)
            assert frame.window is None
        assert "FrameDurationLimits" not in device.applied
        for controls, message in (
            (Controls(fps=10), "the frame rate of this camera cannot be set"),
            (Controls(exposure_ns=10_000_000), "the exposure and gain of this camera cannot be set"),
            (Controls(auto_exposure=True), "libcamera offers no AeEnable, AnalogueGain, ExposureTime for this camera"),
        ):
            with pytest.raises(CameraError, match=message):
                camera.control(controls)
    with pytest.raises(CameraError, match="the frame rate of this camera cannot be set"):
        Picamera2Camera(0, fps=30)
    (found,) = Picamera2Camera.devices()
    assert found.problem is None
    assert ("SRGGB10", "640x48", ()) in [(mode.format, mode.size, mode.fps) for mode in found.modes]


@pytest.mark.parametrize(
    ("settings", "described"),
    [
        ({}, "3280x80 RGGB 10 bit u16"),
        ({"bit_depth": 12}, "1332x50 RGGB 12 bit u16"),
        ({"bit_depth": 8}, "640x48 RGGB 8 bit u8"),
        ({"packing": "u16"}, "3280x80 RGGB 10 bit u16"),
    ],
)
def test_formats_as_libcamera_lists_them(plug: Plug, settings: dict[str, Any], described: str) -> None:
    """A format that is not on its list becomes any other: one of fewer bits than the sensor has, too."""
    device = plug("simple")
    with Picamera2Camera(0, **settings) as camera:
        assert str(camera.format) == described
        codes = expose(device, camera)
        with read(camera) as frame:
            np.testing.assert_array_equal(unpack(frame.data, frame.format.layout), codes)
            assert frame.white_level == 2**camera.format.bit_depth - 1


@pytest.mark.parametrize(
    ("board", "packing", "there_are"),
    [("simple", "csi2p", "u16, u8"), ("vc4", "pisp-comp1", "csi2p, u16"), ("pisp", "u16", "pisp-comp1, u16-left")],
)
def test_the_packings_of_a_board_are_the_true_ones(plug: Plug, board: str, packing: str, there_are: str) -> None:
    plug(board)
    with pytest.raises(
        CameraError, match=rf"asked for packing '{packing}', but this board gives .*it has: {there_are}$"
    ):
        Picamera2Camera(0, packing=packing)


@pytest.mark.parametrize(
    "failure", [RuntimeError("Failed"), KeyError("Failed"), OSError(5, "Failed"), ValueError("Failed")]
)
def test_whatever_is_raised_by_configure_and_start_is_translated(plug: Plug, failure: Exception) -> None:
    device = plug()
    Picamera2Camera(0).close()
    device.failure = failure
    with pytest.raises(CameraError, match="picamera2:0: .*Failed.*dmesg"):
        Picamera2Camera(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "start", lambda controls: (_ for _ in ()).throw(failure))
        with pytest.raises(CameraError, match="the camera cannot be started: .*Failed"):
            Picamera2Camera(0)
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        read(camera).release()


# picamera2 leaves a pipe to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_device_that_fails_is_a_row_of_its_own(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = plug()
    plug(model="imx477")
    monkeypatch.setattr(broken, "generate_configuration", lambda roles: None)  # as libcamera's virtual cameras do
    first, second = Picamera2Camera.devices()
    assert (first.spec, first.name, first.modes) == ("picamera2:0", "imx219", ())
    assert first.problem is not None
    assert "picamera2:0: cannot be opened: AttributeError" in first.problem
    assert (second.name, second.problem) == ("imx477", None)
    assert second.modes
    gc.collect()


def test_a_camera_without_a_model_is_listed(plug: Plug) -> None:
    device = plug()
    for name in [each for each in device.properties if each.name == "Model"]:
        del device.properties[name]
    (found,) = Picamera2Camera.devices()
    assert (found.name, found.problem) == (device.id, None)


# 2: a camera that is gone is said to be gone.


@pytest.mark.parametrize("limit_s", [5.0, None])
@pytest.mark.parametrize("lose", ["unplug", "stop_frontend"])
def test_a_camera_that_is_gone_is_said_to_be_gone(plug: Plug, lose: str, limit_s: float | None) -> None:
    device = plug()
    camera = Picamera2Camera(0)
    expose(device, camera)
    held = read(camera)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            camera.read(timeout_s=limit_s)
        except CameraError as error:
            errors.append(error)

    reader = threading.Thread(target=wait)
    reader.start()
    getattr(device, lose)()
    reader.join(2)
    assert not reader.is_alive(), "read waits for ever"
    (error,) = errors
    assert isinstance(error, CameraDisconnectedError)
    assert ("cable" in str(error)) == (lose == "stop_frontend")
    held.release()  # what libcamera answers to that is no consumer's business
    with pytest.raises(CameraDisconnectedError):
        camera.read(timeout_s=1)
    camera.close()
    gc.collect()
    device = device if lose == "stop_frontend" else plug()
    with Picamera2Camera(0) as camera:  # it is back
        expose(device, camera)
        read(camera).release()


@pytest.mark.parametrize("limit_s", [5.0, None])
def test_a_camera_whose_device_is_gone_though_libcamera_lists_it(
    plug: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_s: float | None
) -> None:
    """libcamera learns it from udev, which may be slow, and in a container is not there."""
    device = plug()
    nodes = [tmp_path / "81:5", tmp_path / "81:6"]
    for node in nodes:
        node.touch()
    from libcamera import ControlId  # the stand-in

    device.properties[ControlId("SystemDevices")] = (os.makedev(81, 5), 0, os.makedev(81, 6))
    monkeypatch.setattr(devices_module, "_CHARACTER_DEVICES", tmp_path)
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        read(camera).release()
        with pytest.raises(CameraTimeoutError):
            camera.read(timeout_s=0.01)
        timer = threading.Timer(0.1, nodes[1].unlink)
        timer.start()
        with pytest.raises(CameraDisconnectedError, match="the camera is gone"):
            camera.read(timeout_s=limit_s)
        timer.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_closing_ends_where_picamera2s_own_thread_has_died(plug: Plug) -> None:
    """It recycles a frame that nobody took; of a camera that is gone libcamera refuses that, which ends the thread."""
    device = plug()
    camera = Picamera2Camera(0)
    expose(device, camera)
    read(camera).release()
    threads = {thread for thread in threading.enumerate() if "thread_func" in thread.name}
    device.unplug()
    for _ in range(3):
        expose(device, camera)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "the stand-in does not do what libcamera does"
    closing = threading.Thread(target=camera.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive(), "close waits for ever"
    gc.collect()
    device = plug()
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        read(camera).release()


def test_a_dropped_camera_frees_its_device(plug: Plug) -> None:
    device = plug()
    camera = Picamera2Camera(0)
    expose(device, camera)
    read(camera).release()
    del camera
    gc.collect()
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        read(camera).release()


# 6: what libcamera knows reaches the frame.


def test_what_libcamera_knows_reaches_the_frame(plug: Plug) -> None:
    matrix = (1.8, -0.6, -0.2, -0.3, 1.6, -0.3, 0.0, -0.5, 1.5)
    frame = frame_with(
        plug,
        {
            "ColourCorrectionMatrix": matrix,
            "SensorTemperature": 41.5,
            "FocusFoM": 1234,
            "AfState": 2,
            "LensPosition": 1.5,
            "ScalerCrop": (0, 2, 3280, 2460),
            "LensShadingCorrectionEnable": True,
            "Lux": float("nan"),
        },
    )
    assert frame.colour_matrix == matrix
    assert frame.digital_gain == 1.1
    assert frame.metadata == {
        "SensorTemperature": 41.5,
        "FocusFoM": 1234,
        "AfState": "Focused",
        "LensPosition": 1.5,
        "ScalerCrop": [0, 2, 3280, 2460],
        "LensShadingCorrectionEnable": True,
    }


def test_the_sensors_size_where_no_profile_says_it(plug: Plug) -> None:
    device = plug(model="imx999")
    with Picamera2Camera(0, width=640, bit_depth=10) as camera:
        expose(device, camera)
        with read(camera) as frame:
            assert frame.window == SensorWindow(1000, 752, 1280, 960, (3280, 2464))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AnalogueGain", 0.0),
        ("DigitalGain", 0.0),
        ("ColourGains", (0.0, 0.0)),
        ("ColourGains", (float("nan"), 1.0)),
        ("ExposureTime", 0),
        ("ColourTemperature", 0),
        ("ColourCorrectionMatrix", (0.0,) * 9),
        ("ColourCorrectionMatrix", (float("inf"),) * 9),
    ],
)
def test_a_value_of_0_or_no_number_is_absent(plug: Plug, name: str, value: Any) -> None:
    frame = frame_with(plug, {name: value})
    ours = {
        "AnalogueGain": frame.analogue_gain,
        "DigitalGain": frame.digital_gain,
        "ColourGains": frame.colour_gains,
        "ExposureTime": frame.exposure_ns,
        "ColourTemperature": frame.colour_temperature_k,
        "ColourCorrectionMatrix": frame.colour_matrix,
    }
    assert ours[name] is None


@pytest.mark.parametrize("which", ["raw_status", "status"])
def test_a_startup_frame_is_not_handed_to_a_reader_that_waits(plug: Plug, which: str) -> None:
    """Its status has no name in libcamera's Python module, and only one of a request's buffers may have it."""
    device = plug()
    with Picamera2Camera(0) as camera:
        for _ in range(2):
            with pytest.raises(CameraTimeoutError):
                camera.read(timeout_s=0.05)
            expose(device, camera, 0, **{which: "Startup"})
        with pytest.raises(CameraTimeoutError):
            camera.read(timeout_s=0.3)
        expose(device, camera)
        with read(camera) as frame:
            assert (frame.sequence, frame.status) == (2, FrameStatus.OK)


# 7: autofocus, flips, modes and everything else.


@pytest.mark.parametrize(
    ("settings", "applied"),
    [
        ({}, {"AfMode": 2}),
        ({"af": "auto"}, {"AfMode": 1, "AfTrigger": 0}),
        ({"af": "manual"}, {"AfMode": 0}),
        ({"lens_position": 2.5}, {"AfMode": 0, "LensPosition": 2.5}),
    ],
)
def test_a_lens_is_focused(plug: Plug, settings: dict[str, Any], applied: dict[str, Any]) -> None:
    device = plug(model="imx708", lens=True)
    with Picamera2Camera(0, **settings):
        assert {name: value for name, value in device.applied.items() if name.startswith(("Af", "Lens"))} == applied


def test_a_camera_without_a_lens_has_no_autofocus(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0):
        assert not [name for name in device.applied if name.startswith("Af")]
    for settings in ({"af": "continuous"}, {"lens_position": 1.0}):
        with pytest.raises(CameraError, match="cannot be set: this camera has no lens that can be focused"):
            Picamera2Camera(0, **settings)


@pytest.mark.parametrize(
    ("settings", "cfa", "flips"),
    [
        ("hflip=yes", "GRBG", Flips(False, True)),
        ("vflip=yes", "GBRG", Flips(True, False)),
        ("rotation=180", "BGGR", Flips(True, True)),
        ("rotation=180,hflip=yes", "GBRG", Flips(True, False)),
        ("rotation=0", "RGGB", Flips(False, False)),
    ],
)
def test_flips(plug: Plug, settings: str, cfa: str, flips: Flips) -> None:
    device = plug()
    with open_camera(f"picamera2:0,{settings}") as camera:
        assert isinstance(camera, Picamera2Camera)
        expose(device, camera)
        with read(camera) as frame:
            assert (frame.format.cfa, frame.orientation) == (cfa, 1)
    plug(model="imx462")  # its colour order stays as it is
    with open_camera(f"picamera2:1,{settings}") as camera:
        assert isinstance(camera, Picamera2Camera)
        expose(next(each for each in [*camera_devices()] if each.sensor.model == "imx462"), camera)
        with read(camera) as frame:
            assert frame.window is not None
            assert frame.window.flips == flips


def camera_devices() -> list[Any]:
    from libcamera import CameraManager  # the stand-in

    return list(CameraManager.singleton().cameras)


@pytest.mark.parametrize(
    ("settings", "orientation"), [("hflip=yes", 2), ("rotation=180", 3), ("vflip=yes", 4), ("rotation=0", 1)]
)
def test_a_sensor_that_cannot_be_mirrored_has_its_results_turned(plug: Plug, settings: str, orientation: int) -> None:
    device = plug()
    device.can_flip = False
    with open_camera(f"picamera2:0,{settings}") as camera:
        assert isinstance(camera, Picamera2Camera)
        expose(device, camera)
        with read(camera) as frame:
            assert (frame.format.cfa, frame.orientation) == ("RGGB", orientation)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rotation=90", "rotation must be one of 0, 180, found '90'"),
        ("mode=1640", "mode must be WIDTHxHEIGHT:BITS, such as 1640x1232:10, found '1640'"),
        ("mode=640x48:14", "has no mode of 640x48, 14 bits; it has: 1640x60, 10 bits, 41.85 frames/s; "),
        ("mode=640x48,width=640", "give either mode, or width, height and bit_depth"),
        ("fps=5000", "has no mode of anyxany, any bits, 5000 frames/s"),
        ("fps=0.01,mode=640x48:10", r"fps must be from 0.09 to 103.3\d in this sensor mode, found 0.01"),
        ("af=sometimes", "af must be one of continuous, auto, manual or none, found 'sometimes'"),
        ("hdr=night", "hdr cannot be set: libcamera offers no HdrMode"),
        ("hdr=sensor", r"hdr=sensor is for the Camera Module 3 \(imx708\) only"),
        ("sync=server", "sync cannot be set: libcamera offers no SyncMode"),
        ("tuning=/nowhere/imx219.json", "tuning must be a file, found '/nowhere/imx219.json', which is none"),
        ("tuning=imx219_no.json", "tuning must be a file, or the name of one that comes with libcamera"),
        ("control.Sharpnes=2", "no control 'Sharpnes' for this camera; did you mean 'Sharpness'"),
        ("control.Sharpness=17", "control.Sharpness must be from 0.0 to 16.0, found 17"),
        ("control.Sharpness=nan", "control.Sharpness must be from 0.0 to 16.0, found nan"),
        ("control.AwbMode=Dayligt", "control.AwbMode must be one of auto, .*found 'Dayligt'; did you mean 'daylight'"),
        ("control.AwbMode=9", "control.AwbMode must be from 0 to 7, found 9"),
        ("control.AeEnable=perhaps", "control.AeEnable must be yes or no, found 'perhaps'"),
        ("control.FrameRate=30", "control.FrameRate is set with fps"),
        ("control.ColourGains=1.5", "control.ColourGains must be 2 numbers with colons between them, found '1.5'"),
        ("control.ColourGains=1:2:3", "control.ColourGains must be 2 numbers with colons between them, found '1:2:3'"),
        ("control.ColourGains=1.5:33", "control.ColourGains must be from 0.0 to 32.0, found 33"),
        ("control.ColourGains=1.5:nan", "control.ColourGains must be from 0.0 to 32.0, found nan"),
        ("control.ScalerCrop=0:0:1640", "control.ScalerCrop must be 4 whole numbers with colons between them"),
        ("control.ScalerCrop=0:0:1640:-2", "control.ScalerCrop must be 4 whole numbers with colons between them"),
        ("control.AeFlickerMode=Auto", "control.AeFlickerMode must be one of off, manual, found 'Auto'"),
        ("control.AeFlickerMode=2", "control.AeFlickerMode must be one of off, manual, found '2'"),
        ("control=1", "control cannot be set in a specification"),
        ("main=1280", "main must be WIDTHxHEIGHT of even numbers"),
    ],
)
def test_settings_that_cannot_be(plug: Plug, spec: str, message: str) -> None:
    device = plug()
    device.lacks.add("HdrMode")
    with pytest.raises(CameraError, match=message):
        open_camera(f"picamera2:0,{spec}")
    with pytest.raises(CameraError, match="rotation must be 0 or 180, .* found 270; by 90 or 270 degrees turn"):
        Picamera2Camera(0, rotation=270)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("board", "spec", "name", "value"),
    [
        ("vc4", "control.Sharpness=2", "Sharpness", 2.0),
        ("vc4", "control.AwbMode=Daylight", "AwbMode", 5),
        ("vc4", "control.AwbMode=5", "AwbMode", 5),
        ("vc4", "control.AeEnable=no", "AeEnable", False),
        ("vc4", "control.NoiseReductionMode=Off", "NoiseReductionMode", 0),
        ("vc4", "control.AeFlickerPeriod=10000", "AeFlickerPeriod", 10_000),
        ("pisp", "hdr=single-exposure", "HdrMode", 3),
        ("pisp", "hdr=off", "HdrMode", 0),
        ("pisp", "sync=server", "SyncMode", 1),
        ("pisp", "sync=client", "SyncMode", 2),
    ],
)
def test_any_control_in_a_specification(plug: Plug, board: str, spec: str, name: str, value: Any) -> None:
    device = plug(board)
    with open_camera(f"picamera2:0,{spec}"):
        assert (device.applied[name], type(device.applied[name])) == (value, type(value))
    device.applied.clear()
    if spec.startswith("control."):
        with Picamera2Camera(0, control={name: value}):
            assert device.applied[name] == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ColourGains", "1.5:2", (1.5, 2.0)),
        ("ColourCorrectionMatrix", "1:0:0:0:1:0:0:0:1", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_a_control_that_is_an_array(plug: Plug, name: str, text: str, value: tuple[float, ...]) -> None:
    """libcamera advertises the limits of one of its numbers, and ends the process where it is given one alone."""
    device = plug()
    with open_camera(f"picamera2:0,control.{name}={text}"):
        assert (device.applied[name], {type(each) for each in device.applied[name]}) == (value, {float})
    device.applied.clear()
    with Picamera2Camera(0, control={name: value}):
        assert device.applied[name] == value
    with pytest.raises(CameraError, match=f"control.{name} must be {len(value)} numbers"):
        Picamera2Camera(0, control={name: 1.5})


def test_arrays_of_a_libcamera_that_does_not_say_what_is_one(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    from libcamera import ControlId  # the stand-in

    device = plug(model="imx708", lens=True)
    monkeypatch.delattr(ControlId, "isArray")
    with open_camera("picamera2:0,control.ColourGains=1.5:2,control.AfWindows=0:0:100:50"):
        assert device.applied["ColourGains"] == (1.5, 2.0)
        assert len(device.applied["AfWindows"]) == 1
    with pytest.raises(CameraError, match="control.ColourGains must be 2 numbers"):
        Picamera2Camera(0, control={"ColourGains": 1.5})


@pytest.mark.parametrize(
    "windows", ["0:0:100:50:8:4:20:10", ((0, 0, 100, 50), (8, 4, 20, 10)), (0, 0, 100, 50, 8, 4, 20, 10)]
)
def test_a_control_of_several_rectangles(plug: Plug, windows: Any) -> None:
    device = plug(model="imx708", lens=True)
    with Picamera2Camera(0, control={"AfWindows": windows}):
        found = [(each.x, each.y, each.width, each.height) for each in device.applied["AfWindows"]]
        assert found == [(0, 0, 100, 50), (8, 4, 20, 10)]
    with open_camera("picamera2:0,control.AfWindows=0:0:100:50"):
        (one,) = device.applied["AfWindows"]
        assert (one.x, one.y, one.width, one.height) == (0, 0, 100, 50)
    for wrong in ("0:0:100", "", "0:0:100:50:8", (), 3):
        with pytest.raises(CameraError, match="control.AfWindows must be 4 whole numbers with colons between them"):
            Picamera2Camera(0, control={"AfWindows": wrong})


def test_a_lens_that_cannot_focus_continuously(plug: Plug) -> None:
    """A mode counts only where the camera advertises it."""
    device = plug(model="imx708", lens=True, af_modes=(0, 1))
    with Picamera2Camera(0):
        assert "AfMode" not in device.applied
    with pytest.raises(CameraError, match="af must be one of manual, auto, found 'continuous'"):
        Picamera2Camera(0, af="continuous")
    with Picamera2Camera(0, af="auto"):
        assert device.applied["AfMode"] == 1


def test_white_balance_gains_that_the_camera_does_not_take_are_refused(plug: Plug) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        applied = dict(device.applied)
        with pytest.raises(CameraError, match=r"colour_gains must be from 0.0 to 32.0, found \(40.0, 1.5\)"):
            camera.control(Controls(colour_gains=(40.0, 1.5), analogue_gain=2.0))
        expose(device, camera)
        read(camera).release()
        assert device.applied == applied


def test_a_control_of_several_numbers(plug: Plug) -> None:
    device = plug()
    with open_camera("picamera2:0,control.ScalerCrop=0:0:1640:1232"):
        found = device.applied["ScalerCrop"]
        assert (found.x, found.y, found.width, found.height) == (0, 0, 1640, 1232)


def test_a_mode_by_its_name(plug: Plug) -> None:
    plug()
    with open_camera("picamera2:0,mode=640x48:8") as camera:
        assert isinstance(camera, Picamera2Camera)
        assert str(camera.format) == "640x48 RGGB 8 bit u8"


def test_a_tuning_file_is_passed_on(plug: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug()
    path = tmp_path / "tuning.json"
    path.write_text("{}")
    with Picamera2Camera(0, tuning=path):
        assert os.environ["LIBCAMERA_RPI_TUNING_FILE"] == str(path)
    monkeypatch.delenv("LIBCAMERA_RPI_TUNING_FILE", raising=False)


@pytest.mark.parametrize("fps", [5000.0, 41.9, 0.05, 0.0, -1.0, float("inf"), float("nan")])
def test_rates_that_a_mode_does_not_have_are_refused(plug: Plug, fps: float) -> None:
    device = plug()
    with Picamera2Camera(0) as camera:
        applied = dict(device.applied)
        with pytest.raises(CameraError, match="fps must be"):
            camera.control(Controls(fps=fps))
        with pytest.raises(CameraError, match="fps must be"):
            camera.control(Controls(fps=fps, analogue_gain=2.0))
        expose(device, camera)
        read(camera).release()
        assert device.applied == applied
        camera.control(Controls(fps=41.85))


# 8: the picture of the board's own ISP.


def test_the_isps_picture_and_the_metadata_are_recorded(plug: Plug, tmp_path: Path) -> None:
    """From the driver's buffers, whose rows are padded and which are used again."""
    pytest.importorskip("mcap", reason="mcap is not installed")
    device, recorder, given = plug(), Recorder(tmp_path / "a.mcap"), []
    with open_camera("picamera2:0,main=50x36") as camera:
        assert isinstance(camera, Picamera2Camera)
        for seed in range(12):
            picture = np.random.default_rng(seed).integers(0, 256, (36, 192), np.uint8)
            metadata = METADATA | {"SensorTemperature": 20.5 + seed, "ScalerCrop": (0, 0, 3280, 2464)}
            expose(device, camera, seed, picture=picture.tobytes(), metadata=metadata)
            with read(camera) as frame:
                recorder.frame(frame)
                given.append(frame.copy())
    recorder.close()
    with open_camera(tmp_path / "a.mcap") as replay:
        for frame in given:
            replayed = replay.read()
            assert replayed is not None
            assert frame.isp_picture is not None
            assert frame.metadata["SensorTemperature"] >= 20.5
            assert_identical(replayed, frame)


def test_the_isps_picture_is_lent_with_the_frame(plug: Plug) -> None:
    device = plug()
    picture = np.random.default_rng(0).integers(0, 256, (36, 192), np.uint8)  # rows of 50 pixels, padded
    with open_camera("picamera2:0,main=50x36") as camera:
        assert isinstance(camera, Picamera2Camera)
        expose(device, camera, picture=picture.tobytes())
        with read(camera) as frame:
            assert frame.isp_picture is not None
            np.testing.assert_array_equal(frame.isp_picture, picture[:, :150].reshape(36, 50, 3))
            assert not frame.isp_picture.flags.owndata
            assert not frame.isp_picture.flags.writeable
            kept = frame.copy()
        for _ in range(8):
            expose(device, camera, picture=bytes(36 * 192))
            read(camera).release()
        assert kept.isp_picture is not None
        np.testing.assert_array_equal(kept.isp_picture, picture[:, :150].reshape(36, 50, 3))
    with Picamera2Camera(0) as camera:
        expose(device, camera)
        with read(camera) as frame:
            assert frame.isp_picture is None


# 11: small things.


def test_frames_after_a_suspended_process_are_stale(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    device = plug()
    now_ns = [METADATA["SensorTimestamp"]]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns[0])
    monkeypatch.setattr(camera_module, "Staleness", lambda: camera_module_staleness(now_ns))
    with Picamera2Camera(0) as camera:
        found = []
        for number, passed_ns in enumerate((0, 33_000_000, 2_000_000_000, 0)):
            now_ns[0] += passed_ns
            stamp_ns = now_ns[0] if number != 2 else now_ns[0] - 1_900_000_000
            expose(device, camera, metadata=METADATA | {"SensorTimestamp": stamp_ns})
            with read(camera) as frame:
                found.append(FrameStatus.STALE in frame.status)
    assert found == [False, False, True, False]


def camera_module_staleness(now_ns: list[int]) -> Any:
    from edge_isp.cameras.continuity import Staleness

    return Staleness(lambda: now_ns[0])


def test_a_usb_camera_has_no_raw_stream(plug: Plug) -> None:
    device = plug()
    for name in [each for each in device.properties if each.name == "ColorFilterArrangement"]:
        del device.properties[name]
    with pytest.raises(FormatError, match="not a camera with a RAW stream"):
        Picamera2Camera(0)
    (found,) = Picamera2Camera.devices()
    assert (found.modes, found.problem) == ((), "not a camera with a RAW stream")
