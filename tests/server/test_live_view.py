"""The live view over HTTP: streams, detections, snapshots, controls, recordings, metrics and health."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp import plugins
from edge_isp.board import Board
from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.base import Camera
from edge_isp.cameras.mcap import McapCamera
from edge_isp.errors import CameraDisconnectedError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.pipeline import DropReason, ModelOptions, ReconnectPolicy
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.results import FrameResult, Picture
from edge_isp.server.app import make_app
from edge_isp.server.messages import EventsStatus
from edge_isp.server.recorder import Recorder
from edge_isp.server.tone import Tone
from edge_isp.tasks.classical import ClassicalIsp
from edge_isp.testing import check_sink
from edge_isp.testing.sink import detections_result, picture_result
from tests.server.support import FPS, HEIGHT, WIDTH, live_view, open_scene
from tests.server.test_security import origin_of, wait_for
from tests.support.recorded_frames import FaultyDisk

httpx = pytest.importorskip("httpx", reason="needs the package 'httpx'")
pytest.importorskip("uvicorn", reason="needs the extra [serve]")
PICTURES = [ModelOptions("rfdcsanet-s", threads=1)]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Pictures and tracked detections of the shipped scene."""
    with live_view(tmp_path_factory.mktemp("recordings")) as (view, server):
        wait_for(lambda: view.ready and all(model.delivered for model in view.status().models), 120)
        yield view, server


@pytest.fixture
def client(view: Any) -> Iterator[Any]:
    with httpx.Client(base_url=f"http://127.0.0.1:{view[1].port}", timeout=60) as client:
        yield client


def parts(client: Any, path: str, count: int) -> list[tuple[dict[str, str], bytes]]:
    """Headers and bodies of the first parts of a stream."""
    found: list[tuple[dict[str, str], bytes]] = []
    with client.stream("GET", path) as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        buffer = b""
        for chunk in answer.iter_bytes():
            buffer += chunk
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                lines = buffer[:end].decode().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines if ": " in line)
                size = int(headers["Content-Length"])
                if len(buffer) < end + 4 + size:
                    break
                found.append((headers, buffer[end + 4 : end + 4 + size]))
                buffer = buffer[end + 4 + size :]
            if len(found) >= count:
                return found
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("path", ["/stream.mjpg", "/stream.mjpg?view=network", "/stream.mjpg?view=classical"])
def test_the_stream_is_new_pictures_in_order(client: Any, path: str) -> None:
    found = parts(client, path, 3)
    sequences = [int(headers["X-Sequence"]) for headers, _ in found]
    assert sequences == sorted(set(sequences))
    for _, jpeg in found:
        with Image.open(io.BytesIO(jpeg)) as image:
            assert image.format == "JPEG"
            assert image.size == (WIDTH, HEIGHT)
            assert np.asarray(image).std() > 10


def test_an_unknown_view_is_refused(client: Any) -> None:
    answer = client.get("/stream.mjpg?view=../../etc")
    assert answer.status_code == 400
    assert answer.json() == {"error": "view must be one of network, classical"}


def test_a_head_request_ends(client: Any) -> None:
    for path in ("/stream.mjpg", "/detections", "/snapshot.jpg"):
        assert client.head(path).status_code == 200


def test_detections_are_events_of_json(client: Any) -> None:
    found = []
    with client.stream("GET", "/detections") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
            if len(found) == 5:
                break
    assert [event["sequence"] for event in found] == sorted({event["sequence"] for event in found})
    for event in found:
        assert (event["width"], event["height"]) == (WIDTH, HEIGHT)
        best = event["detections"][0]
        assert best["class_name"] == "bird"
        assert best["track"] is None or best["track"] >= 1  # a slow machine may lose more than a second of frames
    assert any(event["detections"][0]["track"] for event in found)


