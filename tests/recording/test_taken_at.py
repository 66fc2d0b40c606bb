"""The time of a DNG file that is written of a recording: the recording's, or none, and never this machine's."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_isp import DngSink, Pipeline, RecordedFrame, dng_bytes, write_dng
from edge_isp.calibration.dng import read_dng
from edge_isp.cameras.spec import demo_recording, open_camera
from edge_isp.cli.main import app
from edge_isp.frame import RawFrame
from edge_isp.metering.meter import FrameMeter
from edge_isp.recording.recorder import Recorder
from edge_isp.wall_clock import WallClock
from tests.recording.test_dng import TAKEN_AT, a_frame
from tests.support import dng
from tests.support.dng_rules import check_dng, read_directories
from tests.support.recorded_frames import plain_frame

_DATE, _DATE_ORIGINAL, _ZONE = 306, 36867, 36881
_CODES = np.full((48, 64), 300, np.uint16)


def first_frame(path: Path) -> RawFrame:
    """Of a recording, with data of its own."""
    with open_camera(path) as camera:
        found = camera.read()
        assert found is not None
        return found.copy()


def record(path: Path, frames: list[RawFrame]) -> Path:
    """To an MCAP file."""
    pytest.importorskip("mcap", reason="mcap is not installed")
    recorder = Recorder(path)
    for frame in frames:
        recorder.frame(frame)
    recorder.close()
    return path


def time_of(content: bytes) -> str | None:
    """DateTimeOriginal with its zone; None where the file has no time at all."""
    first, _, exif = read_directories(content)
    if _DATE_ORIGINAL not in exif:
        assert _DATE not in first
        assert _ZONE not in exif
        return None
    assert first[_DATE][1] == exif[_DATE_ORIGINAL][1]
    zone = bytes(exif[_ZONE][1])[:-1].decode() if _ZONE in exif else ""
    return bytes(exif[_DATE_ORIGINAL][1])[:-1].decode() + zone


def test_a_raw_file_has_no_time_however_its_frame_comes_to_a_dng(tmp_path: Path) -> None:
    frame = first_frame(demo_recording())
    assert time_of(dng_bytes(frame)) is None
    # The light that is metered, a changed value and a copy leave it the frame of a file.
    assert time_of(dng_bytes(replace(FrameMeter(None).complete(frame), analogue_gain=2.0).copy())) is None
    done = CliRunner().invoke(app, ["dng", "--out", str(tmp_path / "c"), "--frames", "1"])
    assert done.exit_code == 0, done.output
    with Pipeline(open_camera(), "rfdcsanet-s") as pipeline:
        pipeline.add_sink(DngSink(tmp_path / "s"))
        pipeline.run()
    files = [*(tmp_path / "c").iterdir(), *(tmp_path / "s").iterdir()]
    assert len(files) == 4
    assert {time_of(path.read_bytes()) for path in files} == {None}
    # Recorded, it is no frame of the time when it was recorded.
    again = first_frame(record(tmp_path / "a.mcap", [frame]))
    assert time_of(dng_bytes(again)) is None


def test_a_cameras_frame_has_its_time_from_this_machines_clock() -> None:
    with open_camera(f"synthetic:{Path(str(demo_recording())).with_name('scene.jpg')},width=64,height=64") as camera:
        found = camera.read()
        assert found is not None
        with found:
            content = dng_bytes(found)
    assert time_of(content) is not None


def test_an_mcap_recording_has_the_time_that_it_was_taken_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Of another machine, in 2001."""

        def monotonic_ns(self) -> int:
            """CLOCK_MONOTONIC."""
            return 5_000_000_000

        def time_ns(self) -> int:
            """CLOCK_REALTIME."""
            return 1_000_000_004_000_000_000

    frames = [plain_frame(0), plain_frame(1), replace(plain_frame(2), timestamp_ns=0)]
    with monkeypatch.context() as patch:
        clock = Clock()
        patch.setattr("edge_isp.recording.recorder.time", clock)
        patch.setattr("edge_isp.recording.recorder.SYSTEM_WALL_CLOCK", WallClock(clock.time_ns, clock.monotonic_ns))
        record(tmp_path / "a.mcap", frames)
    expected = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    for path in (tmp_path / "a.mcap", record(tmp_path / "b.mcap", list(_all(tmp_path / "a.mcap")))):
        found = _all(path)
        assert [each.taken_at for each in found] == [expected, expected + timedelta(microseconds=33_333), None]
        assert time_of(dng_bytes(found[0])) == "2001:09:09 01:46:40+00:00"
        assert time_of(dng_bytes(found[2])) is None


def _all(path: Path) -> list[RecordedFrame]:
    with open_camera(path) as camera:
        found = [each.copy() for each in iter(camera.read, None) if each is not None]
    assert all(isinstance(each, RecordedFrame) for each in found)
    return [each for each in found if isinstance(each, RecordedFrame)]


@pytest.mark.parametrize(
    ("date", "zone", "fraction", "expected"),
    [
        ("2026:11:28 10:15:00", "+02:00", "25", TAKEN_AT),
        ("2026:11:28 10:15:00", None, None, datetime(2026, 11, 28, 10, 15)),
        ("2026:11:28 10:15:00", "Z", "x", datetime(2026, 11, 28, 10, 15, tzinfo=UTC)),
        ("0000:00:00 00:00:00", None, None, None),
        ("yesterday", "+02:00", "5", None),
        (None, "+02:00", "5", None),
    ],
)
def test_a_dng_keeps_its_time(
    tmp_path: Path, date: str | None, zone: str | None, fraction: str | None, expected: datetime | None
) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    texts = {"DateTimeOriginal": date, "OffsetTimeOriginal": zone, "SubsecTimeOriginal": fraction}
    tags = {name: (dng.ASCII, text) for name, text in texts.items() if text is not None}
    frame = first_frame(dng.write_dng(tmp_path / "a.dng", _CODES, tags))
    assert isinstance(frame, RecordedFrame)
    assert frame.taken_at == expected
    content = dng_bytes(frame)
    check_dng(content)
    zone_written = {None: "", "Z": "+00:00", "+02:00": "+02:00"}[zone]
    assert time_of(content) == (None if expected is None else f"2026:11:28 10:15:00{zone_written}")
    (tmp_path / "b.dng").write_bytes(content)
    assert read_dng(tmp_path / "b.dng").taken_at == expected


def test_our_own_dng_comes_back_with_its_time(tmp_path: Path) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    write_dng(tmp_path / "a.dng", a_frame(), taken_at=TAKEN_AT)
    frame = first_frame(tmp_path / "a.dng")
    assert isinstance(frame, RecordedFrame)
    assert frame.taken_at == TAKEN_AT
    assert frame.taken_at.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        (1_000_000_000_010_000_000, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
        (0, None),
        (-5, None),
        ("now", None),
        (1e18, None),
        (2**70, None),
        (None, None),
    ],
)
def test_libcameras_wall_clock_is_the_time_of_a_raw_file(tmp_path: Path, wall: object, expected: datetime) -> None:
    """FrameWallClock is, like SensorTimestamp, the end of the first row's exposure, here of 10 ms."""
    frame = first_frame(demo_recording())
    (tmp_path / "a.raw").write_bytes(frame.data.tobytes())
    (tmp_path / "a.toml").write_bytes(demo_recording().with_suffix(".toml").read_bytes())
    (tmp_path / "a.json").write_text(json.dumps([{"ExposureTime": 10_000, "FrameWallClock": wall}]))
    found = first_frame(tmp_path / "a.raw")
    assert isinstance(found, RecordedFrame)
    assert found.taken_at == expected
