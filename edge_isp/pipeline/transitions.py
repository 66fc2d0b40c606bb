"""The changes of a pipeline's state: one after the other, in the order in which they were asked for.

Each `start`, `stop` and `close` runs in a thread of its own, after the one before it has ended, and the caller waits
for it. So one thread at a time changes the state, whichever threads ask; Ctrl-C interrupts the waiting and never the
change; and a change that is asked for in a thread of the pipeline itself, where the caller would wait for itself, is
made too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from edge_isp.errors import PipelineError
from edge_isp.pipeline.stage_thread import StageThread

_log = logging.getLogger(__name__)


class Transitions:
    """Runs the transitions of one pipeline.

    Args:
        owner: the pipeline, see `StageThread`.
        failed: called with the error of a transition that nobody waits for.
    """

    def __init__(self, owner: object, failed: Callable[[BaseException], None]) -> None:
        self._owner, self._failed = owner, failed
        self._lock = threading.Lock()  # of _last and of what it says of itself
        self._turn = threading.Lock()  # held during a transition
        self._last: _Transition | None = None
        self._final = False  # whether the last one has been asked for

    @property
    def is_busy(self) -> bool:
        """Whether one that was asked for has not ended."""
        with self._lock:
            last = self._last
        return last is not None and last.thread is not None and last.thread.is_alive

    def run(self, name: str, action: Callable[[], None], *, final: bool = False, wait: bool = True) -> None:
        """Runs a transition after all that were asked for before it, and waits for its end.

        If the last of those is the same one and has not begun, it serves both callers. In a thread of the pipeline, the
        transition is only asked for, and after a final one not even that.

        Args:
            name: of the transition; the same name stands for the same action.
            action: what it does.
            final: whether none that follows will have an effect.
            wait: whether to wait for its end.

        Raises:
            PipelineError: the system has no thread for it, and the caller runs in a thread of the pipeline.
            Exception: the action's.
        """
        waits = wait and not StageThread.runs_in(self._owner)
        with self._lock:
            if self._final and not waits:
                return
            self._final |= final
            transition = self._last
            if transition is None or transition.name != name or transition.begun:
                transition = _Transition(name, action, self._last)
                self._start(transition, or_else_raise=not waits)
                self._last = transition
            transition.is_awaited |= waits
        if not waits:
            return
        if transition.thread is None:
            self._run(transition)
        else:
            transition.thread.join()
        if transition.error is not None:
            raise transition.error

    def settle(self) -> None:
        """Waits for the transitions that threads of the pipeline have asked for."""
        with self._lock:
            last = self._last
        if last is not None and last.thread is not None:
            last.thread.join()

    def _start(self, transition: _Transition, *, or_else_raise: bool) -> None:
        """Starts the thread of a transition; where the system has none, the caller has to run it."""
        thread = StageThread(transition.name, partial(self._run, transition), self._owner)
        try:
            thread.start()
        except PipelineError as error:
            if or_else_raise:
                raise
            _log.warning("%s: %s", transition.name, error)
        else:
            transition.thread = thread

    def _run(self, transition: _Transition) -> None:
        """Runs a transition in the calling thread."""
        before, transition.before = transition.before, None
        if before is not None and before.thread is not None:
            before.thread.join()
        with self._turn:
            with self._lock:  # `thread` is set
                transition.begun = True
            try:
                transition.action()
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                transition.error = error
        with self._lock:
            if transition.error is None or transition.is_awaited:
                return
        self._failed(transition.error)


class _Transition:
    """One transition.

    Attributes:
        name: see `Transitions.run`.
        action: see `Transitions.run`.
        before: the one that must end first; None once it has.
        thread: that it runs in; None where the caller runs it.
        begun: whether the action has been called.
        is_awaited: whether a caller gets the error.
        error: of the action.
    """

    def __init__(self, name: str, action: Callable[[], None], before: _Transition | None) -> None:
        self.name, self.action, self.before = name, action, before
        self.thread: StageThread | None = None
        self.begun = self.is_awaited = False
        self.error: BaseException | None = None