def test_all_viewers_cost_one_encode(view: Any, client: Any) -> None:
    """Twelve viewers get the same bytes, and no frame is encoded twice."""
    live, server = view
    channel = live.channels["network"]
    wait_for(lambda: channel.viewers == 0)
    before, watched = channel.encoded, []

    def watch() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as own:
            watched.append(dict((headers["X-Sequence"], jpeg) for headers, jpeg in parts(own, "/stream.mjpg", 4)))

    threads = [threading.Thread(target=watch) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(watched) == 12
    everything = {(number, jpeg) for pictures in watched for number, jpeg in pictures.items()}
    numbers = {number for number, _ in everything}
    # A viewer that joins has the newest frame encoded again.
    assert len(everything) <= len(numbers) + 1
    assert channel.encoded - before <= len(numbers) + 12
    wait_for(lambda: channel.viewers == 0)
    still = channel.encoded
    delivered = live.pipeline.counts.delivered
    wait_for(lambda: live.pipeline.counts.delivered > delivered + 2)
    assert channel.encoded == still  # without viewers nothing is encoded


def test_snapshots_show_the_newest_frame(client: Any) -> None:
    for path, kind in (("/snapshot.jpg", "JPEG"), ("/snapshot.png", "PNG"), ("/snapshot.png?view=classical", "PNG")):
        answer = client.get(path)
        with Image.open(io.BytesIO(answer.content)) as image:
            image.load()
            assert (image.format, image.size) == (kind, (WIDTH, HEIGHT))
        assert answer.headers["content-disposition"].startswith('inline; filename="edge_isp_')


class Moving:
    """A live view and its channel, to which a new frame has come whenever somebody looks."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.channels = {"classical": self}
        self.shown: list[int] = []

    @property
    def newest(self) -> FrameResult:
        return picture_result(next(self._numbers), raw=True)

    def channel(self, name: str | None) -> Moving:
        return self

    def picture(self, result: FrameResult) -> Picture:
        self.shown.append(result.sequence)
        return result.picture


@pytest.mark.parametrize("suffix", ["jpg", "png", "dng"])
def test_a_snapshot_is_named_after_the_frame_that_it_shows(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    moving: Any = Moving()

    def dng(raw: RawFrame) -> bytes:
        moving.shown.append(raw.sequence)
        return b""

    monkeypatch.setattr("edge_isp.recording.dng.dng_bytes", dng)

    async def get() -> Any:
        transport = httpx.ASGITransport(make_app(moving, needs_token=False))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(f"/snapshot.{suffix}")

    answer = asyncio.run(get())
    (number,) = moving.shown
    assert answer.headers["content-disposition"] == f'inline; filename="edge_isp_{number:06d}.{suffix}"'


def test_a_dng_snapshot_holds_the_frame(client: Any, tmp_path: Path) -> None:
    rawpy = pytest.importorskip("rawpy", reason="needs the extra [dng]")
    path = tmp_path / "snapshot.dng"
    path.write_bytes(client.get("/snapshot.dng").content)
    with rawpy.imread(str(path)) as raw:
        assert raw.raw_image.shape == (HEIGHT, WIDTH)
        assert raw.raw_pattern.tolist() == [[0, 1], [3, 2]]


def test_controls_change_the_camera(view: Any, client: Any) -> None:
    live, own = view[0], origin_of(client)
    answer = client.post("/api/controls", json={"exposure_ns": 4_000_000, "analogue_gain": 2.5}, headers=own)
    assert answer.status_code == 200
    assert not answer.json()["controls"]["auto_exposure"]
    wait_for(lambda: live.newest.raw.exposure_ns == 4_000_000 and live.newest.raw.analogue_gain == 2.5)
    assert client.post("/api/controls", json={"auto_exposure": True}, headers=own).json()["controls"]["auto_exposure"]
    wait_for(lambda: live.newest.raw.analogue_gain != 2.5)
    answer = client.post("/api/controls", json={"auto_exposure": False, "auto_white_balance": False}, headers=own)
    assert not answer.json()["controls"]["auto_exposure"]
    assert not answer.json()["controls"]["auto_white_balance"]
    client.post(
        "/api/controls", json={"auto_white_balance": True, "exposure_ns": 10**7, "analogue_gain": 1}, headers=own
    )


def test_tone_brightens_what_is_shown(client: Any) -> None:
    def brightness() -> float:
        with Image.open(io.BytesIO(client.get("/snapshot.jpg").content)) as image:
            return float(np.asarray(image).mean())

    before = brightness()
    client.post("/api/tone", json={"brightness_ev": 2}, headers=origin_of(client))
    assert brightness() > before + 30
    client.post("/api/tone", json={}, headers=origin_of(client))


def test_the_tone_curve_is_that_of_new_pictures_of_both_views(view: Any, client: Any) -> None:
    """And of results, so also of videos."""
    live, own = view[0], origin_of(client)
    network, classical = live.channels["network"], live.channels["classical"]
    assert client.get("/api/status").json()["tone"]["curve"] == "camera"
    for curve in ("srgb", "camera"):
        answer = client.post("/api/tone", json={"curve": curve}, headers=own)
        assert answer.json()["tone"] == {"brightness_ev": 0.0, "contrast": 0.0, "curve": curve}
        wait_for(lambda curve=curve: network.newest.picture.applied.tone.value == f"{curve} curve")
        newest = classical.newest
        expected = ClassicalIsp(tone=curve).develop(newest.raw).rgb
        np.testing.assert_array_equal(classical.picture(newest).rgb, expected)
    client.post("/api/tone", json={"curve": "srgb"}, headers=own)
    # Brightness alone leaves the curve.
    assert client.post("/api/tone", json={"brightness_ev": 1}, headers=own).json()["tone"]["curve"] == "srgb"
    client.post("/api/tone", json={"curve": "camera"}, headers=own)
    assert client.post("/api/tone", json={"curve": "sepia"}, headers=own).status_code == 400


def test_the_tone_curve_of_the_start(tmp_path: Path) -> None:
    models = [ModelOptions("rfdcsanet-s", threads=1, tone="srgb")]
    with live_view(tmp_path, models=models) as (live, _):
        wait_for(lambda: live.ready and live.channels["network"].newest is not None, 60)
        assert live.status().tone.curve == "srgb"
        assert live.channels["network"].newest.picture.applied.tone.value == "srgb curve"
        newest = live.newest
        expected = ClassicalIsp(tone="srgb").develop(newest.raw).rgb
        np.testing.assert_array_equal(live.channels["classical"].picture(newest).rgb, expected)


def test_an_event_is_recorded_with_what_came_before(tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra [recording]")
    from edge_isp.server.live_view import LiveView
    from edge_isp.server.serving import LiveServer

    with LiveView(open_scene, PICTURES, recordings=tmp_path, before_s=30, after_s=0.5) as live:
        live.start()
        with (
            LiveServer(live, port=0) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
        ):
            wait_for(lambda: live.pipeline.counts.delivered > 3, 60)
            assert client.get("/api/status").json()["events"] == {
                "before_s": 30.0,
                "after_s": 0.5,
                "running": False,
                "files": 0,
            }
            assert list(tmp_path.rglob("*.mcap")) == []
            assert live.newest is not None
            pressed = live.newest.sequence
            answer = client.post("/api/recording/trigger", headers=origin_of(client))
            assert answer.status_code == 200
            assert answer.json()["events"]["running"]
            wait_for(lambda: live.status().events == EventsStatus(30.0, 0.5, running=False, files=1))
    (path,) = tmp_path.rglob("*.mcap")
    with McapCamera(path) as camera:
        sequences = [frame.sequence for frame in iter(camera.read, None)]
    assert sequences[0] < 2 < pressed <= sequences[-1]


def test_without_a_time_before_there_are_no_events(client: Any) -> None:
    assert client.get("/api/status").json()["events"] is None
    answer = client.post("/api/recording/trigger", headers=origin_of(client))
    assert answer.status_code == 409
    assert "--before" in answer.json()["error"]


def test_a_video_of_a_detector_has_the_curve_and_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, object, str]] = []

    def open_sink(spec: str, *, profile: object, tone: str) -> Any:
        opened.append((spec.partition(":")[0], profile, tone))
        raise SinkError("seen")

    monkeypatch.setattr("edge_isp.server.recorder.open_sink", open_sink)
    profile = load_profile("imx477")
    models = [ModelOptions("raw-detector", threads=1, profile=profile)]
    with live_view(tmp_path, models=models) as (live, _):
        live.set_tone(Tone(), "srgb")
        with pytest.raises(SinkError, match="seen"):
            live.start_recording("video")
    assert opened == [("video", profile, "srgb")]


def test_status_has_the_numbers(client: Any) -> None:
    status = client.get("/api/status").json()
    assert status["state"] == "running"
    assert status["views"] == ["network", "classical"]
    assert [model["name"] for model in status["models"]] == ["rfdcsanet-s", "raw-detector"]
    for model in status["models"]:
        assert 0 < model["rate_per_s"] <= 2 * FPS
        assert model["age_ms"] > 0
        assert model["delegate"] == "XNNPACK"
        assert sum(part["operators"] for part in model["partitions"]) > 10


def test_health_and_readiness(client: Any) -> None:
    assert client.get("/healthz").text == "running\n"
    assert client.get("/readyz").status_code == 200


def families(client: Any) -> dict[str, Any]:
    from prometheus_client.parser import text_string_to_metric_families

    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def test_metrics_are_prometheus_s(client: Any) -> None:
    """By Prometheus's own parser, and its conventions of names and units."""
    found = families(client)
    for name in ("edge_isp_frames", "edge_isp_frames_dropped", "edge_isp_results", "edge_isp_camera_restarts"):
        assert found[name].type == "counter", name
    for name in ("edge_isp_stage_duration_seconds", "edge_isp_result_age_seconds"):
        assert found[name].type == "histogram", name
        assert any(sample.name == f"{name}_bucket" and sample.labels["le"] == "+Inf" for sample in found[name].samples)
    for name, family in found.items():
        assert family.documentation, name
        assert not any(unit in name for unit in ("_ms", "_ns", "milli", "nano", "percent")), name
        if name.startswith("edge_isp"):
            assert family.documentation.endswith("."), name
    reasons = {sample.labels["reason"] for sample in found["edge_isp_frames_dropped"].samples}
    assert reasons == {reason.value for reason in DropReason}
    state = {sample.labels["state"]: sample.value for sample in found["edge_isp_pipeline_state"].samples}
    assert state["running"] == 1
    assert sum(state.values()) == 1
    exposure = found["edge_isp_exposure_seconds"].samples[0].value
    assert 1e-5 < exposure < 1


def test_ages_are_those_of_the_delivery(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a result waits for its turn to be counted."""
    live = view[0]
    observed: list[float] = []
    done = replace(detections_result(1), model="late")
    late = replace(done, delivered_ns=done.timestamp_ns + 30_000_000, now_ns=lambda: done.timestamp_ns + 900_000_000)
    labels = live.metrics._age.labels("late")
    monkeypatch.setattr(type(labels), "observe", lambda self, seconds: observed.append(seconds))
    live.metrics.observe(late)
    assert observed[0] == 0.03
    monkeypatch.setattr(live, "_ages_ns", {})
    monkeypatch.setattr(live, "_consumers", [object()])
    live._deliver(0, late)
    assert list(live._ages_ns.values()) == [30_000_000]


def test_results_are_passed_on_while_the_board_is_read(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor of the board that hangs holds up no result."""
    live = view[0]
    asked, answers = threading.Event(), threading.Event()

    def hang(board: Board) -> dict[str, float]:
        asked.set()
        answers.wait(60)
        return {}

    monkeypatch.setattr(Board, "temperatures_c", hang)
    monkeypatch.setattr(live, "_board_status", None)
    reader = threading.Thread(target=live.status)
    reader.start()
    try:
        assert asked.wait(30)
        delivered = live.pipeline.counts.delivered
        wait_for(lambda: live.pipeline.counts.delivered > delivered + 1)
    finally:
        answers.set()
        reader.join()


def test_counters_never_go_back_over_a_camera_restart(tmp_path: Path) -> None:
    from edge_isp.server.live_view import LiveView
    from edge_isp.server.serving import LiveServer

    opened: list[Camera] = []

    def open_camera() -> Camera:
        opened.append(open_scene())
        return opened[-1]

    with LiveView(open_camera, PICTURES, recordings=tmp_path, reconnect=ReconnectPolicy(first_wait_s=0.01)) as live:
        live.start()
        with (
            LiveServer(live, port=0) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
        ):
            wait_for(lambda: live.ready, 60)
            before = counters(client)
            for _ in range(2):
                restarts = live.pipeline.restarts
                lose(opened[-1])
                wait_for(lambda restarts=restarts: live.pipeline.restarts > restarts and live.ready, 60)
                delivered = live.pipeline.counts.delivered
                wait_for(lambda delivered=delivered: live.pipeline.counts.delivered > delivered, 60)
                after = counters(client)
                gone = [key for key in before if after.get(key, -1) < before[key]]
                assert not gone, gone
                before = after
            assert next(value for key, value in before.items() if key[0] == "edge_isp_camera_restarts_total") == 2


def test_settings_by_hand_outlive_the_camera(tmp_path: Path) -> None:
    from edge_isp.server.live_view import LiveView

    opened: list[Camera] = []

    def open_camera() -> Camera:
        opened.append(open_scene())
        return opened[-1]

    policy = ReconnectPolicy(first_wait_s=0.01)
    with LiveView(open_camera, PICTURES, auto_exposure=True, recordings=tmp_path, reconnect=policy) as live:
        live.start()
        wait_for(lambda: live.ready, 60)
        live.controls.change(exposure_ns=4_000_000, analogue_gain=1.0)
        live.controls.change(analogue_gain=2.5)
        lose(opened[-1])
        wait_for(lambda: len(opened) == 2, 60)
        wait_for(lambda: opened[-1] is live.pipeline.camera, 60)
        delivered = live.pipeline.counts.delivered
        wait_for(lambda: live.pipeline.counts.delivered > delivered + 2, 60)
        raw = live.newest.raw  # type: ignore[union-attr]
        assert raw is not None
        assert (raw.exposure_ns, raw.analogue_gain) == (4_000_000, 2.5)


def lose(camera: Camera) -> None:
    """The camera is unplugged."""

    def read(timeout_s: float | None = None) -> None:
        raise CameraDisconnectedError("unplugged")

    camera.read = read  # type: ignore[method-assign]


def counters(client: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(client).values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_live_view_without_pictures_shows_the_classical_one(tmp_path: Path) -> None:
    with live_view(tmp_path, models=[ModelOptions("raw-detector", threads=1)]) as (live, server):
        wait_for(lambda: live.ready, 60)
        assert list(live.channels) == ["classical"]
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
            assert len(parts(client, "/stream.mjpg", 2)) == 2
            assert client.get("/stream.mjpg?view=network").status_code == 400
            assert client.get("/api/status").json()["detector"]


def test_the_end_of_a_recording_leaves_its_last_picture(tmp_path: Path) -> None:
    from edge_isp.cameras.spec import demo_recording, open_camera
    from edge_isp.server.live_view import LiveView
    from edge_isp.server.serving import LiveServer

    with LiveView(partial(open_camera, demo_recording()), PICTURES, recordings=tmp_path) as live:
        live.start()
        with (
            LiveServer(live, port=0) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client,
        ):
            wait_for(lambda: live.pipeline.counts.delivered == 3, 60)
            assert client.get("/api/status").json()["state"] == "ended"
            ((headers, _),) = parts(client, "/stream.mjpg", 1)
            assert headers["X-Sequence"] == "2"
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            answer = client.post("/api/controls", json={"exposure_ns": 10**6}, headers=origin_of(client))
            assert answer.status_code == 409
            assert answer.json()["error"]


class Memory:
    """A sink in the place of those that record; it fails at a frame if asked to."""

    needs_raw = True
    opened: list[Memory]
    fails_at: int | None = None

    def __init__(self, path: Path) -> None:
        self.path, self.closed = path, False
        self.written: list[int] = []
        type(self).opened.append(self)

    def write(self, result: FrameResult) -> None:
        if len(self.written) == self.fails_at:
            raise SinkError(f"{self.path}: no space left on device")
        self.written.append(result.sequence)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Memory]]:
    Memory.opened, Memory.fails_at = [], None
    spec = plugins.Spec("tests.server.test_live_view:Memory")
    monkeypatch.setitem(plugins.BUILT_IN, "sinks", plugins.BUILT_IN["sinks"] | {"mcap": spec, "video": spec})
    return Memory  # type: ignore[return-value]


def test_the_recorder_conforms(tmp_path: Path) -> None:
    check_sink(lambda: Recorder(tmp_path))


def test_a_recording_is_started_and_stopped(view: Any, client: Any, memory: Any) -> None:
    own = origin_of(client)
    assert Recorder(Path("recordings")).kinds == ("mcap", "video")
    for kind, suffix in (("mcap", ".mcap"), ("video", ".mp4")):
        running = client.post("/api/recording/start", json={"kind": kind}, headers=own).json()["recording"]["running"]
        assert running["file"].endswith(suffix)
        again = client.post("/api/recording/start", json={"kind": kind}, headers=own)
        assert again.status_code == 409
        assert "stop it first" in again.json()["error"]
        sink = memory.opened[-1]
        wait_for(lambda sink=sink: len(sink.written) >= 2)
        assert client.post("/api/recording/stop", headers=own).json()["recording"]["running"] is None
        assert sink.closed
        written = len(sink.written)
        delivered = view[0].pipeline.counts.delivered
        wait_for(lambda delivered=delivered: view[0].pipeline.counts.delivered > delivered + 1)
        assert len(sink.written) == written
    assert client.post("/api/recording/stop", headers=own).status_code == 409


def test_a_recording_that_fails_ends_and_the_stream_goes_on(view: Any, client: Any, memory: Any) -> None:
    memory.fails_at = 1
    own = origin_of(client)
    client.post("/api/recording/start", json={"kind": "mcap"}, headers=own)
    wait_for(lambda: view[0].recorder.error)
    status = client.get("/api/status").json()
    assert status["recording"]["running"] is None
    assert "no space left" in status["recording"]["error"]
    assert memory.opened[-1].closed
    assert status["state"] == "running"
    assert "no space left" in client.post("/api/recording/stop", headers=own).json()["error"]


def test_a_recording_of_raw_frames_gets_each_frame_as_it_came(tmp_path: Path, memory: Any) -> None:
    """Also those of which there is no result; and only while it runs."""
    frames: list[int] = []
    events: list[dict[str, Any]] = []
    memory.frame_arrived = lambda self, frame: frames.append(frame.sequence)
    memory.event = lambda self, message: events.append(message)
    try:
        recorder = Recorder(tmp_path)
        with open_scene() as camera:
            frame = camera.read()
            assert frame is not None
            recorder.frame_arrived(frame)
            recorder.start("mcap")
            recorder.frame_arrived(frame)
            recorder.event({"kind": "dropped"})
            recorder.stop()
            recorder.frame_arrived(frame)
            recorder.event({"kind": "dropped"})
    finally:
        del memory.frame_arrived, memory.event
    assert frames == [frame.sequence]
    assert events == [{"kind": "dropped"}]


def test_what_a_full_disk_loses_of_raw_frames_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mcap", reason="needs the extra [recording]")
    from edge_isp.recording.recorder import Recorder as McapRecorder

    disk = FaultyDisk()
    defaults = McapRecorder.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "open_output", disk.open)
    with live_view(tmp_path, models=PICTURES) as (live, server):
        wait_for(lambda: live.ready, 60)
        live.start_recording("mcap")
        wait_for(lambda: live.status().recording.running.frames >= 2)
        assert live.status().recording.running.lost == 0
        disk.room = 10_000  # less than a frame
        wait_for(lambda: live.status().recording.running.lost >= 2)
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
            running = client.get("/api/status").json()["recording"]["running"]
        assert running["lost"] >= 2
        disk.room = None  # somebody made room
        stopped = live.recorder.stop()
        with McapRecording(disk.save(tmp_path)[0]) as recording:
            (camera,) = recording.cameras
            assert stopped.frames == len(list(recording.frames(camera)))


