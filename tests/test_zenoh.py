"""Results and RAW frames over Zenoh, between sessions and processes on loopback."""

from __future__ import annotations

import gc
import itertools
import json
import signal
import subprocess
import sys
import threading
import tracemalloc
import uuid
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

zenoh = pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")

from edge_isp.cameras.zenoh import ZenohCamera, _take  # noqa: E402
from edge_isp.errors import CameraError, CameraTimeoutError, SinkError  # noqa: E402
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat  # noqa: E402
from edge_isp.recording.raw_message import encode_metadata  # noqa: E402
from edge_isp.results import FrameResult, Picture  # noqa: E402
from edge_isp.sinks.spec import open_sink  # noqa: E402
from edge_isp.sinks.zenoh import ZenohSink  # noqa: E402
from edge_isp.testing.sink import detections_result, picture_result  # noqa: E402
from tests.sinks.brokers import free_port  # noqa: E402
from tests.support.broken_link import BrokenLink  # noqa: E402
from tests.support.zenoh_alone import only_named_endpoints  # noqa: E402


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session of another test or program takes part."""
    monkeypatch.setattr(zenoh, "Config", only_named_endpoints)


@pytest.fixture
def key() -> str:
    return f"edge_isp_test/{uuid.uuid4().hex}"


def raw_result(number: int) -> FrameResult:
    result = detections_result(number, raw=True)
    assert result.raw is not None
    return result


class Peer:
    """A process of tests/support/zenoh_peer.py."""

    def __init__(self, role: str, key: str, port: int, frames: int) -> None:
        command = [sys.executable, "-m", "tests.support.zenoh_peer", role, key, str(port), str(frames)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def matched(sink: ZenohSink, name: str) -> None:
    """Waits until somebody listens."""
    for _ in range(6000):
        if sink._publishers[name].matching_status.matching:
            return
        threading.Event().wait(0.01)
    raise AssertionError("nobody listens")


def test_the_zenoh_sink_conforms(key: str) -> None:
    ZenohSink(key).close()  # the runtime's own threads
    sink = open_sink(f"zenoh:{key},raw=yes")
    sink.write(raw_result(0))
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        sink.write(raw_result(1))


def test_raw_frames_arrive_as_they_were(key: str) -> None:
    port = free_port()
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    with ZenohCamera(key, connect=f"tcp/127.0.0.1:{port}") as camera:
        matched(sink, "raw")
        with pytest.raises(CameraTimeoutError, match="no frame within"):
            camera.read(0.01)
        for number in (4, 5, 8):
            sent = raw_result(number)
            assert sent.raw is not None
            sink.write(sent)
            frame = camera.read(60)
            assert frame is not None
            assert np.array_equal(frame.data, sent.raw.data)
            status = FrameStatus.GAP if number == 8 else FrameStatus.OK
            assert frame.status == status
            for field in fields(sent.raw):
                if field.compare and field.name not in ("data", "status", "on_release"):
                    assert getattr(frame, field.name) == getattr(sent.raw, field.name), field.name
        # The newest frames, where nobody reads.
        for number in range(9, 19):
            sink.write(raw_result(number))
        while (last := camera.read(60)) is not None and last.sequence != 18:
            pass
        reader = threading.Thread(target=camera.close)
        reader.start()
        assert camera.read(60) is None  # another thread has closed it
        reader.join()
    sink.close()


def test_time_stamps_of_another_host_are_converted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose CLOCK_MONOTONIC is an hour ahead, as after another boot."""
    hour_ns = 3600 * 10**9
    monkeypatch.setattr("edge_isp.sinks.zenoh.boot_id", lambda: "another")
    port = free_port()
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    with ZenohCamera(key, connect=f"tcp/127.0.0.1:{port}") as camera:
        matched(sink, "raw")
        sent = raw_result(1)
        sink.write(replace(sent, wall_clock_offset_ns=sent.wall_clock_offset_ns - hour_ns))
        frame = camera.read(60)
    sink.close()
    assert frame is not None
    assert abs(frame.timestamp_ns - (sent.timestamp_ns - hour_ns)) < 1_000_000


