"""A thread of a pipeline, whose end can be waited for although Ctrl-C interrupts the waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_isp.errors import PipelineError

_current = threading.local()


class StageThread:
    """Runs a stage of a pipeline, or a transition of its state.

    `threading.Thread.join` cannot be trusted after an exception of a signal handler: it then takes a thread for ended
    that still runs (`_wait_for_tstate_lock` of CPython before 3.13). This class waits for an event of its own.

    Args:
        name: shown by debuggers and in messages.
        body: what it does; its exceptions must not escape.
        owner: the pipeline that it belongs to, see `runs_in`.
    """

    def __init__(self, name: str, body: Callable[[], None], owner: object) -> None:
        self.name = f"edge_isp {name}"
        self._body, self._owner = body, owner
        self._started, self._done = False, threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @staticmethod
    def runs_in(owner: object) -> bool:
        """Whether the caller is a thread that belongs to a pipeline.

        Args:
            owner: the pipeline.
        """
        return getattr(_current, "owner", None) is owner

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts it.

        Raises:
            PipelineError: the system has no more threads, or no memory for one.
        """
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            raise PipelineError(
                f"a thread cannot be started: {str(error) or 'out of memory'}; see `ulimit -u` and the memory's use"
            ) from error
        self._started = True

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for its end; not if the caller runs in it.

        Args:
            timeout_s: seconds to wait at most; None is unlimited.

        Returns:
            Whether it has ended, or the caller runs in it, or it was never started.
        """
        if not self._started or self._thread is threading.current_thread():
            return True
        ended = self._done.wait(timeout_s)
        if ended:
            self._thread.join()  # its last steps
        return ended

    def _run(self) -> None:
        _current.owner = self._owner
        try:
            self._body()
        finally:
            self._done.set()
