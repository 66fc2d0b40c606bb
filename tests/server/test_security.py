"""Who may do what: hosts, origins, tokens, paths, bodies, and clients that are too many or too slow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_isp.errors import ServerError
from edge_isp.pipeline import ModelOptions
from edge_isp.server.serving import LiveServer, read_token
from tests.server.http import connect, exchange, status_of
from tests.server.support import live_view

httpx = pytest.importorskip("httpx", reason="needs the package 'httpx'")
pytest.importorskip("uvicorn", reason="needs the extra [serve]")
TOKEN = "0123456789abcdef-the-token"
CHANGES = {
    "/api/controls": {"exposure_ns": 5_000_000},
    "/api/tone": {"brightness_ev": 1.0},
    "/api/recording/start": {"kind": "video"},
    "/api/recording/stop": {},
    "/api/recording/trigger": {},
}
PAGES = (
    "/",
    "/live.js",
    "/parts.js",
    "/style.css",
    "/api/status",
    "/api/openapi.json",
    "/metrics",
    "/snapshot.jpg",
    "/snapshot.dng",
)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    models = [ModelOptions("rfdcsanet-s", threads=1)]
    with live_view(tmp_path_factory.mktemp("recordings"), models=models) as (view, server):
        wait_for(lambda: view.newest is not None)
        yield view, server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that asks for a token."""
    folder = tmp_path_factory.mktemp("recordings")
    with live_view(folder, models=[ModelOptions("rfdcsanet-s", threads=1)], token=TOKEN) as (view, server):
        wait_for(lambda: view.newest is not None)
        yield server


@pytest.fixture
def client(view: Any) -> Iterator[Any]:
    with httpx.Client(base_url=f"http://127.0.0.1:{view[1].port}", timeout=30) as client:
        yield client


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def origin_of(client: Any) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


