"""Results and RAW frames to other processes and hosts, over Zenoh."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import zenoh
import zenoh.shm

from edge_isp.errors import SinkError
from edge_isp.frame import RawFrame
from edge_isp.recording.raw_message import encode_metadata
from edge_isp.result_json import result_json
from edge_isp.results import FrameResult, Picture
from edge_isp.zenoh_session import POOL_BYTES, boot_id, close_session, open_session

_log = logging.getLogger(__name__)


class ZenohSink:
    """Publishes results below a key, `zenoh:KEY` (extra `zenoh`), to any number of subscribers:

    - `KEY/result`: each result as JSON, with the start of exposure as `timestamp_realtime_ns`;
    - `KEY/picture`: pictures as JPEG;
    - `KEY/raw`, with `raw=yes`: RAW frames, which `--camera zenoh:KEY` reads on another host;
    - `KEY/alive`: a liveliness token, as long as the sink is open;
    - a query of `KEY/newest` gets the newest result as JSON.

    What nobody subscribes to is not made. A subscriber that is slow or killed slows nobody: pictures and RAW frames
    that do not fit into the network's queues are dropped, and one that takes nothing for 0.2 s is disconnected. On one
    host RAW frames are in shared memory.

    Args:
        key: such as "home/door".
        raw: whether to publish RAW frames.
        pictures: whether to publish pictures.
        connect: endpoint of a router or another host, such as "tcp/192.168.1.5:7447"; None finds others by multicast.
        listen: endpoint that others can connect to.

    Attributes:
        needs_raw: see `Sink`.
        lost: number of results that could not be published.

    Raises:
        SinkError: the key or an endpoint is not one, or no session can be opened.
    """

    def __init__(
        self,
        key: str,
        *,
        raw: bool = False,
        pictures: bool = True,
        connect: str | None = None,
        listen: str | None = None,
    ) -> None:
        self.needs_raw, self.lost = raw, 0
        self._key, self._with_pictures = key, pictures
        self._boot_id = boot_id()
        self._session = open_session(key, connect, listen, SinkError)
        try:
            drop, wait = zenoh.CongestionControl.DROP, zenoh.CongestionControl.BLOCK
            self._publishers = {
                name: self._session.declare_publisher(f"{key}/{name}", congestion_control=control)
                for name, control in (("result", wait), ("picture", drop), *((("raw", drop),) if raw else ()))
            }
            self._newest: FrameResult | None = None
            self._queryable = self._session.declare_queryable(f"{key}/newest", self._answer)
            self._alive = self._session.liveliness().declare_token(f"{key}/alive")
            self._pool = zenoh.shm.ShmProvider.default_backend(POOL_BYTES) if raw else None
        except zenoh.ZError as error:
            close_session(self._session, f"zenoh:{key}")
            raise SinkError(f"zenoh:{key}: {error}") from error
        self._closed = False

    def write(self, result: FrameResult) -> None:
        """Publishes a result.

        Args:
            result: with `raw`, if RAW frames are wanted.

        Raises:
            SinkError: the sink is closed.
        """
        if self._closed:
            raise SinkError(f"zenoh:{self._key}: the sink is closed")
        self._newest = replace(result, raw=None)
        try:
            if self._is_wanted("result"):
                self._publishers["result"].put(_document(result))
            if isinstance(result.result, Picture) and self._with_pictures and self._is_wanted("picture"):
                self._publishers["picture"].put(result.result.jpeg())
            if result.raw is not None and self.needs_raw and self._is_wanted("raw"):
                self._put_raw(result, result.raw)
        except zenoh.ZError as error:
            self.lost += 1
            if self.lost == 1:
                _log.warning("zenoh:%s: a result is lost: %s", self._key, error)

    def close(self) -> None:
        """Ends the publication. Idempotent."""
        if not self._closed:
            self._closed = True
            close_session(self._session, f"zenoh:{self._key}")

    def _is_wanted(self, name: str) -> bool:
        """Whether somebody subscribes."""
        matching: bool = self._publishers[name].matching_status.matching
        return matching

    def _put_raw(self, result: FrameResult, frame: RawFrame) -> None:
        head, data = encode_metadata(frame, frame.data.nbytes), frame.data.tobytes()
        clocks = json.dumps(
            {
                "boot": self._boot_id,
                "offset_ns": result.wall_clock_offset_ns,
                "published_ns": result.timestamp_realtime_ns,
            }
        )
        self._publishers["raw"].put(self._shared(head, data), attachment=clocks)

    def _shared(self, head: bytes, data: bytes) -> Any:
        """A message in shared memory, or as bytes where that is full: a subscriber on this host holds the frames."""
        assert self._pool is not None
        try:
            buffer = self._pool.alloc(len(head) + len(data), zenoh.shm.GarbageCollect())
        except zenoh.ZError:
            return b"".join((head, data))
        buffer[: len(head)] = head
        buffer[len(head) :] = data
        return buffer

    def _answer(self, query: Any) -> None:
        """In a thread of Zenoh's."""
        if self._newest is not None:
            query.reply(f"{self._key}/newest", _document(self._newest))


def _document(result: FrameResult) -> bytes:
    """A result as JSON."""
    return json.dumps(result_json(result) | {"timestamp_realtime_ns": result.timestamp_realtime_ns}).encode()
