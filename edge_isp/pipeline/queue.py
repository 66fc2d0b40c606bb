"""Queues between threads, and what happens when they are full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_isp.pipeline.options import QueuePolicy

T = TypeVar("T")


class Ended(Exception):
    """Nothing more will come.

    Attributes:
        error: the reason, if it is not the regular end of the stream.
    """

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(error)
        self.error = error


class FrameQueue(Generic[T]):
    """Carries items from producer threads to consumer threads, in order.

    It can be ended from both sides: the producer calls `end`, after which the items in the queue can still be taken;
    the consumer calls `abort`, which returns the items in the queue.

    Args:
        policy: what happens when the queue is full.
    """

    def __init__(self, policy: QueuePolicy) -> None:
        self._policy = policy
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended: Ended | None = None
        self._aborted = False
        self._listeners: list[Callable[[], None]] = []

    def put(self, item: T) -> T | None:
        """Adds an item; where the policy says so, waits until there is capacity.

        Args:
            item: to be taken by a consumer.

        Returns:
            The item that will not be taken: the oldest one, which was dropped for this one; this item itself after
            `abort`; or None.
        """
        with self._changed:
            while self._policy.waits and len(self._items) >= self._policy.capacity and not self._aborted:
                self._changed.wait()
            if self._aborted:
                return item
            self._items.append(item)
            dropped = self._items.popleft() if len(self._items) > self._policy.capacity else None
            self._notify()
        return dropped

    def take(self, timeout_s: float | None = None, *, taken: Callable[[T], None] | None = None) -> T:
        """Waits for the next item.

        Args:
            timeout_s: seconds to wait at most; None is unlimited.
            taken: called with the item before the queue's lock is released, so that an account of the items is exact
                at every moment.

        Raises:
            Ended: nothing more will come.
            TimeoutError: nothing came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._ended or self._aborted, timeout_s):
                raise TimeoutError
            if not self._items:
                raise self._ended or Ended(None)
            item = self._items.popleft()
            if taken is not None:
                taken(item)
            self._changed.notify_all()
        return item

    def pass_over(self) -> list[T]:
        """Takes all items but the newest, without waiting.

        Returns:
            These items, the oldest first.
        """
        with self._changed:
            passed = [self._items.popleft() for _ in range(len(self._items) - 1)]
            self._changed.notify_all()
        return passed

    def follow(self, policy: QueuePolicy) -> None:
        """Changes the policy, before anything is put.

        Args:
            policy: what happens when the queue is full.
        """
        with self._changed:
            self._policy = policy

    def listen(self, listener: Callable[[], None]) -> None:
        """Adds a listener.

        Args:
            listener: called in any thread when there is a new item, or when nothing more will come.
        """
        with self._changed:
            self._listeners.append(listener)

    def ignore(self, listener: Callable[[], None]) -> None:
        """Removes a listener.

        Args:
            listener: which `listen` has added.
        """
        with self._changed:
            self._listeners.remove(listener)

    def end(self, error: BaseException | None = None) -> None:
        """The producer's end: nothing more will be put. Later calls change nothing.

        Args:
            error: the reason, if it is not the regular end of the stream.
        """
        with self._changed:
            self._ended = self._ended or Ended(error)
            self._notify()

    def abort(self) -> list[T]:
        """The consumer's end: nothing more will be taken.

        Returns:
            The items that were in the queue.
        """
        with self._changed:
            self._aborted = True
            left = list(self._items)
            self._items.clear()
            self._notify()
        return left

    def _notify(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()
