"""Recordings, bit for bit: what is written, what a cut leaves, what a bad disk costs."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_isp.errors import FormatError, SinkError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from edge_isp.recording.mcap_file import Bytes, FileOutput
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.recording.recorder import Recorder, RecordingOptions
from edge_isp.recording.repair import repair
from edge_isp.recording.schemas import CLOCK, EVENTS, PREVIEW, RAW
from edge_isp.wall_clock import WallClock
from tests.support.recorded_frames import (
    PACKINGS,
    PICTURE,
    FaultyDisk,
    ThrottledOutput,
    assert_identical,
    frame,
    numbers,
    plain_frame,
)

mcap = pytest.importorskip("mcap", reason="mcap is not installed")

WAIT_S = 20.0


def record(path: Path, frames: list[RawFrame], options: RecordingOptions | None = None) -> Recorder:
    """Records frames to their last."""
    with_all = Recorder(path, options, attachments={"page.json": b"{}"}, metadata={"model": "m"})
    for each in frames:
        with_all.frame(each)
    with_all.close()
    return with_all


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until another thread has done something."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def thousands() -> list[Any]:
    """Packings, each with 1,000 frames; the default run has fewer of most, but every kind of metadata of each."""
    found: list[Any] = []
    for packing, bit_depth in PACKINGS:
        default = 1000 if (packing, bit_depth) in ((Packing.CSI2P, 10), (Packing.U16_LEFT, 12)) else 84
        found += [(packing, bit_depth, default, False), (packing, bit_depth, 84, True)]
        if default < 1000:
            found.append(pytest.param(packing, bit_depth, 1000, False, marks=pytest.mark.slow))
    return found


@pytest.mark.parametrize(("packing", "bit_depth", "count", "compress"), thousands())
def test_a_thousand_frames_come_back_as_they_were(
    tmp_path: Path, packing: Packing, bit_depth: int, count: int, compress: bool
) -> None:
    frames = [frame(number, packing, bit_depth) for number in range(count)]
    done = record(tmp_path / "a.mcap", frames, RecordingOptions(compress=compress))
    assert done.counts.written == len(frames)
    assert (done.counts.frames, done.counts.waiting, done.counts.lost) == (len(frames), 0, {})
    with McapRecording(tmp_path / "a.mcap") as recording:
        found = list(recording.frames("camera"))
    assert len(found) == len(frames)
    for (_, replayed), recorded in zip(found, frames, strict=True):
        assert_identical(replayed, recorded)
    times = [time_ns for time_ns, _ in found]
    assert times == sorted(set(times))


@pytest.mark.parametrize("packing", [Packing.U16, Packing.U16_LEFT])
@pytest.mark.parametrize("bit_depth", [10, 12])
def test_words_of_16_bits_take_the_space_of_their_codes(tmp_path: Path, packing: Packing, bit_depth: int) -> None:
    """Without loss: a frame with a bit where none should be, or with something in its padding, is kept as it is."""
    layout = RawFormat(64, 16, Cfa.GRBG, bit_depth, packing, stride=130)
    codes = np.random.default_rng(1).integers(0, 1 << bit_depth, (16, 64)).astype(np.uint16)
    data = pack(codes, packing=packing, bit_depth=bit_depth, stride=130)
    stray, padded = data.copy(), data.copy()
    stray[3, 7 if packing is Packing.U16 else 6] |= 0x80 if packing is Packing.U16 else 1
    padded[2, 129] = 1
    sizes = []
    for name, content in (("good", data), ("stray", stray), ("padded", padded)):
        path = tmp_path / f"{name}.mcap"
        given = replace(plain_frame(0), data=content, format=layout)
        record(path, [given, replace(given, sequence=1)])
        with McapRecording(path) as recording:
            found = list(recording.frames("camera"))
            sizes.append(len(next(recording.messages(RAW, "camera"))[1]))
        assert len(found) == 2
        for number, (_, replayed) in enumerate(found):
            assert_identical(replayed, replace(given, sequence=number))
    assert sizes[0] < 64 * 16 * bit_depth // 8 + 300 < 130 * 16 <= min(sizes[1:])


def strictly_read(path: Path) -> dict[str, int]:
    """Messages by topic, by mcap's own readers with every checksum compared."""
    from mcap.reader import make_reader
    from mcap.stream_reader import StreamReader

    with path.open("rb") as stream:
        for _ in StreamReader(stream, validate_crcs=True).records:
            pass
    counts: dict[str, int] = {}
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        for schema, channel, _ in reader.iter_messages():
            assert schema is not None
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        by_topic = {summary.channels[c].topic: n for c, n in summary.statistics.channel_message_counts.items()}
        assert by_topic == counts
        assert summary.statistics.chunk_count == len(summary.chunk_indexes)
        attached = {attachment.name: attachment.data for attachment in reader.iter_attachments()}
        assert attached["page.json"] == b"{}"
        assert {record.name for record in reader.iter_metadata()} >= {"edge_isp"}
    return counts


