"""A thread whose end can be waited for although Ctrl-C interrupts the waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable


class StageThread:
    """Runs a stage of a pipeline.

    `threading.Thread.join` cannot be trusted after an exception of a signal handler: it then takes a thread for ended
    that still runs (`_wait_for_tstate_lock` of CPython before 3.13). This class waits for an event of its own.

    Args:
        name: shown by debuggers and in messages.
        body: what it does; its exceptions must not escape.
    """

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = f"edge_isp {name}"
        self._body, self._started, self._done = body, False, threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in it."""
        return self._thread is threading.current_thread()

    def start(self) -> None:
        """Starts it."""
        self._started = True
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for its end; not if the caller runs in it.

        Args:
            timeout_s: seconds to wait at most; None is unlimited.

        Returns:
            Whether it has ended, or the caller runs in it, or it was never started.
        """
        if not self._started or self.is_current:
            return True
        ended = self._done.wait(timeout_s)
        if ended:
            self._thread.join()  # its last steps
        return ended

    def _run(self) -> None:
        try:
            self._body()
        finally:
            self._done.set()
