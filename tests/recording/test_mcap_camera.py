"""Recordings as cameras: pace, seek, loop, several in step; memory and time on large files."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge_isp import McapCamera, open_camera
from edge_isp.cameras.base import Controls
from edge_isp.cameras.mcap import open_in_step
from edge_isp.errors import CameraError, CameraTimeoutError, FormatError
from edge_isp.frame import RawFrame
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.recording.recorder import Recorder
from edge_isp.recording.schemas import PREVIEW
from edge_isp.wall_clock import WallClock
from tests.support.recorded_frames import assert_identical, frame, plain_frame

pytest.importorskip("mcap", reason="mcap is not installed")

PERIOD_NS = 100_000_000


class FakeTime:
    """Time that goes on only where something waits for it."""

    def __init__(self) -> None:
        self.now = 5_000_000_000_000

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return self.now

    def time_ns(self) -> int:
        """CLOCK_REALTIME."""
        return self.now + 10**18


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The time of recorder and replay."""
    fake = FakeTime()
    monkeypatch.setattr("edge_isp.recording.recorder.time", fake)
    monkeypatch.setattr("edge_isp.recording.recorder.SYSTEM_WALL_CLOCK", WallClock(fake.time_ns, fake.monotonic_ns))
    monkeypatch.setattr("edge_isp.cameras.mcap.time", fake)

    def wait(event: threading.Event, timeout: float) -> bool:
        fake.now += round(timeout * 1e9)
        return event.is_set()

    monkeypatch.setattr("edge_isp.cameras.mcap.wait_for_close", wait)
    return fake


def record(path: Path, clock: FakeTime, count: int = 10, cameras: tuple[str, ...] = ("camera",)) -> None:
    """Ten frames a second of each camera, the second one half a period later."""
    recorder = Recorder(path, cameras=cameras)
    for number in range(count):
        for camera in cameras:
            recorder.frame(plain_frame(number), camera)
            clock.now += PERIOD_NS // len(cameras)
    recorder.close()


def read_all(camera: McapCamera) -> list[RawFrame]:
    """To the end."""
    return [found for found in iter(camera.read, None) if found is not None]


def test_a_recording_is_opened_by_its_path_and_by_its_name(tmp_path: Path) -> None:
    frames = [frame(number) for number in range(9)]
    recorder = Recorder(tmp_path / "a.mcap")
    for each in frames:
        recorder.frame(each)
    recorder.close()
    for spec in (tmp_path / "a.mcap", f"mcap:{tmp_path / 'a.mcap'},loop=no"):
        with open_camera(spec) as camera:
            assert isinstance(camera, McapCamera)
            found = read_all(camera)
            assert camera.read() is None
        assert len(found) == 9
        for replayed, recorded in zip(found, frames, strict=True):
            assert_identical(replayed, recorded)
        assert camera.read() is None


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_frames_come_at_the_recorded_pace_or_another(tmp_path: Path, clock: FakeTime, speed: float) -> None:
    record(tmp_path / "a.mcap", clock)
    with McapCamera(tmp_path / "a.mcap", speed=speed) as camera:
        times = []
        while camera.read() is not None:
            times.append(clock.now)
    steps = [b - a for a, b in pairwise(times)]
    assert steps == pytest.approx([PERIOD_NS / speed] * 9, rel=1e-6)


def test_without_a_speed_nothing_waits(tmp_path: Path, clock: FakeTime) -> None:
    record(tmp_path / "a.mcap", clock)
    before = clock.now
    with McapCamera(tmp_path / "a.mcap") as camera:
        assert len(read_all(camera)) == 10
    assert clock.now == before


def test_a_frame_whose_turn_it_is_not_stays(tmp_path: Path, clock: FakeTime) -> None:
    record(tmp_path / "a.mcap", clock)
    with McapCamera(tmp_path / "a.mcap", speed=1) as camera:
        first = camera.read(timeout_s=0.01)
        assert first is not None
        with pytest.raises(CameraTimeoutError, match=r"comes in 0\.09"):
            camera.read(timeout_s=0.01)
        second = camera.read(timeout_s=1)
        assert second is not None
        assert (first.sequence, second.sequence) == (0, 1)


@pytest.mark.parametrize("speed", [None, 1.0])
def test_seek(tmp_path: Path, clock: FakeTime, speed: float | None) -> None:
    record(tmp_path / "a.mcap", clock)
    with McapCamera(tmp_path / "a.mcap", speed=speed, start_s=0.35) as camera:
        found = camera.read()
        assert found is not None
        assert found.sequence == 4
        for seconds, sequence in ((0.0, 0), (0.9, 9), (0.5, 5)):
            camera.seek(seconds)
            found = camera.read()
            assert found is not None
            assert found.sequence == sequence
        camera.seek(100)
        assert camera.read() is None
        with pytest.raises(CameraError, match="begins at 0 s"):
            camera.seek(-1)
    with pytest.raises(CameraError, match="closed"):
        camera.seek(0)