@pytest.mark.parametrize("compress", [False, True])
def test_mcaps_own_readers_find_nothing_wrong(tmp_path: Path, compress: bool) -> None:
    record(tmp_path / "a.mcap", [frame(number) for number in range(20)], RecordingOptions(compress=compress))
    assert strictly_read(tmp_path / "a.mcap") == {"/camera/raw": 20, "/clock": 1}


def test_a_cut_at_any_byte_leaves_what_was_complete(tmp_path: Path) -> None:
    frames = [plain_frame(number) for number in range(120)]
    record(tmp_path / "a.mcap", frames)
    content = (tmp_path / "a.mcap").read_bytes()
    with McapRecording(tmp_path / "a.mcap") as recording:
        raw = [chunk for chunk in recording.index.chunks if chunk.channels == frozenset({1})]
        ends = sorted(chunk.offset + chunk.length for chunk in raw)
        first = min(chunk.offset for chunk in recording.index.chunks)
    assert len(ends) == 120
    chosen = random.Random(7)
    cuts = [chosen.randrange(first, len(content)) for _ in range(200)] + ends[:3] + [ends[5] + 1, len(content) - 1]
    for cut in cuts:
        path = tmp_path / "cut.mcap"
        path.write_bytes(content[:cut])
        expected = sum(end <= cut for end in ends)
        with McapRecording(path) as recording:
            assert not recording.index.is_complete
            found = numbers(recording.frames("camera"))
        assert sorted(found) == list(range(expected)), f"cut at {cut}"
        if cut % 4 == 0 or cut in ends:
            done = repair(path)
            assert not done.was_complete
            counts = strictly_read(path)
            assert counts.get("/camera/raw", 0) == expected
            with McapRecording(path) as recording:
                assert recording.index.is_complete
                assert numbers(recording.frames("camera")) == list(range(expected))
            assert repair(path).was_complete


def test_a_chunk_whose_head_is_damaged_is_left_out_of_a_repaired_file(tmp_path: Path) -> None:
    """Found by the fuzzer: the index was made of the head, and the file had been cut already when that failed."""
    record(tmp_path / "a.mcap", [plain_frame(number) for number in range(6)])
    content = bytearray((tmp_path / "a.mcap").read_bytes())
    with McapRecording(tmp_path / "a.mcap") as recording:
        raw = [chunk for chunk in recording.index.chunks if chunk.channels == frozenset({1})]
    content[raw[2].offset + 37 : raw[2].offset + 41] = b"\xff" * 4  # the length of the compression's name
    (tmp_path / "a.mcap").write_bytes(content[: raw[5].offset + 100])
    repair(tmp_path / "a.mcap")
    with McapRecording(tmp_path / "a.mcap") as recording:
        assert recording.index.is_complete
        assert numbers(recording.frames("camera")) == [0, 1, 3, 4]


