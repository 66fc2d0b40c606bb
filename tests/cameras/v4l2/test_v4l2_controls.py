"""Controls by name, exposure and gain through them, and media pipelines from a file, over the fake kernel."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from edge_isp.cameras.base import Controls
from edge_isp.cameras.v4l2 import abi
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.cameras.v4l2.controls import V4l2Controls
from edge_isp.cameras.v4l2.device import V4l2Device
from edge_isp.cameras.v4l2.media import MediaDevice
from edge_isp.cameras.v4l2.sensor import GAIN_CODES
from edge_isp.errors import CameraDisconnectedError, CameraError
from edge_isp.kernels.layout import Flips
from edge_isp.sensor_window import SensorWindow
from tests.cameras.v4l2.fake_kernel import Control, FakeKernel, Filled, MediaNode, SubdeviceNode, VideoNode


def controls_of(kernel: FakeKernel, *controls: Control) -> tuple[VideoNode, V4l2Controls]:
    node = kernel.add(VideoNode(controls=controls))
    return node, V4l2Controls(V4l2Device("/dev/video0"))


def test_controls_by_name(kernel: FakeKernel) -> None:
    node, controls = controls_of(
        kernel,
        Control("Exposure Time, Absolute", 100, 1, 300),
        Control("Horizontal Flip", 0, 0, 1, kind=abi.CTRL_TYPE_BOOLEAN, flags=0x400),
        Control("Test Pattern", 0, 0, 3, kind=abi.CTRL_TYPE_MENU, menu={0: "Disabled", 1: "Bars", 3: "Noise"}),
        Control("Link Frequency", 0, 0, 0, kind=abi.CTRL_TYPE_INTEGER_MENU, menu={0: "456000000"}, flags=0x4),
        Control("Pixel Rate", 182_400_000_000, 0, 1 << 40, kind=abi.CTRL_TYPE_INTEGER64, flags=0x4),
        Control("Restart", 0, kind=abi.CTRL_TYPE_BUTTON, flags=0x40),
        Control("Out of Order", 0, flags=abi.CTRL_FLAG_DISABLED),
        Control("A Heading", 0, kind=6),
    )
    assert list(controls) == [
        "exposure_time_absolute",
        "horizontal_flip",
        "test_pattern",
        "link_frequency",
        "pixel_rate",
        "restart",
    ]
    flip, pattern = controls.describe("horizontal_flip"), controls.describe("test_pattern")
    assert (flip.kind, flip.changes_layout, flip.read_only) == ("boolean", True, False)
    assert pattern.menu == {0: "Disabled", 1: "Bars", 3: "Noise"}
    assert controls.describe("link_frequency").menu == {0: "456000000"}
    assert controls.get("pixel_rate") == 182_400_000_000
    controls.set({"exposure_time_absolute": 7, "test_pattern": "Noise", "restart": 1})
    assert (controls.get("exposure_time_absolute"), controls.get("test_pattern")) == (7, 3)
    assert node.by_name["Test Pattern"].value == 3
    calls = len(node.calls)
    controls.set({})
    assert len(node.calls) == calls


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gian": 1}, "no control 'gian'; it has: gain, pixel_rate, restart, test_pattern"),
        ({"gain": 101}, "gain must be from 0 to 100 in steps of 2, found 101"),
        ({"gain": -2}, "gain must be from 0 to 100 in steps of 2, found -2"),
        ({"gain": 3}, "gain must be from 0 to 100 in steps of 2, found 3"),
        ({"gain": "much"}, "gain must be one of whole numbers, found 'much'"),
        ({"test_pattern": "Stripes"}, r"test_pattern must be one of 0 \(Disabled\), 1 \(Bars\), found 'Stripes'"),
        ({"pixel_rate": 1}, "control 'pixel_rate' can be read, not set"),
        ({"gain": 4, "pixel_rate": 1}, "control 'pixel_rate' can be read, not set"),
    ],
)
def test_a_wrong_value_changes_nothing(kernel: FakeKernel, values: dict[str, Any], message: str) -> None:
    node, controls = controls_of(
        kernel,
        Control("Gain", 0, 0, 100, 2),
        Control("Test Pattern", 0, 0, 1, kind=abi.CTRL_TYPE_MENU, menu={0: "Disabled", 1: "Bars"}),
        Control("Pixel Rate", 5, flags=0x4),
        Control("Restart", 0, kind=abi.CTRL_TYPE_BUTTON, flags=0x40),
    )
    with pytest.raises(CameraError, match=message):
        controls.set(values)
    assert [control.value for control in node.by_name.values()] == [0, 0, 5, 0]
    with pytest.raises(CameraError, match="control 'restart' can be set, not read"):
        controls.get("restart")


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EBUSY, CameraError, r"the driver refuses gain = 4 \(EBUSY\); it cannot be changed while the camera"),
        (errno.EACCES, CameraError, r"the driver refuses gain = 4 \(EACCES\)"),
        (errno.ERANGE, CameraError, r"the driver refuses gain = 4 \(ERANGE\)"),
        (errno.EINVAL, CameraError, r"the driver refuses gain = 4 \(EINVAL\)"),
        (errno.EIO, CameraError, "VIDIOC_S_EXT_CTRLS failed: EIO"),
        (errno.ENODEV, CameraDisconnectedError, "the camera is gone"),
    ],
)
def test_what_the_driver_refuses(kernel: FakeKernel, number: int, kind: type[CameraError], message: str) -> None:
    node, controls = controls_of(kernel, Control("Gain", 0, 0, 100))
    node.fail("VIDIOC_S_EXT_CTRLS", number)
    with pytest.raises(kind, match=message):
        controls.set({"gain": 4})
    node.by_name["Gain"].makes = lambda value: value // 3 * 3
    with pytest.raises(CameraError, match="asked for gain = 4, but the driver made it 3"):
        controls.set({"gain": 4})


SENSOR = "imx219 10-0010"


def sensor_node(**settings: Any) -> SubdeviceNode:
    """As the driver of the imx219: 3448 pixels a line at 182.4 MHz; 18.9 us a line."""
    return SubdeviceNode(
        "/dev/v4l-subdev0",
        SENSOR,
        size=(1640, 1232),
        controls=(
            Control("Exposure", 1000, 4, 1759, flags=0),
            Control("Analogue Gain", 0, 0, 232),
            Control("Vertical Blanking", 531, 4, 64303),
            Control("Horizontal Blanking", 1808, 1808, 1808, flags=0x4),
            Control("Pixel Rate", 182_400_000, 0, 1 << 40, kind=abi.CTRL_TYPE_INTEGER64, flags=0x4),
            Control("Vertical Flip", 0, 0, 1, kind=abi.CTRL_TYPE_BOOLEAN, flags=0x400),
            Control("Test Pattern", 0, 0, 1, kind=abi.CTRL_TYPE_MENU, menu={0: "Disabled", 1: "Color Bars"}),
        ),
        **settings,
    )


SETUP = """
media = "fake-media"
video = "receiver-dma"
sensor = "imx219 10-0010"

