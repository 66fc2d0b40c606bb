"""The addresses of the live view: the page, streams, snapshots, the API, metrics and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from importlib import resources
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from edge_isp.errors import EdgeIspError
from edge_isp.results import FrameResult
from edge_isp.server.channel import Channel, encode_jpeg
from edge_isp.server.live_view import LiveView
from edge_isp.server.messages import ControlsRequest, Problem, RecordingRequest, ToneRequest
from edge_isp.server.openapi import openapi
from edge_isp.server.tone import Tone

T = TypeVar("T")

# Clients that watch a stream of pictures or of detections.
MOST_STREAMS = 64
# Snapshots that are made or waited for at a time.
MOST_SNAPSHOTS = 4
# A request's body; every one that means something is far smaller.
LONGEST_BODY = 4096

_JSON = "application/json"
_BOUNDARY = "frame"
# Events that keep a connection open where nothing is detected for long.
_SIGN_OF_LIFE_S = 15.0

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(view: LiveView, *, needs_token: bool) -> Starlette:
    """The application, without the checks of `Guard`.

    Args:
        view: that is shown.
        needs_token: whether the API's document says that a token is needed.
    """
    live = _Live(view)
    routes = [
        *(Route(path, _file(name, media_type)) for path, (name, media_type) in _PAGE.items()),
        Route("/stream.mjpg", live.stream),
        Route("/snapshot.jpg", live.snapshot_jpeg),
        Route("/snapshot.png", live.snapshot_png),
        Route("/snapshot.dng", live.snapshot_dng),
        Route("/detections", live.detections),
        Route("/metrics", live.metrics),
        Route("/healthz", live.healthz),
        Route("/readyz", live.readyz),
        Route("/api/openapi.json", _openapi(needs_token)),
        Route("/api/status", live.status),
        Route("/api/controls", live.controls, methods=["POST"]),
        Route("/api/tone", live.tone, methods=["POST"]),
        Route("/api/recording/start", live.start_recording, methods=["POST"]),
        Route("/api/recording/stop", live.stop_recording, methods=["POST"]),
        Route("/api/recording/trigger", live.trigger_event, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_error, EdgeIspError: _refused, ClientDisconnect: _gone},
    )


class _Live:
    """What is answered, address by address."""

    def __init__(self, view: LiveView) -> None:
        self._view = view
        self._snapshots, self._snapshot_turn = 0, asyncio.Semaphore(1)

    async def stream(self, request: Request) -> Response:
        channel = self._channel(request)
        media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        return self._push(request, lambda: _parts(channel), media_type)

    async def detections(self, request: Request) -> Response:
        return self._push(request, self._events, "text/event-stream")

    async def snapshot_jpeg(self, request: Request) -> Response:
        channel = self._channel(request)
        return await self._snapshot(channel, lambda done: encode_jpeg(channel.picture(done)), "image/jpeg", "jpg")

    async def snapshot_png(self, request: Request) -> Response:
        channel = self._channel(request)
        return await self._snapshot(channel, lambda done: channel.picture(done).png(), "image/png", "png")

    async def snapshot_dng(self, request: Request) -> Response:
        return await self._snapshot(self._view.channels["classical"], _dng, "image/x-adobe-dng", "dng")

    async def metrics(self, request: Request) -> Response:
        text, media_type = await run_in_threadpool(self._view.metrics.text)
        return Response(text, media_type=media_type)

    async def healthz(self, request: Request) -> Response:
        return _health(self._view.healthy, self._view.pipeline.state.value)

    async def readyz(self, request: Request) -> Response:
        return _health(self._view.ready, self._view.pipeline.state.value)

    async def status(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._view.status))

    async def controls(self, request: Request) -> Response:
        asked = await _body(request, ControlsRequest)
        await run_in_threadpool(
            lambda: self._view.controls.change(
                exposure_ns=None if asked.exposure_ns is None else round(asked.exposure_ns),
                analogue_gain=asked.analogue_gain,
                auto_exposure=asked.auto_exposure,
                auto_white_balance=asked.auto_white_balance,
            )
        )
        return await self.status(request)

    async def tone(self, request: Request) -> Response:
        asked = await _body(request, ToneRequest)
        self._view.set_tone(Tone(asked.brightness_ev, asked.contrast), asked.curve)
        return await self.status(request)

    async def start_recording(self, request: Request) -> Response:
        asked = await _body(request, RecordingRequest)
        await run_in_threadpool(self._view.start_recording, asked.kind)
        return await self.status(request)

    async def stop_recording(self, request: Request) -> Response:
        await _no_body(request)
        await run_in_threadpool(self._view.recorder.stop)
        return await self.status(request)

    async def trigger_event(self, request: Request) -> Response:
        await _no_body(request)
        await run_in_threadpool(self._view.trigger_event)
        return await self.status(request)

    def _channel(self, request: Request) -> Channel:
        name = request.query_params.get("view")
        channel = self._view.channel(name)
        if channel is None:
            raise HTTPException(400, f"view must be one of {', '.join(self._view.channels)}")
        return channel

    def _push(self, request: Request, chunks: Callable[[], AsyncGenerator[bytes, None]], media_type: str) -> Response:
        if request.method == "HEAD":
            return Response(media_type=media_type)
        if self._view.clients >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} clients are watching already", {"Retry-After": "10"})
        return _Push(chunks(), media_type)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        found = self._view.detections
        self._view.listeners += 1
        try:
            version = found.version
            yield b": detections follow\n\n"
            while True:
                try:
                    async with asyncio.timeout(_SIGN_OF_LIFE_S):
                        news = await found.after(version)
                except TimeoutError:
                    yield b": nothing new\n\n"
                    continue
                if news is None:
                    return
                version, event = news
                yield b"data: " + event + b"\n\n"
        finally:
            self._view.listeners -= 1

    async def _snapshot(
        self, channel: Channel, make: Callable[[FrameResult], bytes], media_type: str, suffix: str
    ) -> Response:
        newest = channel.newest
        if newest is None:
            raise HTTPException(503, "there is no frame yet", {"Retry-After": "1"})
        if self._snapshots >= MOST_SNAPSHOTS:
            raise HTTPException(503, f"{MOST_SNAPSHOTS} snapshots are being made already", {"Retry-After": "1"})
        self._snapshots += 1
        try:
            async with self._snapshot_turn:
                content = await run_in_threadpool(make, newest)
        finally:
            self._snapshots -= 1
        name = f"edge_isp_{newest.sequence:06d}.{suffix}"
        return Response(content, media_type=media_type, headers={"content-disposition": f'inline; filename="{name}"'})


class _Push(StreamingResponse):
    """A stream whose generator is closed at once when the client has gone."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(chunks, media_type=media_type)
        self._chunks = chunks

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._chunks):
            await super().stream_response(send)


async def _parts(channel: Channel) -> AsyncGenerator[bytes, None]:
    """Pictures as parts of `multipart/x-mixed-replace`; browsers show a part when the next boundary has come."""
    yield f"--{_BOUNDARY}\r\n".encode()
    async with aclosing(channel.pictures()) as pictures:
        async for picture in pictures:
            head = (
                f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\nX-Sequence: {picture.sequence}\r\n"
                f"X-Timestamp-Ns: {picture.timestamp_ns}\r\n\r\n"
            )
            yield b"".join((head.encode(), picture.jpeg, f"\r\n--{_BOUNDARY}\r\n".encode()))


def _dng(done: FrameResult) -> bytes:
    from edge_isp.recording.dng import dng_bytes

    assert done.raw is not None  # every result of the classical view has it
    return dng_bytes(done.raw)


async def _body(request: Request, kind: type[T]) -> T:
    """A request's body as JSON of a type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"the body must be {_JSON}")
    try:
        return msgspec.json.decode(await _bounded(request), type=kind)
    except msgspec.DecodeError as error:
        raise HTTPException(400, str(error)) from error


async def _no_body(request: Request) -> None:
    if await _bounded(request) not in (b"", b"{}", b"null"):
        raise HTTPException(400, "no body is expected")


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise HTTPException(413, f"the body must be at most {LONGEST_BODY} bytes", {"Connection": "close"})
    return bytes(body)


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("edge_isp.server").joinpath("page", name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def _openapi(needs_token: bool) -> Callable[[Request], Awaitable[Response]]:
    content = msgspec.json.encode(openapi(needs_token=needs_token))

    async def answer(request: Request) -> Response:
        return Response(content, media_type=_JSON)

    return answer


def _health(good: bool, state: str) -> Response:
    return Response(f"{state}\n", status_code=200 if good else 503, media_type="text/plain; charset=utf-8")


def _json(content: object, status: int = 200, headers: Any = None) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type=_JSON, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(Problem(error.detail), error.status_code, error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    """The camera or a sink says no: the request was right, and cannot be done now."""
    return _json(Problem(str(error)), 409)


async def _gone(request: Request, error: Exception) -> Response:
    return _json(Problem("the client has gone"), 400)