def test_a_cut_before_the_first_frame_is_one_error(tmp_path: Path) -> None:
    record(tmp_path / "a.mcap", [plain_frame(0)])
    content = (tmp_path / "a.mcap").read_bytes()
    for cut in (0, 4, 8, 20, 60):
        (tmp_path / "cut.mcap").write_bytes(content[:cut])
        with pytest.raises(FormatError):
            McapRecording(tmp_path / "cut.mcap")


KILLED = """
import sys, itertools
from pathlib import Path
from edge_isp.recording.recorder import Recorder
from tests.support.recorded_frames import plain_frame
recorder = Recorder(Path(sys.argv[1]))
for number in itertools.count():
    recorder.frame(plain_frame(number, (640, 480)))
    if recorder.counts.written > int(sys.argv[2]):
        print("recording", flush=True)
    while recorder.counts.waiting > 50:
        pass
"""


@pytest.mark.parametrize("least", [3, pytest.param(40, marks=pytest.mark.slow), 150])
def test_a_killed_recorder_leaves_a_readable_file(tmp_path: Path, least: int) -> None:
    path = tmp_path / "a.mcap"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(least)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"recording\n"
        process.send_signal(signal.SIGKILL)
    with McapRecording(path) as recording:
        assert not recording.index.is_complete
        found = numbers(recording.frames("camera"))
    assert len(found) > least
    assert found == list(range(len(found)))
    repair(path)
    with McapRecording(path) as recording:
        assert numbers(recording.frames("camera")) == found


@pytest.mark.parametrize("rest", ["nothing", "zeros"])
def test_a_power_cut_loses_only_what_was_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    disk = FaultyDisk()
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 1)
    recorder = Recorder(tmp_path / "a.mcap", open_output=disk.open)
    for number in range(30):
        recorder.frame(plain_frame(number))
    wait_for(lambda: recorder.counts.written == 30)
    path = tmp_path / "a.mcap"
    wait_for(lambda: disk.synced[path] > 30 * 600)
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 10**15)
    recorder.frame(plain_frame(30))
    wait_for(lambda: recorder.counts.written == 31)
    synced, content = disk.synced[path], bytes(disk.contents[path])
    recorder.close()
    assert 0 < synced < len(content)
    zeros = len(content) - synced if rest == "zeros" else 0
    (tmp_path / "cut.mcap").write_bytes(content[:synced] + bytes(zeros))
    with McapRecording(tmp_path / "cut.mcap") as recording:
        found = numbers(recording.frames("camera"))
    assert found in (list(range(30)), list(range(31)))
    assert repair(tmp_path / "cut.mcap").lost_bytes >= zeros
    with McapRecording(tmp_path / "cut.mcap") as recording:
        assert numbers(recording.frames("camera")) == found


def test_a_chunk_of_zeros_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path / "a.mcap", [plain_frame(number) for number in range(5)])
    content = bytearray((tmp_path / "a.mcap").read_bytes())
    with McapRecording(tmp_path / "a.mcap") as recording:
        raw = [chunk for chunk in recording.index.chunks if chunk.channels == frozenset({1})]
    hole = raw[2].offset + raw[2].length - 100
    content[hole : hole + 50] = bytes(50)
    (tmp_path / "a.mcap").write_bytes(content)
    with McapRecording(tmp_path / "a.mcap") as recording:
        assert numbers(recording.frames("camera")) == [0, 1, 3, 4]
    assert "checksum" in caplog.text


def frames_written(folder: Path, disk: FaultyDisk) -> list[int]:
    """Numbers of the frames in all files of a disk, whatever state these are in."""
    found = []
    for path in disk.save(folder):
        try:
            with McapRecording(path) as recording:
                found += numbers(recording.frames("camera"))
        except FormatError:
            assert path.stat().st_size < 20_000  # it was full before the file began
    return found


