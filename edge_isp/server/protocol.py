"""HTTP connections with limits: on their number, on the time that a request may take, and on readers that do not read.

uvicorn by itself waits without a limit for a request that never ends, and for a client that never reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# Connections at a time; a browser opens up to six.
MOST_CONNECTIONS = 160
# Seconds until a request has to be there, headers and body, from the connection's or the request's first byte on.
REQUEST_S = 10.0
# Seconds in which a client has to read what waits for it.
READING_S = 20.0


class _Timer:
    """Calls a function once after some time, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], None]) -> None:
        self._loop, self._seconds, self._call = loop, seconds, call
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Does nothing where it runs already."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class LimitedProtocol(H11Protocol):
    """A connection of uvicorn's that is dropped when it is one too many, or too slow in either direction."""

    request_s, reading_s, most_connections = REQUEST_S, READING_S, MOST_CONNECTIONS

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._requesting = _Timer(self.loop, self.request_s, self._drop)
        self._reading = _Timer(self.loop, self.reading_s, self._drop)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Refuses a connection too many; see `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._requesting.start()

    def data_received(self, data: bytes) -> None:
        """Sees to it that a request ends; see `asyncio.Protocol`."""
        self._requesting.start()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._requesting.stop()

    def on_response_complete(self) -> None:
        """A request whose body was not waited for has to end, too; see `H11Protocol`."""
        if not self.cycle.more_body:
            self._requesting.stop()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client has not read for a while; see `asyncio.Protocol`."""
        super().pause_writing()
        self._reading.start()

    def resume_writing(self) -> None:
        """The client has read; see `asyncio.Protocol`."""
        self._reading.stop()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the timers; see `asyncio.Protocol`."""
        self._requesting.stop()
        self._reading.stop()
        super().connection_lost(exc)

    def _drop(self) -> None:
        # `close` would wait until the client has read what is written already.
        self.transport.abort()
