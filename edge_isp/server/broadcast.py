"""The newest value for any number of readers, none of which can hold up another."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Broadcast(Generic[T]):
    """Hands the newest value to each reader; one that is slow misses values. To be used in one event loop only."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self.version = 0

    def publish(self, value: T) -> None:
        """Wakes everybody who waits for a value.

        Args:
            value: the newest.
        """
        self._value = value
        self._wake()

    def end(self) -> None:
        """No value will follow."""
        self._ended = True
        self._wake()

    async def after(self, version: int) -> tuple[int, T] | None:
        """The newest value, as soon as there is one that is newer than a version; None after the last.

        Args:
            version: of the value that the reader has.

        Returns:
            The value's version, and the value.
        """
        while self.version == version and not self._ended:
            await self._changed.wait()
        return None if self._ended or self._value is None else (self.version, self._value)

    def _wake(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
