"""Records cameras to MCAP files, in a thread of its own: a disk that is slow, full or gone never stalls a camera.

What cannot be written is counted to the frame, and the count is written as soon as the disk takes it. Frames wait in
memory, up to a limit; with `before_s` it also holds the last seconds, which are written when something triggers.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import FormatError, SinkError
from edge_isp.frame import LARGEST_FRAME_BYTES, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import row_bytes
from edge_isp.kernels.squeeze import can_squeeze, squeeze
from edge_isp.kernels.warmup import compile_recording_kernels
from edge_isp.recording.mcap_file import Bytes, Entry, FileOutput, McapFile, Output, mcap_records
from edge_isp.recording.raw_message import encode_metadata
from edge_isp.recording.schemas import CLOCK, EVENTS, KINDS, METADATA, RAW, VERSION, Kind
from edge_isp.recording.storage import Storage
from edge_isp.wall_clock import SYSTEM_WALL_CLOCK

_log = logging.getLogger(__name__)

# What was written is on the disk, and small messages are in a chunk, after this long at the latest.
_SYNC_NS = 1_000_000_000
_SMALL_CHUNK = 1 << 20
# After a failure of the disk, how long nothing is tried.
_RETRY_NS = 1_000_000_000
# How long the last frames may take to be written when the recorder is closed, and then how long one write may hang.
_DRAIN_S, _HANGS_S = 30.0, 5.0

_NO_MEMORY, _DISK, _BUDGET, _UNFIT, _STOPPED = (
    "the disk is too slow",
    "the disk fails",
    "the disk budget is used up",
    "the frame is damaged",
    "the recorder was closed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """How a recording is written.

    Attributes:
        compress: whether chunks are compressed (zstd): a fifth smaller at several times the processor's work.
        split_bytes: a new file begins before a file would be larger; None is never.
        split_s: a new file begins when one has been written to for this many seconds; None is never.
        budget_bytes: of all recordings in the folder: the oldest ones are deleted, those of events never. None is
            unlimited.
        memory_bytes: of frames that wait for the disk, or for a trigger.
        before_s: nothing is written until `Recorder.trigger`; then the last seconds before it come first, and the file
            is one of an event. 0 writes everything.
        after_s: with `before_s`, seconds that are written after the last trigger.

    Raises:
        SinkError: a value is out of range.
    """

    compress: bool = False
    split_bytes: int | None = None
    split_s: float | None = None
    budget_bytes: int | None = None
    memory_bytes: int = 256 << 20
    before_s: float = 0.0
    after_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("split_bytes", "split_s", "budget_bytes", "memory_bytes", "after_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SinkError(f"{name} must be above 0, found {value}")
        if not 0 <= self.before_s < float("inf"):
            raise SinkError(f"before_s must be 0 or more, found {self.before_s}")


@dataclass(frozen=True, slots=True)
class RecordingCounts:
    """What became of the frames that a recorder got; `frames == written + waiting + discarded + sum(lost.values())`.

    Attributes:
        frames: that it got.
        written: to files that are, or were, on the disk.
        waiting: for the disk, or in memory for a trigger.
        discarded: older than what is kept for a trigger, which did not come.
        lost: by reason.
    """

    frames: int
    written: int
    waiting: int
    discarded: int
    lost: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Item:
    """A message in memory."""

    kind: Kind
    camera: str
    time_ns: int  # of arrival, CLOCK_MONOTONIC
    stamp_ns: int  # that it is of, CLOCK_MONOTONIC
    sequence: int
    head: bytes
    data: NDArray[np.uint8] | None = None

    @property
    def size(self) -> int:
        return len(self.head) + (0 if self.data is None else self.data.nbytes)

    @property
    def parts(self) -> tuple[Bytes, ...]:
        return (self.head,) if self.data is None else (self.head, self.data.data.cast("B"))


@dataclass(frozen=True, slots=True)
class _EventEnds:
    """The file of an event is complete."""


@dataclass(frozen=True, slots=True)
class _Attachment:
    """Belongs into the present file."""

    name: str
    content: bytes


class Recorder:
    """Writes frames, and what was made of them, to MCAP files. Safe to use from several threads.

    Args:
        path: a file whose name ends in ".mcap", for one file without limits; else a folder, which is made if needed, of
            files SESSION_NUMBER.mcap, and SESSION_NUMBER_event.mcap for triggered ones.
        options: how it is written.
        cameras: their names, which are parts of the topics.
        attachments: content by name, for every file: the sensor's profile, the page of `doctor`.
        metadata: texts by name, for every file: the model and its card's hash.
        open_output: opens a new file; raises OSError.

    Raises:
        MissingDependencyError: a package of the extra "recording" is not installed.
        SinkError: nothing can be written there, or an option needs a folder.
    """

    def __init__(
        self,
        path: str | Path,
        options: RecordingOptions | None = None,
        *,
        cameras: Sequence[str] = ("camera",),
        attachments: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, str] | None = None,
        open_output: Callable[[Path], Output] = FileOutput,
    ) -> None:
        mcap_records()
        compile_recording_kernels()
        self._options = options or RecordingOptions()
        self._cameras = tuple(cameras)
        self._attachments, self._metadata = dict(attachments or {}), dict(metadata or {})
        self._storage = Storage(
            Path(path), self._options.split_bytes, self._options.split_s, self._options.budget_bytes
        )
        if self._options.before_s and not self._storage.is_folder:
            raise SinkError(f"{path}: before_s needs a folder, for a file of each event; found the name of one file")
        self._open_output = open_output
        self._utc_offset_ns = SYSTEM_WALL_CLOCK.offset_ns()
        self._changed = threading.Condition()  # of everything down to the empty line
        self._queue: deque[_Item | _EventEnds | _Attachment] = deque()
        self._ring: deque[_Item] = deque()
        self._bytes = 0  # in the queue and the ring
        self._until_ns: int | None = None  # the present event's end
        self._frames = self._written = self._waiting = self._discarded = 0
        self._lost: Counter[str] = Counter()
        self._gaps: dict[str, tuple[int, int, str]] = {}  # by camera: first lost frame, how many, why
        self._free: dict[int, list[NDArray[np.uint8]]] = {}
        self._last_time_ns = 0
        self._unsqueezable: set[RawFormat] = set()  # formats of frames with bits where none should be
        self._closing = self._done = False
        self._failure: BaseException | None = None

        # The writer's own.
        self._file: McapFile | None = None
        self._channels: dict[tuple[Kind, str], int] = {}
        self._small: list[_Item] = []
        self._small_bytes = 0
        self._unsynced = 0  # frames
        self._synced_ns = self._anchored_ns = self._small_since_ns = 0
        self._retry_at_ns = 0
        self._drain_until_ns: int | None = None
        if not self._options.before_s:
            self._open_first()
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> RecordingCounts:
        """What became of the frames."""
        with self._changed:
            return RecordingCounts(self._frames, self._written, self._waiting, self._discarded, dict(self._lost))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were begun, in order."""
        return tuple(self._storage.files)

    @property
    def triggered(self) -> bool:
        """Whether an event is being recorded; always true without `before_s`."""
        with self._changed:
            return not self._options.before_s or self._until_ns is not None

    def frame(self, frame: RawFrame, camera: str | None = None) -> None:
        """Takes a copy of a frame, exactly as it is, for the disk. Never waits.

        Args:
            frame: as the camera gave it; not released.
            camera: its name; None is the first.
        """
        now, camera = time.monotonic_ns(), camera or self._cameras[0]
        layout = frame.format
        squeezes = can_squeeze(layout.layout) and layout not in self._unsqueezable
        width = row_bytes("csi2p", layout.bit_depth, layout.width) if squeezes else layout.stride
        size = layout.height * width
        reserved = size + getattr(frame.isp_picture, "nbytes", 0)
        with self._changed:
            self._frames += 1
            if self._closing:
                self._lose(camera, _sequence(frame), _STOPPED)
                return
            if not self._make_room(reserved):
                self._lose(camera, _sequence(frame), _NO_MEMORY)
                return
            self._waiting += 1
            self._bytes += reserved
            free = self._free.get(size)
            data = free.pop() if free else np.empty(size, np.uint8)
        try:
            _check_data(frame)
            data, packing = self._copied(frame, data.reshape(layout.height, width), squeezes)
            head, stamp_ns = encode_metadata(frame, data.size, packing), int(frame.timestamp_ns)
        except FormatError as error:
            _log.warning("%s", error)
            with self._changed:
                self._bytes -= reserved
                self._waiting -= 1
                self._lose(camera, _sequence(frame), _UNFIT)
            return
        item = _Item(RAW, camera, now, stamp_ns, frame.sequence, head, data)
        with self._changed:
            self._bytes += item.size - reserved
        self._add(item)

    def _copied(
        self, frame: RawFrame, data: NDArray[np.uint8], squeezes: bool
    ) -> tuple[NDArray[np.uint8], Packing | None]:
        """The frame's bytes, without the bits that are always 0 where that loses nothing, and how they are packed."""
        layout = frame.format
        if not squeezes:
            np.copyto(data, frame.data)
            return data.reshape(-1), None
        if squeeze(frame.data, layout.layout, data) and not frame.data[:, layout.row_bytes :].any():
            return data.reshape(-1), Packing.CSI2P
        self._unsqueezable.add(layout)
        return frame.data.reshape(-1).copy(), None

    def message(self, kind: Kind, content: Mapping[str, Any], stamp_ns: int, camera: str | None = None) -> None:
        """Takes a small message for the disk. Where the memory is full only events are taken.

        Args:
            kind: of the message, any but RAW.
            content: of the message, see `schemas`.
            stamp_ns: the time that it is of, CLOCK_MONOTONIC.
            camera: that it is about; None is the first.
        """
        head = json.dumps(content, allow_nan=False).encode()
        with self._changed:
            if self._closing or not (self._make_room(len(head)) or kind is EVENTS):
                return
            self._bytes += len(head)
        self._add(_Item(kind, camera or self._cameras[0], time.monotonic_ns(), stamp_ns, 0, head))

    def attach(self, name: str, content: bytes) -> None:
        """Adds an attachment to the present file, and to every one that follows.

        Args:
            name: of the attachment.
            content: of it.
        """
        with self._changed:
            self._attachments[name] = content
            self._queue.append(_Attachment(name, content))
            self._changed.notify_all()

    def utc_ns(self, monotonic_ns: int) -> int:
        """A time of CLOCK_MONOTONIC in nanoseconds of UTC, as the recording's times are; not below 0.

        Args:
            monotonic_ns: the time.
        """
        return min(max(monotonic_ns + self._utc_offset_ns, 0), 2**63 - 1)

    def trigger(self, reason: str) -> None:
        """Begins an event, or makes the present one longer; without `before_s` it is noted in the recording.

        Args:
            reason: in words.
        """
        now = time.monotonic_ns()
        with self._changed:
            begins = self._until_ns is None
            if self._options.before_s:
                self._until_ns = now + round(self._options.after_s * 1e9)
                if begins:
                    self._queue.extend(self._ring)
                    self._ring.clear()
                    self._changed.notify_all()
        if begins:
            self.message(EVENTS, {"kind": "trigger", "time_ns": now, "reason": reason}, now)

    def close(self) -> None:
        """Writes what waits, for at most half a minute, and the index. Idempotent.

        Raises:
            SinkError: the disk does not respond.
        """
        with self._changed:
            if not self._closing:
                self._closing = True
                self._drain_until_ns = time.monotonic_ns() + round(_DRAIN_S * 1e9)
                while self._ring:
                    self._discard(self._ring.popleft())
            self._changed.notify_all()
        self._thread.join(_DRAIN_S + _HANGS_S)
        if self._thread.is_alive():
            raise SinkError(f"{self._storage.path}: the disk does not respond; what waits for it is not recorded")
        if self._failure is not None:
            raise SinkError(f"{self._storage.path}: recording failed: {self._failure}") from self._failure

    def _make_room(self, size: int) -> bool:
        """Whether there is memory for a frame or a message; what waits for a trigger gives way."""
        while self._bytes + size > self._options.memory_bytes and self._ring:
            self._discard(self._ring.popleft())
        return self._bytes + size <= self._options.memory_bytes

    def _has_room(self) -> bool:
        with self._changed:
            return self._bytes < self._options.memory_bytes

    def _add(self, item: _Item) -> None:
        """Puts an item where it waits: into the queue, or into the ring of the last seconds."""
        with self._changed:
            # A recording's times rise, so that readers who sort by them keep the order.
            self._last_time_ns = max(self._last_time_ns + 1, item.time_ns)
            item = replace(item, time_ns=self._last_time_ns)
            if self._done:  # closed while the frame was copied
                self._settle(item, _STOPPED)
                return
            if self._until_ns is not None and item.time_ns > self._until_ns:
                self._until_ns = None
                self._queue.append(_EventEnds())
            if not self._options.before_s or self._until_ns is not None:
                self._queue.append(item)
                self._changed.notify_all()
                return
            self._ring.append(item)
            oldest = item.time_ns - round(self._options.before_s * 1e9)
            while self._ring[0].time_ns < oldest:
                self._discard(self._ring.popleft())

    def _discard(self, item: _Item) -> None:
        self._give_back(item)
        if item.kind is RAW:
            self._waiting -= 1
            self._discarded += 1

    def _give_back(self, item: _Item) -> None:
        """An item is no longer in memory; its buffer serves the next frame."""
        self._bytes -= item.size
        if item.data is not None:
            self._free = {item.data.size: [*self._free.get(item.data.size, ())[:3], item.data]}

    def _lose(self, camera: str, sequence: int, reason: str) -> None:
        """Counts a frame that is not recorded; a run of them is one event."""
        self._lost[reason] += 1
        first, frames, why = self._gaps.get(camera, (sequence, 0, reason))
        if why != reason and frames:
            why = f"{why}; {reason}" if reason not in why else why
        self._gaps[camera] = first, frames + 1, why

    def _write_all(self) -> None:
        """The writer's thread."""
        try:
            while True:
                item = self._next()
                if item is None:
                    break
                if isinstance(item, _EventEnds):
                    self._finish_file()
                elif isinstance(item, _Attachment):
                    self._write_attachment(item)
                elif item.kind is RAW:
                    self._write_frame(item)
                else:
                    self._small.append(item)
                    self._small_bytes += item.size
                self._housekeeping()
            self._note_gaps()
            self._finish_file()
        except BaseException as error:
            self._failure = error
            with self._changed:
                self._done = self._closing = True
                while self._queue:
                    left = self._queue.popleft()
                    if isinstance(left, _Item):
                        self._settle(left, _STOPPED)
            raise

    def _next(self) -> _Item | _EventEnds | _Attachment | None:
        """The next item; None when there will be no more. Wakes up for what is due without one."""
        while True:
            with self._changed:
                if not self._queue and not self._closing:
                    self._changed.wait(_SYNC_NS / 1e9)
                if self._queue:
                    item = self._queue.popleft()
                    if self._drain_until_ns is None or time.monotonic_ns() < self._drain_until_ns:
                        return item
                    if isinstance(item, _Item):
                        self._settle(item, _STOPPED)
                    continue
                if self._closing:
                    self._done = True
                    return None
            self._housekeeping()

    def _housekeeping(self) -> None:
        """What is due once a second: the clocks, small messages, the disk."""
        now = time.monotonic_ns()
        if self._file is None:
            if self._small and now - self._small_since_ns > _SYNC_NS and not self._options.before_s:
                self._small_since_ns = now
                self._try(self._open_next)
            return
        if now >= self._retry_at_ns and self._has_room():  # else what was lost meanwhile becomes one event
            if now - self._anchored_ns >= _SYNC_NS:
                self._anchored_ns = now
                self._note(
                    CLOCK,
                    self._cameras[0],
                    now,
                    {"monotonic_ns": now, "realtime_ns": SYSTEM_WALL_CLOCK.convert_ns(now)},
                )
            self._note_gaps()
        if self._small and (self._small_bytes > _SMALL_CHUNK or now - self._small_since_ns >= _SYNC_NS):
            self._small_since_ns = now
            self._try(self._write_small)
        if now - self._synced_ns >= _SYNC_NS and self._file is not None:
            self._synced_ns = now
            self._try(self._sync)

    def _write_frame(self, item: _Item) -> None:
        reason: str | None = _DISK
        if self._storage.is_due(self._file, item.size):
            self._finish_file()
        if time.monotonic_ns() >= self._retry_at_ns:
            if not self._storage.make_room(self._file, item.size):
                reason = _BUDGET
            elif self._try(lambda: self._write_chunk([item])):
                reason = None
        with self._changed:
            self._settle(item, reason)
        if reason is None:
            self._unsynced += 1

    def _settle(self, item: _Item, lost: str | None) -> None:
        """A frame or message was written, or is lost."""
        self._give_back(item)
        if item.kind is not RAW:
            return
        self._waiting -= 1
        if lost is None:
            self._written += 1
        else:
            self._lose(item.camera, item.sequence, lost)

    def _write_attachment(self, item: _Attachment) -> None:
        file = self._file
        if file is not None:
            self._try(lambda: file.add_attachment(item.name, _media_type(item.name), item.content, time.time_ns()))

    def _note_gaps(self) -> None:
        """Puts what was lost into the recording."""
        with self._changed:
            gaps, self._gaps = self._gaps, {}
        now = time.monotonic_ns()
        for camera, (sequence, frames, reason) in gaps.items():
            content = {"kind": "not recorded", "time_ns": now, "sequence": sequence, "frames": frames, "reason": reason}
            self._note(EVENTS, camera, now, content)

    def _note(self, kind: Kind, camera: str, now: int, content: Mapping[str, Any]) -> None:
        """Puts a message of the recorder's own to the small ones."""
        item = _Item(kind, camera, now, now, 0, json.dumps(content).encode())
        with self._changed:
            self._bytes += item.size
        self._small.append(item)
        self._small_bytes += item.size

    def _write_small(self) -> None:
        """Writes the small messages as one chunk; they are kept where the disk fails, up to a limit."""
        small = self._small
        if not small:
            return
        if time.monotonic_ns() < self._retry_at_ns:
            return
        self._write_chunk(small)
        self._forget_small()

    def _forget_small(self) -> None:
        small, self._small, self._small_bytes = self._small, [], 0
        with self._changed:
            for item in small:
                self._give_back(item)

    def _write_chunk(self, items: Sequence[_Item]) -> None:
        if self._file is None:
            self._open_next()
        assert self._file is not None
        self._file.add_chunk([self._entry(item) for item in items])

    def _entry(self, item: _Item) -> Entry:
        return Entry(
            self._channels[item.kind, item.camera],
            item.time_ns + self._utc_offset_ns,
            self.utc_ns(item.stamp_ns),
            item.sequence & 0xFFFFFFFF,
            item.parts,
        )

    def _sync(self) -> None:
        assert self._file is not None
        self._file.sync()
        self._unsynced = 0

    def _try(self, act: Callable[[], None]) -> bool:
        """Does something with the disk; where it fails, the file ends as it is and another one is tried later."""
        try:
            act()
        except OSError as error:
            _log.warning("%s: recording fails: %s", self._storage.path, error.strerror or error)
            self._retry_at_ns = time.monotonic_ns() + _RETRY_NS
            if act == self._sync:
                self._lose_unsynced()
            if self._storage.is_folder:
                self._finish_file()
            return False
        return True

    def _lose_unsynced(self) -> None:
        """Counts frames that were written, but nobody knows whether they are on the disk."""
        with self._changed:
            self._written -= self._unsynced
            self._lost[_DISK] += self._unsynced
        self._unsynced = 0

    def _open_first(self) -> None:
        """The first file, whose failure is told at once: a wrong path, a folder that cannot be written."""
        try:
            self._open_next()
        except OSError as error:
            raise SinkError(f"{self._storage.path}: cannot be written: {error.strerror or error}") from error

    def _open_next(self) -> None:
        """Opens the next file, with what every file begins with."""
        from edge_isp import __version__

        path = self._storage.next_path(event=bool(self._options.before_s))
        output = self._open_output(path)
        try:
            file = McapFile(output, compress=self._options.compress, library=f"edge_isp {__version__}")
            now = time.time_ns()
            values = {"version": str(VERSION), "edge_isp": __version__, "cameras": json.dumps(self._cameras)}
            file.add_metadata(METADATA, values | self._metadata)
            with self._changed:
                attachments = dict(self._attachments)
            for name, content in attachments.items():
                file.add_attachment(name, _media_type(name), content, now)
            channels = {}
            for camera in self._cameras:
                for kind in KINDS if camera == self._cameras[0] else KINDS[:-1]:
                    schema = (kind.schema, kind.schema_encoding, kind.content())
                    channels[kind, camera] = file.add_channel(
                        kind.topic(camera), kind.message_encoding, schema, {"camera": camera}
                    )
        except BaseException:
            with suppress(OSError):  # the failure of the beginning is the one to report
                output.close()
            with suppress(OSError):
                path.unlink()
            raise
        self._file, self._channels = file, channels
        now = time.monotonic_ns()
        self._storage.opened(path, now)
        self._synced_ns, self._anchored_ns, self._small_since_ns = now, 0, now

    def _finish_file(self) -> None:
        """Completes the present file, if there is one; where the disk fails it stays without an index."""
        if self._small and not (self._file is None and self._options.before_s):
            try:
                self._write_small()
            except OSError as error:
                _log.warning("%s: %s", self._storage.path, error.strerror or error)
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with self._changed:
                counts = {"frames": self._frames, "written": self._written, "lost": sum(self._lost.values())}
            file.add_metadata(f"{METADATA}.counts", {name: str(value) for name, value in counts.items()})
            file.finish()
            self._unsynced = 0
        except OSError as error:
            _log.warning("%s: has no index: %s; 'edge-isp repair' makes one", self._storage.files[-1], error.strerror)
            try:
                file.sync()
                self._unsynced = 0
            except OSError:
                self._lose_unsynced()
        try:
            file.close()
        except OSError as error:
            _log.warning("%s: %s", self._storage.files[-1], error.strerror or error)
        self._storage.closed(file.size)


