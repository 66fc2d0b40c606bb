"""Standard streams that are closed, or whose disk is full, when the command line starts."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO, cast


def prepare() -> None:
    """Opens what is closed on nothing, and makes standard error a stream that never fails.

    A file that is opened later must not get the number of a closed standard stream: what a native library prints would
    go into it. Messages that cannot be written are lost, since they must not end a stream of frames; what cannot be
    written to standard output is an error.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as Python runs
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as Python runs
    if not isinstance(sys.stderr, _Lossy):
        sys.stderr = cast(TextIO, _Lossy(sys.stderr))


class _Lossy:
    """A text stream that drops what cannot be written.

    Args:
        stream: that is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, or drops it."""
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or keeps it."""
        with contextlib.suppress(OSError):
            self._stream.flush()
