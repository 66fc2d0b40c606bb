"""Handing things from one thread to another, and what happens where the other is not ready."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_isp.errors import PipelineError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a hand-over does when it is full.

    Attributes:
        capacity: how many things it holds.
        waits: whether the producer waits for a free place; else the oldest thing loses its place.
    """

    capacity: int
    waits: bool

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy of a name: "latest" (one place, a newer thing takes it), "wait" (one place, the producer waits),
        or "queue(N)" (N capacity, in order; when they are full the oldest goes).

        Raises:
            PipelineError: there is no such policy.
        """
        if text == "latest":
            return cls(1, waits=False)
        if text == "wait":
            return cls(1, waits=True)
        match = re.fullmatch(r"queue\((\d+)\)", text)
        if match is None or int(match[1]) < 1:
            raise PipelineError(f"policy must be 'latest', 'wait' or 'queue(N)' with N from 1 on, found '{text}'")
        return cls(int(match[1]), waits=False)


class Ended(Exception):
    """Nothing comes any more.

    Attributes:
        error: why, where it is not the end of the stream.
    """

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(error)
        self.error = error


class FrameQueue(Generic[T]):
    """Things from giving threads to taking threads, in order.

    It has two ends: `end` is said by the producer, and what is there can still be taken; `abort` is said by the consumer,
    and what is there is given back.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._things: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended: Ended | None = None
        self._aborted = False
        self._listeners: list[Callable[[], None]] = []

    def put(self, thing: T) -> T | None:
        """Hands a thing over; where the policy says so, waits for a place.

        Returns:
            What was not handed over: the oldest thing, which lost its place; this thing itself, where nobody takes
            any more; or None.
        """
        with self._changed:
            while self._policy.waits and len(self._things) >= self._policy.capacity and not self._aborted:
                self._changed.wait()
            if self._aborted:
                return thing
            self._things.append(thing)
            displaced = self._things.popleft() if len(self._things) > self._policy.capacity else None
            self._tell()
        return displaced

    def take(self, timeout_s: float | None = None, *, taken: Callable[[T], None] | None = None) -> T:
        """The next thing; waits for it.

        Args:
            timeout_s: so long at most; None waits for ever.
            taken: called with the thing while nobody else can see it neither here nor taken.

        Raises:
            Ended: there will be none.
            TimeoutError: there was none in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._things or self._ended or self._aborted, timeout_s):
                raise TimeoutError
            if not self._things:
                raise self._ended or Ended(None)
            thing = self._things.popleft()
            if taken is not None:
                taken(thing)
            self._changed.notify_all()
        return thing

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls a function, in any thread, whenever there is something new to take or the end has come."""
        with self._changed:
            self._listeners.append(listener)

    def ignore(self, listener: Callable[[], None]) -> None:
        """Calls it no more."""
        with self._changed:
            self._listeners.remove(listener)

    def end(self, error: BaseException | None = None) -> None:
        """Says that nothing more will be put, and why. The first time counts."""
        with self._changed:
            self._ended = self._ended or Ended(error)
            self._tell()

    def abort(self) -> list[T]:
        """Says that nothing more will be taken.

        Returns:
            What was there.
        """
        with self._changed:
            self._aborted = True
            left = list(self._things)
            self._things.clear()
            self._tell()
        return left

    def _tell(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()