[[link]]
source = ["receiver", 1]
sink = ["receiver-dma", 0]

[[format]]
entity = "imx219 10-0010"
pad = 0
code = "SRGGB10_1X10"
width = 1640
height = 1232

[[format]]
entity = "receiver"
pad = 1
code = "SRGGB10_1X10"
width = 1640
height = 1232

[controls]
vertical_flip = 1
test_pattern = "Color Bars"
"""


@pytest.fixture
def board(kernel: FakeKernel) -> tuple[VideoNode, SubdeviceNode, SubdeviceNode, MediaNode]:
    """A sensor, its receiver and a video device; the last link is off."""
    video = kernel.add(VideoNode(codes=("pRAA",), sizes=((1640, 1232),), rates=(), period_ns=33_000_000))
    sensor = kernel.add(sensor_node())
    receiver = kernel.add(SubdeviceNode("/dev/v4l-subdev1", "receiver", size=(1640, 1232)))
    media = kernel.add(
        MediaNode(
            "/dev/media0",
            {
                SENSOR: (sensor, abi.MEDIA_ENT_F_CAM_SENSOR),
                "receiver": (receiver, 0),
                "receiver-dma": (video, 0),
                "lens": (None, 0),
            },
            [
                [SENSOR, 0, "receiver", 0, abi.MEDIA_LNK_FL_ENABLED | abi.MEDIA_LNK_FL_IMMUTABLE],
                ["receiver", 1, "receiver-dma", 0, 0],
            ],
        )
    )
    return video, sensor, receiver, media


@pytest.fixture
def setup(tmp_path: Path) -> Path:
    path = tmp_path / "camera.toml"
    path.write_text(SETUP)
    return path


def test_a_pipeline_is_set_up_from_its_file(kernel: FakeKernel, board: Any, setup: Path) -> None:
    _, sensor, receiver, media = board
    with V4l2Camera(setup=setup) as camera:
        assert media.links[1][4] == abi.MEDIA_LNK_FL_ENABLED
        assert sensor.bus[0] == receiver.bus[1] == (0x300F, 1640, 1232)
        assert (sensor.by_name["Vertical Flip"].value, sensor.by_name["Test Pattern"].value) == (1, 1)
        # A flip changes the CFA order, so it comes before the format; the rest comes after it.
        assert [call for call in sensor.calls if call.startswith(("VIDIOC_S_", "VIDIOC_SUBDEV_S"))] == [
            "VIDIOC_S_EXT_CTRLS",
            "VIDIOC_SUBDEV_S_FMT",
            "VIDIOC_S_EXT_CTRLS",
        ]
        frame = camera.read(timeout_s=1)
        assert frame is not None
        with frame:
            assert (frame.sensor, frame.black_level, str(frame.format)) == (
                "imx219",
                (64,) * 4,
                "1640x1232 RGGB 10 bit csi2p",
            )
    assert kernel.open_nodes == []
    calls = media.calls.count("MEDIA_IOC_SETUP_LINK")
    V4l2Camera(setup=setup).close()
    assert media.calls.count("MEDIA_IOC_SETUP_LINK") == calls == 1  # a link that is on stays


def test_given_controls_override_those_of_the_file_and_are_set_at_the_same_places(
    kernel: FakeKernel, board: Any, setup: Path
) -> None:
    """A flip came after the format of the sensor's pad, whose colour order it changes."""
    _, sensor, _, _ = board
    setup.write_text(SETUP.replace("vertical_flip = 1", "analogue_gain = 5"))
    with V4l2Camera(setup=setup, control={"vertical_flip": "1", "analogue_gain": 7, "test_pattern": 0}):
        pass
    names = ("Vertical Flip", "Analogue Gain", "Test Pattern")
    assert [sensor.by_name[name].value for name in names] == [1, 7, 0]
    assert [call for call in sensor.calls if call.startswith(("VIDIOC_S_", "VIDIOC_SUBDEV_S"))] == [
        "VIDIOC_S_EXT_CTRLS",
        "VIDIOC_SUBDEV_S_FMT",
        "VIDIOC_S_EXT_CTRLS",
    ]
    with pytest.raises(CameraError, match="no control 'vertical_flop'"):
        V4l2Camera(setup=setup, control={"vertical_flop": 1})
    assert kernel.open_nodes == []