def lost_in_files(paths: list[Path]) -> int:
    """Frames that the files say were not recorded."""
    lost = 0
    for path in paths:
        with McapRecording(path) as recording:
            for _, message in recording.json_messages(EVENTS, "camera"):
                if message["kind"] == "not recorded":
                    lost += message["frames"]
    return lost


@pytest.mark.parametrize("in_a_folder", [False, True])
@pytest.mark.parametrize("fault", ["full", "gone"])
def test_a_disk_that_fails_for_a_while_costs_counted_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, in_a_folder: bool
) -> None:
    monkeypatch.setattr("edge_isp.recording.recorder._RETRY_NS", 1)
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 10_000_000)
    disk = FaultyDisk()
    path = tmp_path / ("r" if in_a_folder else "a.mcap")
    recorder = Recorder(path, open_output=disk.open)
    for number in range(10):
        recorder.frame(plain_frame(number))
    wait_for(lambda: recorder.counts.written == 10 and disk.is_synced())
    disk.room, disk.gone = (300, False) if fault == "full" else (None, True)
    for number in range(10, 20):
        recorder.frame(plain_frame(number))
        wait_for(lambda: recorder.counts.waiting == 0)
    assert recorder.counts.lost == {"the disk fails": 10}
    disk.room, disk.gone = None, False
    for number in range(20, 30):
        recorder.frame(plain_frame(number))
    recorder.close()
    counts = recorder.counts
    assert (counts.frames, counts.written, counts.waiting) == (30, 20, 0)
    assert disk.open_outputs == 0
    (tmp_path / "found").mkdir()
    assert frames_written(tmp_path / "found", disk) == [*range(10), *range(20, 30)]
    assert lost_in_files([p for p in (tmp_path / "found").iterdir() if p.stat().st_size > 20_000]) == 10
    last = sorted((tmp_path / "found").iterdir())[-1]
    with McapRecording(last) as recording:
        assert recording.index.is_complete


class FullOutput(FileOutput):
    """A file on a disk that has no room for any byte of it."""

    def write(self, parts: Sequence[Bytes]) -> None:
        """Fails."""
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["r", "a.mcap"])
def test_a_file_that_cannot_be_begun_is_not_left_behind(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match="No space left"):
        Recorder(tmp_path / name, open_output=FullOutput)
    assert list(tmp_path.rglob("*.mcap")) == []


def test_a_file_whose_folder_cannot_be_synced_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SinkError, match="Input/output error"):
        Recorder(tmp_path / "a.mcap")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_gone_for_good_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 10_000_000)
    disk = FaultyDisk()
    recorder = Recorder(tmp_path / "a.mcap", open_output=disk.open)
    recorder.frame(plain_frame(0))
    wait_for(lambda: recorder.counts.written == 1 and disk.is_synced())
    disk.gone = True
    for number in range(1, 10):
        recorder.frame(plain_frame(number))
    recorder.close()
    assert recorder.counts.written == 1
    assert sum(recorder.counts.lost.values()) == 9
    assert frames_written_after(disk, tmp_path) == [0]


