"""Several cameras in one live view: tiles, each camera's own view, metrics, token and bounds of all together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_isp.cameras.base import Camera
from edge_isp.cli.serve_view import named_cameras
from edge_isp.errors import CameraDisconnectedError, ServerError
from edge_isp.pipeline import DropReason, ModelOptions, PipelineState, ReconnectPolicy
from edge_isp.server import answers
from edge_isp.server.cameras_view import CamerasView
from edge_isp.server.channel import EncodedPicture
from edge_isp.server.live_view import LiveView
from edge_isp.server.serving import LiveServer
from tests.server.support import open_scene
from tests.server.test_security import wait_for

httpx = pytest.importorskip("httpx", reason="needs the package 'httpx'")
pytest.importorskip("uvicorn", reason="needs the extra [serve]")
MODELS = [ModelOptions("rfdcsanet-s", threads=1)]
TOKEN = "0123456789abcdef-the-token"
CHROMIUM = shutil.which("chromium")


@contextlib.contextmanager
def cameras_view(folder: Path, names: tuple[str, ...] = ("door", "yard"), **settings: Any) -> Iterator[Any]:
    """Views of the shipped scene, which run, in turn, and their server."""
    with contextlib.ExitStack() as stack:
        views: dict[str, LiveView] = {}
        for name in names:
            first = next(iter(views.values()), None)
            view = LiveView(partial(open_scene, 4.0), MODELS, recordings=folder / name, in_turn_with=first)
            views[name] = stack.enter_context(view)
        view_of_all = stack.enter_context(CamerasView(views))
        view_of_all.start()
        server = stack.enter_context(LiveServer(view_of_all, port=0, **settings))
        wait_for(lambda: view_of_all.ready, 120)
        yield view_of_all, server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with cameras_view(tmp_path_factory.mktemp("recordings")) as running:
        yield running


@pytest.fixture
def client(served: Any) -> Iterator[Any]:
    with httpx.Client(base_url=f"http://127.0.0.1:{served[1].port}", timeout=60) as client:
        yield client


def tiles(client: Any, count: int) -> list[tuple[str, int, bytes]]:
    """Name, number and picture of the first tiles of the stream."""
    found: list[tuple[str, int, bytes]] = []
    with client.stream("GET", "/stream.mjpg") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        buffer = b""
        for chunk in answer.iter_bytes():
            buffer += chunk
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                headers = dict(line.split(": ", 1) for line in buffer[:end].decode().split("\r\n") if ": " in line)
                size = int(headers["Content-Length"])
                if len(buffer) < end + 4 + size:
                    break
                jpeg = buffer[end + 4 : end + 4 + size]
                found.append((headers["X-Camera"], int(headers["X-Sequence"]), jpeg))
                buffer = buffer[end + 4 + size :]
            if len(found) >= count:
                return found
    raise AssertionError("the stream has ended")


def test_the_tiles_are_new_pictures_of_every_camera(served: Any, client: Any, tmp_path: Path) -> None:
    found = tiles(client, 8)
    assert {name for name, _, _ in found} == {"door", "yard"}
    for name in ("door", "yard"):
        numbers = [number for camera, number, _ in found if camera == name]
        assert numbers == sorted(set(numbers))
    (tmp_path / "tile.jpg").write_bytes(found[-1][2])
    with Image.open(tmp_path / "tile.jpg") as tile:
        assert tile.size == (320, 240)  # half of the camera's 640, since at most 480
        assert np.asarray(tile).std() > 20
    view = served[0]
    wait_for(lambda: view.viewers == 0)
    assert view._drawing is None  # what nobody watches is not drawn


def test_a_late_viewer_gets_the_newest_tiles_at_once(served: Any) -> None:
    """Also where no camera delivers any more."""
    view = CamerasView(served[0].views)
    view._shown = dict.fromkeys(("door", "yard"), EncodedPicture(b"", 0, 0))

    async def both() -> list[str]:
        async with contextlib.aclosing(view.tiles()) as stream:
            return [(await asyncio.wait_for(anext(stream), 60))[0] for _ in range(2)]

    assert asyncio.run(both()) == ["door", "yard"]


def test_each_camera_has_its_own_view(served: Any, client: Any) -> None:
    for name in ("door", "yard"):
        page = client.get(f"/cameras/{name}/")
        assert page.status_code == 200
        for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert not address.startswith("/"), address  # it would lead to another camera, or nowhere
            answer = client.get(f"/cameras/{name}/{address}")
            assert answer.status_code == 200, address
        status = client.get(f"/cameras/{name}/api/status").json()
        assert status["models"][0]["name"] == "rfdcsanet-s"
        document = client.get(f"/cameras/{name}/api/openapi.json").json()
        assert document["servers"] == [{"url": f"/cameras/{name}"}]
        assert client.get(f"/cameras/{name}", follow_redirects=True).text == page.text
    assert client.get("/cameras/cellar/").status_code == 404
    assert client.get("/live.js").status_code == 404


def test_a_change_concerns_one_camera_alone(served: Any, client: Any) -> None:
    origin = {"Origin": str(client.base_url).rstrip("/")}
    answer = client.post("/cameras/yard/api/tone", json={"brightness_ev": 2}, headers=origin)
    assert answer.status_code == 200
    numbers = client.get("/api/status").json()["cameras"]
    assert [numbers[name]["tone"]["brightness_ev"] for name in ("door", "yard")] == [0.0, 2.0]
    assert client.post("/cameras/yard/api/tone", json={}).status_code == 403  # no origin
    assert client.post("/cameras/yard/api/tone", json={}, headers=origin).status_code == 200


def test_the_numbers_of_all(client: Any) -> None:
    status = client.get("/api/status").json()
    assert list(status["cameras"]) == ["door", "yard"]
    for camera in status["cameras"].values():
        (model,) = camera["models"]
        assert model["rate_per_s"] > 0
        assert model["age_ms"] > 0
        assert set(model["dropped"]) <= {reason.value for reason in DropReason}
    for path in ("/healthz", "/readyz"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.text == "door: running\nyard: running\n"
    document = client.get("/api/openapi.json").json()
    for path in document["paths"]:
        assert client.head(path).status_code == 200, path


def test_metrics_have_the_camera_s_name(client: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    found = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    for name in (
        "edge_isp_frames",
        "edge_isp_frames_dropped",
        "edge_isp_results",
        "edge_isp_result_age_seconds",
        "edge_isp_pipeline_state",
        "edge_isp_viewers",
        "edge_isp_exposure_seconds",
    ):
        assert {sample.labels.get("camera") for sample in found[name].samples} == {"door", "yard"}, name
    for name in ("edge_isp_build_info", "process_cpu_seconds"):
        assert [sample.labels.get("camera") for sample in found[name].samples] == [None], name
    reasons = {sample.labels["reason"] for sample in found["edge_isp_frames_dropped"].samples}
    assert reasons == {reason.value for reason in DropReason}
    # One camera's own metrics have no such label.
    alone = client.get("/cameras/door/metrics").text
    assert "camera=" not in alone
    assert alone.count("edge_isp_frames_total{") == 2  # the model and recordings


def test_without_the_token_there_is_nothing_of_any_camera(tmp_path: Path) -> None:
    with (
        cameras_view(tmp_path, token=TOKEN) as (_, server),
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client,
    ):
        own = ("", "api/status", "live.js", "snapshot.jpg", "metrics", "api/openapi.json", "stream.mjpg")
        paths = ["/", "/stream.mjpg", "/metrics", "/api/status", "/api/openapi.json", "/cameras.js"]
        for path in [*paths, *(f"/cameras/{name}/{path}" for name in ("door", "yard", "cellar") for path in own)]:
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["content-security-policy"], path
        for path in ("/healthz", "/readyz", "/cameras/door/healthz", "/cameras/yard/readyz"):
            assert client.get(path).status_code == 200, path
        assert client.get("/cameras/cellar/healthz").status_code == 401
        assert client.get(f"/?token={TOKEN}").status_code == 303
        assert client.get("/cameras/yard/snapshot.jpg").status_code == 200  # the cookie holds for all
        assert client.get("/cameras/yard/").headers["x-content-type-options"] == "nosniff"
        document = client.get("/cameras/door/api/openapi.json").json()
        assert document["security"] == [{"token": []}]


def test_streams_are_bounded_over_all_cameras(served: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_STREAMS", 2)
    wait_for(lambda: served[0].clients == 0)
    with client.stream("GET", "/stream.mjpg") as first, client.stream("GET", "/cameras/door/stream.mjpg") as second:
        assert first.status_code == second.status_code == 200
        chunks = [first.iter_bytes(), second.iter_bytes()]
        assert all(next(each) for each in chunks)
        for path in ("/stream.mjpg", "/cameras/door/stream.mjpg", "/cameras/yard/detections"):
            with client.stream("GET", path) as answer:
                assert answer.status_code == 503, path


def test_a_camera_that_fails_leaves_the_others(tmp_path: Path) -> None:
    opened: list[Camera] = []

    def open_once() -> Camera:
        if opened:
            raise CameraDisconnectedError("the cable")
        opened.append(open_scene(20))
        return opened[-1]

    failed: list[int] = []
    once = ReconnectPolicy(attempts=1, first_wait_s=0.01)
    with (
        LiveView(open_once, MODELS, recordings=tmp_path / "a", reconnect=once) as broken,
        LiveView(partial(open_scene, 20), MODELS, recordings=tmp_path / "b", in_turn_with=broken) as whole,
        CamerasView({"broken": broken, "whole": whole}, on_failed=lambda: failed.append(1)) as view,
    ):
        view.start()
        with LiveServer(view, port=0) as server, httpx.Client(timeout=60) as client:
            wait_for(lambda: view.ready, 120)
            opened[0].close = lambda: None  # type: ignore[method-assign]

            def gone(timeout_s: float | None = None) -> None:
                raise CameraDisconnectedError("the cable")

            opened[0].read = gone  # type: ignore[method-assign]
            wait_for(lambda: broken.pipeline.state is PipelineState.FAILED, 60)
            before = whole.pipeline.counts.delivered
            wait_for(lambda: whole.pipeline.counts.delivered > before + 5, 60)
            status = client.get(f"http://127.0.0.1:{server.port}/api/status").json()["cameras"]
            assert (status["broken"]["state"], status["whole"]["state"]) == ("failed", "running")
            assert "the cable" in status["broken"]["reason"]
            assert client.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 503
            assert failed == []  # there is something to see


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "x" * 65, "é", "a\n"])
def test_names_that_are_none(served: Any, name: str) -> None:
    with pytest.raises(ServerError, match="a name has 1 to 64 letters"):
        CamerasView({name: served[0].views["door"]})


def test_there_has_to_be_a_camera() -> None:
    with pytest.raises(ServerError, match="at least one"):
        CamerasView({})


def test_the_service_manager_hears_of_all_cameras(served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of one camera that does not respond ends the keep-alive, whatever the others do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setattr(
            "edge_isp.server.cameras_view.Systemd",
            lambda environment=None: _systemd(tmp_path / "notify") if environment is None else _systemd(None),
        )
        door = served[0].views["door"]
        stalled = False

        class Stalling:
            """The pipeline of a camera, with a state of the test's."""

            @property
            def state(self) -> PipelineState:
                return PipelineState.STALLED if stalled else PipelineState.RUNNING

        class View:
            pipeline, newest, metrics = Stalling(), object(), door.metrics

            def start(self) -> None:
                pass

            def end_streams(self) -> None:
                pass

        views: Any = {"one": View(), "two": View()}
        with CamerasView(views, notify_systemd=True) as view:
            view.start()
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            stalled = True
            manager.settimeout(0.5)
            with pytest.raises(TimeoutError):
                for _ in range(4):  # some may be on their way
                    assert manager.recv(100) == b"WATCHDOG=1"
            manager.settimeout(60)
        assert manager.recv(100) == b"STOPPING=1"


