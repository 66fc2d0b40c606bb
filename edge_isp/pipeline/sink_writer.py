"""Writes results to a sink, and closes it once, after the last write."""

from __future__ import annotations

import threading

from edge_isp.results import FrameResult
from edge_isp.sinks.base import Sink


class SinkWriter:
    """The callback of a sink's consumer. `close` never waits for a write that does not return.

    Args:
        sink: belongs to the writer.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._writing = self._close_wanted = self._closed = False

    def write(self, result: FrameResult) -> None:
        """Writes a result; after `close`, does nothing.

        Args:
            result: the next one.

        Raises:
            SinkError: the sink cannot write it.
        """
        with self._lock:
            if self._close_wanted:
                return
            self._writing = True
        try:
            self._sink.write(result)
        finally:
            with self._lock:
                self._writing = False
            self._close_if_due()

    def close(self) -> None:
        """Closes the sink, now or as soon as the present write returns. Idempotent.

        Raises:
            SinkError: the sink cannot be completed.
        """
        with self._lock:
            self._close_wanted = True
        self._close_if_due()

    def _close_if_due(self) -> None:
        with self._lock:
            due = self._close_wanted and not self._writing and not self._closed
            self._closed = self._closed or due
        if due:
            self._sink.close()