@pytest.mark.parametrize("speed", [None, 1.0])
def test_a_loop_goes_on_counting(tmp_path: Path, clock: FakeTime, speed: float | None) -> None:
    record(tmp_path / "a.mcap", clock, 4)
    with McapCamera(tmp_path / "a.mcap", speed=speed, loop=True) as camera:
        found = [camera.read() for _ in range(11)]
    frames = [each for each in found if each is not None]
    assert [each.sequence for each in frames] == list(range(11))
    steps = {b.timestamp_ns - a.timestamp_ns for a, b in pairwise(frames)}
    assert steps == {33_333_333}
    assert [int(each.data[0, 0]) for each in frames] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]


@pytest.mark.parametrize("speed", [None, 1.0])
def test_a_loop_that_began_late_goes_on_rising(tmp_path: Path, clock: FakeTime, speed: float | None) -> None:
    """The loops that follow begin with the recording's first frame, not with that of `start_s`."""
    record(tmp_path / "a.mcap", clock, 5)
    with McapCamera(tmp_path / "a.mcap", speed=speed, start_s=0.3, loop=True) as camera:
        frames = [camera.read() for _ in range(8)]
        camera.seek(0.3)
        frames += [camera.read() for _ in range(8)]
    found = [each for each in frames if each is not None]
    assert [int(each.data[0, 0]) for each in found] == [3, 4, 0, 1, 2, 3, 4, 0] * 2
    for part in (found[:8], found[8:]):
        assert {b.sequence - a.sequence for a, b in pairwise(part)} == {1}
        assert {b.timestamp_ns - a.timestamp_ns for a, b in pairwise(part)} == {33_333_333}


def test_a_recording_of_one_frame_loops(tmp_path: Path, clock: FakeTime) -> None:
    record(tmp_path / "a.mcap", clock, 1)
    with McapCamera(tmp_path / "a.mcap", loop=True) as camera:
        frames = [camera.read() for _ in range(3)]
    assert [each.sequence for each in frames if each] == [0, 1, 2]
    assert {b.timestamp_ns - a.timestamp_ns for a, b in pairwise(each for each in frames if each)} == {33_333_333}


def test_a_file_that_becomes_shorter_is_one_error(tmp_path: Path, clock: FakeTime) -> None:
    """Not a damaged chunk, which is passed over."""
    record(tmp_path / "a.mcap", clock, 5)
    with McapCamera(tmp_path / "a.mcap") as camera:
        assert camera.read() is not None
        os.truncate(tmp_path / "a.mcap", 1000)
        with pytest.raises(FormatError, match="has become shorter"):
            camera.read()


def test_the_frames_of_a_closed_recording_are_an_error(tmp_path: Path, clock: FakeTime) -> None:
    record(tmp_path / "a.mcap", clock, 5)
    with McapRecording(tmp_path / "a.mcap") as recording:
        frames = recording.frames("camera")
        next(frames)
    with pytest.raises(FormatError, match="is closed"):
        next(frames)


