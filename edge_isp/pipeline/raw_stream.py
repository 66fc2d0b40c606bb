"""Frames of a camera without a model: for recordings. The camera is opened again when it fails, as in a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from edge_isp.cameras.base import Camera
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.pipeline.clock import SystemClock
from edge_isp.pipeline.drops import DropReason, Event, FramesDropped, PipelineState, StateChange, event_message
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.source import Source
from edge_isp.pipeline.watchdog import Watchdog

# How long the end waits for the watchdog, which may hang in a camera's `close`.
_LAST_CHECK_S = 5.0


class RawStream:
    """Reads a camera to its end, in the calling thread of `run`.

    Args:
        open_camera: opens the camera, whenever that is needed.
        taken: called with each frame exactly as the camera gave it; must return quickly, and copy what it keeps.
        on_event: called with each event as a message, see `edge_isp.pipeline.drops.event_message`.
        reconnect: which failures are survived; None is `ReconnectPolicy()`.
    """

    def __init__(
        self,
        open_camera: Callable[[], Camera],
        taken: Callable[[RawFrame], object],
        on_event: Callable[[dict[str, Any]], object],
        reconnect: ReconnectPolicy | None = None,
    ) -> None:
        self._clock, self._on_event = SystemClock(), on_event
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._source = Source(
            None,
            open_camera,
            reconnect=reconnect or ReconnectPolicy(),
            clock=self._clock,
            report=self._change,
            report_event=self._report,
            failed=self._failed,
            stop=self._stop,
            taps=(taken,),
        )
        self._watchdog = Watchdog(
            lambda: [self._source.heartbeat],
            period_s=None,
            now_ns=self._clock.now_ns,
            checked=lambda stalled: self._source.interrupt() if stalled else None,
            owner=self,
        )

    def run(self, frames: int | None = None) -> int:
        """Reads until the camera ends, enough frames came, or `stop`.

        Args:
            frames: how many are enough; None is unlimited.

        Returns:
            How many came.

        Raises:
            CameraError: the camera cannot be opened, or has failed for good.
        """
        count = 0
        self._watchdog.start()
        try:
            self._source.start()
            self._change(PipelineState.RUNNING)
            while frames is None or count < frames:
                found = self._source.read()
                if found is None:
                    break
                frame, missing = found
                if missing:
                    reason = DropReason.NOT_RENDERED if FrameStatus.SKIPPED in frame.status else DropReason.SENSOR_GAP
                    first = frame.sequence - missing
                    self._report(FramesDropped("recorder", reason, first, missing, self._clock.now_ns()))
                frame.release()
                count += 1
        finally:
            self._stop.set()
            self._source.close()
            self._watchdog.stop(_LAST_CHECK_S)
        if self._error is not None:
            raise self._error
        self._change(PipelineState.ENDED)
        return count

    def stop(self) -> None:
        """Ends `run` after the present frame; a camera that waits for one is closed. Any thread may call it."""
        self._stop.set()
        self._source.close()

    def _change(self, state: PipelineState, reason: str = "") -> None:
        self._report(StateChange(state, reason, self._clock.now_ns()))

    def _report(self, event: Event) -> None:
        self._on_event(event_message(event))

    def _failed(self, error: BaseException) -> None:
        self._error = self._error or error
        self._stop.set()
