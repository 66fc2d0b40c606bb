"""Gives memory that is free back to the system, so that a process that runs for months does not grow."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back_free_memory() -> None:
    """Returns what the C library keeps of freed memory; does nothing where it cannot be asked for that.

    A camera that is opened again frees its largest arrays and asks for new ones. glibc puts them wherever there is
    room, and keeps the pages between them: without this, 30 minutes of a camera that fails cost tens of megabytes.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim(3) of glibc; None with another C library."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim
