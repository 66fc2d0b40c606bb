"""The addresses of the live view: the page, streams, snapshots, the API, metrics and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_isp.results import FrameResult
from edge_isp.server.answers import BOUNDARY, HANDLERS, JSON, MULTIPART, Bounds, file, health, json_answer, part
from edge_isp.server.channel import Channel, encode_jpeg
from edge_isp.server.live_view import LiveView
from edge_isp.server.messages import ControlsRequest, RecordingRequest, ToneRequest
from edge_isp.server.openapi import openapi
from edge_isp.server.tone import Tone

T = TypeVar("T")

# A request's body; every one that means something is far smaller.
LONGEST_BODY = 4096

# Events that keep a connection open where nothing is detected for long.
_SIGN_OF_LIFE_S = 15.0

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/parts.js": ("parts.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(view: LiveView, *, needs_token: bool, base: str = "", bounds: Bounds | None = None) -> Starlette:
    """The application, without the checks of `Guard`.

    Args:
        view: that is shown.
        needs_token: whether the API's document says that a token is needed.
        base: path that the addresses are below, such as "/cameras/door".
        bounds: shared with other views of the server; None is for this view alone.
    """
    live = _Live(view, bounds or Bounds(lambda: view.clients))
    document = openapi(needs_token=needs_token, base=base)

    async def describe(request: Request) -> Response:
        return json_answer(document)

    routes = [
        *(Route(path, file(name, media_type)) for path, (name, media_type) in _PAGE.items()),
        Route("/stream.mjpg", live.stream),
        Route("/snapshot.jpg", live.snapshot_jpeg),
        Route("/snapshot.png", live.snapshot_png),
        Route("/snapshot.dng", live.snapshot_dng),
        Route("/detections", live.detections),
        Route("/metrics", live.metrics),
        Route("/healthz", live.healthz),
        Route("/readyz", live.readyz),
        Route("/api/openapi.json", describe),
        Route("/api/status", live.status),
        Route("/api/controls", live.controls, methods=["POST"]),
        Route("/api/tone", live.tone, methods=["POST"]),
        Route("/api/recording/start", live.start_recording, methods=["POST"]),
        Route("/api/recording/stop", live.stop_recording, methods=["POST"]),
        Route("/api/recording/trigger", live.trigger_event, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        exception_handlers=HANDLERS,
    )


class _Live:
    """What is answered, address by address."""

    def __init__(self, view: LiveView, bounds: Bounds) -> None:
        self._view, self._bounds = view, bounds

    async def stream(self, request: Request) -> Response:
        channel = self._channel(request)
        return self._bounds.push(request, lambda: _parts(channel), MULTIPART)

    async def detections(self, request: Request) -> Response:
        return self._bounds.push(request, self._events, "text/event-stream")

    async def snapshot_jpeg(self, request: Request) -> Response:
        channel = self._channel(request)
        return await self._snapshot(channel, lambda done: encode_jpeg(channel.picture(done)), "image/jpeg", "jpg")

    async def snapshot_png(self, request: Request) -> Response:
        channel = self._channel(request)
        return await self._snapshot(channel, lambda done: channel.picture(done).png(), "image/png", "png")

    async def snapshot_dng(self, request: Request) -> Response:
        return await self._snapshot(self._view.channels["classical"], _dng, "image/x-adobe-dng", "dng")

    async def metrics(self, request: Request) -> Response:
        text, media_type = await run_in_threadpool(self._view.metrics_text)
        return Response(text, media_type=media_type)

    async def healthz(self, request: Request) -> Response:
        return health(self._view.healthy, self._view.pipeline.state.value)

    async def readyz(self, request: Request) -> Response:
        return health(self._view.ready, self._view.pipeline.state.value)

    async def status(self, request: Request) -> Response:
        return json_answer(await run_in_threadpool(self._view.status))

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
        content = await self._bounds.snapshot(partial(make, newest))
        name = f"edge_isp_{newest.sequence:06d}.{suffix}"
        return Response(content, media_type=media_type, headers={"content-disposition": f'inline; filename="{name}"'})


async def _parts(channel: Channel) -> AsyncGenerator[bytes, None]:
    yield f"--{BOUNDARY}\r\n".encode()
    async with aclosing(channel.pictures()) as pictures:
        async for picture in pictures:
            yield part(picture.jpeg, picture.sequence, picture.timestamp_ns)


def _dng(done: FrameResult) -> bytes:
    from edge_isp.recording.dng import dng_bytes

    assert done.raw is not None  # every result of the classical view has it
    return dng_bytes(done.raw)


async def _body(request: Request, kind: type[T]) -> T:
    """A request's body as JSON of a type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise HTTPException(415, f"the body must be {JSON}")
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