def test_a_recording_in_a_folder_that_cannot_be_made(tmp_path: Path, memory: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be made"):
        Recorder(tmp_path / "file" / "folder").start("mcap")


def test_closing_ends_everything(tmp_path: Path) -> None:
    threads = threading.active_count()
    with live_view(tmp_path, models=PICTURES) as (live, server):
        wait_for(lambda: live.ready, 60)
        ended = threading.Event()

        def watch() -> None:
            with httpx.stream("GET", f"http://127.0.0.1:{server.port}/stream.mjpg", timeout=60) as answer:
                for _ in answer.iter_bytes():
                    pass
            ended.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        wait_for(lambda: live.channels["network"].viewers == 1)
    assert ended.wait(30)
    watcher.join()
    wait_for(lambda: threading.active_count() <= threads + 1)


@pytest.mark.slow
def test_schemathesis_finds_nothing(view: Any, tmp_path: Path) -> None:
    """Requests made from the OpenAPI document, right ones and wrong ones."""
    pytest.importorskip("schemathesis", reason="needs the package 'schemathesis'")
    import subprocess
    import sys

    base = f"http://127.0.0.1:{view[1].port}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{base}/api/openapi.json", "--url", base]
    command += ["--header", f"Origin:{base}", "--exclude-path", "/stream.mjpg", "--exclude-path", "/detections"]
    command += ["--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