def test_controls_of_a_file_without_a_sensor_are_the_video_devices(kernel: FakeKernel, board: Any, setup: Path) -> None:
    """They were left out silently."""
    video = board[0]
    video.by_name["Gain"] = video.controls[1] = Control("Gain", 0, 0, 100)
    setup.write_text(SETUP.replace(f'sensor = "{SENSOR}"', "").split("[controls]")[0] + "[controls]\ngain = 3\n")
    with V4l2Camera(setup=setup, sensor="imx219") as camera:
        assert camera.controls.get("gain") == 3
    assert kernel.open_nodes == []


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ('media = "fake-media"', "", "the file lacks media"),
        (
            'media = "fake-media"',
            'media = "unicam"',
            r"no media device has the driver 'unicam'; there are: /dev/media0 \(f",
        ),
        ('media = "fake-media"', 'media = "/dev/media7"', "/dev/media7: cannot be opened: ENOENT"),
        ('media = "fake-media"', 'media = "/dev/video0"', "/dev/video0: not a media device; there are: /dev/media0"),
        ('video = "receiver-dma"', 'video = "dma"', "no entity 'dma'; there are: 'imx219 10-0010', 'receiver', "),
        ('video = "receiver-dma"', 'video = "lens"', "'lens' has no device node"),
        ('video = "receiver-dma"', "video = 1", "video must be a text, found 1"),
        ('"receiver", 1]', '"receiver", 0]', "there is no link 'receiver':0 -> 'receiver-dma':0"),
        ('"receiver", 1]', '"receiver"]', r'link\[\d\].source must be an end of a link, \["entity", pad\], found'),
        ("[[link]]", "[[links]]", "the file has the unknown key 'links'; did you mean 'link'?"),
        ("[[link]]", "[link]", "link must be tables"),
        ("width = 1640", "width = 1641", "asked 'imx219 10-0010':0 for SRGGB10_1X10 1641x1232, but .* 1640x1232"),
        ("width = 1640", "width = true", "format\\[0\\].width must be a whole number, found true"),
        ('code = "SRGGB10_1X10"', 'code = "RGGB10"', "code must be one of SBGGR8_1X8, .*, found 'RGGB10'"),
        ('code = "SRGGB10_1X10"', "", r"\[format\[0\]\] lacks code"),
        (
            "vertical_flip = 1",
            "vertical_flip = 1.5",
            "vertical_flip must be a whole number or a menu's item, found 1.5",
        ),
        ("vertical_flip = 1", "vertical_flop = 1", "no control 'vertical_flop'; it has: analogue_gain, exposure"),
        ("[controls]", "[controls", "not a TOML file"),
    ],
)
def test_a_wrong_set_up_gives_one_clear_error(
    kernel: FakeKernel, board: Any, setup: Path, find: str, replacement: str, message: str
) -> None:
    assert find in SETUP
    setup.write_text(SETUP.replace(find, replacement, 1))
    with pytest.raises(CameraError, match=message):
        V4l2Camera(setup=setup)
    assert kernel.open_nodes == []


