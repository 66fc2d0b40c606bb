"""Notices stages that do not respond, and tells systemd that all of them do."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from edge_isp.pipeline.stage_thread import StageThread

_log = logging.getLogger(__name__)

# Between two checks.
CHECK_PERIOD_S = 1.0


class Heartbeat:
    """Shows since when a stage has been busy with one piece of work, and for how long it may be.

    Args:
        stage: its name.
        limit_s: a stage that is busy for longer does not respond; a piece of work may have a limit of its own.

    Attributes:
        stage: its name.
    """

    def __init__(self, stage: str, limit_s: float) -> None:
        self.stage = stage
        self._limit_s = limit_s
        self._late_ns: int | None = None

    def begin(self, now_ns: int, limit_s: float | None = None) -> None:
        """The stage begins a piece of work.

        Args:
            now_ns: the time, CLOCK_MONOTONIC.
            limit_s: of this piece of work; None is that of the stage.
        """
        self._late_ns = now_ns + round((self._limit_s if limit_s is None else limit_s) * 1e9)

    def rest(self) -> None:
        """The stage waits for its next piece of work."""
        self._late_ns = None

    def is_late(self, now_ns: int) -> bool:
        """Whether the present piece of work takes longer than it may.

        Args:
            now_ns: the time, CLOCK_MONOTONIC.
        """
        late_ns = self._late_ns
        return late_ns is not None and now_ns > late_ns


class Calls:
    """The heartbeats of calls that may be made by several threads at once.

    Args:
        stage: what is called.
        limit_s: see `Heartbeat`.
        now_ns: the time, CLOCK_MONOTONIC.
    """

    def __init__(self, stage: str, limit_s: float, now_ns: Callable[[], int]) -> None:
        self._stage, self._limit_s, self._now_ns = stage, limit_s, now_ns
        self._lock = threading.Lock()
        self._running: list[Heartbeat] = []

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call."""
        heartbeat = Heartbeat(self._stage, self._limit_s)
        heartbeat.begin(self._now_ns())
        with self._lock:
            self._running.append(heartbeat)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(heartbeat)

    def heartbeats(self) -> list[Heartbeat]:
        """Of the calls that have not returned."""
        with self._lock:
            return list(self._running)


class Watchdog:
    """Checks all stages periodically, in a thread of its own.

    Args:
        heartbeats: of the stages.
        period_s: seconds between two checks at most.
        now_ns: the time, CLOCK_MONOTONIC.
        checked: called after every check with the names of the stages that do not respond, which may be none.
        owner: see `StageThread`.
    """

    def __init__(
        self,
        heartbeats: Callable[[], Iterable[Heartbeat]],
        *,
        period_s: float | None,
        now_ns: Callable[[], int],
        checked: Callable[[list[str]], None],
        owner: object,
    ) -> None:
        self._heartbeats, self._now_ns, self._checked = heartbeats, now_ns, checked
        self._period_s = CHECK_PERIOD_S if period_s is None else min(CHECK_PERIOD_S, period_s)
        self._stop = threading.Event()
        self._thread = StageThread("watchdog", self._watch, owner)

    def look(self) -> None:
        """Checks the stages once."""
        now_ns = self._now_ns()
        self._checked(sorted({beat.stage for beat in self._heartbeats() if beat.is_late(now_ns)}))

    def start(self) -> None:
        """Starts to check.

        Raises:
            PipelineError: the system has no thread for it.
        """
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Ends the checks.

        Args:
            timeout_s: seconds to wait for the present one: it may hang in a camera's `close`.

        Returns:
            Whether the checks have ended.
        """
        self._stop.set()
        return self._thread.join(timeout_s)

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - without a watchdog, nobody would notice the next one
                _log.exception("the watchdog has failed, and goes on")


class Systemd:
    """The service manager's notification socket (sd_notify(3)); without one, nothing happens.

    Args:
        environment: of the process: NOTIFY_SOCKET names the socket, WATCHDOG_USEC the longest time between two
            keep-alive messages, WATCHDOG_PID the process that sends them.

    Attributes:
        watchdog_s: the longest time between two keep-alive messages, in seconds; None if none are expected.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Systemd's times are of 64 bits; int() refuses texts of thousands of digits.
        is_time = usec.isascii() and usec.isdecimal() and len(usec) < 20 and int(usec) > 0
        self.watchdog_s = int(usec) / 1e6 if self._address and ours and is_time else None

    def notify(self, *messages: str) -> None:
        """Sends messages. A manager that does not listen, or a lack of descriptors, is no reason to stop a stream.

        Args:
            *messages: such as "READY=1".
        """
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace, which begins with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto("\n".join(messages).encode("utf-8", "replace"), socket.MSG_DONTWAIT, address)
        except (OSError, ValueError) as error:
            _log.debug("the service manager was not told %s: %s", messages, error)