def test_every_result_in_order_a_query_and_liveliness(key: str) -> None:
    port = free_port()
    sink = ZenohSink(key, listen=f"tcp/127.0.0.1:{port}")
    config = zenoh.Config()
    config.insert_json5("connect/endpoints", json.dumps([f"tcp/127.0.0.1:{port}"]))
    with zenoh.open(config) as session:
        results: list[Any] = []
        pictures: list[bytes] = []
        gone, all_there = threading.Event(), threading.Event()

        def alive(sample: Any) -> None:
            if sample.kind == zenoh.SampleKind.DELETE:
                gone.set()

        def note(sample: Any) -> None:
            results.append(json.loads(sample.payload.to_bytes()))
            if len(results) == 500:
                all_there.set()

        session.declare_subscriber(f"{key}/result", note)
        session.declare_subscriber(f"{key}/picture", lambda sample: pictures.append(sample.payload.to_bytes()))
        session.liveliness().declare_subscriber(f"{key}/alive", alive, history=True)
        matched(sink, "result")
        matched(sink, "picture")
        for number in range(499):
            sink.write(detections_result(number))
        sink.write(picture_result(499))
        assert all_there.wait(60)
        assert [result["sequence"] for result in results] == list(range(500))
        for result in results:
            assert result["timestamp_ns"] == 1_000_000_000 + result["sequence"] * 33_333_333
            assert result["timestamp_realtime_ns"] > result["timestamp_ns"]
        (reply,) = session.get(f"{key}/newest")
        assert json.loads(reply.ok.payload.to_bytes())["sequence"] == 499
        assert not gone.is_set()
        sink.close()
        assert gone.wait(60)
        assert len(pictures) == 1
        assert pictures[0][:2] == b"\xff\xd8"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_subscriber_that_ends_or_hangs_slows_nobody_and_late_ones_join(key: str, how: signal.Signals) -> None:
    """Processes: one takes everything and is killed or stopped, another one comes later and reads in order."""
    port = free_port()
    publisher = Peer("publish", key, port, 10_000)
    killed = Peer("watch", key, port, 0)
    publisher.go_on()
    try:
        assert killed.line() == "reads"
        killed.process.send_signal(how)
        late = Peer("read", key, port, 60)
        try:
            assert late.line() == "reads"
            found = json.loads(late.line())
        finally:
            late.end()
        assert len(found["numbers"]) == 60
        assert found["numbers"] == sorted(set(found["numbers"]))
        publisher.go_on()
        published = json.loads(publisher.line())
        assert published["lost"] == 0
        assert published["longest_s"] < 2.5  # Zenoh waits for 5 s unless it is asked not to
    finally:
        killed.end()
        publisher.end()


def in_order(results: list[Any], frames: list[Any]) -> list[int]:
    """The numbers of results; those of frames and results grow, and frames say where one is missing."""
    numbers = [result["sequence"] for result in results]
    assert numbers == sorted(set(numbers))
    for result in results:
        assert result["timestamp_ns"] == 1_000_000_000 + result["sequence"] * 33_333_333
    for before, frame in itertools.pairwise(frames):
        assert frame.sequence > before.sequence
        is_next = frame.sequence == before.sequence + 1
        assert is_next or FrameStatus.GAP in frame.status
    return numbers


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_link_that_breaks_again_and_again(key: str, how: str) -> None:
    """What is lost leaves gaps; nothing comes twice, out of order or changed; the stream goes on with the link."""
    port = free_port()
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    results: list[Any] = []
    written: list[int] = []
    stop, came = threading.Event(), threading.Condition()

    def note(sample: Any) -> None:
        with came:
            results.append(json.loads(sample.payload.to_bytes()))
            came.notify_all()

    def publish() -> None:
        for number in itertools.count():
            if stop.wait(0.01):
                return
            sink.write(raw_result(number))
            with came:
                written.append(number)
                came.notify_all()

    def wait_for_more(found: list[Any], count: int) -> None:
        with came:
            enough = len(found) + count
            assert came.wait_for(lambda: len(found) > enough, 60)

    with BrokenLink(port) as link, ZenohCamera(key, connect=f"tcp/127.0.0.1:{link.port}") as camera:
        camera._session.declare_subscriber(f"{key}/result", note)
        matched(sink, "result")
        matched(sink, "raw")
        publisher = threading.Thread(target=publish)
        publisher.start()
        frames = []
        try:
            for connections in range(1, 5):
                wait_for_more(results, 20)
                frames += [camera.read(60) for _ in range(3)]
                if connections == 4:
                    break
                if how == "cut":
                    link.cut()
                else:
                    link.stall()
                wait_for_more(written, 30)
                link.flow()
        finally:
            stop.set()
            publisher.join()
    sink.close()
    numbers = in_order(results, frames)
    if how == "cut":
        assert link.connections >= 4
        assert len(numbers) < numbers[-1] + 1  # some were lost
    assert sink.lost == 0


