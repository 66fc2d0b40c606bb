"""A pipeline's state, and its reports."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import Event, PipelineState, StateChange
from edge_isp.pipeline.watchdog import Calls, Heartbeat, Systemd

_log = logging.getLogger(__name__)


class Status:
    """State, error and stalled stages of a pipeline; safe to use from several threads.

    What a stream reports counts only while it is the present one: a thread that was left behind, because it did not
    respond when its stream was stopped, changes nothing any more.

    Args:
        on_event: called with every event; None where nobody asks for them.
        systemd: gets every state.
        clock: the pipeline's.
        limit_s: an `on_event` that takes longer does not respond.
    """

    def __init__(
        self, on_event: Callable[[Event], object] | None, systemd: Systemd, clock: Clock, limit_s: float
    ) -> None:
        self._on_event, self._systemd, self._clock = on_event, systemd, clock
        self._calls = Calls("on_event", limit_s, clock.now_ns)
        self._lock = threading.RLock()
        self._state, self._stalled = PipelineState.IDLE, ""
        self._error: BaseException | None = None
        self._stop = threading.Event()  # of the present stream

    @property
    def state(self) -> PipelineState:
        """The state; a stream in which a stage does not respond is stalled."""
        with self._lock:
            return PipelineState.STALLED if self._stalled else self._state

    @property
    def error(self) -> BaseException | None:
        """The first error since the stream started."""
        return self._error

    def heartbeats(self) -> list[Heartbeat]:
        """Of the calls of `on_event` that have not returned."""
        return self._calls.heartbeats()

    def starting(self, stop: threading.Event) -> None:
        """A stream starts.

        Args:
            stop: ends it, and says which stream it is; set by an error.
        """
        with self._lock:
            self._error, self._stop = None, stop
        self.change(PipelineState.STARTING)

    def not_started(self, reason: str) -> None:
        """The stream that was to start could not: it may be tried again.

        Args:
            reason: why not, in words.
        """
        self.stalled([])
        with self._lock:
            starting = self._state is PipelineState.STARTING
        if starting:
            self.change(PipelineState.IDLE, reason)

    def halted(self) -> None:
        """The stream was stopped, unless it had come to its end before."""
        with self._lock:
            ended = self._state is PipelineState.ENDED
        if not ended:
            self.change(PipelineState.STOPPED)

    def change(self, state: PipelineState, reason: str = "", *, stream: threading.Event | None = None) -> None:
        """Changes the state, and reports it if it is a new one. A stream that failed stays failed until it starts anew.

        Args:
            state: the new one.
            reason: see `StateChange`.
            stream: that reports it, by its `stop`; None is the present one.
        """
        with self._lock:
            failed = self._state is PipelineState.FAILED and state is not PipelineState.STARTING
            if failed or state is self._state or stream not in (None, self._stop):
                return
            self._state, self._stalled = state, ""
        self._report_state(state, reason)

    def fail(self, error: BaseException, *, stream: threading.Event | None = None) -> None:
        """Ends a stream with an error; only the first one counts.

        Args:
            error: what every consumer will raise.
            stream: that fails, by its `stop`; None is the present one.
        """
        with self._lock:
            if stream not in (None, self._stop):
                _log.warning("a thread that was left behind ends with: %s", error)
                return
            if self._error is None:
                self._error = error
            first = str(self._error) or type(self._error).__name__
        self._stop.set()
        self.change(PipelineState.FAILED, first)

    def stalled(self, stages: list[str]) -> None:
        """Reports the stages that do not respond, when they change.

        Args:
            stages: their names, which may be none.
        """
        reason = f"does not respond: {', '.join(stages)}" if stages else ""
        with self._lock:
            changed, self._stalled = reason != self._stalled, reason
            state = PipelineState.STALLED if stages else self._state
        if changed:
            self._report_state(state, reason)

    def report(self, event: Event) -> None:
        """Passes an event to `on_event`, whose exception ends the stream.

        Args:
            event: a state, dropped frames, or metadata that cannot be used.
        """
        if self._on_event is None:
            return
        try:
            with self._calls.call():
                self._on_event(event)
        except BaseException as error:  # noqa: BLE001 - the consumers get it
            self.fail(error)

    def _report_state(self, state: PipelineState, reason: str) -> None:
        text = " ".join(reason.split())  # a new line would begin another message
        self._systemd.notify(f"STATUS={state}{': ' if text else ''}{text}")
        self.report(StateChange(state, reason, self._clock.now_ns()))
