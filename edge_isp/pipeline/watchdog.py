"""Notices stages that do not respond, and tells systemd that all of them do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence


class Heartbeat:
    """Shows since when a stage has been busy with one piece of work.

    Args:
        stage: its name.

    Attributes:
        stage: its name.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._since_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        """The stage begins a piece of work.

        Args:
            now_ns: the time, CLOCK_MONOTONIC.
        """
        self._since_ns = now_ns

    def rest(self) -> None:
        """The stage waits for its next piece of work."""
        self._since_ns = None

    def busy_ns(self, now_ns: int) -> int:
        """Nanoseconds since the present piece of work began; 0 while the stage waits.

        Args:
            now_ns: the time, CLOCK_MONOTONIC.
        """
        since_ns = self._since_ns
        return 0 if since_ns is None else now_ns - since_ns


class Watchdog:
    """Checks all stages periodically, in a thread of its own.

    Args:
        heartbeats: of the stages.
        limit_s: a stage that is busy with one piece of work for longer is stalled.
        period_s: seconds between two checks.
        now_ns: the time, CLOCK_MONOTONIC.
        stalled: called after every check with the names of the stalled stages, which may be none.
    """

    def __init__(
        self,
        heartbeats: Sequence[Heartbeat],
        *,
        limit_s: float,
        period_s: float,
        now_ns: Callable[[], int],
        stalled: Callable[[list[str]], None],
    ) -> None:
        self._heartbeats, self._limit_ns, self._period_s = heartbeats, limit_s * 1e9, period_s
        self._now_ns, self._stalled = now_ns, stalled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edge_isp watchdog", daemon=True)

    def look(self) -> None:
        """Checks the stages once."""
        now = self._now_ns()
        self._stalled([beat.stage for beat in self._heartbeats if beat.busy_ns(now) > self._limit_ns])

    def start(self) -> None:
        """Starts to check."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the checks."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            self.look()


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
        self.watchdog_s = int(usec) / 1e6 if self._address and ours and usec.isdecimal() and int(usec) else None

    def notify(self, *messages: str) -> None:
        """Sends messages. A manager that does not listen is no reason to stop a stream.

        Args:
            *messages: such as "READY=1".
        """
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace, which begins with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto("\n".join(messages).encode(), socket.MSG_DONTWAIT, address)
            except OSError:
                return
