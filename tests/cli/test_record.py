"""`edge-isp record`, `info`, `repair`, `dng` and `export recording`."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from edge_isp.calibration.dng import read_dng
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording, demo_scene, open_camera
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.cli.main import app
from edge_isp.cli.options import parse_bytes, parse_seconds
from edge_isp.cli.record_stream import Recording
from edge_isp.doctor import examine
from edge_isp.engines.base import EngineReport
from edge_isp.engines.delegates import DELEGATES, DelegateSpec, Probe
from edge_isp.errors import EngineError
from edge_isp.frame import RawFrame
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.recording.recorder import Recorder
from edge_isp.recording.schemas import DETECTIONS, EVENTS
from tests.support.recorded_frames import numbers, plain_frame

pytest.importorskip("mcap", reason="mcap is not installed")


def edge_isp(*arguments: object, ok: bool = True) -> Result:
    """Runs a command."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if ok:
        assert done.exit_code == 0, done.output
    return done


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` asks every runtime, for seconds."""
    monkeypatch.setattr("edge_isp.cli.record_stream.examine", lambda **options: {"edge_isp": "0"})


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Of the demo's frames."""
    edge_isp("record", "--out", tmp_path / "a.mcap", "--preview-fps", 0)
    return tmp_path / "a.mcap"


def test_record_and_info(tmp_path: Path) -> None:
    done = edge_isp("record", "--out", tmp_path / "r", "--frames", 2)
    assert "2 of 2 frames recorded" in done.output
    (path,) = (tmp_path / "r").iterdir()
    found = json.loads(edge_isp("info", path, "--json").stdout)
    (camera,) = found["cameras"]
    assert (camera["name"], camera["frames"], camera["sensor"]) == ("camera", 2, "imx219")
    assert camera["not_recorded"] == camera["dropped"] == {}
    assert found["complete"]
    assert set(found["attachments"]) == {"doctor.json", "imx219.toml"}
    text = edge_isp("info", path).stdout
    assert "camera: 2 frames" in text
    assert "832x576 RGGB 10 bit csi2p" in text


def test_a_replay_of_the_recording_is_the_original(recording: Path) -> None:
    with ReplayCamera(demo_recording()) as original, open_camera(recording) as replayed:
        for _ in range(3):
            a, b = original.read(), replayed.read()
            assert a is not None
            assert b is not None
            assert np.array_equal(a.data, b.data)
            assert (a.colour_gains, a.sensor, a.sequence) == (b.colour_gains, b.sensor, b.sequence)
        assert replayed.read() is None


def test_several_cameras_go_into_one_file(tmp_path: Path) -> None:
    demo = demo_recording()
    edge_isp("record", "--camera", demo, "--camera", demo, "--out", tmp_path / "a.mcap")
    found = json.loads(edge_isp("info", tmp_path / "a.mcap", "--json").stdout)
    assert [(camera["name"], camera["frames"]) for camera in found["cameras"]] == [("camera1", 3), ("camera2", 3)]


def test_record_with_a_detector(tmp_path: Path) -> None:
    edge_isp("record", "--model", "raw-detector", "--out", tmp_path / "a.mcap")
    found = json.loads(edge_isp("info", tmp_path / "a.mcap", "--json").stdout)
    assert found["cameras"][0]["frames"] == 3
    assert found["cameras"][0]["detections"] == 3
    assert found["metadata"]["model"].startswith("raw-detector")
    assert len(found["metadata"]["model_sha256"]) == 64


def test_enough_frames_with_a_model_end_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(SyntheticCamera):
        def read(self, timeout_s: float | None = None) -> RawFrame | None:
            next(reads)
            return super().read(timeout_s)

    reads, most = itertools.count(), 60
    camera = partial(Counted, demo_scene(), width=832, height=576, fps=None, frames=most)
    monkeypatch.setattr("edge_isp.cli.record_stream.open_camera", lambda spec: camera())
    done = edge_isp("record", "--model", "raw-detector", "--frames", 2, "--out", tmp_path / "a.mcap")
    assert "2 of 2 frames recorded" in done.output
    assert next(reads) < most


def test_the_page_of_a_recording_leaves_cameras_and_npus_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are about to be opened by the recording."""
    touched: list[str] = []
    monkeypatch.setattr("edge_isp.cli.record_stream.examine", examine)

    def opened(picamera2: str) -> list[object]:
        touched.append("cameras")
        return []

    def tried(spec: DelegateSpec) -> EngineReport:
        touched.append(spec.name)
        raise EngineError("not here")

    monkeypatch.setattr("edge_isp.doctor._opened_cameras", opened)
    monkeypatch.setattr("edge_isp.doctor._try", tried)
    npu = replace(DELEGATES[0], models={"*": "tflite"})
    monkeypatch.setattr("edge_isp.doctor.delegates", lambda: [npu])
    monkeypatch.setattr("edge_isp.doctor.probe", lambda spec, root: Probe("", board="*"))
    edge_isp("record", "--frames", 1, "--out", tmp_path / "a.mcap")
    found = json.loads(edge_isp("info", tmp_path / "a.mcap", "--json").stdout)
    assert "doctor.json" in found["attachments"]
    assert touched == []


def test_the_profile_is_of_the_model_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Recording] = []
    monkeypatch.setattr("edge_isp.cli.record_stream.run_recording", found.append)
    edge_isp("record", "--model", "raw-detector", "--profile", "imx477", "--out", tmp_path / "a.mcap")
    found[0].sink.close()
    assert found[0].model is not None
    assert found[0].model.profile is not None
    assert found[0].model.profile.name == "imx477"


@pytest.mark.parametrize(
    ("model", "trigger", "message"),
    [
        ("raw-detector", "detection:persn>0.6", "knows no class 'persn'; did you mean 'person'?"),
        ("rfdcsanet-s", "detection:person>0.6", "needs a detector, and 'rfdcsanet-s-generic' makes pictures"),
    ],
)
def test_a_trigger_that_nothing_would_ever_have_is_refused(
    tmp_path: Path, model: str, trigger: str, message: str
) -> None:
    arguments = ("record", "--model", model, "--before", "1s", "--trigger", trigger, "--out", tmp_path / "r")
    done = edge_isp(*arguments, ok=False)
    assert done.exit_code == 1
    assert message in str(done.exception)
    assert not (tmp_path / "r").exists()


def test_a_sink_whose_trigger_the_model_does_not_know_ends_the_stream(tmp_path: Path) -> None:
    spec = f"mcap:{tmp_path / 'r'},before_s=10,trigger=detection:persn>0.6,preview_fps=0"
    done = edge_isp("run", "--model", "raw-detector", "--json", "--sink", spec, ok=False)
    assert done.exit_code == 1
    assert "knows no class 'persn'; did you mean 'person'" in str(done.exception)


def test_run_records_beside_its_results(tmp_path: Path) -> None:
    edge_isp("run", "--json", "--sink", f"mcap:{tmp_path / 'a.mcap'},preview_fps=0")
    assert json.loads(edge_isp("info", tmp_path / "a.mcap", "--json").stdout)["cameras"][0]["frames"] == 3


def test_repair(recording: Path) -> None:
    assert "nothing to do" in edge_isp("repair", recording).output
    content = recording.read_bytes()
    recording.write_bytes(content[: len(content) * 2 // 3])
    assert "cut off" in edge_isp("info", recording).output
    assert "were incomplete" in edge_isp("repair", recording).output
    found = json.loads(edge_isp("info", recording, "--json").stdout)
    assert found["complete"]
    assert found["cameras"][0]["frames"] in (1, 2)


def test_export_to_raw_gives_the_demo_back(recording: Path, tmp_path: Path) -> None:
    edge_isp("export", "recording", recording, "--format", "raw", "--out", tmp_path / "x")
    with ReplayCamera(demo_recording()) as original, ReplayCamera(tmp_path / "x" / "a.raw") as exported:
        while (a := original.read()) is not None:
            b = exported.read()
            assert b is not None
            assert np.array_equal(a.data, b.data)
            assert (a.format, a.black_level, a.white_level, a.sensor) == (
                b.format,
                b.black_level,
                b.white_level,
                b.sensor,
            )
            assert (a.colour_gains, a.colour_temperature_k, a.analogue_gain, a.exposure_ns, a.window) == (
                b.colour_gains,
                b.colour_temperature_k,
                b.analogue_gain,
                b.exposure_ns,
                b.window,
            )
        assert exported.read() is None
    assert (
        edge_isp("export", "recording", recording, "--format", "raw", "--out", tmp_path / "x", ok=False).exit_code != 0
    )


def test_export_to_dng_and_png(recording: Path, tmp_path: Path) -> None:
    edge_isp("export", "recording", recording, "--format", "dng", "--out", tmp_path / "d", "--frames", 2)
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["a_000000.dng", "a_000001.dng"]
    assert read_dng(tmp_path / "d" / "a_000000.dng").model == "imx219"
    edge_isp("export", "recording", recording, "--format", "png", "--out", tmp_path / "p", "--frames", 1)
    (picture,) = (tmp_path / "p").iterdir()
    assert picture.suffix == ".png"
    assert edge_isp("export", "recording", recording, "--format", "gif", "--out", tmp_path, ok=False).exit_code == 2


def test_export_to_mp4(recording: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="av is not installed")
    out = tmp_path / "a.mp4"
    assert "3 frames in" in edge_isp("export", "recording", recording, "--format", "mp4", "--out", out).stdout
    edge_isp("export", "recording", recording, "--format", "png", "--out", tmp_path / "p")
    pictures = [np.asarray(Image.open(path), np.float64) for path in sorted((tmp_path / "p").iterdir())]
    with av.open(str(out)) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(np.float64) for frame in video.decode(video=0)]
    assert len(frames) == len(pictures) == 3
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.shape == picture.shape
        # The colours of the picture, but for what the video's compression costs: quarters of the picture in the mean.
        blocks = [
            each.reshape(2, each.shape[0] // 2, 2, each.shape[1] // 2, 3).mean((1, 3)) for each in (frame, picture)
        ]
        assert blocks[0] == pytest.approx(blocks[1], abs=4)
    # No video is replaced, and the command says where the second one is.
    content = out.read_bytes()
    done = edge_isp("export", "recording", recording, "--format", "mp4", "--out", out)
    assert done.stdout.split() == ["3", "frames", "in", str(tmp_path / "a_2.mp4")]
    assert (tmp_path / "a_2.mp4").exists()
    assert out.read_bytes() == content


@pytest.mark.parametrize("file_format", ["raw", "dng", "png", "mp4"])
def test_a_path_with_commas_is_a_path(recording: Path, tmp_path: Path, file_format: str) -> None:
    """It is not taken apart like a sink's specification."""
    pytest.importorskip("av", reason="av is not installed")
    out = tmp_path / ("a,every=2,quality=5" + (".mp4" if file_format == "mp4" else ""))
    edge_isp("export", "recording", recording, "--format", file_format, "--out", out, "--frames", 1)
    assert out.exists()


def scene_recording(path: Path) -> None:
    """Six frames of a grey wall, then three of the shipped scene, whose bird the shipped detector finds."""
    with open_camera(f"synthetic:{demo_scene()},width=640,height=480") as camera:
        found = camera.read()
        assert found is not None
        with found:
            bird = found.copy()
    wall = replace(bird, data=np.full_like(bird.data, 0x40))
    recorder = Recorder(path)
    for number in range(9):
        recorder.frame(replace(wall if number < 6 else bird, sequence=number))
    recorder.close()


def test_a_bird_begins_an_event_with_the_time_before_it(tmp_path: Path) -> None:
    """From the pixels to the file: the shipped detector, the trigger, the seconds before it."""
    scene_recording(tmp_path / "scene.mcap")
    arguments = ("record", "--camera", tmp_path / "scene.mcap", "--before", "1h", "--after", "1h", "--preview-fps", 0)
    done = edge_isp(*arguments, "--trigger", "detection:bird>0.5", "--out", tmp_path / "r")
    assert "9 of 9 frames recorded" in done.output
    (path,) = (tmp_path / "r").iterdir()
    assert path.name.endswith("_event.mcap")
    with McapRecording(path) as recording:
        assert numbers(recording.frames("camera")) == list(range(9))
        events = [message for _, message in recording.json_messages(EVENTS, "camera")]
        found = [message for _, message in recording.json_messages(DETECTIONS, "camera")]
    (reason,) = [event["reason"] for event in events if event["kind"] == "trigger"]
    assert re.fullmatch(r"bird 0\.[5-9]\d in frame 6", reason)
    names = {message["sequence"]: {each["name"] for each in message["detections"]} for message in found}
    assert [number for number in sorted(names) if "bird" in names[number]] == [6, 7, 8]
    done = edge_isp(*arguments, "--trigger", "detection:elephant>0.5", "--out", tmp_path / "none")
    assert "0 of 9 frames recorded" in done.output
    assert list((tmp_path / "none").iterdir()) == []


def test_frames_of_changing_format_and_bad_values_are_exported_as_absent(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap")
    recorder.frame(replace(plain_frame(0), analogue_gain=float("nan"), exposure_ns=0))
    recorder.frame(plain_frame(1, (64, 16)))
    recorder.frame(replace(plain_frame(2, (64, 16)), analogue_gain=2.0))
    recorder.close()
    edge_isp("export", "recording", tmp_path / "a.mcap", "--format", "raw", "--out", tmp_path / "x")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a.raw", "a.toml", "a_2.raw", "a_2.toml"]
    with ReplayCamera(tmp_path / "x") as camera:
        frames = [frame for frame in iter(camera.read, None) if frame is not None]
    assert [frame.format.width for frame in frames] == [32, 64, 64]
    assert [frame.analogue_gain for frame in frames] == [None, None, 2.0]
    assert frames[0].exposure_ns is None


def test_dng_of_any_camera(tmp_path: Path) -> None:
    done = edge_isp("dng", "--out", tmp_path, "--frames", 2)
    assert "2 frames" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spices_000000.dng", "spices_000001.dng"]


def test_dng_of_a_folder_of_recordings(tmp_path: Path) -> None:
    """The frames of each file are counted from 0: they have its name."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        for suffix in (".raw", ".toml"):
            content = demo_recording().with_suffix(suffix).read_bytes()
            (tmp_path / "in" / f"{name}{suffix}").write_bytes(content)
    edge_isp("dng", "--camera", tmp_path / "in", "--out", tmp_path / "out", "--frames", 4)
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["a_000000.dng", "a_000001.dng", "a_000002.dng", "b_000000.dng"]


def test_contradictions_are_told(tmp_path: Path) -> None:
    for arguments in (
        ("--trigger", "signal"),
        ("--before", "1s"),
        ("--before", "1s", "--trigger", "detection:a>0.1", "--trigger", "detection:b>0.1"),
        ("--before", "soon", "--trigger", "signal"),
        ("--budget", "5 apples"),
        ("--model", "raw-detector", "--camera", demo_recording(), "--camera", demo_recording()),
    ):
        assert edge_isp("record", "--out", tmp_path / "r", *arguments, ok=False).exit_code == 2, arguments
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("picamera2:0,fps=30", "picamera2:0,fps=30,main=1280x720"),
        ("picamera2", "picamera2,main=1280x720"),
        ("picamera2:1,main=640x480,fps=5", "picamera2:1,main=640x480,fps=5"),
    ],
)
def test_the_isps_picture_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, opened: str
) -> None:
    found: list[Recording] = []
    monkeypatch.setattr("edge_isp.cli.record_stream.run_recording", found.append)
    edge_isp("record", "--camera", given, "--with-isp", "--out", tmp_path / "a.mcap")
    assert list(found[0].cameras.values()) == [opened]
    found[0].sink.close()


@pytest.mark.parametrize("camera", [[], ["--camera", "synthetic:a.jpg"], ["--camera", "v4l2:/dev/video0"]])
def test_a_camera_without_an_isps_picture_is_refused(tmp_path: Path, camera: list[str]) -> None:
    done = edge_isp("record", *camera, "--with-isp", "--out", tmp_path / "a.mcap", ok=False)
    assert done.exit_code == 2
    assert "--with-isp needs a camera whose board makes a picture" in " ".join(done.output.split())
    assert not (tmp_path / "a.mcap").exists()


def test_a_signal_begins_an_event_and_ctrl_c_ends_the_recording(tmp_path: Path, data: Path) -> None:
    photo = next(iter(sorted((data / "photos" / "kodak").glob("*.png"))))
    command = [
        *(sys.executable, "-m", "edge_isp", "record", "--out", str(tmp_path / "r"), "--preview-fps", "0"),
        *("--camera", f"synthetic:{photo},fps=20,width=320,height=240", "--before", "60s", "--after", "60s"),
        *("--trigger", "signal", "--frames", "100000"),
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            while process.poll() is None and not list((tmp_path / "r").glob("*_event.mcap")):
                # Before the command has taken the signal over, it would end the process.
                status = Path(f"/proc/{process.pid}/status").read_text()
                caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
                if caught >> (signal.SIGUSR1 - 1) & 1:
                    process.send_signal(signal.SIGUSR1)
                os.sched_yield()
            process.send_signal(signal.SIGINT)
            output, messages = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode in (0, 130), messages.decode()
    (path,) = (tmp_path / "r").iterdir()
    assert str(path) in output.decode()
    assert json.loads(edge_isp("info", path, "--json").stdout)["complete"]


@pytest.mark.parametrize(("text", "expected"), [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5KB", 1500), ("7", 7)])
def test_bytes_are_read(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("10s", 10), ("500ms", 0.5), ("2min", 120), ("1h", 3600), ("3", 3)])
def test_times_are_read(text: str, expected: float) -> None:
    assert parse_seconds(text) == expected