def _systemd(path: Path | None) -> Any:
    from edge_isp.pipeline.watchdog import Systemd

    return Systemd({} if path is None else {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "300000"})


# The command line


def serve(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "edge_isp",
            "serve",
            "--port",
            "0",
            "--model",
            "rfdcsanet-s",
            "--threads",
            "1",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serve_with_two_cameras(tmp_path: Path) -> None:
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    spec = f"synthetic:{tmp_path}/photo.png,fps=10,width=64,height=64"
    with serve("--camera", f"door={spec}", "--camera", spec, "--recordings", str(tmp_path / "kept")) as process:
        try:
            assert process.stdout is not None
            link = re.fullmatch(r"live view: (http://127\.0\.0\.1:\d+)/\n", process.stdout.readline())
            assert link is not None
            with httpx.Client(base_url=link[1], timeout=60) as client:
                assert list(client.get("/api/status").json()["cameras"]) == ["door", "camera2"]
                wait_for(lambda: client.get("/readyz").status_code == 200, 120)
                origin = {"Origin": link[1]}
                started = client.post("/cameras/camera2/api/recording/start", json={"kind": "mcap"}, headers=origin)
                assert started.status_code == 200, started.text
                client.post("/cameras/camera2/api/recording/stop", headers=origin)
        finally:
            process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in errors
    assert len(list((tmp_path / "kept" / "camera2").iterdir())) == 1
    assert not (tmp_path / "kept" / "door").exists()


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (["door=synthetic", "door=synthetic"], "two cameras are named 'door'"),
        (["camera2=synthetic", "synthetic"], "two cameras are named 'camera2'"),
        (["a b=synthetic", "synthetic"], "camera 'a b': a name has 1 to 64"),
        (["=synthetic", "synthetic"], "camera '': a name has 1 to 64"),
    ],
)
def test_names_of_the_command_line_that_are_none(cameras: list[str], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        named_cameras(cameras)


def test_specifications_are_no_names() -> None:
    specs = ["synthetic:photo.jpg,fps=30", "picamera2,fps=30", "./a=b.raw", "a/b=c.raw", "door=v4l2:/dev/video0,fps=5"]
    assert list(named_cameras(specs).items()) == [
        *((f"camera{number}", spec) for number, spec in enumerate(specs[:4], 1)),
        ("door", "v4l2:/dev/video0,fps=5"),
    ]


# The page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")
def test_the_page_in_chromium(served: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Tiles show moving pictures and numbers, and each opens the view of its camera, which leads back."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package 'playwright'")
    from tests.server.test_browser import is_endless, wait

    caplog.set_level(logging.WARNING)
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: None if is_endless(request.url) else errors.append(request.url))
        page.goto(served[1].url)
        wait(page, "window.tiles && ['door', 'yard'].every((n) => (window.tiles.get(n) || {}).pictures > 1)")
        before = page.evaluate("window.tiles.get('yard').canvas.toDataURL()")
        wait(page, "before => window.tiles.get('yard').canvas.toDataURL() !== before", before)
        text = page.inner_text("#cameras")
        assert "door" in text
        assert re.search(r"rfdcsanet-s\s+\d+\.\d/s, \d+ ms old\s+\d+ of \d+ frames", text), text
        assert page.inner_text("#state") == "2 of 2 cameras run"
        page.screenshot(path=str(tmp_path / "cameras.png"))
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.click("a.tile[href='cameras/yard/']")
        wait(page, "window.players && window.players.network.pictures > 0")
        assert page.url.endswith("/cameras/yard/")
        assert page.inner_text("#camera").startswith("yard: ")
        page.click("text=All cameras")
        wait(page, "window.tiles && window.tiles.size === 2")
        chromium.close()
    assert errors == []
