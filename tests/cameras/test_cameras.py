"""Replay and the synthetic camera: what they deliver, and what they say of bad input."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.profile import Defect, load_profile
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.scene import SceneRenderer
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import CameraError, FormatError, MissingDependencyError, ProfileError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.kernels.unpack import unpack
from edge_isp.sensor_window import SensorWindow

Recording = Callable[..., Path]


def frames_of(path: Path) -> list[RawFrame]:
    with ReplayCamera(path) as camera:
        return [frame for frame in iter(camera.read, None) if frame]


def test_replay_delivers_every_frame_with_its_conditions(recording: Recording) -> None:
    path = recording(
        frames=3,
        stride=96,
        frame="".join(f"[[frame]]\nanalogue_gain = {gain}\nexposure_ns = {gain}_000_000\n" for gain in (1, 2, 4)),
    )
    frames = frames_of(path)
    content = np.fromfile(path, np.uint8).reshape(3, 48, 96)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.data, content[index])
        assert frame.sequence == index
        assert frame.source == str(path)
        assert frame.sensor == "imx219"
        assert (frame.black_level, frame.white_level) == ((64, 64, 64, 64), 1023)
        assert frame.analogue_gain == 2**index
        assert frame.exposure_ns == 2**index * 1_000_000
        assert frame.colour_gains is None
        assert frame.status is FrameStatus.OK
    assert len(frames) == 3
    assert [f.timestamp_ns for f in frames] == sorted(f.timestamp_ns for f in frames)


def test_a_folder_is_replayed_by_name(recording: Recording) -> None:
    first, second = recording("b", frames=1, width=32), recording("a", frames=2)
    assert [(Path(f.source).name, f.sequence) for f in frames_of(first.parent)] == [
        ("a.raw", 0),
        ("a.raw", 1),
        ("b.raw", 0),
    ]
    assert second.parent == first.parent


def test_levels_of_the_sidecar_override_the_profile(recording: Recording) -> None:
    (frame,) = frames_of(recording(frames=1, sensor='name = "imx219"\nblack_level = [60, 61, 62, 63]'))
    assert (frame.black_level, frame.white_level) == ((60, 61, 62, 63), 1023)
    (frame,) = frames_of(recording(frames=1, bit_depth=12, sensor="black_level = [0, 0, 0, 0]\nwhite_level = 4000"))
    assert (frame.black_level, frame.white_level, frame.sensor) == ((0, 0, 0, 0), 4000, None)
    (frame,) = frames_of(recording(frames=1, bit_depth=12))
    assert (frame.black_level, frame.white_level) == ((256, 256, 256, 256), 4095)


@pytest.mark.parametrize(
    ("find", "replacement", "message"),
    [
        ("width = 64", "width = 63", "width must be even and at least 2, found 63"),
        ("height = 48", "height = 47", "height must be even and at least 2, found 47"),
        ("width = 64", 'width = "64"', "width must be a whole number, found '64'"),
        ("width = 64", "", r"\[format\] lacks width"),
        ("width = 64", "width = 64\nwidht = 3", r"\[format\] has the unknown key 'widht'; did you mean 'width'"),
        ("[sensor]", "stride = 79\n[sensor]", "stride must be at least 80 bytes"),
        ("[sensor]", "stride = 0\n[sensor]", "stride must be a whole number of at least 1, found 0"),
        ('"RGGB"', '"RGBG"', "cfa must be one of RGGB, GRBG, GBRG, BGGR, found 'RGBG'"),
        ('"csi2p"', '"raw10"', "packing must be one of"),
        ("bit_depth = 10", "bit_depth = 11", "bit depth of packing 'csi2p' must be one of"),
        ('"imx219"', '"imx999"', "must give black_level and white_level, or name a profile"),
        (
            'name = "imx219"',
            "black_level = [64, 64]\nwhite_level = 1023",
            "black_level must be a list of 4 finite numbers",
        ),
        ('name = "imx219"', "black_level = [64, 64, 64, 64]\nwhite_level = 1024", "must be codes of 10 bits"),
        ("[sensor]", "window = [0, 0, 64]\n[sensor]", "format.window must be a list of 4 whole numbers"),
        (
            "[sensor]",
            "window = [-2, 0, 64, 48]\n[sensor]",
            "window must be left and top of 0 or more, and at least 64x48",
        ),
        (
            "[sensor]",
            "window = [0, 0, 32, 48]\n[sensor]",
            "window must be left and top of 0 or more, and at least 64x48",
        ),
        ("[sensor]", 'flips = "both"\n[sensor]', "flips must be a window beside it"),
        ("[sensor]", 'window = [0, 0, 64, 48]\nflips = "up"\n[sensor]', "flips must be one of none, horizontal"),
        ("[sensor]", "[sensor]\nlens_shading = 1", "sensor.lens_shading must be true or false, found 1"),
        ("[1.75, 1.43]", "[1.75, -1.43]", "frame.colour_gains must be a list of 2 positive finite numbers"),
        ("5700", "-1", "colour_temperature_k must be a positive finite number, found -1"),
        ("[format]", "[format", "not a TOML file"),
        ("[format]", "[[format]]", r"format must be a table"),
    ],
)
def test_a_wrong_sidecar_gives_one_clear_error(recording: Recording, find: str, replacement: str, message: str) -> None:
    sidecar = recording().with_suffix(".toml")
    assert find in sidecar.read_text()
    sidecar.write_text(sidecar.read_text().replace(find, replacement, 1))
    with pytest.raises(FormatError, match=f"scene.toml: .*{message}"):
        ReplayCamera(sidecar.with_suffix(".raw"))


def test_a_sidecar_says_which_part_of_the_sensor_its_frames_show(recording: Recording) -> None:
    (frame, _) = frames_of(recording())
    assert (frame.window, frame.lens_shading) == (None, True)
    sidecar = recording().with_suffix(".toml")
    text = sidecar.read_text().replace("[sensor]", 'window = [680, 692, 128, 96]\nflips = "horizontal"\n[sensor]')
    sidecar.write_text(text.replace("[sensor]", "[sensor]\nlens_shading = false"))
    (frame, _) = frames_of(sidecar.with_suffix(".raw"))
    assert frame.window == SensorWindow(680, 692, 128, 96, flips=Flips(vertical=False, horizontal=True))
    assert not frame.lens_shading


def test_a_truncated_recording_gives_one_clear_error(recording: Recording) -> None:
    path = recording(frames=2)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(
        FormatError, match=r"scene.raw: truncated frame: .* of 3840 bytes .*found 7679 bytes: 1 frames and 3839"
    ):
        ReplayCamera(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="scene.raw: truncated frame"):
        ReplayCamera(path)
    path.write_bytes(content)
    with ReplayCamera(path) as camera:
        assert camera.read()
        path.write_bytes(content[:4000])  # becomes shorter while it is replayed
        with pytest.raises(FormatError, match="frame 1 is truncated: expected 3840 bytes, found 160"):
            camera.read()


def test_conditions_must_be_one_for_all_or_one_a_frame(recording: Recording) -> None:
    with pytest.raises(FormatError, match=r"holds 3 frames, but its sidecar has 2 \[\[frame\]\] tables"):
        ReplayCamera(recording(frames=3, frame="[[frame]]\n[[frame]]\n"))


def test_what_is_not_a_recording(tmp_path: Path, recording: Recording) -> None:
    with pytest.raises(CameraError, match="none.raw: no such file or folder"):
        ReplayCamera(tmp_path / "none.raw")
    with pytest.raises(CameraError, match=r"no .raw or .dng file in this folder"):
        ReplayCamera(tmp_path)
    (tmp_path / "picture.jpg").touch()
    with pytest.raises(CameraError, match=r"picture.jpg: cannot be replayed; expected .raw or .dng"):
        ReplayCamera(tmp_path / "picture.jpg")
    path = recording()
    path.with_suffix(".toml").unlink()
    with pytest.raises(FormatError, match="scene.toml: no such file; a .raw recording needs a sidecar"):
        ReplayCamera(path)


def test_a_real_dng(data: Path) -> None:
    (frame,) = frames_of(data / "raw" / "colorchart.dng")
    assert (frame.format.width, frame.format.height, frame.format.cfa) == (
        1734,
        1156,
        Cfa.RGGB,
    )  # without the masked border
    assert frame.format.bit_depth == 14
    assert (frame.black_level, frame.white_level) == ((2056,) * 4, 15000)
    assert frame.colour_gains is not None
    assert all(1 < gain < 4 for gain in frame.colour_gains)


def test_a_broken_dng(tmp_path: Path) -> None:
    (tmp_path / "broken.dng").write_bytes(b"II*\0 and no more")
    with pytest.raises(FormatError, match="broken.dng: not a DNG file"):
        frames_of(tmp_path / "broken.dng")


def test_a_dng_without_rawpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frame.dng").touch()
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(MissingDependencyError, match=r"'rawpy'.*pip install 'edge-isp\[dng\]'"):
        ReplayCamera(tmp_path / "frame.dng")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:120, 0:160]
    pixels = np.stack([x, y + 60, 200 - x], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_synthetic_frames_are_reproducible_and_move(photo: Path) -> None:
    def shoot() -> list[RawFrame]:
        with SyntheticCamera(photo, width=64, height=48, fps=None, frames=100, seed=3) as camera:
            return [frame for frame in iter(camera.read, None) if frame]

    first, second = shoot(), shoot()
    assert [f.sequence for f in first] == list(range(100))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    layout = first[0].format
    assert (layout.cfa, layout.bit_depth, layout.packing) == (Cfa.RGGB, 10, Packing.CSI2P)
    codes = [unpack(f.data, f.format.layout).astype(float) for f in first]
    noise = np.abs(codes[0] - codes[1]).mean()
    assert np.abs(codes[0] - codes[99]).mean() > 2 * noise
    assert first[0].sensor == "imx219"
    assert first[0].colour_gains is not None
    assert not first[0].lens_shading


def test_a_synthetic_camera_shows_the_whole_sensor(photo: Path) -> None:
    profile = replace(load_profile("imx219"), defects=(Defect(3279, 2463, 0.0, 2.0), Defect(0, 1, 0.0, 2.0)))
    with SyntheticCamera(photo, width=64, height=48, fps=None, sensor=profile, imperfections=True) as camera:
        frame = camera.read()
    assert frame is not None
    unflipped = Flips(vertical=False, horizontal=False)
    assert frame.window == SensorWindow(0, 0, 3280, 2464, (3280, 2464), unflipped)
    assert frame.lens_shading
    codes = unpack(frame.data, frame.format.layout)
    assert codes[47, 63] == codes[1, 0] == 1023


def test_a_paced_synthetic_camera_leaves_out_what_comes_too_late(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_ns = [0]
    monkeypatch.setattr("edge_isp.cameras.synthetic.time.monotonic_ns", lambda: clock_ns[0])
    with SyntheticCamera(photo, width=64, height=48, fps=10.0) as camera:
        monkeypatch.setattr(
            camera.closed, "wait", lambda seconds: clock_ns.__setitem__(0, clock_ns[0] + int(seconds * 1e9))
        )
        seen = []
        for pause_ns in (0, 0, 250_000_000, 0):
            clock_ns[0] += pause_ns
            frame = camera.read()
            assert frame
            seen.append((frame.sequence, frame.timestamp_ns, frame.status))
    ok, gap = FrameStatus.OK, FrameStatus.GAP
    assert seen == [(0, 0, ok), (1, 100_000_000, ok), (3, 300_000_000, gap), (4, 400_000_000, ok)]


def test_frames_that_the_synthetic_camera_could_not_make_in_time_are_named(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_ns = [0]
    monkeypatch.setattr("edge_isp.cameras.synthetic.time.monotonic_ns", lambda: clock_ns[0])
    with SyntheticCamera(photo, width=64, height=48, fps=10.0) as camera:

        def wait(seconds: float) -> bool:
            clock_ns[0] += round(seconds * 1e9)
            return False

        render = SceneRenderer.render

        def slow(self: SceneRenderer, index: int, **settings: float) -> NDArray[np.uint8]:
            clock_ns[0] += times_ns.pop(0)
            return render(self, index, **settings)

        monkeypatch.setattr(camera.closed, "wait", wait)
        monkeypatch.setattr(SceneRenderer, "render", slow)
        times_ns = [50_000_000, 250_000_000, 0, 0, 0, 250_000_000, 0]
        seen = []
        for pause_ns in (0, 0, 0, 0, 250_000_000, 0, 200_000_000):
            clock_ns[0] += pause_ns
            frame = camera.read()
            assert frame
            seen.append((frame.sequence, frame.status, camera.skipped))
    ok, gap, skipped = FrameStatus.OK, FrameStatus.GAP, FrameStatus.GAP | FrameStatus.SKIPPED
    assert seen == [
        (0, ok, 0),
        (1, ok, 1),  # takes 250 ms, in which 2 and 3 become due
        (3, skipped, 1),
        (4, ok, 1),
        (6, gap, 1),  # this one nobody has read in time
        (7, ok, 2),
        (11, skipped, 2),  # both: one that was not made, two that were not read
    ]


def test_a_synthetic_camera_that_waits_can_time_out_and_be_closed(photo: Path) -> None:
    with SyntheticCamera(photo, width=64, height=48, fps=0.001) as camera:
        assert camera.read()
        with pytest.raises(CameraError, match=r"no frame within 0.01 s"):
            camera.read(timeout_s=0.01)
        reader_result: list[RawFrame | None] = []
        reader = threading.Thread(target=lambda: reader_result.append(camera.read()))
        reader.start()
        camera.close()
        reader.join(10)
        assert reader_result == [None]
        assert camera.read() is None


def test_a_synthetic_camera_refuses_what_cannot_be(photo: Path) -> None:
    with pytest.raises(CameraError, match="must be at least 640x480 pixels, found 160x120"):
        SyntheticCamera(photo)
    with pytest.raises(FormatError, match="width must be even"):
        SyntheticCamera(photo, width=63, height=48)
    with pytest.raises(CameraError, match="fps must be positive"):
        SyntheticCamera(photo, width=64, height=48, fps=0)
    with pytest.raises(CameraError, match="analogue_gain must be at least 1"):
        SyntheticCamera(photo, width=64, height=48, analogue_gain=0.5)
    with pytest.raises(ProfileError, match="no sensor profile"):
        SyntheticCamera(photo, width=64, height=48, sensor="imx999")
    text = photo.with_name("text.png")
    shutil.copy(__file__, text)
    with pytest.raises(CameraError, match="cannot be read as a photograph"):
        SyntheticCamera(text)