def _check_data(frame: RawFrame) -> None:
    """Raises FormatError where a frame's data are none of its format."""
    shape = (frame.format.height, frame.format.stride)
    if not isinstance(frame.data, np.ndarray) or frame.data.dtype != np.uint8 or frame.data.shape != shape:
        raise FormatError(f"{frame.source}: frame {frame.sequence} cannot be recorded: data must be uint8 {shape}")
    if frame.isp_picture is not None:
        _check_picture(frame, frame.isp_picture)


def _check_picture(frame: RawFrame, picture: NDArray[np.uint8]) -> None:
    """Raises FormatError where the picture of the board's own ISP is none."""
    where = f"{frame.source}: frame {frame.sequence} cannot be recorded"
    is_array = isinstance(picture, np.ndarray) and picture.dtype == np.uint8
    if not is_array or picture.ndim != 3 or picture.shape[2] != 3:
        raise FormatError(f"{where}: isp_picture must be uint8 (height, width, 3)")
    size = frame.data.nbytes + picture.nbytes
    if size > LARGEST_FRAME_BYTES:
        raise FormatError(f"{where}: data and isp_picture must be at most {LARGEST_FRAME_BYTES} bytes, found {size}")


def _sequence(frame: RawFrame) -> int:
    return frame.sequence if isinstance(frame.sequence, int) else 0


def _media_type(name: str) -> str:
    types = {".toml": "application/toml", ".json": "application/json"}
    return types.get(Path(name).suffix, "application/octet-stream")
