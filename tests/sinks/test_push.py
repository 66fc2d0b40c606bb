"""Pushing to a server that is away, comes, hangs, goes and comes back."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_isp.doctor import examine
from edge_isp.errors import SinkError
from edge_isp.sinks.spec import open_sink, sink_name
from edge_isp.testing import check_sink
from edge_isp.testing.sink import picture_result
from tests.sinks.streams import moving_result, replace_picture

av = pytest.importorskip("av", reason="needs the extra [video]")

from edge_isp.sinks import push  # noqa: E402


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_they_conform(port: int) -> None:
    for url in (f"udp://127.0.0.1:{port}", f"rtsp://127.0.0.1:{port}/cam"):
        check_sink(lambda url=url: open_sink(url), spec=url)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rtsp:host/path", "expected rtsp://HOST:PORT/PATH"),
        ("rtsp", "address is missing"),
        ("rtsp://", "expected rtsp://HOST:PORT/PATH"),
        ("rtsp://host:port/path", "expected rtsp://HOST:PORT/PATH: Port could not be cast"),
        ("udp://host", "udp://host: expected udp://HOST:PORT"),
        ("rtsp://host/path,overlya=yes", "did you mean 'overlay'"),
    ],
)
def test_mistakes_are_one_error(spec: str, message: str) -> None:
    with pytest.raises(SinkError, match=message):
        open_sink(spec)


def test_passwords_are_not_shown(port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sink_name("rtsp://user:secret@host/x?key=secret,overlay=yes") == "rtsp://***@host/x?***"
    assert sink_name("srt://host:8890?streamid=publish:secret") == "srt://host:8890?***"
    assert sink_name("png:a@b?c") == "png:a@b?c"
    for wrong in ("rtsp://user:secret@host/x,overlya=yes", "rtps://user:secret@host/x"):
        with pytest.raises(SinkError) as failure:
            open_sink(wrong)
        assert "secret" not in str(failure.value)
    monkeypatch.setenv("EDGE_ISP_RUN_SINK", "png:x rtsp://user:secret@host/x?key=secret")
    assert examine(try_delegates=False)["environment"]["EDGE_ISP_RUN_SINK"] == "png:x rtsp://***@host/x?***"
    sink = open_sink(f"rtsp://user:secret@127.0.0.1:{port}/x?key=secret")
    sink.write(picture_result(0))
    sink.close()
    with pytest.raises(SinkError) as error:
        sink.write(picture_result(1))
    assert "secret" not in caplog.text + str(error.value)
    assert "127.0.0.1" in caplog.text


def test_protocols_that_pyav_lacks_are_named() -> None:
    """PyAV's wheels lack SRT; Debian's package has it."""
    try:
        open_sink("srt://127.0.0.1:8890?streamid=publish:cam").close()
    except SinkError as error:
        message = str(error)
    else:
        pytest.skip("this PyAV has SRT")
    assert "PyAV" in message
    assert "rtsp://" in message


def test_the_waits_between_tries_grow(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, tries = 100.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    connect = av.open

    def note(*arguments: object, **options: object) -> object:
        tries.append(now_s - 100)
        return connect(*arguments, **options)

    monkeypatch.setattr(av, "open", note)
    sink = push.RtspSink(f"//127.0.0.1:{port}/x")
    for _ in range(1000):
        sink.write(picture_result(0))
        now_s += 0.1
    sink.close()
    gaps = [after - before for before, after in pairwise(tries)]
    assert gaps == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30], abs=0.11)
    assert sink.lost == 1000


@contextmanager
def listening(url: str, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An ffmpeg that waits for a stream and writes it to a file."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg: sudo apt install ffmpeg")
    command = ["ffmpeg", "-v", "error", "-rtsp_flags", "listen", "-i", url, "-c", "copy", "-flush_packets", "1"]
    process = subprocess.Popen([*command, str(file)], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Stream:
    """Pictures written in a thread, at 30 per second, until it is stopped."""

    def __init__(self, sink: push.PushSink) -> None:
        self.sink = sink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sink.close()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(1 / 30):
            self.sink.write(moving_result(number, timestamp_ns=time.monotonic_ns()))
            number += 1


def wait_for(condition: Callable[[], object], what: str) -> None:
    limit_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit_s, what
        threading.Event().wait(0.05)


def size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def test_a_server_that_is_killed_and_comes_back(port: int, tmp_path: Path) -> None:
    url = f"rtsp://127.0.0.1:{port}/cam"
    sink = open_sink(url)
    assert isinstance(sink, push.RtspSink)
    with Stream(sink):
        wait_for(lambda: sink.lost, "no result was lost before the server was there")
        for name in ("first.mkv", "second.mkv"):
            with listening(url, tmp_path / name):
                wait_for(lambda name=name: size_of(tmp_path / name) > 5000, f"{name} gets no pictures")  # type: ignore[misc]
            lost = sink.lost
            wait_for(lambda lost=lost: sink.lost > lost, "nothing was lost while the server was away")  # type: ignore[misc]
    for name in ("first.mkv", "second.mkv"):
        with av.open(str(tmp_path / name)) as container:
            frames = list(container.decode(video=0))
        assert len(frames) > 5
        assert (frames[0].width, frames[0].height) == (128, 96)


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(port: int, tmp_path: Path) -> None:
    """Its machine was switched off, or it does not read: the sink does not wait for it for ever."""
    url = f"rtsp://127.0.0.1:{port}/cam"
    sink = push.RtspSink(f"//127.0.0.1:{port}/cam")
    rgb = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)  # noise fills the line soonest
    with listening(url, tmp_path / "x.mkv") as server:
        number = 0

        def write() -> None:
            nonlocal number
            number += 1
            sink.write(replace_picture(moving_result(number), np.roll(rgb, number, 1)))

        def connected() -> bool:
            write()
            return size_of(tmp_path / "x.mkv") > 5000

        wait_for(connected, "no pictures arrive")
        server.send_signal(signal.SIGSTOP)
        lost, longest_s = sink.lost, 0.0
        while sink.lost == lost:
            begun_s = time.monotonic()
            write()
            longest_s = max(longest_s, time.monotonic() - begun_s)
            assert longest_s < 9, "the pipeline would call the sink stalled"
    sink.close()
