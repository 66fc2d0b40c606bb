"""A stream of JPEG pictures: each frame is encoded once, for all viewers, and only while there are any."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass

from edge_isp.errors import EdgeIspError
from edge_isp.results import FrameResult, Picture
from edge_isp.server.broadcast import Broadcast
from edge_isp.server.tone import Tone

_log = logging.getLogger(__name__)

# Smaller than the sinks' 90, for the network's sake; artefacts are hard to see.
_QUALITY = 85


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture as it is sent.

    Attributes:
        jpeg: the file's content.
        sequence: of the frame.
        timestamp_ns: of the frame.
    """

    jpeg: bytes
    sequence: int
    timestamp_ns: int


def encode_jpeg(picture: Picture) -> bytes:
    """A picture as the content of a JPEG file.

    Args:
        picture: to encode.
    """
    import simplejpeg

    return bytes(
        simplejpeg.encode_jpeg(picture.rgb, quality=_QUALITY, colorspace="RGB", colorsubsampling="420", fastdct=True)
    )


class Channel:
    """One view of the stream, which viewers watch.

    Args:
        name: of the view.
        picture_of: makes the picture of a result, in the channel's thread.
        tone: of the pictures, at any time.
    """

    def __init__(self, name: str, picture_of: Callable[[FrameResult], Picture], tone: Callable[[], Tone]) -> None:
        self.name = name
        self._picture_of, self._tone = picture_of, tone
        self._changed = threading.Condition()
        self._newest: FrameResult | None = None
        self._encoded_of: FrameResult | None = None
        self._viewers, self._closed = 0, False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pictures: Broadcast[EncodedPicture] = Broadcast()
        self.encoded = 0
        self._thread = threading.Thread(target=self._encode_all, name=f"edge_isp serve {name}", daemon=True)
        self._thread.start()

    @property
    def viewers(self) -> int:
        """How many viewers there are."""
        return self._viewers

    @property
    def newest(self) -> FrameResult | None:
        """The newest result; None before the first."""
        return self._newest

    def offer(self, result: FrameResult) -> None:
        """Shows a result to the viewers; it never waits.

        Args:
            result: the newest.
        """
        with self._changed:
            self._newest = result
            if self._viewers:
                self._changed.notify()

    def redraw(self) -> None:
        """Encodes the newest picture again, with the present tone."""
        with self._changed:
            self._encoded_of = None
            self._changed.notify()

    def picture(self, result: FrameResult) -> Picture:
        """The picture of a result in the present tone.

        Args:
            result: of the stream.
        """
        return self._tone().apply(self._picture_of(result))

    async def pictures(self) -> AsyncGenerator[EncodedPicture, None]:
        """The pictures for one viewer, who misses those for which they are too slow."""
        self._loop = asyncio.get_running_loop()
        version = self._pictures.version
        with self._changed:
            self._viewers += 1
            self._encoded_of = None  # also the newest one, which a camera that is slow may show for long
            self._changed.notify()
        try:
            while (found := await self._pictures.after(version)) is not None:
                version, picture = found
                yield picture
        finally:
            with self._changed:
                self._viewers -= 1

    def close(self) -> None:
        """Ends the thread and the viewers' streams. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._in_loop(self._pictures.end)

    def _encode_all(self) -> None:
        while (result := self._next()) is not None:
            try:
                picture = self.picture(result)
                encoded = EncodedPicture(encode_jpeg(picture), picture.sequence, picture.timestamp_ns)
            except EdgeIspError as error:
                _log.warning("%s: no picture of frame %d: %s", self.name, result.sequence, error)
                continue
            self.encoded += 1
            self._in_loop(self._pictures.publish, encoded)

    def _next(self) -> FrameResult | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._wanted)
            self._encoded_of = self._newest
            return None if self._closed else self._newest

    @property
    def _wanted(self) -> bool:
        return self._viewers > 0 and self._newest is not None and self._newest is not self._encoded_of

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(function, *arguments)
