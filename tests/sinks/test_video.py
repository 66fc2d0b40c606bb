"""Videos: sensor time stamps, splits, and what a kill leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_isp.errors import SinkError
from edge_isp.sinks.annotate import picture_of
from edge_isp.sinks.spec import open_sink
from edge_isp.sinks.timeline import TICKS_PER_S, Timeline
from edge_isp.testing import check_sink
from edge_isp.testing.sink import detections_result, picture_result
from tests.sinks.streams import PERIOD_NS, moving_result

av = pytest.importorskip("av", reason="needs the extra [video]")

SUFFIXES = ["mp4", "mkv"]
every_container = pytest.mark.parametrize("suffix", SUFFIXES)


def frames_of(path: Path) -> list[tuple[float, Any]]:
    """Time in seconds and RGB of each frame; fails where a packet cannot be decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (float(frame.pts * stream.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(stream)
        ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@every_container
def test_it_conforms(suffix: str, tmp_path: Path) -> None:
    spec = f"video:{tmp_path}/new/scene.{suffix}"
    check_sink(lambda: open_sink(spec), spec=spec)


@every_container
def test_times_are_the_sensors_and_the_picture_is_the_results(suffix: str, tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(8_000_000, 90_000_000, 120)
    stamps = (7_123_456_789_012 + np.cumsum(steps)).tolist()
    path = tmp_path / f"scene.{suffix}"
    sink = open_sink(f"video:{path}")
    results = [moving_result(number, timestamp_ns=stamp) for number, stamp in enumerate(stamps)]
    for result in results:
        sink.write(result)
    sink.close()
    found = frames_of(path)
    assert len(found) == len(stamps)
    expected = (np.array(stamps) - stamps[0]) / 1e9
    assert np.abs(np.array([time_s for time_s, _ in found]) - expected).max() < 1e-3
    for (_, rgb), result in zip(found[::17], results[::17], strict=True):
        assert np.abs(rgb.astype(int) - result.picture.rgb).mean() < 6
    with av.open(str(path)) as container:
        metadata = {key.lower(): value for key, value in container.metadata.items()}
        assert metadata["comment"] == f"timestamp_ns={stamps[0]}"


@every_container
def test_ffprobe_reads_it(suffix: str, tmp_path: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffprobe: sudo apt install ffmpeg")
    path = tmp_path / f"scene.{suffix}"
    sink = open_sink(f"video:{path}")
    for number in range(40):
        sink.write(moving_result(number))
    sink.close()
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_packets", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    (stream,) = document["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 128, 96)
    assert (stream["color_range"], stream["color_space"]) == ("tv", "smpte170m")
    times = [float(packet["pts_time"]) for packet in document["packets"]]
    assert np.abs(np.array(times) - np.arange(40) * PERIOD_NS / 1e9).max() < 1e-3
    keys = [
        time_s for time_s, packet in zip(times, document["packets"], strict=True) if packet["flags"].startswith("K")
    ]
    assert keys == pytest.approx([0, 1.0], abs=0.04)


WRITER = """
import sys
from edge_isp.sinks.spec import open_sink
from tests.sinks.streams import moving_result
sink = open_sink(f"video:{sys.argv[1]}")
number = 0
for line in sys.stdin:
    for _ in range(int(line)):
        sink.write(moving_result(number))
        number += 1
    print(number, flush=True)
"""


@every_container
@pytest.mark.parametrize("frames", [47, 80])
def test_a_killed_recording_plays_up_to_its_last_fragment(suffix: str, frames: int, tmp_path: Path) -> None:
    path = tmp_path / f"scene.{suffix}"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{frames}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{frames}\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    found = frames_of(path)
    # A second is 30 frames: no more than the fragment that was begun is lost.
    assert len(found) >= (frames - 1) // 30 * 30
    assert [round(time_s * 30) for time_s, _ in found] == list(range(len(found)))


@every_container
def test_it_plays_wherever_the_writing_was_cut(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may end a killed process's `write` after any page, and a power cut after any byte."""
    written: list[tuple[int, bytes]] = []
    write, pwrite = os.write, os.pwrite

    def note_write(descriptor: int, data: Any) -> int:
        written.append((os.lseek(descriptor, 0, os.SEEK_CUR), bytes(data)))
        return write(descriptor, data)

    def note_pwrite(descriptor: int, data: Any, offset: int) -> int:
        written.append((offset, bytes(data)))
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", note_write)
        patch.setattr(os, "pwrite", note_pwrite)
        sink = open_sink(f"video:{tmp_path}/whole.{suffix}")
        for number in range(100):
            sink.write(moving_result(number))
        sink.close()
    cut, whole = tmp_path / f"cut.{suffix}", bytearray()
    last = 0
    for offset, data in written:
        for position in [*range(0, len(data), 131), len(data)]:
            content = whole[:]
            content[offset : offset + position] = data[:position]
            cut.write_bytes(content)
            count = decodable(cut)
            assert count >= last, (offset, position)
            last = count
        whole[offset : offset + len(data)] = data
    assert last == 100
    assert bytes(whole) == (tmp_path / f"whole.{suffix}").read_bytes()


def decodable(path: Path) -> int:
    """Number of frames that play before the file ends or the part of it that was cut begins; 0 where there is none."""
    count = 0
    with suppress(av.FFmpegError, IndexError), av.open(str(path)) as container:
        for _ in container.decode(video=0):
            count += 1
    return count


def test_a_fragment_is_synced_when_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not synced is lost in a power cut."""
    path = tmp_path / "scene.mp4"
    synced_bytes = [0]
    fdatasync = os.fdatasync

    def note(descriptor: int) -> None:
        synced_bytes.append(os.fstat(descriptor).st_size)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", note)
    sink = open_sink(f"video:{path}")
    for number in range(95):
        sink.write(moving_result(number))
    kept = path.read_bytes()[: synced_bytes[-1]]
    sink.close()
    (tmp_path / "kept.mp4").write_bytes(kept)
    assert len(frames_of(tmp_path / "kept.mp4")) == 90


def test_a_second_run_overwrites_nothing(tmp_path: Path) -> None:
    for number in range(3):
        sink = open_sink(f"video:{tmp_path}/scene.mp4")
        sink.write(moving_result(number))
        sink.close()
    assert names(tmp_path) == ["scene.mp4", "scene_2.mp4", "scene_3.mp4"]
    assert all(len(frames_of(tmp_path / name)) == 1 for name in names(tmp_path))


@pytest.mark.parametrize(("setting", "parts"), [("split_s=1", 3), ("split_mb=0.003", 2), ("split_mb=100", 1)])
def test_splits_play_by_themselves(setting: str, parts: int, tmp_path: Path) -> None:
    sink = open_sink(f"video:{tmp_path}/scene.mp4,{setting}")
    for number in range(75):
        sink.write(moving_result(number))
    sink.close()
    found = [frames_of(tmp_path / name) for name in names(tmp_path)]
    assert names(tmp_path) == [f"scene_{number + 1:06d}.mp4" for number in range(len(found))]
    assert len(found) >= parts if "0.003" in setting else len(found) == parts
    assert sum(map(len, found)) == 75
    assert all(part[0][0] == 0 for part in found)


def test_a_clock_that_begins_anew_splits_no_sooner_and_no_later(tmp_path: Path) -> None:
    """A camera that was away, and counts its time from 0 or from tomorrow."""
    sink = open_sink(f"video:{tmp_path}/scene.mp4,split_s=1")
    for number, start_s in enumerate([9000] * 10 + [5] * 10 + [10**6] * 10):
        sink.write(moving_result(number, timestamp_ns=start_s * 10**9 + number * PERIOD_NS))
    assert len(names(tmp_path)) == 1
    for number in range(30, 45):
        sink.write(moving_result(number, timestamp_ns=10**15 + number * PERIOD_NS))
    sink.close()
    assert [len(frames_of(tmp_path / name)) for name in names(tmp_path)] == [31, 14]


def test_pictures_of_another_size_begin_another_file(tmp_path: Path) -> None:
    sink = open_sink(f"video:{tmp_path}/scene.mkv")
    for number, size in enumerate([(128, 96), (128, 96), (96, 128)]):
        sink.write(moving_result(number, size=size))
    sink.close()
    found = [frames_of(tmp_path / name) for name in names(tmp_path)]
    assert [[rgb.shape for _, rgb in part] for part in found] == [[(96, 128, 3)] * 2, [(128, 96, 3)]]


def test_overlay_on_request(tmp_path: Path) -> None:
    result = detections_result(2, raw=True)
    shown = {}
    for overlay in ("no", "yes"):
        path = tmp_path / f"{overlay}.mp4"
        sink = open_sink(f"video:{path},overlay={overlay}")
        sink.write(result)
        sink.close()
        ((_, shown[overlay]),) = frames_of(path)
    drawn = picture_of(result).rgb.astype(int)
    assert np.abs(shown["yes"] - drawn).mean() < np.abs(shown["no"] - drawn).mean() / 2
    with pytest.raises(SinkError, match="frame 2 of a detector has no picture without its RAW frame"):
        open_sink(f"video:{tmp_path}/x.mp4").write(detections_result(2))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("video:{}/scene.avi", "the name of a video must end in .mp4 or .mkv"),
        ("video:{}/scene.mp4,split_s=0", "split_s must be above 0, found 0"),
        ("video:{}/scene.mp4,split_mb=-1", "split_mb must be above 0, found -1"),
        ("video:{}/file/scene.mp4", "cannot be written"),
        ("video:{}/scene.mp4,spilt_s=3", "did you mean 'split_s'"),
    ],
)
def test_mistakes_are_one_error(spec: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=message):
        open_sink(spec.format(tmp_path))
    assert names(tmp_path) == ["file"]


def test_an_odd_size_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="even width and height, found 127x96"):
        open_sink(f"video:{tmp_path}/scene.mp4").write(moving_result(0, size=(127, 96)))
    assert names(tmp_path) == []


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = open_sink(f"video:{tmp_path}/scene.mp4")
    for number in range(5):
        sink.write(moving_result(number))

    def fail(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(SinkError, match=r"scene.mp4: cannot be written: No space left on device"):
            for number in range(5, 100):
                sink.write(moving_result(number))
        with pytest.raises(SinkError, match="No space left"):
            sink.close()
    sink.close()
    with pytest.raises(SinkError, match="the sink is closed"):
        sink.write(picture_result(0))


class TestTimeline:
    def test_a_clock_that_goes_back_or_stands_still_goes_on(self) -> None:
        timeline = Timeline()
        stamps_ms = [1000, 1040, 1080, 5, 45, 45, 85, 10**9, 10**9 + 40]
        ticks = [timeline.ticks(stamp * 10**6) for stamp in stamps_ms]
        assert [round(1000 * tick / TICKS_PER_S) for tick in ticks] == [0, 40, 80, 120, 160, 200, 240, 280, 320]

    def test_a_pause_stays_a_pause(self) -> None:
        timeline = Timeline()
        assert [timeline.ticks(stamp * 10**9) / TICKS_PER_S for stamp in (7, 8, 1800)] == [0, 1, 1793]

    def test_frames_within_a_tick_stay_apart(self) -> None:
        timeline = Timeline()
        assert [timeline.ticks(stamp) for stamp in (0, 1, 2, 3)] == [0, 1, 2, 3]