def test_links_that_cannot_be_changed_and_files_that_are_not_there(
    kernel: FakeKernel, board: Any, tmp_path: Path
) -> None:
    with MediaDevice("/dev/media0") as media, pytest.raises(CameraError, match="the link .* cannot be changed"):
        media.set_link((SENSOR, 0), ("receiver", 0), False)
    with pytest.raises(CameraError, match="none.toml: cannot be read: No such file"):
        V4l2Camera(setup=tmp_path / "none.toml")


@pytest.mark.parametrize("request_name", ["MEDIA_IOC_DEVICE_INFO", "MEDIA_IOC_G_TOPOLOGY", "MEDIA_IOC_SETUP_LINK"])
@pytest.mark.parametrize(("number", "kind"), [(errno.EBUSY, CameraError), (errno.ENODEV, CameraDisconnectedError)])
def test_every_request_of_a_set_up_may_fail(
    kernel: FakeKernel, board: Any, setup: Path, request_name: str, number: int, kind: type[CameraError]
) -> None:
    board[3].fail(request_name, number)
    with pytest.raises(kind, match=request_name):
        V4l2Camera(setup=setup)
    for request in ("VIDIOC_SUBDEV_G_FMT", "VIDIOC_SUBDEV_S_FMT"):
        board[1].fail(request, number)
        with pytest.raises(kind, match=request):
            V4l2Camera(setup=setup)
    assert kernel.open_nodes == []


