"""A pipeline's state, and its reports."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import Event, PipelineState, StateChange
from edge_isp.pipeline.watchdog import Systemd


class Status:
    """State, error and stalled stages of a pipeline; safe to use from several threads.

    Args:
        on_event: called with every event; None where nobody asks for them.
        systemd: gets every state.
        clock: the pipeline's.
        stop: set by an error.
    """

    def __init__(
        self, on_event: Callable[[Event], object] | None, systemd: Systemd, clock: Clock, stop: threading.Event
    ) -> None:
        self._on_event, self._systemd, self._clock, self._stop = on_event, systemd, clock, stop
        self._lock = threading.RLock()
        self._state, self._stalled = PipelineState.IDLE, ""
        self._error: BaseException | None = None

    @property
    def state(self) -> PipelineState:
        """The state; a stream in which a stage does not respond is stalled."""
        with self._lock:
            return PipelineState.STALLED if self._stalled else self._state

    @property
    def error(self) -> BaseException | None:
        """The first error since the stream started."""
        return self._error

    def starting(self) -> None:
        """The stream starts."""
        with self._lock:
            self._error = None
        self.change(PipelineState.STARTING)

    def halted(self) -> None:
        """The stream was stopped, unless it had come to its end before."""
        with self._lock:
            ended = self._state is PipelineState.ENDED
        if not ended:
            self.change(PipelineState.STOPPED)

    def change(self, state: PipelineState, reason: str = "") -> None:
        """Changes the state, and reports it if it is a new one. A stream that failed stays failed until it starts anew.

        Args:
            state: the new one.
            reason: see `StateChange`.
        """
        with self._lock:
            failed = self._state is PipelineState.FAILED and state is not PipelineState.STARTING
            if failed or state is self._state:
                return
            self._state, self._stalled = state, ""
        self._report_state(state, reason)

    def fail(self, error: BaseException) -> None:
        """Ends the stream with an error; only the first one counts.

        Args:
            error: what every consumer will raise.
        """
        with self._lock:
            if self._error is None:
                self._error = error
        self._stop.set()
        self.change(PipelineState.FAILED, str(self._error))

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
            event: a state or dropped frames.
        """
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except BaseException as error:  # noqa: BLE001 - the consumers get it
            self.fail(error)

    def _report_state(self, state: PipelineState, reason: str) -> None:
        self._systemd.notify(f"STATUS={state}{': ' if reason else ''}{reason}")
        self.report(StateChange(state, reason, self._clock.now_ns()))