def test_every_page_is_there_and_may_not_be_embedded(client: Any) -> None:
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil.example:8000", "", "a b", "[::1"],
)
def test_a_foreign_host_is_refused(client: Any, host: str) -> None:
    """A page elsewhere whose name is made to point here (DNS rebinding)."""
    for path in (*PAGES, "/healthz", "/detections", "/stream.mjpg"):
        assert client.get(path, headers={"Host": host}).status_code in (400, 403), path


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9999", "[::1]:8000"])
def test_the_names_of_this_machine_are_known(client: Any, host: str) -> None:
    assert client.get("/api/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_a_change_from_elsewhere_is_refused(view: Any, client: Any, path: str, headers: dict[str, str]) -> None:
    before = view[0].status().tone, view[0].recorder.running, view[0].newest.raw.exposure_ns
    assert client.post(path, json=CHANGES[path], headers=headers).status_code == 403
    assert (view[0].status().tone, view[0].recorder.running, view[0].newest.raw.exposure_ns) == before


def test_a_change_is_no_get_and_no_form(client: Any) -> None:
    own = origin_of(client)
    for path in CHANGES:
        assert client.get(path, params=CHANGES[path]).status_code == 405
        assert client.put(path, json=CHANGES[path], headers=own).status_code == 405
    for path in ("/api/controls", "/api/tone", "/api/recording/start"):
        assert client.post(path, data={"exposure_ns": "5000000"}, headers=own).status_code == 415
        as_text = {**own, "Content-Type": "text/plain"}
        assert client.post(path, content=json.dumps(CHANGES[path]), headers=as_text).status_code == 415


def test_the_page_itself_may_change_settings(view: Any, client: Any) -> None:
    answer = client.post("/api/tone", json={"brightness_ev": 0.5}, headers=origin_of(client))
    assert answer.status_code == 200
    assert answer.json()["tone"]["brightness_ev"] == 0.5
    client.post("/api/tone", json={}, headers=origin_of(client))


def test_pictures_cannot_be_embedded_elsewhere(client: Any) -> None:
    for path in ("/snapshot.jpg", "/stream.mjpg", "/detections", "/api/status"):
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert client.get(path, headers=embedded).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=link).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page/index.html",
        "/..%2flive_view.py",
        "//etc/passwd",
        "/live.js/../app.py",
        "/snapshot.jpg%00.dng",
        "/snapshot.dng/../../etc/passwd",
        "/%c0%ae%c0%ae/etc/passwd",
    ],
)
def test_no_path_leads_elsewhere(view: Any, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = exchange(view[1].port, request.encode())
    assert status_of(answer) in (400, 404), answer[:200]
    assert b"root:" not in answer


def test_bodies_are_bounded(view: Any, client: Any) -> None:
    long = b'{"brightness_ev": 0.5' + b" " * 100_000 + b"}"
    answer = client.post("/api/tone", content=long, headers={**origin_of(client), "Content-Type": "application/json"})
    assert answer.status_code == 413
    chunked = b"POST /api/tone HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    chunked += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 4
    assert status_of(exchange(view[1].port, chunked, most_bytes=64)) == 413


@pytest.mark.parametrize("size", [20_000, 70_000, 1_000_000])
def test_headers_are_bounded(view: Any, size: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * size + b"\r\nConnection: close\r\n\r\n"
    try:
        answer = exchange(view[1].port, request)
    except (ConnectionResetError, BrokenPipeError):  # closed before all of it was sent
        return
    assert status_of(answer) in (400, 431)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"exposure_ns": "1"}',
        b'{"exposure": 1}',
        b'{"exposure_ns": 1e400}',
        b'{"exposure_ns": -5}',
        b'{"analogue_gain": NaN}',
        b'{"auto_exposure": 1}',
        b"\xff\xfe",
        b"[" * 4000,
    ],
)
def test_malformed_settings_are_refused(client: Any, content: bytes) -> None:
    headers = {**origin_of(client), "Content-Type": "application/json"}
    answer = client.post("/api/controls", content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_settings_out_of_limits_are_refused_and_change_nothing(view: Any, client: Any) -> None:
    before = view[0].newest.raw.exposure_ns
    answer = client.post("/api/controls", json={"exposure_ns": 10**11}, headers=origin_of(client))
    assert answer.status_code == 409
    assert "exposure_ns must be from" in answer.json()["error"]
    both = client.post("/api/controls", json={"exposure_ns": 10**7, "auto_exposure": True}, headers=origin_of(client))
    assert both.status_code == 409
    assert view[0].newest.raw.exposure_ns == before


def test_without_the_token_there_is_nothing(guarded: LiveServer) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{guarded.port}", timeout=30) as client:
        for path in (*PAGES, "/detections", "/stream.mjpg"):
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": f"Basic {TOKEN}"},
                {"Cookie": f"edge_isp_{guarded.port}=wrong"},
                {"Cookie": f"other={TOKEN}"},
            ):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401, (path, headers)
                assert TOKEN not in answer.text
        for path, body in CHANGES.items():
            assert client.post(path, json=body, headers=origin_of(client)).status_code == 401
        assert client.get("/", params={"token": "wrong"}).status_code == 401
        assert client.get("/api/status", params={"token": TOKEN}).status_code == 401
        assert client.get("/healthz").status_code == 200