def test_exposure_gain_and_rate_of_a_sensor(kernel: FakeKernel, board: Any, setup: Path) -> None:
    sensor = board[1]
    line_ns = (1640 + 1808) / 182.4e6 * 1e9
    with V4l2Camera(setup=setup) as camera:
        limits = camera.limits
        assert list(limits.exposure_ns) == pytest.approx([4 * line_ns, 1759 * line_ns], abs=1)
        assert list(limits.analogue_gain) == pytest.approx([1.0, 256 / 24])
        camera.control(Controls(exposure_ns=limits.exposure_ns[0], analogue_gain=limits.analogue_gain[1]))
        assert (sensor.by_name["Exposure"].value, sensor.by_name["Analogue Gain"].value) == (4, 232)
        camera.control(Controls(exposure_ns=10_000_000, analogue_gain=4.0))
        assert (sensor.by_name["Exposure"].value, sensor.by_name["Analogue Gain"].value) == (529, 192)
        camera.control(Controls(fps=15))
        assert sensor.by_name["Vertical Blanking"].value == round(1e9 / 15 / line_ns) - 1232
        for settings, message in (
            ({"exposure_ns": 1}, "exposure_ns must be from"),
            ({"analogue_gain": 20.0}, "analogue_gain must be from 1.0 to 10.6"),
            ({"fps": 1000}, r"fps must be from 0\.\d+ to 42.80 at this size, found 1000"),
            ({"fps": -1}, "fps must be a positive number"),
            ({"fps": 30, "exposure_ns": 1}, "exposure_ns must be from"),
            (
                {"colour_gains": (1.0, 1.0)},
                "colour_gains cannot be set; this camera takes exposure_ns, analogue_gain, fps",
            ),
            ({"auto_exposure": True}, "auto_exposure cannot be set; .* use AutoExposure"),
        ):
            before = [control.value for control in sensor.by_name.values()]
            with pytest.raises(CameraError, match=message):
                camera.control(Controls(**settings))
            assert [control.value for control in sensor.by_name.values()] == before


def test_frames_tell_their_exposure(kernel: FakeKernel, board: Any, setup: Path) -> None:
    video, _, _, _ = board
    line_ns = (1640 + 1808) / 182.4e6 * 1e9
    with V4l2Camera(setup=setup) as camera:
        video.frames.append(Filled(timestamp_ns=10**9, flags=abi.BUF_FLAG_TIMESTAMP_MONOTONIC))
        seen = []
        for _ in range(6):
            frame = camera.read(timeout_s=1)
            assert frame is not None
            with frame:
                assert frame.exposure_ns is not None
                seen.append((round(frame.exposure_ns / line_ns), frame.analogue_gain, frame.timestamp_ns))
            if len(seen) == 1:
                camera.control(Controls(exposure_ns=10_000_000, analogue_gain=2.0))
            if len(seen) == 3:
                camera.controls.set({"exposure": 100})  # by the driver's own number
        lines_and_gain = [each[:2] for each in seen]
        assert lines_and_gain == [(1000, 1.0), (1000, 2.0), (529, 2.0), (529, 2.0), (100, 2.0), (100, 2.0)]
        # From the end of the frame back over readout and exposure.
        assert seen[0][2] == pytest.approx(10**9 - (1232 + 1000) * line_ns, abs=2)


# As the driver of the imx219 has them: 8 hidden pixels on each side.
CROP, WHOLE = (688, 700, 1920, 1080), (8, 8, 3280, 2464)


def first_window(**settings: Any) -> SensorWindow | None:
    with V4l2Camera(**settings) as camera:
        frame = camera.read(timeout_s=1)
        assert frame is not None
        with frame:
            return frame.window