def test_what_nobody_takes_is_not_made(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither JSON nor JPEG nor the message of a frame; the newest result can be asked for all the same."""
    made: list[str] = []

    def count(module: object, name: str) -> None:
        real = getattr(module, name)

        def counted(*arguments: object) -> Any:
            made.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)

    sink_module = sys.modules["edge_isp.sinks.zenoh"]
    for module, name in (
        (sink_module, "result_json"),
        (sink_module, "encode_metadata"),
        (sink_module, "boot_id"),
        (Picture, "jpeg"),
    ):
        count(module, name)
    port = free_port()
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    made.clear()
    for number in range(3):
        sink.write(picture_result(number, raw=True))
    assert made == []
    config = zenoh.Config()
    config.insert_json5("connect/endpoints", json.dumps([f"tcp/127.0.0.1:{port}"]))
    with zenoh.open(config) as session:
        for _ in range(60):  # until the two have found each other
            replies = list(session.get(f"{key}/newest", timeout=1.0))
            if replies:
                break
        assert json.loads(replies[0].ok.payload.to_bytes())["sequence"] == 2
        made.clear()
        came = threading.Event()
        session.declare_subscriber(f"{key}/raw", lambda sample: came.set())
        matched(sink, "raw")
        for number in range(3, 6):
            sink.write(picture_result(number, raw=True))
        assert came.wait(60)
        assert made == ["encode_metadata"] * 3
    sink.close()


def test_a_frame_is_copied_once_on_its_way_to_shared_memory(key: str) -> None:
    layout = RawFormat(1920, 1080, Cfa.RGGB, 10, Packing.CSI2P)
    result = raw_result(1)
    assert result.raw is not None
    data = np.zeros((layout.height, layout.stride), np.uint8)
    large = replace(result, raw=replace(result.raw, data=data, format=layout))
    port = free_port()
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    with ZenohCamera(key, connect=f"tcp/127.0.0.1:{port}"):
        matched(sink, "raw")
        sink.write(large)
        tracemalloc.start()
        try:
            sink.write(large)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    sink.close()
    assert data.nbytes < peak < 1.2 * data.nbytes


@pytest.mark.parametrize("bad", ["", "/a", "a/", "a//b", "a/*", "a/$*", "a#b", "a?b"])
def test_keys_that_are_none(bad: str) -> None:
    with pytest.raises(SinkError, match="a Zenoh key has parts"):
        ZenohSink(bad)
    with pytest.raises(CameraError, match="a Zenoh key has parts"):
        ZenohCamera(bad)


def test_endpoints_that_are_none(key: str) -> None:
    with pytest.raises(SinkError, match="no session can be opened"):
        ZenohSink(key, listen="nonsense")
    with pytest.raises(CameraError, match="no session can be opened"):
        ZenohCamera(key, connect="tcp/")


def test_what_is_no_frame_is_an_error(key: str) -> None:
    """Messages as Zenoh hands them over, without a network that may drop them."""
    sent = raw_result(0).raw
    assert sent is not None
    frame = encode_metadata(sent, sent.data.nbytes) + sent.data.tobytes()
    with ZenohCamera(key) as camera:
        for payload, attachment in (
            (b"nonsense", "{}"),
            (b"", None),
            (b"", "[]"),
            (b"", '{"published_ns": Infinity}'),
            (b"", "[" * 100_000),
            (b"", b"\xff\xfe\xfd"),
            (frame, '{"published_ns": 1, "boot": "", "offset_ns": 1e999}'),
            (frame, '{"published_ns": 1, "boot": "", "offset_ns": 1e300}'),
            (frame, json.dumps({"published_ns": 1, "boot": "", "offset_ns": 10**30})),
        ):
            clocks = None if attachment is None else zenoh.ZBytes(attachment)
            sample = SimpleNamespace(payload=zenoh.ZBytes(payload), attachment=clocks)
            _take(camera._changed, camera._messages, sample)
            with pytest.raises(CameraError, match="what came is no frame"):
                camera.read(60)
        with pytest.raises(CameraTimeoutError):  # each of them once
            camera.read(0)


def test_a_dropped_camera_ends_its_session(key: str) -> None:
    port = free_port()
    sink = ZenohSink(key, raw=True, listen=f"tcp/127.0.0.1:{port}")
    camera = ZenohCamera(key, connect=f"tcp/127.0.0.1:{port}")
    matched(sink, "raw")
    session = camera._session
    del camera
    gc.collect()
    closed = session.is_closed()
    session.close()  # where it is not
    sink.close()
    assert closed
