"""Pictures pushed as H.264 to a media server: RTSP, SRT, UDP."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import av
from av.error import FFmpegError, ProtocolNotFoundError

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import SinkError, shortened
from edge_isp.results import FrameResult, Picture
from edge_isp.sinks.h264 import H264Writer
from edge_isp.sinks.pictures import Pictures
from edge_isp.spec import without_secrets

_log = logging.getLogger(__name__)

# A server that answers no sooner is as good as gone. Shorter than the pipeline's limit of a sink that does not respond.
_TIMEOUT_S = 4.0
_UNANSWERED_S = 3.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


class PushSink:
    """Pushes pictures as H.264 to a media server (extra `video`); a base class.

    The server may be absent when the stream starts, and may go and come back: while it is away results are lost and
    counted in `lost`, and the sink tries again after 0.5 s, 1 s, 2 s and so on up to 30 s.

    Args:
        address: what follows the scheme: //HOST:PORT/PATH.
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Attributes:
        needs_raw: see `Sink`.
        lost: number of results that were not sent, because the server was away.

    Raises:
        ProfileError: there is no such tone.
        SinkError: the address is not one, or this PyAV does not know the protocol.
    """

    needs_raw = "detections"
    scheme = ""
    default_port: int | None = None
    container = "mpegts"
    options: dict[str, str] = {}  # noqa: RUF012 - of the class, never changed

    def __init__(
        self, address: str, *, overlay: bool = False, profile: SensorProfile | None = None, tone: str = "camera"
    ) -> None:
        self._url = f"{self.scheme}:{address}"
        self._shown = without_secrets(self._url)
        try:
            parts = urlsplit(self._url)
            port = parts.port or self.default_port
        except ValueError as error:  # the port is no number
            raise SinkError(f"{shortened(self._shown)}: expected {self.scheme}://HOST:PORT/PATH: {error}") from error
        if not address.startswith("//") or not parts.hostname or port is None:
            raise SinkError(f"{shortened(self._shown)}: expected {self.scheme}://HOST:PORT/PATH")
        self._port = port
        _check_protocol(self.scheme, self.container)
        self._pictures = Pictures(profile, tone, overlay=overlay)
        self._connection: _Connection | None = None
        self._wait_s, self._next_try_s = _FIRST_WAIT_S, 0.0
        self._closed = self._was_away = False
        self.lost = 0

    def write(self, result: FrameResult) -> None:
        """Sends a result's picture, or counts it as lost where the server is away.

        Args:
            result: of a model that makes pictures, or with `raw`.

        Raises:
            SinkError: the result has no picture, or the sink is closed.
        """
        if self._closed:
            raise SinkError(f"{self._shown}: the sink is closed")
        if self._connection is None and time.monotonic() < self._next_try_s:
            self.lost += 1
            return
        picture = self._pictures.of(result)
        try:
            self._send(picture)
        except (FFmpegError, OSError) as error:
            self.lost += 1
            self._give_up(error)

    def close(self) -> None:
        """Ends the stream. Idempotent."""
        self._closed = True
        self._disconnect()

    def _send(self, picture: Picture) -> None:
        height, width, _ = picture.rgb.shape
        if self._connection is not None and self._connection.size != (width, height):
            self._disconnect()
        if self._connection is None:
            self._connection = _Connection(self._url, self._shown, self.container, self.options, width, height)
            self._connection.write(picture)  # connects
            _limit_unanswered(self._port)
        else:
            self._connection.write(picture)
        self._wait_s = _FIRST_WAIT_S
        if self._was_away:
            self._was_away = False
            _log.warning("%s: connected again; %d results were lost so far", self._shown, self.lost)

    def _give_up(self, error: Exception) -> None:
        """The server is away; the next try is later."""
        self._disconnect()
        reason = getattr(error, "strerror", None) or type(error).__name__
        if not self._was_away:
            _log.warning("%s: the server does not take the stream: %s; trying again", self._shown, reason)
        self._was_away = True
        self._next_try_s = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class RtspSink(PushSink):
    """Pushes pictures to an RTSP server such as MediaMTX or go2rtc, over TCP: `rtsp://HOST:8554/PATH`.

    See `PushSink`.

    Args:
        address: //HOST:PORT/PATH.
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Raises:
        SinkError: the address is not one.
    """

    scheme, default_port, container = "rtsp", 554, "rtsp"
    options = {"rtsp_transport": "tcp", "timeout": f"{round(_TIMEOUT_S * 1e6)}"}  # noqa: RUF012


class SrtSink(PushSink):
    """Pushes pictures to an SRT server, as MPEG-TS: `srt://HOST:8890?streamid=publish:NAME`.

    PyAV's wheel has no SRT, but PyAV that is built with the system's FFmpeg has. See `PushSink`.

    Args:
        address: //HOST:PORT, with a query if the server needs one.
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Raises:
        SinkError: the address is not one, or this PyAV has no SRT.
    """

    scheme = "srt"
    options = {"connect_timeout": f"{round(_TIMEOUT_S * 1e3)}", "timeout": f"{round(_TIMEOUT_S * 1e6)}"}  # noqa: RUF012


class UdpSink(PushSink):
    """Sends pictures as MPEG-TS in UDP packets, whether or not somebody receives them: `udp://HOST:PORT`.

    See `PushSink`.

    Args:
        address: //HOST:PORT.
        overlay: draws detections. Without it the picture of a detector's frame is plain.
        profile: of the sensor, for pictures of a detector's frames; None is the shipped profile of the frame's sensor.
        tone: of these pictures, "camera" or "srgb", see `ModelOptions.tone`.

    Raises:
        SinkError: the address is not one.
    """

    scheme = "udp"
    options = {"pkt_size": "1316"}  # noqa: RUF012 - seven packets of MPEG-TS, which fit an Ethernet frame


class _Connection:
    """A stream to a server."""

    def __init__(self, url: str, shown: str, container: str, options: dict[str, str], width: int, height: int) -> None:
        self._container: Any = av.open(url, "w", format=container, container_options=options)
        try:
            self._writer = H264Writer(shown, self._container, width, height)
        except BaseException:
            self._container.close()
            raise
        self.size = self._writer.size

    def write(self, picture: Picture) -> None:
        self._writer.write(picture)

    def close(self) -> None:
        # The server may be gone: what the encoder holds and the farewell are lost then.
        with suppress(FFmpegError, OSError):
            self._writer.finish()
        with suppress(FFmpegError, OSError):
            self._container.close()


def _limit_unanswered(port: int) -> None:
    """Makes the kernel end this process's TCP connections to a port when they stay unanswered.

    libav goes on writing to a server that has stopped reading, each packet until its own time is up, and offers no
    access to its socket.

    Args:
        port: of the server.
    """
    for number in os.listdir("/proc/self/fd"):
        try:
            duplicate = os.dup(int(number))
        except OSError:  # closed meanwhile
            continue
        try:
            connection = socket.socket(fileno=duplicate)
        except OSError:  # not a socket
            os.close(duplicate)
            continue
        with connection, suppress(OSError):  # not connected
            if connection.type == socket.SOCK_STREAM and connection.getpeername()[1:2] == (port,):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_UNANSWERED_S * 1e3))


def _check_protocol(scheme: str, container: str) -> None:
    """Refuses a protocol that this PyAV was built without."""
    if container == scheme:  # a format, which PyAV always has
        return
    try:
        # Without a host nothing is connected to: only the kind of the failure counts.
        with av.open(f"{scheme}:", "w", format=container) as output:
            output.add_stream("mpeg2video", rate=30)
            output.start_encoding()
    except ProtocolNotFoundError as error:
        raise SinkError(
            f"{scheme}: PyAV {av.__version__} is built without it, as all of PyAV's wheels are; PyAV built with the "
            "system's FFmpeg has it: pip install --no-binary av av; or use rtsp://"
        ) from error
    except (FFmpegError, OSError):
        return
