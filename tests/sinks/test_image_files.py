"""Files of pictures: names that sort and never collide, nothing half-written, nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_isp import files
from edge_isp.errors import SinkError
from edge_isp.results import FrameResult
from edge_isp.sinks import image_files
from edge_isp.sinks.image_files import session_name
from edge_isp.sinks.jpeg import JpegSink
from edge_isp.sinks.png import PngSink
from edge_isp.sinks.spec import open_sink
from edge_isp.testing import check_sink
from edge_isp.testing.sink import picture_result

SPECS = ["png:{}", "jpeg:{}"]


def result(number: int, source: str) -> FrameResult:
    made = picture_result(number)
    return replace(made, source=source, result=replace(made.picture, source=source))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def test_the_jpeg_sink_conforms(tmp_path: Path) -> None:
    check_sink(lambda: JpegSink(tmp_path), spec=f"jpeg:{tmp_path},quality=80")


def test_quality_of_jpeg(tmp_path: Path) -> None:
    sizes = []
    for quality in (20, 90):
        folder = tmp_path / str(quality)
        sink = open_sink(f"jpeg:{folder},quality={quality}")
        sink.write(picture_result(1))
        (path,) = folder.iterdir()
        assert path.suffix == ".jpg"
        with Image.open(path) as image:
            difference = np.asarray(image).astype(int) - picture_result(1).picture.rgb
        assert np.abs(difference).mean() < 12
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1]
    for quality in (0, 96):
        with pytest.raises(SinkError, match=f"quality must be 1 to 95, found {quality}"):
            open_sink(f"jpeg:{tmp_path},quality={quality}")


def test_a_second_run_keeps_the_files_of_the_first(spec: str, tmp_path: Path) -> None:
    for _ in range(3):
        sink = open_sink(spec)
        sink.write(picture_result(42))
        sink.close()
    assert len(names(tmp_path)) == 3


def test_a_camera_that_counts_anew_keeps_the_files_from_before(spec: str, tmp_path: Path) -> None:
    sink = open_sink(spec)
    for number in (0, 1, 0, 1):
        sink.write(picture_result(number))
    assert len(names(tmp_path)) == 4


def test_recordings_of_one_stem_keep_their_files(spec: str, tmp_path: Path) -> None:
    sink = open_sink(spec)
    sink.write(result(0, "a/scene.raw"))
    sink.write(result(0, "a/scene.dng"))
    sink.write(result(0, "b/scene.raw"))
    assert len(names(tmp_path)) == 3


def test_names_carry_source_session_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "session_name", lambda start: "20261128T101500Z")
    for _ in range(2):  # the clock of a board without a battery repeats itself
        sink = PngSink(tmp_path)
        for number in (42, 7):
            saved = sink.save(result(number, "a/scene.raw").picture)
        assert saved.exists()
    assert names(tmp_path) == [
        "scene_20261128T101500Z_000007.png",
        "scene_20261128T101500Z_000007_2.png",
        "scene_20261128T101500Z_000042.png",
        "scene_20261128T101500Z_000042_2.png",
    ]


def test_the_session_is_in_utc() -> None:
    start = datetime(2026, 11, 28, 11, 15, 0, 999_000, tzinfo=timezone(timedelta(hours=1)))
    assert session_name(start) == "20261128T101500Z"


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("/dev/video0", "video0_"),
        ("/base/soc/i2c0mux/i2c@1/imx219@10", "imx219@10_"),
        ("", "frame_"),
        ("..", "frame_"),
        (".hidden", "hidden_"),
        ("a\0b\n", "a_b__"),
        ("ä" * 300, "ä" * 60 + "_"),
    ],
)
def test_any_source_makes_a_name(source: str, start: str, tmp_path: Path) -> None:
    PngSink(tmp_path).write(result(3, source))
    (name,) = names(tmp_path)
    assert re.fullmatch(re.escape(start) + r"\d{8}T\d{6}Z_000003\.png", name)


def test_two_sinks_in_one_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "session_name", lambda start: "20261128T101500Z")
    barrier = threading.Barrier(4)

    def write() -> None:
        sink = JpegSink(tmp_path)
        barrier.wait(30)
        for number in range(20):
            sink.write(picture_result(number))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(tmp_path)) == 80
    assert all(name.startswith("check_sink_") for name in names(tmp_path))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_links(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(image_files, "session_name", lambda start: "20261128T101500Z")
    for _ in range(2):
        PngSink(tmp_path).write(picture_result(0))
    assert names(tmp_path) == ["check_sink_20261128T101500Z_000000.png", "check_sink_20261128T101500Z_000000_2.png"]
    assert all(path.stat().st_size > 100 for path in tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = PngSink(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SinkError, match=r"check_sink_.*_000000.png: cannot be written: No space left on device"):
        sink.write(picture_result(0))
    assert names(tmp_path) == []


def test_finished_files_and_their_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    PngSink(tmp_path).write(picture_result(0))
    assert len(synced) == 2
    assert synced[0].endswith(".unfinished")  # before it has its name
    assert synced[1] == str(tmp_path)


def test_what_a_killed_process_left_is_deleted_at_the_next_start(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from edge_isp import files
link = os.link
def stop(*_):
    print("writing", flush=True)
    sys.stdin.read()
os.link = stop
files.write_new(Path(sys.argv[1]), "picture", ".png", b"content")
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout
    assert writer.stdin
    try:
        assert writer.stdout.readline() == b"writing\n"
        open_sink(f"png:{tmp_path}").close()
        (left,) = names(tmp_path)  # its writer lives
        assert left.endswith(".unfinished")
    finally:
        writer.kill()
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
    assert writer.returncode == -signal.SIGKILL
    assert names(tmp_path) == [left]
    (tmp_path / "mine.unfinished").touch()
    open_sink(f"png:{tmp_path}").close()
    assert names(tmp_path) == ["mine.unfinished"]  # another program's


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = PngSink(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sink.write(picture_result(0))
    assert names(tmp_path) == []


def test_a_file_taken_for_a_killed_ones_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaner may come between the making of a file and its lock."""
    flock = fcntl.flock
    rounds: list[int] = []

    def clean_first(descriptor: int, operation: int) -> None:
        if not rounds:
            rounds.append(operation)
            files.remove_unfinished(tmp_path)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", clean_first)
    files.write_file(tmp_path / "a", b"content", overwrite=False)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize("spec", [*SPECS, "png:{}/a\0b"])
def test_folders_that_cannot_be_written(spec: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(SinkError, match="cannot write pictures there"):
        open_sink(spec.format(path))
