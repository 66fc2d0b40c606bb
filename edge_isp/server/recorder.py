"""Recordings and videos that are started and stopped while the stream runs."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_isp.calibration.profile import SensorProfile
from edge_isp.errors import EdgeIspError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.plugins import load, names
from edge_isp.results import FrameResult
from edge_isp.sinks.base import Sink
from edge_isp.sinks.image_files import session_name
from edge_isp.sinks.spec import open_sink

_log = logging.getLogger(__name__)

# The sink of each kind, and the suffix of its files.
_SUFFIXES = {"mcap": ".mcap", "video": ".mp4"}


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that runs.

    Attributes:
        kind: the sink's name.
        file: that is written.
        started_ns: CLOCK_MONOTONIC.
        frames: that were written.
        lost: frames that could not be written, because the disk is full for example.
    """

    kind: str
    file: Path
    started_ns: int
    frames: int = 0
    lost: int = 0


class Recorder:
    """A sink that passes results on to a file while a recording runs, and drops them otherwise.

    A recording that fails ends with its reason in `error`; the stream goes on. One of RAW frames goes on, too, and
    counts what it loses.

    Args:
        folder: of the files; made when the first recording starts.
        profile: of the sensor; None is the shipped profile of the frames' sensor.

    Attributes:
        error: why the last recording ended early; "" where it did not.
    """

    needs_raw = "detections"

    def __init__(self, folder: Path, profile: SensorProfile | None = None) -> None:
        self.error = ""
        self._folder, self._profile = folder, profile
        self._lock = threading.Lock()
        self._sink: Sink | None = None
        self._running: Recording | None = None
        self._frames, self._closed = 0, False

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of recordings that can be started: the sinks that are there, with the packages that they need.

        Looked up once: it takes a tenth of a second, and the page asks every second.
        """
        found = []
        for kind in _SUFFIXES:
            if kind in names("sinks"):
                try:
                    load("sinks", kind)
                except EdgeIspError:
                    continue
                found.append(kind)
        return tuple(found)

    @property
    def running(self) -> Recording | None:
        """The recording that runs."""
        with self._lock:
            return self._counted(self._running, self._sink)

    def start(self, kind: str, *, tone: str = "camera") -> Recording:
        """Starts a recording.

        Args:
            kind: one of `kinds`.
            tone: of a video's pictures where no model makes them, "camera" or "srgb".

        Raises:
            SinkError: a recording runs, the kind is not known, or the file cannot be opened.
            PluginError: a package is missing.
        """
        if kind not in _SUFFIXES or kind not in names("sinks"):
            raise SinkError(f"recordings are of the kinds {', '.join(self.kinds) or 'none'}, found '{kind}'")
        with self._lock:
            if self._closed:
                raise SinkError("the live view is closed")
            if self._running is not None:
                raise SinkError(f"{self._running.file.name} is being recorded: stop it first")
            file = self._free_path(kind)
            self._sink = open_sink(f"{kind}:{file}", profile=self._profile, tone=tone)
            self.error, self._frames = "", 0
            self._running = Recording(kind, file, time.monotonic_ns())
            return self._running

    def stop(self) -> Recording:
        """Completes the recording that runs.

        Returns:
            What was recorded.

        Raises:
            SinkError: none runs, or its file cannot be completed.
        """
        with self._lock:
            running, sink, self._running, self._sink = self._running, self._sink, None, None
            if running is None or sink is None:
                raise SinkError(f"no recording runs{': ' if self.error else ''}{self.error}")
            sink.close()
            return self._counted(running, sink) or running

    def write(self, result: FrameResult) -> None:
        """See `Sink.write`."""
        with self._lock:
            if self._closed:
                raise SinkError("the recorder is closed")
            if self._sink is None:
                return
            try:
                self._sink.write(result)
                self._frames += 1
            except EdgeIspError as error:
                self._fail(error)

    def frame_arrived(self, frame: RawFrame) -> None:
        """Passes on a frame as the camera gave it, to a recording of RAW frames; see `Sink`.

        Args:
            frame: the camera's; it is copied by the recording.
        """
        arrived = getattr(self._sink, "frame_arrived", None)
        if arrived is not None:
            arrived(frame)

    def event(self, message: dict[str, Any]) -> None:
        """Passes on what happens to frames and to the pipeline; see `Sink`.

        Args:
            message: the event.
        """
        happened = getattr(self._sink, "event", None)
        if happened is not None:
            happened(message)

    def close(self) -> None:
        """See `Sink.close`."""
        with self._lock:
            self._closed = True
            sink, self._sink, self._running = self._sink, None, None
            if sink is not None:
                sink.close()

    def _counted(self, running: Recording | None, sink: Sink | None) -> Recording | None:
        """A recording with what became of its frames: a sink of RAW frames says it, for others results were counted."""
        if running is None:
            return None
        counts = getattr(sink, "counts", None)
        if counts is None:
            return replace(running, frames=self._frames)
        return replace(running, frames=counts.written, lost=sum(counts.lost.values()))

    def _fail(self, error: EdgeIspError) -> None:
        """Ends a recording that cannot go on, such as one on a full disk."""
        sink, self._sink, self._running, self.error = self._sink, None, None, str(error)
        _log.error("the recording has ended: %s", error)
        try:
            if sink is not None:
                sink.close()
        except EdgeIspError as closing:
            _log.error("the recording cannot be completed: %s", closing)

    def _free_path(self, kind: str) -> Path:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._folder}: cannot be made: {error.strerror or error}") from error
        stem, number = f"live_{session_name(datetime.now(UTC))}", 1
        while True:
            path = self._folder / f"{stem}{f'_{number}' if number > 1 else ''}{_SUFFIXES[kind]}"
            if not path.exists():
                return path
            number += 1
