"""Messages that must arrive at least once, although a broker may be killed at any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Receipt(Protocol):
    """Of a message that was handed to the client."""

    def is_published(self) -> bool:
        """Whether the broker has acknowledged it."""
        ...


@dataclass(slots=True)
class _Message:
    topic: str
    payload: bytes
    retain: bool
    receipt: Receipt | None = None
    sent_s: float = 0.0


class Outbox:
    """Holds messages until they are sure to have arrived, and sends them again after each connection.

    A broker that acknowledges a message and is killed may not have passed it on; and others come back to a new broker
    later than we do. So a message counts as arrived when it was acknowledged, in a connection that was as old as
    `settle_s` when it was sent and lasted for as long after that. Until then it is sent again: receivers may get it
    more than once, and know it by its number.

    Args:
        send: hands topic, content and whether it is retained to the client, and returns the
            receipt; None where the client did not take it, which is then tried again.
        now_s: the time.
        settle_s: see above.
        capacity: number of messages; when there are more, the oldest is dropped.

    Attributes:
        lost: number of messages that were dropped.
    """

    def __init__(
        self,
        send: Callable[[str, bytes, bool], Receipt | None],
        now_s: Callable[[], float],
        *,
        settle_s: float = 5.0,
        capacity: int = 1000,
    ) -> None:
        self._send, self._now_s, self._settle_s, self._capacity = send, now_s, settle_s, capacity
        self._messages: list[_Message] = []
        self._connected_s: float | None = None
        self.lost = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker has acknowledged all messages."""
        return all(m.receipt is not None and m.receipt.is_published() for m in self._messages)

    def add(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Adds a message, and sends it where there is a connection.

        Args:
            topic: of the message.
            payload: its content.
            retain: whether the broker keeps it for those who come later.
        """
        message = _Message(topic, payload, retain)
        self._messages.append(message)
        while len(self._messages) > self._capacity:
            del self._messages[0]
            self.lost += 1
        if self._connected_s is not None:
            self._post(message)

    def connected(self) -> None:
        """There is a connection."""
        self._connected_s = self._now_s()
        for message in self._messages:
            self._post(message)

    def disconnected(self) -> None:
        """The connection is lost."""
        self._connected_s = None
        for message in self._messages:
            message.receipt = None

    def settle(self) -> None:
        """Forgets what has arrived, and sends again what may not have; to be called now and then."""
        if self._connected_s is None:
            return
        now, settled_s = self._now_s(), self._connected_s + self._settle_s
        left = []
        for message in self._messages:
            early = message.sent_s < settled_s
            if message.receipt is None or (early and now >= settled_s):
                self._post(message)
            elif not early and self._has_settled(message, now):
                continue
            left.append(message)
        self._messages = left

    def _has_settled(self, message: _Message, now: float) -> bool:
        acknowledged = message.receipt is not None and message.receipt.is_published()
        return acknowledged and now - message.sent_s >= self._settle_s

    def _post(self, message: _Message) -> None:
        message.receipt, message.sent_s = self._send(message.topic, message.payload, message.retain), self._now_s()
