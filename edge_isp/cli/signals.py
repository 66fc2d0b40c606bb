"""How Ctrl-C and SIGTERM end the command line: with status 130 or 143, and without a traceback.

The first signal unwinds what is under way, so that files are completed or deleted and devices are closed. A second one
ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"

# Whether the first signal has come.
_received = False


class Interrupted(SystemExit):
    """A signal came; unless it is caught, the process exits with 128 and the signal's number, as shells expect.

    Attributes:
        status: of the exit.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    @property
    def status_of_a_service(self) -> int:
        """Of a stream that was running: a service manager's SIGTERM is the order to stop, and obeying it no failure."""
        is_order = self.status == 128 + signal.SIGTERM and "NOTIFY_SOCKET" in os.environ
        return 0 if is_order else self.status


def install() -> None:
    """Ends the process by signals as this module says. Signals that the parent process ignores stay ignored."""
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    sys.unraisablehook = _end_unraisable


def uninstall() -> None:
    """Gives the signals back to the system: while Python exits, nothing is left to unwind."""
    for number in _NUMBERS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    global _received
    if _received:
        _end_now(128 + number)
    _received = True
    raise Interrupted(128 + number)


def _end_unraisable(problem: Any) -> None:
    """A signal that comes while an object is deleted cannot unwind anything."""
    if isinstance(problem.exc_value, Interrupted):
        _end_now(problem.exc_value.status)
    sys.__unraisablehook__(problem)


def _end_now(status: int) -> None:
    """Ends the process without unwinding; a live table has hidden the terminal's cursor."""
    try:
        if os.isatty(1):
            os.write(1, _SHOW_CURSOR.encode())
    except OSError:
        pass  # the terminal is gone
    os._exit(status)
