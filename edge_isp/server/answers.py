"""What all applications of the live view answer with: files, JSON, streams, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from importlib import resources
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from edge_isp.errors import EdgeIspError
from edge_isp.server.messages import Problem

# Clients that watch a stream of pictures or of detections.
MOST_STREAMS = 64
# Snapshots that are made or waited for at a time.
MOST_SNAPSHOTS = 4

JSON = "application/json"
BOUNDARY = "frame"
MULTIPART = f"multipart/x-mixed-replace; boundary={BOUNDARY}"


class Bounds:
    """How many streams and snapshots there may be at a time, of all cameras of a server together.

    Args:
        clients: how many clients watch a stream now.
    """

    def __init__(self, clients: Callable[[], int]) -> None:
        self._clients = clients
        self._snapshots, self._turn = 0, asyncio.Semaphore(1)

    def push(self, request: Request, chunks: Callable[[], AsyncGenerator[bytes, None]], media_type: str) -> Response:
        """A stream, unless too many clients watch one already.

        Args:
            request: that asks for it.
            chunks: makes the stream.
            media_type: of the stream.

        Raises:
            HTTPException: too many clients watch.
        """
        if request.method == "HEAD":
            return Response(media_type=media_type)
        if self._clients() >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} clients are watching already", {"Retry-After": "10"})
        return _Push(chunks(), media_type)

    async def snapshot(self, make: Callable[[], bytes]) -> bytes:
        """The content of a snapshot; one is made at a time.

        Args:
            make: makes it, in another thread.

        Raises:
            HTTPException: too many wait already.
        """
        if self._snapshots >= MOST_SNAPSHOTS:
            raise HTTPException(503, f"{MOST_SNAPSHOTS} snapshots are being made already", {"Retry-After": "1"})
        self._snapshots += 1
        try:
            async with self._turn:
                return await run_in_threadpool(make)
        finally:
            self._snapshots -= 1


class _Push(StreamingResponse):
    """A stream whose generator is closed at once when the client has gone."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(chunks, media_type=media_type)
        self._chunks = chunks

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._chunks):
            await super().stream_response(send)


def part(jpeg: bytes, sequence: int, timestamp_ns: int, more: str = "") -> bytes:
    """A picture as a part of `multipart/x-mixed-replace`; browsers show a part when the next boundary has come.

    Args:
        jpeg: the picture's file.
        sequence: of the frame.
        timestamp_ns: of the frame.
        more: further lines of the part's header, each with its end.
    """
    head = (
        f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Sequence: {sequence}\r\n"
        f"X-Timestamp-Ns: {timestamp_ns}\r\n{more}\r\n"
    )
    return b"".join((head.encode(), jpeg, f"\r\n--{BOUNDARY}\r\n".encode()))


def file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Answers with a file of the page.

    Args:
        name: of the file.
        media_type: of its content.
    """
    content = resources.files("edge_isp.server").joinpath("page", name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def health(good: bool, state: str) -> Response:
    """Answers whether something is well.

    Args:
        good: whether it is.
        state: what it does, in words.
    """
    return Response(f"{state}\n", status_code=200 if good else 503, media_type="text/plain; charset=utf-8")


def json_answer(content: object, status: int = 200, headers: Any = None) -> Response:
    """Answers with JSON.

    Args:
        content: what msgspec encodes.
        status: of the answer.
        headers: further ones.
    """
    return Response(msgspec.json.encode(content), status_code=status, media_type=JSON, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return json_answer(Problem(error.detail), error.status_code, error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    """The camera or a sink says no: the request was right, and cannot be done now."""
    return json_answer(Problem(str(error)), 409)


async def _gone(request: Request, error: Exception) -> Response:
    return json_answer(Problem("the client has gone"), 400)


HANDLERS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    HTTPException: _http_error,
    EdgeIspError: _refused,
    ClientDisconnect: _gone,
}
