"""RAW frames of another process or host, over Zenoh, as a camera."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

from edge_isp.cameras.base import CameraBase
from edge_isp.errors import CameraError, CameraTimeoutError, FormatError, shortened
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.recording.raw_message import decode_frame
from edge_isp.wall_clock import WallClock
from edge_isp.zenoh_session import boot_id, close_session, open_session

# Messages that wait to be read; the oldest is dropped, as in any camera.
_WAITING = 3


def decode_sample(payload: bytes, clocks: bytes, source: str, boot_id: str, wall_clock: WallClock) -> RawFrame:
    """The frame of a message, with its time stamp on this host's clock.

    Args:
        payload: the message.
        clocks: attachment that says how the sink's clocks ran, JSON.
        source: of the message, for errors.
        boot_id: of this host.
        wall_clock: of this host.

    Raises:
        CameraError: it is no frame.
        MissingDependencyError: protobuf is not installed.
    """
    try:
        sent = json.loads(clocks)
        frame = decode_frame(payload, int(sent["published_ns"]), source)
        timestamp_ns = frame.timestamp_ns
        if sent["boot"] != boot_id or not boot_id:
            timestamp_ns += int(sent["offset_ns"]) - wall_clock.offset_ns()
        if abs(timestamp_ns) >= 2**63:
            raise ValueError("its time stamp is out of range")
    except (FormatError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CameraError(f"{source}: what came is no frame: {shortened(str(error))}") from error
    return replace(frame, timestamp_ns=timestamp_ns)


class ZenohCamera(CameraBase):
    """Reads the RAW frames that a `ZenohSink` with `raw=yes` publishes: `zenoh:KEY` (extra `zenoh`).

    Numbers are the sensor's: frames that were lost on the way leave a gap. Time stamps are the start of exposure on
    this host's CLOCK_MONOTONIC: unchanged from a process of the same host, and over CLOCK_REALTIME from another one,
    whose clock must be synchronised (NTP, PTP).

    Args:
        key: of the sink.
        connect: endpoint of a router or of the sink's host; None finds it by multicast.
        listen: endpoint that the sink's host can connect to.

    Raises:
        CameraError: the key or an endpoint is not one, or no session can be opened.
        MissingDependencyError: protobuf is not installed.
    """

    def __init__(self, key: str, *, connect: str | None = None, listen: str | None = None) -> None:
        super().__init__(f"zenoh:{key}")
        self._changed = threading.Condition()
        self._messages: deque[Any] = deque(maxlen=_WAITING)
        self._boot_id, self._wall_clock = boot_id(), WallClock()
        self._sequence: int | None = None
        self._session = open_session(key, connect, listen, CameraError)
        self._opened = True
        # Zenoh keeps the function, which therefore does not hold the camera: one that is dropped is released.
        self._subscriber = self._session.declare_subscriber(f"{key}/raw", partial(_take, self._changed, self._messages))

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame; see `Camera.read`.

        Args:
            timeout_s: longest time to wait, in seconds; None waits without a limit.

        Raises:
            CameraTimeoutError: no frame came in time.
            CameraError: what came is no frame.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._messages or self.closed.is_set(), timeout_s):
                raise CameraTimeoutError(f"{self.source}: no frame within {timeout_s} s")
            if self.closed.is_set():
                return None
            sample = self._messages.popleft()
        clocks = b"" if sample.attachment is None else sample.attachment.to_bytes()
        frame = decode_sample(sample.payload.to_bytes(), clocks, self.source, self._boot_id, self._wall_clock)
        status = frame.status
        if self._sequence is not None and frame.sequence > self._sequence + 1:
            status |= FrameStatus.GAP
        self._sequence = frame.sequence
        return replace(frame, status=status)

    def _release(self) -> None:
        with self._changed:
            self._messages.clear()
            self._changed.notify_all()
        close_session(self._session, self.source)


def _take(changed: threading.Condition, messages: deque[Any], sample: Any) -> None:
    """In a thread of Zenoh's."""
    with changed:
        messages.append(sample)
        changed.notify_all()
