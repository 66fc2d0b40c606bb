"""`edge-isp record`, `info`, `repair`, `dng` and `export recording`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge_isp.calibration.dng import read_dng
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording, open_camera
from edge_isp.cli.main import app
from edge_isp.cli.options import parse_bytes, parse_seconds
from edge_isp.recording.recorder import Recorder
from tests.support.recorded_frames import plain_frame

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
    monkeypatch.setattr("edge_isp.cli.record_stream.examine", lambda: {"edge_isp": "0"})


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


def test_frames_of_changing_format_and_bad_values_are_exported_as_absent(tmp_path: Path) -> None:
    from dataclasses import replace

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