def test_frames_that_a_failing_disk_costs_are_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one each, which would pile up in memory."""
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 10_000_000)
    monkeypatch.setattr("edge_isp.recording.recorder._RETRY_NS", 10**15)
    disk = FaultyDisk()
    recorder = Recorder(tmp_path / "a.mcap", open_output=disk.open)
    recorder.frame(plain_frame(0))
    wait_for(lambda: recorder.counts.written == 1 and disk.is_synced())
    disk.gone = True
    for number in range(1, 50):
        recorder.frame(plain_frame(number))
        wait_for(lambda: recorder.counts.waiting == 0)
    disk.gone = False
    recorder._retry_at_ns = 0  # its time has come
    recorder.frame(plain_frame(50))
    recorder.close()
    (tmp_path / "found").mkdir()
    (path,) = disk.save(tmp_path / "found")
    with McapRecording(path) as recording:
        events = [message for _, message in recording.json_messages(EVENTS, "camera")]
    assert [(event["sequence"], event["frames"]) for event in events] == [(1, 49)]


def test_messages_of_a_failing_disk_stay_within_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are always taken, and what was lost is noted; frames find their room again."""
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 10_000_000)
    monkeypatch.setattr("edge_isp.recording.recorder._RETRY_NS", 1)
    disk = FaultyDisk()
    recorder = Recorder(tmp_path / "a.mcap", RecordingOptions(memory_bytes=20_000), open_output=disk.open)
    recorder.frame(plain_frame(0))
    wait_for(lambda: recorder.counts.written == 1 and disk.is_synced())
    disk.gone = True
    for number in range(100):
        recorder.message(PREVIEW, {"data": "x" * 1000}, number)
    recorder.message(EVENTS, {"kind": "state", "time_ns": 5, "reason": "closed"}, 5)
    recorder.frame(plain_frame(1))
    wait_for(lambda: recorder.counts.waiting == 0)
    disk.gone = False
    wait_for(lambda: recorder._bytes == 0)
    recorder.frame(plain_frame(2))
    recorder.close()
    (tmp_path / "found").mkdir()
    (path,) = disk.save(tmp_path / "found")
    with McapRecording(path) as recording:
        assert 10 < sum(1 for _ in recording.messages(PREVIEW, "camera")) < 20
        kinds = [message["kind"] for _, message in recording.json_messages(EVENTS, "camera")]
        assert numbers(recording.frames("camera")) == [0, 2]
    assert sorted(kinds) == ["not recorded", "state"]
    assert recorder._bytes == 0


def frames_written_after(disk: FaultyDisk, tmp_path: Path) -> list[int]:
    """Numbers of the frames that the disk holds when it is back."""
    (tmp_path / "back").mkdir()
    (path,) = disk.save(tmp_path / "back")
    with McapRecording(path) as recording:
        return numbers(recording.frames("camera"))


@pytest.mark.parametrize("name", ["r", "a.mcap"])
@pytest.mark.parametrize("fault", ["gone", "sync_fails"])
def test_a_sync_that_fails_counts_what_it_may_have_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, name: str
) -> None:
    """Also where only the sync fails: the next one passes, although what it could not write is forgotten."""
    disk = FaultyDisk()
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 10**15)
    recorder = Recorder(tmp_path / name, open_output=disk.open)
    recorder.frame(plain_frame(0))
    wait_for(lambda: recorder.counts.written == 1)
    setattr(disk, fault, True)
    monkeypatch.setattr("edge_isp.recording.recorder._SYNC_NS", 1)
    recorder.frame(plain_frame(1))
    wait_for(lambda: recorder.counts.waiting == 0 and recorder.counts.written == 0)
    assert recorder.counts.lost == {"the disk fails": 2}
    setattr(disk, fault, False)
    recorder.close()
    assert recorder.counts.written == 0
    assert recorder.counts.lost == {"the disk fails": 2}


def test_a_slow_disk_loses_frames_and_never_waits(tmp_path: Path) -> None:
    """10 MB/s for 78 MB/s: the memory fills, what does not fit is lost, and the camera's thread does not wait."""
    ends = threading.Event()
    size = plain_frame(0, (640, 480)).data.nbytes
    recorder = Recorder(
        tmp_path / "a.mcap",
        RecordingOptions(memory_bytes=10 * size),
        open_output=lambda path: ThrottledOutput(path, 10e6, ends),
    )
    for number in range(100):
        recorder.frame(plain_frame(number, (640, 480)))
    lost = recorder.counts.lost["the disk is too slow"]
    assert lost >= 80
    ends.set()
    recorder.close()
    counts = recorder.counts
    assert counts.written == 100 - sum(counts.lost.values())
    with McapRecording(tmp_path / "a.mcap") as recording:
        found = numbers(recording.frames("camera"))
    assert len(found) == counts.written
    assert lost_in_files([tmp_path / "a.mcap"]) == 100 - len(found)