def test_the_link_gives_a_cookie_and_the_cookie_opens_everything(guarded: LiveServer) -> None:
    assert guarded.url.endswith(f"/?token={TOKEN}")
    with httpx.Client(base_url=f"http://127.0.0.1:{guarded.port}", timeout=30) as client:
        answer = client.get("/", params={"token": TOKEN})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()
        assert client.get("/").status_code == 200
        assert client.post("/api/tone", json={}, headers=origin_of(client)).status_code == 200
        # The cookie comes along with a request of any page in that browser: the origin decides.
        assert client.post("/api/tone", json={}, headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.post("/api/tone", json={}).status_code == 403


def test_a_program_with_the_token_needs_no_origin(guarded: LiveServer) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{guarded.port}", timeout=30, headers=bearer) as client:
        assert client.get("/metrics").status_code == 200
        assert client.post("/api/tone", json={}).status_code == 200


def test_another_address_always_has_a_token(tmp_path: Path) -> None:
    models = [ModelOptions("rfdcsanet-s", threads=1)]
    with live_view(tmp_path, models=models, host="0.0.0.0") as (_, server):
        assert server.token is not None
        assert len(server.token) >= 40
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            assert client.get("/").status_code == 401
            # By its address, which no name can be made to point away from.
            known = {"Authorization": f"Bearer {server.token}", "Host": "192.168.1.5:8000"}
            assert client.get("/", headers=known).status_code == 200
            assert client.get("/", headers={**known, "Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("content", ["", "short", "with space in the middle of it", "ü" * 20, "x" * 5000])
def test_a_token_file_without_a_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ServerError, match="token"):
        read_token(path)
    with pytest.raises(ServerError, match="cannot be read"):
        read_token(tmp_path / "absent")
    path.write_text(f"  {TOKEN}\n")
    assert read_token(path) == TOKEN


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.77", 8000), ("no.such.name.invalid", 8000), ("127.0.0.1", 99999)]
)
def test_an_address_that_cannot_be_had(view: Any, host: str, port: int) -> None:
    with pytest.raises(ServerError, match="cannot be listened at"):
        LiveServer(view[0], host=host, port=port)


def test_a_port_that_is_taken(view: Any) -> None:
    with pytest.raises(ServerError, match="cannot be listened at"):
        LiveServer(view[0], port=view[1].port)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /api/tone HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half a line", "half the headers", "half a body"],
)
def test_a_client_that_never_finishes_its_request_is_dropped(
    view: Any, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    from edge_isp.server.protocol import LimitedProtocol

    monkeypatch.setattr(LimitedProtocol, "request_s", 0.3)
    with connect(view[1].port) as connection:
        connection.sendall(start)
        assert dripped_until_closed(connection)


def test_the_second_request_of_a_connection_has_to_end_too(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_isp.server.protocol import LimitedProtocol

    monkeypatch.setattr(LimitedProtocol, "request_s", 1.0)
    with connect(view[1].port) as connection:
        connection.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"</svg>\n"):
            answer += connection.recv(4096)
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert dripped_until_closed(connection)


def dripped_until_closed(connection: Any) -> bool:
    """Sends a byte now and then, as slow-loris clients do, until the server ends the connection."""
    connection.settimeout(0.05)
    for _ in range(200):
        try:
            connection.sendall(b"x")
            if connection.recv(1000) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_a_connection_that_is_kept_open_is_not_cut_in_use(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a request's time is that of one request."""
    from edge_isp.server.protocol import LimitedProtocol

    monkeypatch.setattr(LimitedProtocol, "request_s", 1.0)
    with connect(view[1].port) as connection:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            connection.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"</svg>\n"):
                chunk = connection.recv(4096)
                assert chunk
                answer += chunk
            assert status_of(answer) == 200


def test_a_stream_goes_on_for_longer_than_a_request_may_take(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_isp.server.protocol import LimitedProtocol

    monkeypatch.setattr(LimitedProtocol, "request_s", 0.3)
    monkeypatch.setattr(LimitedProtocol, "reading_s", 0.5)
    with connect(view[1].port) as connection:
        connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert connection.recv(1 << 16)


def test_a_client_that_never_reads_is_dropped(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_isp.server.protocol import LimitedProtocol

    monkeypatch.setattr(LimitedProtocol, "reading_s", 0.5)
    channel = view[0].channels["network"]
    with connect(view[1].port, receive_bytes=4096) as connection:
        connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: channel.viewers == 1)
        wait_for(lambda: channel.viewers == 0)


def test_connections_are_bounded(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_isp.server.protocol import LimitedProtocol

    monkeypatch.setattr(LimitedProtocol, "most_connections", 3)
    held = [connect(view[1].port) for _ in range(3)]
    try:
        wait_for(lambda: is_refused(view[1].port))
    finally:
        for connection in held:
            connection.close()
    wait_for(lambda: not is_refused(view[1].port))


def is_refused(port: int) -> bool:
    try:
        return not exchange(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    except OSError:
        return True


def test_streams_are_bounded(view: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_isp.server import answers

    monkeypatch.setattr(answers, "MOST_STREAMS", 0)
    for path in ("/stream.mjpg", "/detections"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
