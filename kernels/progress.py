"""How a program shows that kernels are being compiled, which takes seconds to minutes, once.

Without a listener of the program's own it is two log lines. This module loads neither numba nor NumPy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compilation:
    """How far a compilation is. There is none where all kernels come from the cache.

    Attributes:
        done: kernels that are ready; all of them in the last report.
        total: kernels to compile or load.
        kernel: the one in work; empty in the last report.
    """

    done: int
    total: int
    kernel: str


Listener = Callable[[Compilation], None]


class LogListener:
    """One log line when a compilation begins, one when it has ended."""

    def __init__(self) -> None:
        self._begin_s: float | None = None

    def __call__(self, compilation: Compilation) -> None:
        """Logs the first and the last report of a compilation.

        Args:
            compilation: how far it is.
        """
        if self._begin_s is None:
            self._begin_s = time.monotonic()
            _log.info("compiling %d kernels, once; this may take a minute", compilation.total)
        if compilation.done == compilation.total:
            _log.info("compiled the kernels in %.1f s", time.monotonic() - self._begin_s)
            self._begin_s = None


_listener: Listener = LogListener()


def set_listener(listener: Listener) -> None:
    """Shows compilations in another form than log lines.

    Args:
        listener: called in the compiling thread whenever a kernel is about to be compiled, and once at the end.
    """
    global _listener
    _listener = listener


def report(compilation: Compilation) -> None:
    """Tells the listener.

    Args:
        compilation: how far it is.
    """
    _listener(compilation)