def test_a_disk_that_hangs_stalls_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk()
    recorder = Recorder(tmp_path / "a.mcap", RecordingOptions(memory_bytes=4000), open_output=disk.open)
    disk.passes.clear()
    for number in range(100):
        recorder.frame(plain_frame(number))
    assert disk.hangs.wait(WAIT_S)
    for number in range(100, 200):
        recorder.frame(plain_frame(number))  # returns at once
    counts = recorder.counts
    assert counts.frames == 200
    assert counts.waiting + counts.written + sum(counts.lost.values()) == 200
    disk.passes.set()
    recorder.close()
    assert recorder.counts.waiting == 0


def test_damaged_frames_are_counted_and_go_by(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap")
    good = plain_frame(0)
    recorder.frame(good)
    recorder.frame(replace(good, data=good.data[:4], sequence=1))
    recorder.frame(replace(good, sequence="2"))  # type: ignore[arg-type]
    recorder.frame(replace(good, sequence=3))
    recorder.close()
    assert recorder.counts.lost == {"the frame is damaged": 2}
    with McapRecording(tmp_path / "a.mcap") as recording:
        assert numbers(recording.frames("camera")) == [0, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"isp_picture": PICTURE[..., :2]},
        {"isp_picture": PICTURE.astype(np.uint16)},
        {"isp_picture": PICTURE[0]},
        {"isp_picture": "none"},
        {"metadata": {"Status": object()}},
        {"metadata": 5},
    ],
)
def test_pictures_and_metadata_that_no_message_holds_cost_their_frame(tmp_path: Path, changes: dict[str, Any]) -> None:
    recorder = Recorder(tmp_path / "a.mcap")
    recorder.frame(replace(plain_frame(0), **changes))
    recorder.frame(plain_frame(1))
    recorder.close()
    assert recorder.counts.lost == {"the frame is damaged": 1}
    with McapRecording(tmp_path / "a.mcap") as recording:
        assert numbers(recording.frames("camera")) == [1]


def test_numpys_numbers_in_metadata_come_back_as_pythons(tmp_path: Path) -> None:
    given = {"Lux": np.float32(2.5), "AfState": np.int64(3), "ScalerCrop": np.array([1, 2]), "Pair": (1, 2)}
    record(tmp_path / "a.mcap", [replace(plain_frame(0), metadata=given)])
    with McapRecording(tmp_path / "a.mcap") as recording:
        ((_, found),) = recording.frames("camera")
    assert found.metadata == {"Lux": 2.5, "AfState": 3, "ScalerCrop": [1, 2], "Pair": [1, 2]}