def test_closing_waits_for_a_read_that_is_in_the_file(
    tmp_path: Path, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor may be another file's by then."""
    record(tmp_path / "a.mcap", clock, 3)
    camera = McapCamera(tmp_path / "a.mcap")
    in_the_file, go_on = threading.Event(), threading.Event()

    def pread(descriptor: int, length: int, offset: int, real: Callable[[int, int, int], bytes] = os.pread) -> bytes:
        in_the_file.set()
        go_on.wait(20)
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    found: list[RawFrame | None] = []
    reading = threading.Thread(target=lambda: found.append(camera.read()))
    reading.start()
    assert in_the_file.wait(20)
    closing = threading.Thread(target=camera.close)
    closing.start()
    assert camera.closed.wait(20)
    closing.join(0.2)  # it would be done by then
    go_on.set()
    reading.join(20)
    closing.join(20)
    assert [each.sequence for each in found if each is not None] == [0]


def test_several_cameras_are_played_in_step(tmp_path: Path, clock: FakeTime) -> None:
    record(tmp_path / "a.mcap", clock, 5, ("left", "right"))
    cameras = open_in_step(tmp_path / "a.mcap", speed=2)
    begun = clock.now
    times = {}
    for _ in range(5):
        for name, camera in cameras.items():
            found = camera.read()
            assert found is not None
            times[name, found.sequence] = clock.now - begun
    for camera in cameras.values():
        assert camera.read() is None
        camera.close()
    for number in range(5):
        assert times["left", number] == pytest.approx(number * PERIOD_NS / 2, abs=1000)
        assert times["right", number] == pytest.approx((number + 0.5) * PERIOD_NS / 2, abs=1000)


def test_a_wrong_request_is_told(tmp_path: Path, clock: FakeTime) -> None:
    record(tmp_path / "a.mcap", clock, 2, ("left", "right"))
    with pytest.raises(CameraError, match=r"several cameras in it: give name= left or right"):
        McapCamera(tmp_path / "a.mcap")
    with pytest.raises(CameraError, match=r"no camera 'middle' in it; left or right"):
        McapCamera(tmp_path / "a.mcap", name="middle")
    with pytest.raises(CameraError, match="speed must be a number above 0"):
        McapCamera(tmp_path / "a.mcap", speed=0)
    with pytest.raises(CameraError, match="no such file"):
        open_camera(tmp_path / "b.mcap")
    with pytest.raises(FormatError, match="No such file"):
        McapCamera(tmp_path / "b.mcap")
    with McapCamera(tmp_path / "a.mcap", name="left") as camera:
        with pytest.raises(CameraError, match="cannot be set"):
            camera.control(Controls(exposure_ns=5))
        with pytest.raises(CameraError, match="cannot be set"):
            _ = camera.limits


def test_closing_ends_a_read_that_waits(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap")
    recorder.frame(plain_frame(0))
    recorder.frame(plain_frame(1))
    recorder.close()
    camera = McapCamera(tmp_path / "a.mcap", speed=1e-9)
    assert camera.read() is not None
    found: list[RawFrame | None] = [plain_frame(0)]
    thread = threading.Thread(target=lambda: found.append(camera.read()))
    thread.start()
    camera.close()
    thread.join(20)
    assert not thread.is_alive()
    assert found[1] is None


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each reading of a file took."""
    found: list[int] = []

    def pread(descriptor: int, length: int, offset: int, real: Callable[[int, int, int], bytes] = os.pread) -> bytes:
        content = real(descriptor, length, offset)
        found.append(len(content))
        return content

    monkeypatch.setattr(os, "pread", pread)
    return found


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_seek_reads_one_frame_and_opening_none(
    tmp_path: Path, clock: FakeTime, bytes_read: list[int], is_cut: bool
) -> None:
    """However long the recording is, and whatever lies between the frames."""
    size, count = (128, 96), 300
    recorder = Recorder(tmp_path / "a.mcap", cameras=("left", "right"))
    for number in range(count):
        for camera in ("left", "right"):
            recorder.frame(plain_frame(number, size), camera)
            recorder.message(PREVIEW, {"data": "x" * 20_000}, clock.now, camera)
        clock.now += PERIOD_NS
    recorder.close()
    assert recorder.counts.written == 2 * count
    content = (tmp_path / "a.mcap").read_bytes()
    if is_cut:
        (tmp_path / "a.mcap").write_bytes(content[: len(content) * 9 // 10])
    frame_bytes = plain_frame(0, size).data.nbytes + 1000
    with McapCamera(tmp_path / "a.mcap", name="right") as camera_read:
        assert sum(bytes_read) < 500 * 2 * count < len(content) / 20
        for number in (0, count // 2, count * 4 // 5):
            bytes_read.clear()
            camera_read.seek(number * PERIOD_NS / 1e9)
            found = camera_read.read()
            assert found is not None
            assert found.sequence == number
            assert sum(bytes_read) <= frame_bytes


def resident_bytes() -> int:
    """Of this process, in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_a_file_of_gigabytes_costs_little_memory_and_seeks_at_once(tmp_path: Path) -> None:
    size = (1920, 1080)
    recorder = Recorder(tmp_path / "a.mcap")
    one = plain_frame(0, size)
    for number in range(900):
        while recorder.counts.waiting > 40:
            os.sched_yield()
        recorder.frame(
            RawFrame(**{**{f: getattr(one, f) for f in one.__slots__ if f != "_released"}, "sequence": number})
        )
    recorder.close()
    assert recorder.counts.written == 900
    assert (tmp_path / "a.mcap").stat().st_size > 2_300_000_000
    before = resident_bytes()
    with McapCamera(tmp_path / "a.mcap") as camera:
        highest = before
        for number in range(900):
            found = camera.read()
            assert found is not None
            assert found.sequence == number
            highest = max(highest, resident_bytes())
        assert highest - before < 150 << 20
        span = camera.recording.span_ns
        assert span is not None
        camera.seek((span[1] - span[0]) / 1e9 * 0.7)
        assert camera.read() is not None


def open_descriptors(path: Path) -> int:
    """How often this process has a file open."""
    return sum(link.resolve() == path for link in Path("/proc/self/fd").iterdir() if link.exists())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_a_dropped_camera_and_one_that_cannot_be_opened_close_their_file(tmp_path: Path, clock: FakeTime) -> None:
    path = tmp_path / "a.mcap"
    record(path, clock)
    camera = McapCamera(path)
    assert camera.read() is not None
    assert open_descriptors(path) > 0
    del camera
    gc.collect()
    assert open_descriptors(path) == 0
    mistakes: tuple[dict[str, Any], ...] = ({"name": "other"}, {"start_s": 1e13})
    for wrong in mistakes:
        with pytest.raises(CameraError) as raised:
            McapCamera(path, **wrong)
        assert open_descriptors(path) == 0, raised.value