def test_the_sensors_rectangles_say_what_frames_show(kernel: FakeKernel, board: Any, setup: Path) -> None:
    _, sensor, _, _ = board
    assert first_window(setup=setup) is None
    sensor.rectangles = {abi.SEL_TGT_CROP: WHOLE, abi.SEL_TGT_CROP_DEFAULT: WHOLE}
    flips = Flips(vertical=True, horizontal=False)  # as the set-up file asks
    assert first_window(setup=setup) == SensorWindow(0, 0, 3280, 2464, (3280, 2464), flips)
    sensor.rectangles[abi.SEL_TGT_CROP] = (688, 700, 1640, 1232)
    assert first_window(setup=setup) == SensorWindow(680, 692, 1640, 1232, (3280, 2464), flips)
    for crop in (CROP, (0, 8, 1640, 1232), (1700, 8, 1640, 1232)):  # lower than a frame; not inside the sensor
        sensor.rectangles[abi.SEL_TGT_CROP] = crop
        assert first_window(setup=setup) is None


@pytest.mark.parametrize("multiplanar", [False, True])
def test_a_video_device_that_passes_the_sensors_rectangles_on(kernel: FakeKernel, multiplanar: bool) -> None:
    node = kernel.add(VideoNode(sizes=((1920, 1080),), multiplanar=multiplanar, period_ns=33_000_000))
    node.rectangles = {abi.SEL_TGT_CROP: CROP, abi.SEL_TGT_CROP_DEFAULT: WHOLE}
    assert first_window(device=0, sensor="imx219") == SensorWindow(680, 692, 1920, 1080, (3280, 2464))
    # Those of a receiver: its whole is the frame, and not the sensor.
    node.rectangles = dict.fromkeys((abi.SEL_TGT_CROP, abi.SEL_TGT_CROP_DEFAULT), (0, 0, 1920, 1080))
    assert first_window(device=0, sensor="imx219") is None
    assert first_window(device=0, black_level=0) is None


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL, errno.ENODATA])
def test_a_driver_without_rectangles(kernel: FakeKernel, number: int) -> None:
    node = kernel.add(VideoNode(period_ns=33_000_000))
    node.fail("VIDIOC_G_SELECTION", number, number)
    assert first_window(device=0, sensor="imx219") is None


def test_an_unknown_sensor_has_no_gain_in_numbers(kernel: FakeKernel) -> None:
    kernel.add(VideoNode(controls=(Control("Exposure", 100, 1, 300), Control("Analogue Gain", 0, 0, 10))))
    with V4l2Camera(0, black_level=0) as camera:
        with pytest.raises(CameraError, match=r"cannot be set in nanoseconds.*found 'none'.*use controls.set"):
            camera.control(Controls(exposure_ns=10_000_000))
        camera.controls.set({"exposure": 7})
        assert camera.controls.get("exposure") == 7


@pytest.mark.parametrize("sensor", GAIN_CODES)
def test_gain_codes_there_and_back(sensor: str) -> None:
    gain_code = GAIN_CODES[sensor]
    gains = [gain_code.gain(code) for code in range(16, 100)]
    assert gains == sorted(gains)
    assert [round(gain_code.code(gain)) for gain in gains] == list(range(16, 100))


def test_a_rate_that_is_refused_with_an_exposure_stays_as_it_was(kernel: FakeKernel) -> None:
    node = kernel.add(VideoNode(controls=(Control("Exposure", 100, 1, 300), Control("Analogue Gain", 0, 0, 10))))
    with V4l2Camera(0, black_level=0) as camera:
        with pytest.raises(CameraError, match="cannot be set in nanoseconds"):
            camera.control(Controls(fps=15, exposure_ns=10_000_000))
        assert node.rate == (1, 30)
        camera.control(Controls(fps=15))
        assert node.rate == (1, 15)