def test_the_pictures_of_the_isp_count_for_the_memory(tmp_path: Path) -> None:
    """The limit holds for what a frame takes in all, of which the picture may be the larger part."""
    picture = np.zeros((480, 640, 3), np.uint8)
    recorder = Recorder(
        tmp_path / "r", RecordingOptions(before_s=1000.0, memory_bytes=3 * picture.nbytes + picture.nbytes // 2)
    )
    for number in range(10):
        recorder.frame(replace(plain_frame(number), isp_picture=picture))
    counts = recorder.counts
    recorder.close()
    assert (counts.waiting, counts.discarded, counts.lost) == (3, 7, {})


def test_files_follow_each_other_by_size(tmp_path: Path) -> None:
    size = plain_frame(0, (640, 480)).data.nbytes
    options = RecordingOptions(split_bytes=5 * size)
    done = record(tmp_path / "r", [plain_frame(number, (640, 480)) for number in range(20)], options)
    assert len(done.files) == 5
    found = []
    for path in done.files:
        assert path.stat().st_size <= 5 * size
        assert strictly_read(path)["/camera/raw"] == 4
        with McapRecording(path) as recording:
            found += numbers(recording.frames("camera"))
    assert found == list(range(20))


def test_files_follow_each_other_by_age(tmp_path: Path) -> None:
    done = record(tmp_path / "r", [plain_frame(number) for number in range(4)], RecordingOptions(split_s=1e-9))
    assert len(done.files) == 4
    assert all(strictly_read(path)["/camera/raw"] == 1 for path in done.files)


def test_the_budget_deletes_the_oldest_but_no_event_and_no_other_file(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    size = plain_frame(0, (640, 480)).data.nbytes
    event, mine = folder / "20200101T000000Z_0001_event.mcap", folder / "mine.mcap"
    old = folder / "20200101T000000Z_0002.mcap"
    for path in (event, mine, old):
        path.write_bytes(bytes(size))
    options = RecordingOptions(split_bytes=3 * size, budget_bytes=10 * size)
    done = record(folder, [plain_frame(number, (640, 480)) for number in range(20)], options)
    assert done.counts.written == 20
    assert event.exists()
    assert mine.exists()
    assert not old.exists()
    left = [path for path in folder.glob("*.mcap") if path != mine]
    assert sum(path.stat().st_size for path in left) <= 10 * size
    assert done.files[-1].exists()
    assert not done.files[0].exists()


def test_a_budget_that_events_use_up_costs_counted_frames(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "20200101T000000Z_0001_event.mcap").write_bytes(bytes(50_000))
    options = RecordingOptions(split_bytes=10_000, budget_bytes=50_000)
    done = record(folder, [plain_frame(number) for number in range(5)], options)
    assert done.counts.lost == {"the disk budget is used up": 5}


def test_an_event_has_what_came_before_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", RecordingOptions(before_s=1000.0, after_s=1000.0))
    for number in range(10):
        recorder.frame(plain_frame(number))
    assert recorder.counts.waiting == 10
    triggered = [recorder.triggered]
    assert list((tmp_path / "r").iterdir()) == []
    recorder.trigger("person 0.70")
    triggered.append(recorder.triggered)
    assert triggered == [False, True]
    recorder.frame(plain_frame(10))
    recorder.close()
    (path,) = recorder.files
    assert path.name.endswith("_0001_event.mcap")
    with McapRecording(path) as recording:
        assert numbers(recording.frames("camera")) == list(range(11))
        events = [message for _, message in recording.json_messages(EVENTS, "camera")]
    assert [(event["kind"], event["reason"]) for event in events] == [("trigger", "person 0.70")]


def test_an_event_ends_and_the_next_one_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr("edge_isp.recording.recorder.time", clock)
    recorder = Recorder(tmp_path / "r", RecordingOptions(before_s=1.0, after_s=2.0))
    for number in range(60):  # ten frames a second
        clock.now += 100_000_000
        if number in (20, 25, 50):
            recorder.trigger("button")
        recorder.frame(plain_frame(number))
    recorder.close()
    found = []
    for path in recorder.files:
        with McapRecording(path) as recording:
            found.append(numbers(recording.frames("camera")))
    # A second before the first trigger, to two seconds after the second one; and what came since then.
    assert found == [list(range(9, 46)), list(range(46, 60))]
    counts = recorder.counts
    assert counts.frames == counts.written + counts.discarded == 60


class FakeClock:
    """Of the recorder: time goes on as the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return self.now

    def time_ns(self) -> int:
        """CLOCK_REALTIME."""
        return 1_700_000_000_000_000_000 + self.now


def test_the_memory_limits_what_is_kept_for_an_event(tmp_path: Path) -> None:
    size = plain_frame(0, (640, 480)).data.nbytes
    recorder = Recorder(tmp_path / "r", RecordingOptions(before_s=1000.0, memory_bytes=5 * size))
    for number in range(20):
        recorder.frame(plain_frame(number, (640, 480)))
    assert recorder.counts.waiting == 4
    recorder.trigger("now")
    recorder.close()
    with McapRecording(recorder.files[0]) as recording:
        assert numbers(recording.frames("camera")) == [16, 17, 18, 19]
    assert recorder.counts.discarded == 16


def test_the_clocks_are_written_once_a_second(tmp_path: Path) -> None:
    before = time.monotonic_ns(), time.time_ns()
    record(tmp_path / "a.mcap", [plain_frame(0)])
    with McapRecording(tmp_path / "a.mcap") as recording:
        ((_, clocks),) = recording.json_messages(CLOCK, "camera")
    after = time.monotonic_ns(), time.time_ns()
    assert before[0] <= clocks["monotonic_ns"] <= after[0]
    assert before[1] <= clocks["realtime_ns"] <= after[1]


def test_the_two_clocks_are_of_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement that is interrupted between its two readings was an error of the whole recording's times."""

    class Interrupted:
        """CLOCK_REALTIME, whose reader loses 50 ms after the first reading and every sixth one after it."""

        def __init__(self) -> None:
            self.readings = 0

        def time_ns(self) -> int:
            """CLOCK_REALTIME."""
            found = clock.time_ns()
            if self.readings % 6 == 0:
                clock.now += 50_000_000
            self.readings += 1
            return found

    clock, late = FakeClock(), Interrupted()
    times = SimpleNamespace(monotonic_ns=clock.monotonic_ns, time_ns=late.time_ns)
    monkeypatch.setattr("edge_isp.recording.recorder.time", times)
    monkeypatch.setattr(
        "edge_isp.recording.recorder.SYSTEM_WALL_CLOCK", WallClock(late.time_ns, clock.monotonic_ns), raising=False
    )
    recorder = Recorder(tmp_path / "a.mcap")
    assert recorder.utc_ns(clock.now) == clock.time_ns()
    recorder.frame(plain_frame(0))
    recorder.close()
    with McapRecording(tmp_path / "a.mcap") as recording:
        ((_, clocks),) = recording.json_messages(CLOCK, "camera")
    assert clocks["realtime_ns"] - clocks["monotonic_ns"] == 1_700_000_000_000_000_000


def test_several_cameras_have_topics_of_their_own(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", cameras=("left", "right"))
    for number in range(6):
        recorder.frame(plain_frame(number), "left" if number % 2 else "right")
    recorder.close()
    with McapRecording(tmp_path / "a.mcap") as recording:
        assert recording.cameras == ("left", "right")
        assert numbers(recording.frames("left")) == [1, 3, 5]
        assert numbers(recording.frames("right")) == [0, 2, 4]


def test_no_file_is_replaced_and_wrong_places_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"mine")
    with pytest.raises(SinkError, match="File exists"):
        Recorder(path)
    assert path.read_bytes() == b"mine"
    with pytest.raises(SinkError, match="cannot be written"):
        Recorder(tmp_path / "nowhere" / "a.mcap")
    with pytest.raises(SinkError, match="needs? a folder"):
        Recorder(tmp_path / "b.mcap", RecordingOptions(before_s=1))
    with pytest.raises(SinkError, match="need a folder"):
        Recorder(tmp_path / "b.mcap", RecordingOptions(split_s=1))
    with pytest.raises(SinkError, match="memory_bytes must be above 0"):
        RecordingOptions(memory_bytes=0)
    assert os.listdir(tmp_path) == ["a.mcap"]


def test_frames_after_close_are_counted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap")
    recorder.close()
    recorder.close()
    recorder.frame(plain_frame(0))
    assert recorder.counts.lost == {"the recorder was closed": 1}


def test_other_peoples_mcap_files_are_refused(tmp_path: Path) -> None:
    from mcap.writer import Writer

    with (tmp_path / "a.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema("s", "jsonschema", b"{}")
        writer.add_message(writer.register_channel("/t", "json", schema), 1, json.dumps({}).encode(), 1)
        writer.finish()
    with pytest.raises(FormatError, match="not a recording of edge_isp"):
        McapRecording(tmp_path / "a.mcap")
    (tmp_path / "b.mcap").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(FormatError, match="not an MCAP file"):
        McapRecording(tmp_path / "b.mcap")
